//! Turns the upper directory of an overlay into a layer.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::manifest::{Item, Kind, Manifest};
use crate::normalise::normalise;
use crate::store::{Draft, Layer, Scratch, Store};
use crate::{Control, Digest, Error, Normalise, Result, merge, scan};

/// What to capture.
#[derive(Debug, Clone)]
pub struct Capture {
    /// The upper directory, no longer mounted. Its content moves into the store: afterwards the
    /// directory is gone (or was copied, when it lies on another file system).
    pub upper: PathBuf,
    /// The topmost of the lower layers.
    pub parent: Digest,
    /// What the layer forgets.
    pub normalise: Normalise,
    /// The key that this layer answers to, if any.
    pub key: Option<Digest>,
    /// How it was made, for records.
    pub provenance: serde_json::Value,
}

impl Store {
    /// Turns an upper directory into a layer on its parent. An upper directory that holds nothing
    /// new gives a layer with nothing but the root directory in it.
    ///
    /// # Errors
    /// When files cannot be read or keep changing, when the parent is not here, when cancelled, and
    /// when the disk is full. The upper directory is then left as it is, apart from what
    /// normalising removed.
    pub fn capture(&self, run: &str, capture: Capture, control: &Control) -> Result<Layer> {
        crate::error::require_root()?;
        let parent = self.info(capture.parent)?;
        let epoch = capture.normalise.epoch.unwrap_or(parent.epoch);
        let scratch = self.scratch(run)?;
        control.phase("capturing the layer");
        let root = self.bring_in(&scratch, &capture.upper, control)?;
        self.finish_tree(
            &scratch,
            &root,
            capture.normalise,
            false,
            Draft {
                parent: Some(capture.parent),
                key: capture.key,
                provenance: json!({ "operation": "capture", "from": capture.provenance }),
                epoch,
            },
            control,
        )
    }

    /// Normalises a tree, reads it and publishes it.
    pub(crate) fn finish_tree(
        &self,
        scratch: &Scratch,
        root: &Path,
        options: Normalise,
        base: bool,
        draft: Draft,
        control: &Control,
    ) -> Result<Layer> {
        normalise(root, options, draft.epoch, base, control)?;
        strip_overlay_marks(root, control)?;
        let mut manifest = scan::scan(root, control)?;
        self.plain_directories(root, &mut manifest, draft.parent)?;
        control.check()?;
        self.publish(scratch, root, manifest, draft)
    }

    /// Takes back the opaque mark of directories that hide nothing. The kernel marks every new
    /// directory as an optimisation, so without this the marks would depend on the kernel.
    fn plain_directories(
        &self,
        root: &Path,
        manifest: &mut Manifest,
        parent: Option<Digest>,
    ) -> Result<()> {
        let opaque = |item: &Item| item.kind == Kind::Directory { opaque: true };
        if !manifest.items().iter().any(opaque) {
            return Ok(());
        }
        let view = match parent {
            Some(parent) => merge::merge(&self.stack(parent)?),
            None => Default::default(),
        };
        for item in manifest.items_mut().iter_mut().filter(|item| opaque(item)) {
            let below = view.get(&item.path).map(|node| &node.item.kind);
            if !matches!(below, Some(Kind::Directory { .. })) {
                item.kind = Kind::Directory { opaque: false };
                let at = scan::host_path(root, &item.path);
                strip(&at, &["trusted.overlay.opaque"])?;
            }
        }
        Ok(())
    }

    /// Moves a directory onto the store's file system, by a rename where that works.
    fn bring_in(&self, scratch: &Scratch, from: &Path, control: &Control) -> Result<PathBuf> {
        let to = scratch.path().join("root");
        match fs::rename(from, &to) {
            Ok(()) => Ok(to),
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                let size = scan::scan(from, control)?.size();
                copy_tree(from, &to, control).map_err(|error| error.needing(size))?;
                Ok(to)
            }
            Err(error) => Err(Error::io("move", from)(error)),
        }
    }
}

/// Copies a tree with `cp`, which keeps owners, times, links, attributes, holes and devices.
fn copy_tree(from: &Path, to: &Path, control: &Control) -> Result<()> {
    let mut command = std::process::Command::new("cp");
    command.args(["--archive", "--sparse=auto", "--no-target-directory", "--"]).arg(from).arg(to);
    crate::run::run(&mut command, "coreutils", control).map(drop)
}

/// Removes the marks that an overlay leaves on copied files, which mean nothing in a layer; the
/// mark of an opaque directory stays.
fn strip_overlay_marks(root: &Path, control: &Control) -> Result<()> {
    const MARKS: [&str; 3] =
        ["trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.nlink"];
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        control.check()?;
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                strip(&entry.path(), &MARKS)?;
            }
        }
        strip(&dir, &MARKS)?;
    }
    Ok(())
}

fn strip(at: &Path, marks: &[&str]) -> Result<()> {
    let mut names = [0u8; 4096];
    let Ok(length) = rustix::fs::llistxattr(at, &mut names[..]) else { return Ok(()) };
    for name in names[..length].split(|byte| *byte == 0) {
        if marks.iter().any(|mark| mark.as_bytes() == name) {
            let name: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
            rustix::fs::lremovexattr(at, name)
                .map_err(Error::sys("remove an extended attribute of", at))?;
        }
    }
    Ok(())
}
