//! The disk in blocks.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use karat_component::ComponentError;
use karat_disk::{Container, DiskImage, PartitionTable};
use tokio_util::sync::CancellationToken;

use super::{Import, cancelled};

/// A block of EBS direct.
pub(super) const BLOCK: usize = 512 * 1024;
const GIB: u64 = 1 << 30;

/// A disk to read from.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    file: Arc<File>,
    length: u64,
    /// When the disk was written last, which tells it from a later one.
    pub(super) written: String,
    /// How machines can start from it: by what partitions it has.
    pub(super) boot_mode: &'static str,
}

impl Disk {
    /// Opens a disk, unpacks it into a folder where it is not raw.
    pub(super) async fn open(
        import: &Import,
        cancel: &CancellationToken,
    ) -> Result<Self, ComponentError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, folder) = (import.disk.clone(), import.state_dir.clone());
        let (given, flag) = (import.format, Arc::clone(&stop));
        let opened =
            tokio::task::spawn_blocking(move || Self::open_now(&path, given, &folder, &flag));
        tokio::pin!(opened);
        let opened = tokio::select! {
            opened = &mut opened => opened,
            () = cancel.cancelled() => {
                stop.store(true, Ordering::Relaxed);
                drop(opened.await);
                return Err(cancelled());
            }
        };
        opened.map_err(|e| ComponentError::because("could not read the disk", e))?
    }

    fn open_now(
        path: &Path,
        given: Option<Container>,
        folder: &Path,
        cancel: &AtomicBool,
    ) -> Result<Self, ComponentError> {
        let fail = |e: std::io::Error| {
            ComponentError::because(format!("could not read {}", path.display()), e)
        };
        let meta = std::fs::metadata(path).map_err(fail)?;
        let written =
            format!("{}.{} {} {}", meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino());
        std::fs::create_dir_all(folder).map_err(|e| {
            ComponentError::because(format!("could not make {}", folder.display()), e)
        })?;
        let unread = |e: karat_disk::Error| {
            ComponentError::because(format!("could not read the disk {}", path.display()), e)
        };
        let kind = Container::of(path).map_err(unread)?;
        if let Some(given) = given.filter(|given| kind == Container::Raw && *given != kind) {
            let name = given.name();
            return Err(ComponentError::new(format!(
                "{} is not {name}: it does not begin as such files do",
                path.display()
            ))
            .with_hint(format!("make it again, or name it otherwise if it is no {name}")));
        }
        let image = DiskImage::open_nameless(path, folder, cancel).map_err(unread)?;
        let file = image.file().try_clone().map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        if length == 0 {
            return Err(ComponentError::new(format!("{} is empty", path.display())));
        }
        Ok(Self { file: Arc::new(file), length, written, boot_mode: boot_mode(&image) })
    }

    pub(super) fn blocks(&self) -> u64 {
        self.length.div_ceil(BLOCK as u64)
    }

    pub(super) fn gib(&self) -> u64 {
        self.length.div_ceil(GIB)
    }

    /// A block, filled with zeros at the end of the disk.
    pub(super) fn block(&self, index: u64) -> std::io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK];
        let start = index * BLOCK as u64;
        let mut filled = 0;
        while filled < BLOCK {
            let count = self.file.read_at(&mut block[filled..], start + filled as u64)?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        Ok(block)
    }
}

fn boot_mode(image: &DiskImage) -> &'static str {
    let has = |id: &str| {
        let all = image.partitions().iter();
        all.filter_map(|p| p.type_id).any(|t| t.to_string().eq_ignore_ascii_case(id))
    };
    let efi = has("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    let bios = has("21686148-6449-6e6f-744e-656564454649") || image.table() != PartitionTable::Gpt;
    match (efi, bios) {
        (true, true) => "uefi-preferred",
        (true, false) => "uefi",
        (false, _) => "legacy-bios",
    }
}
