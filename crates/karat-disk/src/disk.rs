//! A bootable disk: partition table, EFI system partition, root file system, boot loader.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::boot::{self, BootSpec, Loader};
use crate::error::{Error, Result};
use crate::gpt::{self, Partition};
use crate::ids::derive_uuid;
use crate::output::{self, Control, Format, Former, Output, Progress, Stamp, Written};
use crate::segment::Layout;
use crate::tree::{Entry, Kind, Timestamp};
use crate::{ext4, fat};

const MIB: u64 = 1 << 20;
/// Length of the BIOS boot partition.
const BIOS_BOOT_SIZE: u64 = MIB;

/// What a disk is besides its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Seed of every identifier on the disk.
    pub seed: Vec<u8>,
    /// Size in bytes, whole MiB; `None` for content and margin.
    pub size: Option<u64>,
    /// Free bytes to leave in the root file system where the size is chosen here.
    pub margin: u64,
    /// Time of making (file systems, directories that no entry describes), seconds since 1970.
    pub time: i64,
    /// Label of the root file system, at most 16 bytes.
    pub label: String,
    /// Share of the root file system kept for root, in percent (0 to 50).
    pub reserved_percent: u32,
    /// Length of the EFI system partition in bytes, whole MiB.
    pub esp_size: u64,
    /// Further files for the EFI system partition; paths begin at its root.
    pub esp_entries: Vec<Entry>,
    /// Boot loader; `None` for a disk with a root partition only.
    pub boot: Option<BootSpec>,
    /// Write lines for the disk's own file systems into `/etc/fstab`, unless the tree's has one for
    /// the root.
    pub fstab: bool,
}

impl Default for DiskSpec {
    fn default() -> Self {
        Self {
            seed: Vec::new(),
            size: None,
            margin: 256 * MIB,
            time: 0,
            label: "root".into(),
            reserved_percent: 5,
            esp_size: 64 * MIB,
            esp_entries: Vec::new(),
            boot: Some(BootSpec::default()),
            fstab: true,
        }
    }
}

impl DiskSpec {
    /// UUID of the root file system.
    #[must_use]
    pub fn root_uuid(&self) -> Uuid {
        derive_uuid(&self.seed, "root file system")
    }

    /// PARTUUID of the root partition.
    #[must_use]
    pub fn root_partition_uuid(&self) -> Uuid {
        derive_uuid(&self.seed, "root partition")
    }

    /// Volume id of the EFI system partition.
    #[must_use]
    pub fn esp_volume_id(&self) -> u32 {
        derive_uuid(&self.seed, "EFI system partition volume").as_fields().0
    }
}

/// Where the content of a file stands on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileExtents {
    /// Path in the image.
    pub path: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the content, where the entry stated it.
    pub digest: Option<[u8; 32]>,
    /// Offset in the file, offset on the disk, length; in bytes. What lies between is a hole.
    pub extents: Vec<(u64, u64, u64)>,
}

/// Where the contents of all regular files stand on a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMap {
    /// Bytes of the disk.
    pub disk_size: u64,
    /// First byte of the root file system.
    pub root_start: u64,
    /// The files, in path order.
    pub files: Vec<FileExtents>,
    /// Everything on the disk that is not a hole, ascending: offset and length in bytes.
    pub used: Vec<(u64, u64)>,
}

/// What a former write left, so that [`update_disk`] can change its files in place. To be kept
/// beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Where contents stand.
    pub block_map: BlockMap,
    /// The files with their state after the write.
    pub outputs: Vec<(PathBuf, Format, Stamp)>,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Report {
    /// The files, in the order of the outputs.
    pub outputs: Vec<Written>,
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// Where contents stand.
    pub block_map: BlockMap,
    /// UUID of the root file system.
    pub root_uuid: Uuid,
    /// Time to lay everything out, boot loader included.
    pub planning: Duration,
    /// Time to write, digests included.
    pub writing: Duration,
}

impl Report {
    /// What a later [`update_disk`] needs.
    #[must_use]
    pub fn previous(&self) -> Previous {
        let outputs = self.outputs.iter().map(|w| (w.path.clone(), w.format, w.stamp)).collect();
        Previous { block_map: self.block_map.clone(), outputs }
    }
}

/// Writes a disk with these entries as its root file system to all outputs.
///
/// Equal `spec`, entries and contents give equal bytes. `progress` is called from several threads
/// after each piece written. When `cancel` becomes true, or at any error, files begun are removed
/// and files that stood at the outputs' paths are as they were.
///
/// # Errors
/// A wrong entry or specification, a file of the host that cannot be read or has changed, a disk
/// that is full or too small, a missing boot loader, or [`Error::Cancelled`].
pub fn write_disk(
    spec: &DiskSpec,
    entries: &[Entry],
    outputs: &[Output],
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &AtomicBool,
) -> Result<Report> {
    write(spec, entries, outputs, None, &Control { progress, cancel })
}

