//! The content-addressed store of layers.
//!
//! ```text
//! STATE/layers/<digest>/root/       the files; a lower directory of an overlay
//! STATE/layers/<digest>/manifest    see [`crate::manifest`]
//! STATE/layers/<digest>/layer.json  parent, key, provenance, times
//! STATE/keys/<layer key>            the digest of the layer that this key gave
//! STATE/blobs/<digest>              single files worth keeping, such as an initramfs
//! STATE/locks/                      advisory locks, by name
//! STATE/tmp/<run>-<random>/         work in progress; all that a killed process leaves
//! ```
//!
//! Everything appears by a rename of finished work, so readers never see halves and two processes
//! that make the same layer at once both end with the one that came first.
//!
//! Files are not synced, which would take longer than to write them: a machine that loses power may
//! lose or truncate the newest layers. So a layer says in which boot of the machine it was made, and
//! one of an earlier boot is read whole and compared before it is used again, once. What is damaged
//! goes, and is made anew.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use karat_disk::Entry;
use serde::{Deserialize, Serialize};

use crate::manifest::{Kind, Manifest};
use crate::{Control, Digest, Error, Result, merge, scan};

mod collect;
mod power;

pub use collect::{Collected, Problem, differences};

/// The store in one state directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    dir: Arc<PathBuf>,
    /// This boot of the machine, where the kernel tells.
    boot: Option<Arc<str>>,
}

/// What is written down about a layer beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The layer below, by digest.
    pub parent: Option<Digest>,
    /// The key that it was made for, if any.
    pub key: Option<Digest>,
    /// How it was made: the operation and what went into it, for people and records.
    pub provenance: serde_json::Value,
    /// Newest time a file in it may have, in seconds since 1970.
    pub epoch: i64,
    /// When it was made, in seconds since 1970. Not part of the digest.
    pub created: i64,
    /// Bytes of its regular files.
    pub size: u64,
    /// Names in its manifest.
    pub entries: u64,
    /// The boot of the machine in which it was made (`/proc/sys/kernel/random/boot_id`); `None` once
    /// it is known to be on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// A layer in the store.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its name.
    pub digest: Digest,
    /// Its directory in the store.
    pub dir: PathBuf,
    /// What is known about it.
    pub info: LayerInfo,
    /// Its names.
    pub manifest: Arc<Manifest>,
}

impl LayerInfo {
    fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Invalid(format!("layer.json: {error}")))
    }
}

impl Layer {
    /// The directory to mount as a lower directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
}

/// A directory of work in progress, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "work directory not removed");
        }
    }
}

/// A lock between processes, given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What to publish.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) parent: Option<Digest>,
    pub(crate) key: Option<Digest>,
    pub(crate) provenance: serde_json::Value,
    pub(crate) epoch: i64,
}

/// The state directory by the usual rules: `/var/lib/karat` for root, unless `XDG_STATE_HOME` says
/// otherwise, and `~/.local/state/karat` for others.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    default_dir("XDG_STATE_HOME", "/var/lib/karat", ".local/state")
}

/// The cache directory by the usual rules: `/var/cache/karat` for root, unless `XDG_CACHE_HOME`
/// says otherwise, and `~/.cache/karat` for others.
#[must_use]
pub fn default_cache_dir() -> PathBuf {
    default_dir("XDG_CACHE_HOME", "/var/cache/karat", ".cache")
}

fn default_dir(variable: &str, for_root: &str, below_home: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os(variable).filter(|dir| Path::new(dir).is_absolute()) {
        return Path::new(&dir).join("karat");
    }
    match std::env::home_dir() {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(below_home).join("karat"),
        _ => PathBuf::from(for_root),
    }
}

