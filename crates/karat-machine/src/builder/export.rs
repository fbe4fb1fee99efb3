//! Step `export`: bootable disks from the layers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use karat_component::{Events, SagaContext};
use karat_disk::{BootSpec, DiskSpec, Format, write_disk};
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::capture::CaptureOutput;
use super::validate::{Disk, Validated};
use super::{node, open_store, parse_digest};

/// Writes the disks in a folder of their own beside their place, then renames them, so that what
/// stood there before stands until the new ones are whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportStep {
    disk: Disk,
    state_dir: PathBuf,
    directory: PathBuf,
    name: String,
    staging: PathBuf,
    epoch: Option<i64>,
    /// The topmost folder that is made for the output, if one is.
    #[serde(default)]
    made: Option<PathBuf>,
}

/// The disks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportOutput {
    pub(super) files: Vec<FileStamp>,
    pub(super) root_uuid: String,
}

/// A file, and how to tell whether it is still as it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileStamp {
    pub(super) path: PathBuf,
    size: u64,
    modified: (i64, i64),
    /// What it takes on the disk, in blocks of 512 bytes. A machine that lost power may have lost
    /// some of them, and the file has its size nevertheless.
    #[serde(default)]
    blocks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

impl FileStamp {
    fn of(path: &Path, sha256: Option<String>) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        let blocks = meta.blocks();
        Ok(Self { path: path.to_owned(), size: meta.len(), modified, blocks, sha256 })
    }

    /// Whether nothing has written to the file since.
    pub(super) fn is_current(&self) -> bool {
        let Ok(now) = Self::of(&self.path, self.sha256.clone()) else { return false };
        // File systems give and take a few blocks for themselves.
        let whole = now.blocks >= self.blocks - self.blocks / 64;
        whole && Self { blocks: self.blocks, ..now } == *self
    }
}

/// Where the disks go. A relative folder starts where the program was started.
pub(super) fn directory(disk: &Disk, cx: &SagaContext) -> PathBuf {
    let name = || format!("output-{}", cx.build.local_name).into();
    let directory = disk.directory.clone().unwrap_or_else(name);
    std::path::absolute(&directory).unwrap_or(directory)
}

impl ExportStep {
    pub(super) fn new(validated: &Validated, disk: &Disk, cx: &SagaContext) -> Self {
        let source = &cx.build.local_name;
        let directory = directory(disk, cx);
        let made = directory.ancestors().take_while(|dir| !dir.exists()).last().map(Path::to_owned);
        Self {
            name: disk.name.clone().unwrap_or_else(|| source.clone()),
            staging: directory.join(format!(".{}", cx.token)),
            disk: disk.clone(),
            state_dir: cx.state_dir.clone(),
            epoch: validated.normalise.epoch,
            made,
            directory,
        }
    }

    /// Where a disk that is written in the folder of its own goes.
    fn target(&self, staged: &Path) -> PathBuf {
        self.directory.join(staged.file_name().unwrap_or_default())
    }

    fn outputs(&self) -> Vec<karat_disk::Output> {
        let output = |ending: &str, format| karat_disk::Output {
            path: self.staging.join(format!("{}.{ending}", self.name)),
            format,
            digest: self.disk.checksum,
        };
        let compress = self.disk.compress;
        let raw = self.disk.raw.then(|| output("raw", Format::Raw));
        let qcow2 = self.disk.qcow2.then(|| output("qcow2", Format::Qcow2 { compress }));
        raw.into_iter().chain(qcow2).collect()
    }