/// Like [`write_disk`], with the same bytes as the result, but where a file of the former write
/// still stands at an output's path as it was left, it is changed in place: contents whose
/// entries state the same digest, and whose place on the disk is the same, are not written again.
///
/// A file that is being changed is lost when the update fails or is cancelled after its start.
/// Compressed images are always written anew.
///
/// # Errors
/// As [`write_disk`].
pub fn update_disk(
    spec: &DiskSpec,
    entries: &[Entry],
    outputs: &[Output],
    previous: &Previous,
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &AtomicBool,
) -> Result<Report> {
    write(spec, entries, outputs, Some(previous), &Control { progress, cancel })
}

fn write(
    spec: &DiskSpec,
    entries: &[Entry],
    outputs: &[Output],
    previous: Option<&Previous>,
    control: &Control<'_>,
) -> Result<Report> {
    let start = Instant::now();
    control.check()?;
    if outputs.is_empty() {
        return Err(Error::Spec("a disk without an output would be lost".into()));
    }
    if outputs.iter().enumerate().any(|(n, o)| outputs[..n].iter().any(|p| p.path == o.path)) {
        return Err(Error::Spec("two outputs have the same path".into()));
    }
    let planned = plan(spec, entries)?;
    let planning = start.elapsed();
    let start = Instant::now();
    let former = previous.map(|previous| Former {
        disk_size: previous.block_map.disk_size,
        used: &previous.block_map.used,
        stamps: &previous.outputs,
        unchanged: unchanged(&previous.block_map, &planned.block_map),
    });
    let outputs = output::write(&planned.layout, outputs, former.as_ref(), control)?;
    Ok(Report {
        outputs,
        partitions: planned.partitions,
        block_map: planned.block_map,
        root_uuid: spec.root_uuid(),
        planning,
        writing: start.elapsed(),
    })
}

/// Parts of the disk whose files have the same digest and place in both maps: offset and end,
/// ascending.
fn unchanged(old: &BlockMap, new: &BlockMap) -> Vec<(u64, u64)> {
    let first = |file: &FileExtents| file.extents.first().map(|extent| extent.1);
    let by_place: HashMap<u64, &FileExtents> =
        old.files.iter().filter_map(|file| Some((first(file)?, file))).collect();
    let mut ranges: Vec<(u64, u64)> = new
        .files
        .iter()
        .filter(|file| file.digest.is_some())
        .filter(|file| {
            first(file).and_then(|place| by_place.get(&place)).is_some_and(|old| {
                (old.digest, old.size) == (file.digest, file.size) && old.extents == file.extents
            })
        })
        .flat_map(|file| file.extents.iter().map(|(_, on_disk, len)| (*on_disk, on_disk + len)))
        .collect();
    ranges.sort_unstable();
    ranges
}

pub(crate) struct PlannedDisk {
    pub(crate) layout: Layout,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) block_map: BlockMap,
}