impl Store {
    /// Opens the store in a state directory, which is made when missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(state_dir: impl AsRef<Path>) -> Result<Self> {
        let dir = state_dir.as_ref();
        for name in ["layers", "keys", "blobs", "locks", "tmp", "apt"] {
            let at = dir.join(name);
            fs::create_dir_all(&at).map_err(Error::io("make the directory", &at))?;
        }
        let dir = fs::canonicalize(dir).map_err(Error::io("find", dir))?;
        Ok(Self { dir: Arc::new(dir), boot: power::this_boot() })
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the layer and all below it are here, and have outlived the last loss of power.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        let mut next = Some(digest);
        while let Some(digest) = next {
            match self.survived(digest) {
                Some(info) => next = info.parent,
                None => return false,
            }
        }
        true
    }

    pub(crate) fn layer_dir(&self, digest: Digest) -> PathBuf {
        self.dir.join("layers").join(digest.to_string())
    }

    /// Reads a layer and checks that its manifest has the digest that names it.
    ///
    /// # Errors
    /// [`Error::NoLayer`] when it is not here, or what is wrong with its files.
    pub fn layer(&self, digest: Digest) -> Result<Layer> {
        let dir = self.layer_dir(digest);
        let info = self.info(digest)?;
        let at = dir.join("manifest");
        let text = fs::read_to_string(&at).map_err(Error::io("read", &at))?;
        let actual = Manifest::digest_of_text(&text, info.parent);
        if actual != digest {
            return Err(Error::Mismatch {
                what: at.display().to_string(),
                expected: digest.to_string(),
                actual: actual.to_string(),
                hint: "the store was damaged: remove the layer's directory and build it again",
            });
        }
        let manifest = Arc::new(Manifest::parse(&text, &at)?);
        Ok(Layer { digest, dir, info, manifest })
    }

    /// Reads what is written down about a layer, without its manifest.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn info(&self, digest: Digest) -> Result<LayerInfo> {
        let at = self.layer_dir(digest).join("layer.json");
        let text = match fs::read(&at) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoLayer {
                    digest: digest.to_string(),
                    store: self.dir.to_path_buf(),
                });
            }
            Err(error) => return Err(Error::io("read", &at)(error)),
        };
        serde_json::from_slice(&text).map_err(|error| Error::Format {
            path: at,
            line: error.line(),
            reason: error.to_string(),
        })
    }

    /// A layer and all below it, the base first.
    ///
    /// # Errors
    /// As [`Store::layer`], for any of them.
    pub fn stack(&self, digest: Digest) -> Result<Vec<Layer>> {
        let mut out = vec![self.layer(digest)?];
        while let Some(parent) = out.last().and_then(|layer| layer.info.parent) {
            out.push(self.layer(parent)?);
        }
        out.reverse();
        Ok(out)
    }

    /// The directories to give an overlay as `lowerdir`, the topmost first.
    ///
    /// # Errors
    /// When one of the layers is not here.
    pub fn lower_dirs(&self, digest: Digest) -> Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        let mut next = Some(digest);
        while let Some(digest) = next {
            next = self.info(digest)?.parent;
            out.push(self.layer_dir(digest).join("root"));
        }
        Ok(out)
    }

    /// Everything that is visible on top of a layer, as the input of a disk.
    ///
    /// # Errors
    /// As [`Store::stack`].
    pub fn merged_entries(&self, digest: Digest) -> Result<Vec<Entry>> {
        Ok(merge::entries(&self.stack(digest)?))
    }

    /// Reads one file as it is visible on top of a layer, following links within the image.
    ///
    /// # Errors
    /// When a layer is damaged or the file cannot be read. A missing file is `None`.
    pub fn read_file(&self, digest: Digest, path: &str) -> Result<Option<Vec<u8>>> {
        let view = merge::merge(&self.stack(digest)?);
        let Some(found) = crate::boot::resolve(&view, path.as_bytes()) else { return Ok(None) };
        let Some(node) = view.get(&found).filter(|n| matches!(n.item.kind, Kind::File { .. }))
        else {
            return Ok(None);
        };
        let stack = self.lower_dirs(digest)?;
        let at = scan::host_path(&stack[stack.len() - 1 - node.layer], &node.item.path);
        fs::read(&at).map(Some).map_err(Error::io("read", &at))
    }

    /// The layer that a key gave before.
    ///
    /// # Errors
    /// When the record cannot be read. A record of a layer that is gone counts as none, and so does one
    /// that was cut off.
    pub fn lookup_key(&self, key: Digest) -> Result<Option<Digest>> {
        let at = self.dir.join("keys").join(key.to_string());
        match fs::read_to_string(&at) {
            Ok(text) => Ok(text.trim().parse().ok().filter(|digest| self.has(*digest))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &at)(error)),
        }
    }

    /// Remembers which layer a key gave.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn remember_key(&self, key: Digest, digest: Digest) -> Result<()> {
        self.write("keys", &key.to_string(), format!("{digest}\n").as_bytes())
    }

    /// Keeps a file by its content and returns its digest.
    pub(crate) fn keep_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.blob_path(digest).exists() {
            self.write("blobs", &digest.to_string(), bytes)?;
        }
        Ok(digest)
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.to_string())
    }

    /// Writes a small file of the store whole or not at all.
    pub(crate) fn write(&self, folder: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let to = self.dir.join(folder).join(name);
        let mut temp = tempfile::Builder::new()
            .prefix("write-")
            .tempfile_in(self.dir.join("tmp"))
            .map_err(Error::io("write", &to))?;
        temp.write_all(bytes).map_err(Error::io("write", &to))?;
        temp.persist(&to).map_err(|error| Error::io("write", &to)(error.error))?;
        Ok(())
    }

    /// Makes a directory for work in progress of a run. It lies on the file system of the layers,
    /// so that finished work moves into place by a rename.
    ///
    /// # Errors
    /// When `run` is not a plain name, or the directory cannot be made.
    pub fn scratch(&self, run: &str) -> Result<Scratch> {
        check_run(run)?;
        let tmp = self.dir.join("tmp");
        let dir = tempfile::Builder::new()
            .prefix(&format!("{run}-"))
            .tempdir_in(&tmp)
            .map_err(Error::io("make a work directory in", &tmp))?
            .keep();
        Ok(Scratch { dir })
    }

    /// Removes what a dead run left in `tmp`. Nothing to remove is fine.
    ///
    /// # Errors
    /// When something there cannot be removed.
    pub fn sweep(&self, run: &str) -> Result<usize> {
        check_run(run)?;
        let tmp = self.dir.join("tmp");
        let mut removed = 0;
        let prefix = format!("{run}-");
        for entry in fs::read_dir(&tmp).map_err(Error::io("list", &tmp))? {
            let entry = entry.map_err(Error::io("list", &tmp))?;
            if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                continue;
            }
            let at = entry.path();
            let is_dir = entry.file_type().map_err(Error::io("read", &at))?.is_dir();
            let result = if is_dir { fs::remove_dir_all(&at) } else { fs::remove_file(&at) };
            match result {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &at)(error));
                }
                _ => removed += 1,
            }
        }
        Ok(removed)
    }

    /// Takes the lock of this name, waiting for another process that holds it. Two builds of the
    /// same key take turns this way, and the second finds the first one's layer.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or when the lock file cannot be made.
    pub fn lock(&self, name: &str, control: &Control) -> Result<Lock> {
        lock_file(&self.dir.join("locks").join(name), control)
    }

    /// Moves a finished tree into the store. `root` must lie in a [`Scratch`] of this store; it is
    /// taken as it is, so normalise it before.
    pub(crate) fn publish(
        &self,
        scratch: &Scratch,
        root: &Path,
        manifest: Manifest,
        draft: Draft,
    ) -> Result<Layer> {
        let text = manifest.to_text();
        let digest = Manifest::digest_of_text(&text, draft.parent);
        let info = LayerInfo {
            parent: draft.parent,
            key: draft.key,
            provenance: draft.provenance,
            epoch: draft.epoch,
            created: now(),
            size: manifest.size(),
            entries: manifest.items().len() as u64,
            boot: self.boot.as_deref().map(str::to_owned),
        };
        let to = self.layer_dir(digest);
        if self.survived(digest).is_none() {
            let staged = scratch.path().join(format!("publish-{digest}"));
            fs::create_dir(&staged).map_err(Error::io("make the directory", &staged))?;
            fs::rename(root, staged.join("root")).map_err(Error::io("move", root))?;
            let at = staged.join("manifest");
            fs::write(&at, &text).map_err(Error::io("write", &at))?;
            let at = staged.join("layer.json");
            fs::write(&at, info.to_json()?).map_err(Error::io("write", &at))?;
            match fs::rename(&staged, &to) {
                Ok(()) => {}
                // Another process was first with the same bytes.
                Err(_) if to.join("layer.json").exists() => {}
                Err(error) => return Err(Error::io("move into the store", &to)(error)),
            }
        }
        if let Some(key) = draft.key {
            self.remember_key(key, digest)?;
        }
        Ok(Layer { digest, dir: to, info, manifest: Arc::new(manifest) })
    }

    /// All layers, in order of their digests.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn layers(&self) -> Result<BTreeSet<Digest>> {
        let dir = self.dir.join("layers");
        let mut out = BTreeSet::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            if let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                out.insert(digest);
            }
        }
        Ok(out)
    }
}

/// Takes an exclusive lock on a file, made when missing.
pub(crate) fn lock_file(at: &Path, control: &Control) -> Result<Lock> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(at)
        .map_err(Error::io("open the lock", at))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => {
                control.check()?;
                if !std::mem::replace(&mut told, true) {
                    control.phase("waiting for another build of the same layer");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::Error(error)) => return Err(Error::io("lock", at)(error)),
        }
    }
}

fn check_run(run: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if run.is_empty() || run.starts_with('.') || !run.chars().all(good) {
        return Err(Error::Invalid(format!(
            "run id `{run}` must be made of letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
