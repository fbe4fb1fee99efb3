//! Reads disk images back: partition tables, and ext4 file systems as lists of entries.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use uuid::Uuid;

use crate::bytes::{get32, get64};
use crate::contained::Container;
use crate::error::{Error, Result};
use crate::gpt::{LINUX_ROOT_X86_64, SECTOR};
use crate::tree::Entry;
use crate::{contained, ext4, qcow2_read};

/// How a disk is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionTable {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
    /// The whole disk is one file system.
    None,
}

/// A partition found on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPartition {
    /// Number, from 1; 0 where the disk has no partitions.
    pub number: u32,
    /// Its type where the table is a GPT.
    pub type_id: Option<Uuid>,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Whether it holds ext2, ext3 or ext4.
    pub is_ext: bool,
}

/// A disk image opened for reading, in whichever [`Container`].
#[derive(Debug)]
pub struct DiskImage {
    /// The raw image: the file itself, or what was unpacked from it.
    path: PathBuf,
    file: File,
    table: PartitionTable,
    partitions: Vec<ReadPartition>,
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::io("open", path, error))
}

/// Writes the disk that a file contains to an empty one.
fn unpack(path: &Path, kind: Container, out: &File, cancel: &AtomicBool) -> Result<()> {
    let file = open(path)?;
    match kind {
        Container::Qcow2 => qcow2_read::unpack(path, &file, out, path),
        _ => contained::unpack(path, &file, kind, out, cancel),
    }
}

impl DiskImage {
    /// Opens an image. One that is not raw is unpacked to a sparse raw file at `unpacked`, which
    /// the caller removes when no entry of it is needed any more; for a raw image none is made.
    ///
    /// # Errors
    /// The image cannot be read, is damaged, or is of a kind that is not read here.
    pub fn open(path: &Path, unpacked: &Path) -> Result<Self> {
        let kind = Container::of(path)?;
        if kind == Container::Raw {
            return Self::raw(path.to_owned(), open(path)?);
        }
        let out = File::options().read(true).write(true).create(true).truncate(true).open(unpacked);
        let out = out.map_err(|error| Error::io("create", unpacked, error))?;
        if let Err(error) = unpack(path, kind, &out, &AtomicBool::new(false)) {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(unpacked);
            return Err(error);
        }
        Self::raw(unpacked.to_owned(), out)
    }

    /// Opens an image. One that is not raw is unpacked to a sparse raw file in a folder, without a
    /// name there: it goes when this does, and when the process is killed. Its entries' contents
    /// cannot be read later.
    ///
    /// # Errors
    /// The image cannot be read, is damaged, or is of a kind that is not read here.
    pub fn open_nameless(path: &Path, folder: &Path, cancel: &AtomicBool) -> Result<Self> {
        let kind = Container::of(path)?;
        if kind == Container::Raw {
            return Self::raw(path.to_owned(), open(path)?);
        }
        let out = tempfile::tempfile_in(folder);
        let out = out.map_err(|error| Error::io("create a file in", folder, error))?;
        unpack(path, kind, &out, cancel)?;
        Self::raw(path.to_owned(), out)
    }

    fn raw(raw: PathBuf, file: File) -> Result<Self> {
        let len = file.metadata().map_err(|error| Error::io("read", &raw, error))?.len();
        let (table, mut partitions) = partitions(&file, len);
        for partition in &mut partitions {
            partition.is_ext = ext4::read::is_present(&file, partition.start);
        }
        Ok(Self { path: raw, file, table, partitions })
    }

    /// The raw disk.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How the disk is divided.
    #[must_use]
    pub fn table(&self) -> PartitionTable {
        self.table
    }

    /// The partitions, in the order of the table.
    #[must_use]
    pub fn partitions(&self) -> &[ReadPartition] {
        &self.partitions
    }

    /// The partition with the root file system: the one of that type, else the largest that
    /// holds ext4.
    ///
    /// # Errors
    /// No partition holds ext4.
    pub fn root(&self) -> Result<&ReadPartition> {
        let ext = || self.partitions.iter().filter(|partition| partition.is_ext);
        ext()
            .find(|partition| partition.type_id == Some(LINUX_ROOT_X86_64))
            .or_else(|| ext().max_by_key(|partition| (partition.len, u32::MAX - partition.number)))
            .ok_or_else(|| {
                Error::image(&self.path, "has no partition with an ext2, ext3 or ext4 file system")
            })
    }

    /// All entries of the file system in a partition, directories before what is in them.
    /// Contents refer to the image, which must stay as it is while they are needed.
    ///
    /// # Errors
    /// The file system is damaged or uses features that are not read here.
    pub fn entries(&self, partition: &ReadPartition) -> Result<Vec<Entry>> {
        ext4::read::entries(&self.path, &self.file, partition.start)
    }
}

/// The partition table of a disk of `len` bytes, as it stands now. `file` may be a block device.
#[must_use]
pub fn partition_table(file: &File, len: u64) -> (PartitionTable, Vec<ReadPartition>) {
    partitions(file, len)
}

/// Whether the ext3 or ext4 file system that begins at byte `start` was in use when it was last
/// written to, so that its journal has to be read first.
#[must_use]
pub fn needs_recovery(file: &File, start: u64) -> bool {
    ext4::read::is_present(file, start) && ext4::read::has_journal_to_read(file, start)
}

fn partitions(file: &File, len: u64) -> (PartitionTable, Vec<ReadPartition>) {
    if let Some(partitions) = gpt(file, len) {
        return (PartitionTable::Gpt, partitions);
    }
    let whole = ReadPartition { number: 0, type_id: None, start: 0, len, is_ext: false };
    if ext4::read::is_present(file, 0) {
        return (PartitionTable::None, vec![whole]);
    }
    let mut sector = [0u8; 512];
    if file.read_exact_at(&mut sector, 0).is_err() || sector[510..] != [0x55, 0xAA] {
        return (PartitionTable::None, vec![whole]);
    }
    let mut found = Vec::new();
    for (index, entry) in sector[446..510].chunks_exact(16).enumerate() {
        let start = u64::from(get32(entry, 8)) * SECTOR;
        let size = u64::from(get32(entry, 12)) * SECTOR;
        if entry[4] != 0 && size > 0 && start < len {
            let number = index as u32 + 1;
            found.push(ReadPartition { number, type_id: None, start, len: size, is_ext: false });
        }
    }
    (PartitionTable::Mbr, found)
}

fn gpt(file: &File, len: u64) -> Option<Vec<ReadPartition>> {
    let mut header = [0u8; 512];
    file.read_exact_at(&mut header, SECTOR).ok()?;
    if &header[..8] != b"EFI PART" {
        return None;
    }
    let (count, size) = (get32(&header, 80), get32(&header, 84));
    if count > 1024 || !(128..=4096).contains(&size) {
        return None;
    }
    let mut table = vec![0u8; count as usize * size as usize];
    file.read_exact_at(&mut table, get64(&header, 72).checked_mul(SECTOR)?).ok()?;
    let mut found = Vec::new();
    for (index, slot) in table.chunks_exact(size as usize).enumerate() {
        let type_id = Uuid::from_bytes_le(slot[..16].try_into().ok()?);
        let (first, last) = (get64(slot, 32), get64(slot, 40));
        let start = first.checked_mul(SECTOR)?;
        if type_id.is_nil() || last < first || start >= len {
            continue;
        }
        found.push(ReadPartition {
            number: index as u32 + 1,
            type_id: Some(type_id),
            start,
            len: (last - first).saturating_add(1).saturating_mul(SECTOR),
            is_ext: false,
        });
    }
    Some(found)
}