fn plan(spec: &DiskSpec, entries: &[Entry]) -> Result<PlannedDisk> {
    for (what, bytes) in
        [("disk size", spec.size), ("size of the EFI system partition", Some(spec.esp_size))]
    {
        if bytes.is_some_and(|bytes| bytes % MIB != 0) {
            let text = format!("the {what}, {} bytes, is not whole MiB", bytes.unwrap_or(0));
            return Err(Error::Spec(text));
        }
    }
    let bios = spec.boot.as_ref().is_some_and(|boot| boot.firmware.bios());
    let uefi = spec.boot.as_ref().is_some_and(|boot| boot.firmware.uefi());
    let bios_start = MIB;
    let esp_start = bios_start + if bios { BIOS_BOOT_SIZE } else { 0 };
    let root_start = esp_start + if uefi { spec.esp_size } else { 0 };
    // The last MiB holds the backup table.
    let root_size = match spec.size {
        Some(size) => Some(size.checked_sub(root_start + MIB).ok_or(Error::TooSmall {
            what: "the disk",
            needed: root_start + 2 * MIB,
            available: size,
        })?),
        None => None,
    };
    let (loader, root) = std::thread::scope(|scope| {
        let loader = scope.spawn(|| match &spec.boot {
            Some(boot) => boot::loader(boot, spec.root_uuid(), bios_start, BIOS_BOOT_SIZE),
            None => Ok(Loader::default()),
        });
        let root = plan_root(spec, entries, root_size, uefi);
        match loader.join() {
            Ok(loader) => (loader, root),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let (loader, root) = (loader?, root?);
    let root_size = root.layout.size;
    let mut layout = Layout::new(root_start + root_size + MIB);
    let mut partitions = Vec::new();
    let mut partition = |type_id, purpose: &str, start, len, name: &str| {
        let id = derive_uuid(&spec.seed, purpose);
        partitions.push(Partition { type_id, id, start, len, name: name.into() });
    };
    if bios {
        partition(gpt::BIOS_BOOT, "BIOS boot partition", bios_start, BIOS_BOOT_SIZE, "bios");
        layout.put(bios_start, loader.core);
    }
    if uefi {
        let id = "EFI system partition";
        partition(gpt::EFI_SYSTEM, id, esp_start, spec.esp_size, "esp");
        layout.embed(esp_start, plan_esp(spec, loader.efi, esp_start)?);
    }
    partition(gpt::LINUX_ROOT_X86_64, "root partition", root_start, root_size, "root");
    layout.embed(root_start, root.layout);
    gpt::place(&mut layout, derive_uuid(&spec.seed, "disk"), &partitions, &loader.first_sector)?;
    layout.sort();
    let files = root
        .files
        .into_iter()
        .map(|file| FileExtents {
            path: file.path,
            size: file.size,
            digest: file.digest,
            extents: file
                .extents
                .into_iter()
                .map(|(at, on_disk, len)| (at, on_disk + root_start, len))
                .collect(),
        })
        .collect();
    let used = output::used(&layout);
    let block_map = BlockMap { disk_size: layout.size, root_start, files, used };
    Ok(PlannedDisk { layout, partitions, block_map })
}

fn plan_esp(spec: &DiskSpec, efi: Vec<u8>, start: u64) -> Result<Layout> {
    let time = Timestamp::from_secs(spec.time);
    let mut entries = spec.esp_entries.clone();
    entries.push(Entry::bytes("/EFI/BOOT/BOOTX64.EFI", 0o644, time, efi));
    let options = fat::Options {
        size: spec.esp_size,
        hidden_sectors: start / gpt::SECTOR,
        volume_id: spec.esp_volume_id(),
        label: "ESP".into(),
        time: spec.time,
    };
    fat::plan(&entries, &options)
}

/// Lays out the root file system, with the files that belong to the disk rather than the tree.
fn plan_root(
    spec: &DiskSpec,
    entries: &[Entry],
    size: Option<u64>,
    uefi: bool,
) -> Result<ext4::Planned> {
    let time = Timestamp::from_secs(spec.time);
    let mut all: Vec<&Entry> = entries.iter().collect();
    let mut own = Vec::new();
    if let Some(boot) = &spec.boot {
        let text = boot::config(boot, spec.root_uuid(), &all)?;
        own.push(Entry::bytes("/boot/grub/grub.cfg", 0o644, time, text.into_bytes()));
        if uefi && !entries.iter().any(|entry| entry.path == b"/boot/efi") {
            own.push(Entry::directory("/boot/efi", 0o700, time));
        }
    }
    if spec.fstab
        && let Some(text) = fstab(spec, entries, uefi)?
    {
        own.push(Entry::bytes("/etc/fstab", 0o644, time, text.into_bytes()));
    }
    all.retain(|entry| !own.iter().any(|own| own.path == entry.path));
    all.extend(&own);
    let options = ext4::Options {
        size,
        margin: spec.margin,
        uuid: spec.root_uuid(),
        hash_seed: derive_uuid(&spec.seed, "root directory hashes"),
        label: spec.label.clone(),
        time: spec.time,
        reserved_percent: spec.reserved_percent,
    };
    ext4::plan(&all, &options)
}

/// The `/etc/fstab` of the disk: what the tree's says, after lines for the disk's own file systems
/// where it has none. `None` leaves the tree's alone.
fn fstab(spec: &DiskSpec, entries: &[Entry], uefi: bool) -> Result<Option<String>> {
    let given = match entries.iter().find(|entry| entry.path == b"/etc/fstab") {
        None => String::new(),
        Some(entry) => {
            // A link says that somebody has a plan.
            let Kind::File { size, content, .. } = &entry.kind else { return Ok(None) };
            let mut bytes = Vec::new();
            content
                .reader(*size)
                .and_then(|reader| reader.take(1 << 20).read_to_end(&mut bytes))
                .map_err(|error| Error::io("read", Path::new("/etc/fstab of the tree"), error))?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let mentions = |place: &str| {
        let lines = given.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.map(|line| line.split_whitespace().nth(1)).any(|found| found == Some(place))
    };
    if mentions("/") {
        return Ok(None);
    }
    let mut text = format!("UUID={} / ext4 defaults,errors=remount-ro 0 1\n", spec.root_uuid());
    if uefi && !mentions("/boot/efi") {
        let id = spec.esp_volume_id();
        let (high, low) = (id >> 16, id & 0xFFFF);
        text.push_str(&format!("UUID={high:04X}-{low:04X} /boot/efi vfat umask=0077,nofail 0 2\n"));
    }
    text.push_str(&given);
    Ok(Some(text))
}