    fn write(
        &self,
        layer: &str,
        events: &Events,
        cancel: &AtomicBool,
    ) -> Result<ExportOutput, StepError> {
        let failed = |e| StepError::because("could not read the layers", e);
        let store = open_store(&self.state_dir)?;
        let digest = parse_digest(layer)?;
        let entries = store.merged_entries(digest).map_err(failed)?;
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => store.info(digest).map_err(failed)?.epoch,
        };
        let spec = DiskSpec {
            seed: layer.as_bytes().to_vec(),
            size: self.disk.size,
            margin: self.disk.free,
            time: epoch,
            boot: Some(BootSpec {
                firmware: self.disk.firmware(),
                kernel_command_line: self.disk.kernel_command_line.clone(),
                ..BootSpec::default()
            }),
            ..DiskSpec::default()
        };
        let cannot = |e: io::Error| {
            StepError::because(format!("could not write to {}", self.directory.display()), e)
        };
        std::fs::create_dir_all(&self.staging).map_err(cannot)?;
        for output in self.outputs() {
            forget(&self.target(&output.path));
        }
        let progress = |p: karat_disk::Progress| {
            events.progress("writing the disk", p.done, Some(p.total), "bytes");
        };
        let report = write_disk(&spec, &entries, &self.outputs(), &progress, cancel);
        let report = report.map_err(|error| match error {
            karat_disk::Error::Cancelled => StepError::cancelled(),
            other => StepError::because("could not write the disk", other),
        })?;
        let mut files = Vec::new();
        for written in report.outputs {
            let target = self.target(&written.path);
            put(&written.path, &target).map_err(cannot)?;
            let sum =
                written.sha256.map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect());
            files.push(FileStamp::of(&target, sum).map_err(cannot)?);
        }
        std::fs::remove_dir_all(&self.staging).map_err(cannot)?;
        Ok(ExportOutput { files, root_uuid: report.root_uuid.to_string() })
    }
}

/// Gives up the memory that caches a file which is about to be replaced, so that the new file's
/// cache takes it over. Memory that was free for a while is slow to get where the machine itself is
/// a virtual one: its host may have taken it back. That was 1.5 s for 500 MB, and 0.1 s with this.
fn forget(path: &Path) {
    use rustix::fs::{Advice, fadvise};
    if is_file(path)
        && let Ok(file) = std::fs::File::open(path)
    {
        // Advice: where it is not taken, nothing is lost.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
}

/// Whether a regular file stands there, not a link to one.
fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Moves a file to its place. What stood there is left in the file's former place: file systems
/// write the new file to the disk at once where it replaces another, which takes seconds for
/// nothing; an exchange does not.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if is_file(to) && renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    // Nothing stands there, or the file system cannot exchange.
    std::fs::rename(from, to)
}

impl Step for ExportStep {
    const KIND: &'static str = "machine.export";
    type Output = ExportOutput;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<ExportOutput, StepError> {
        let layer: CaptureOutput = cx.output(node::CAPTURE)?;
        let events = cx.service::<Events>()?;
        events.say(format!("Writing {}", self.directory.join(&self.name).display()));
        let cancel = Arc::new(AtomicBool::new(false));
        let (step, events, flag) = (self.clone(), Arc::clone(&events), Arc::clone(&cancel));
        let mut task =
            tokio::task::spawn_blocking(move || step.write(&layer.layer, &events, &flag));
        let result = tokio::select! {
            result = &mut task => result,
            () = cx.token().cancelled() => {
                cancel.store(true, Ordering::Relaxed);
                task.await
            }
        };
        result.map_err(|e| StepError::because("could not write the disk", e))?
    }

    /// Removes what is half done, and the folders that were made for it if nothing is in them.
    /// Disks that were renamed to their place are whole, and stay.
    async fn undo(&self, _: &StepContext, _: Option<ExportOutput>) -> Result<(), StepError> {
        let removed = match std::fs::remove_dir_all(&self.staging) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StepError::because(format!("could not remove {}", self.staging.display()), e))
            }
            _ => Ok(()),
        };
        if let Some(made) = &self.made {
            for dir in self.directory.ancestors().take_while(|dir| dir.starts_with(made)) {
                if std::fs::remove_dir(dir).is_err() {
                    break;
                }
            }
        }
        removed
    }
}
