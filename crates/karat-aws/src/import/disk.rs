//! The disk in blocks.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use karat_component::ComponentError;
use karat_disk::{DiskImage, PartitionTable};

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
    /// A raw copy of a disk of another format; it goes with this.
    _raw: Option<Arc<Raw>>,
}

#[derive(Debug)]
struct Raw(PathBuf);

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn unpacked(state_dir: &Path) -> Result<PathBuf, ComponentError> {
    std::fs::create_dir_all(state_dir).map_err(|e| {
        ComponentError::because(format!("could not make {}", state_dir.display()), e)
    })?;
    Ok(state_dir.join(format!(".unpacked-{}", std::process::id())))
}

impl Disk {
    pub(super) fn open(path: &Path, state_dir: &Path) -> Result<Self, ComponentError> {
        let fail = |e: std::io::Error| {
            ComponentError::because(format!("could not read {}", path.display()), e)
        };
        let meta = std::fs::metadata(path).map_err(fail)?;
        let written =
            format!("{}.{} {} {}", meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino());
        let (_, raw) = image(path, state_dir)?;
        let place = raw.as_ref().map_or(path, |raw| raw.0.as_path());
        let file = File::open(place).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        if length == 0 {
            return Err(ComponentError::new(format!("{} is empty", path.display())));
        }
        Ok(Self { file: Arc::new(file), length, written, _raw: raw.map(Arc::new) })
    }

    /// How machines can start from a disk: by what partitions it has.
    pub(super) fn boot_mode(path: &Path, state_dir: &Path) -> Result<&'static str, ComponentError> {
        let (image, _raw) = image(path, state_dir)?;
        let has = |id: &str| {
            let all = image.partitions().iter();
            all.filter_map(|p| p.type_id).any(|t| t.to_string().eq_ignore_ascii_case(id))
        };
        let efi = has("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        let bios =
            has("21686148-6449-6e6f-744e-656564454649") || image.table() != PartitionTable::Gpt;
        Ok(match (efi, bios) {
            (true, true) => "uefi-preferred",
            (true, false) => "uefi",
            (false, _) => "legacy-bios",
        })
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

fn image(path: &Path, state_dir: &Path) -> Result<(DiskImage, Option<Raw>), ComponentError> {
    let raw = unpacked(state_dir)?;
    let opened = DiskImage::open(path, &raw);
    let raw = raw.exists().then_some(Raw(raw));
    let image = opened.map_err(|e| {
        ComponentError::because(format!("could not read the disk {}", path.display()), e)
            .with_hint("a raw or a qcow2 image is needed")
    })?;
    Ok((image, raw))
}
