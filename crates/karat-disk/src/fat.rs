//! A FAT16 or FAT32 file system written once, as the EFI system partition needs it.
//!
//! Source of the format: Microsoft's FAT specification (fatgen103) and the long-name part of it.
//! Volume id and times are inputs and files are contiguous, so equal inputs give equal bytes.

use std::collections::{BTreeMap, HashSet};

use crate::bytes::{put16, put32};
use crate::error::{Error, Result};
use crate::segment::{HostFile, Layout, Segment, Source};
use crate::sparse;
use crate::tree::{Content, Entry, Kind};

const SECTOR: u64 = 512;
/// Most clusters that FAT16 may have; more make it FAT32.
const FAT16_MOST: u64 = 65_524;
/// Fewest clusters that FAT16 may have.
const FAT16_LEAST: u64 = 4_085;
/// Names in the root directory of FAT16.
const FAT16_ROOT: u64 = 512;
const FATS: u64 = 2;

/// What a FAT file system is besides its files.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Size in bytes, a multiple of 512.
    pub(crate) size: u64,
    /// Sectors of the disk before this one.
    pub(crate) hidden_sectors: u64,
    /// Volume id (shown as XXXX-XXXX).
    pub(crate) volume_id: u32,
    /// Label, at most 11 bytes of upper-case ASCII.
    pub(crate) label: String,
    /// Time of everything in it, seconds since 1970.
    pub(crate) time: i64,
}

#[derive(Debug, Clone, Copy)]
struct Geometry {
    wide: bool,
    sectors: u64,
    per_cluster: u64,
    reserved: u64,
    fat_sectors: u64,
    root_sectors: u64,
    clusters: u64,
}

impl Geometry {
    fn new(size: u64) -> Result<Self> {
        let sectors = size / SECTOR;
        let mib = size >> 20;
        let choices: &[(bool, u64)] = match mib {
            0..34 => &[(false, 1), (false, 2), (false, 4)],
            34..260 => &[(true, 1)],
            260..8192 => &[(true, 8)],
            _ => &[(true, 32)],
        };
        for (wide, per_cluster) in choices.iter().copied() {
            let reserved = if wide { 32 } else { 4 };
            let root_sectors = if wide { 0 } else { FAT16_ROOT * 32 / SECTOR };
            let entry = if wide { 4 } else { 2 };
            let mut fat_sectors = 1;
            loop {
                let data = sectors.saturating_sub(reserved + FATS * fat_sectors + root_sectors);
                let clusters = data / per_cluster;
                let needed = ((clusters + 2) * entry).div_ceil(SECTOR);
                if needed <= fat_sectors {
                    let fits = if wide {
                        clusters > FAT16_MOST && sectors <= u64::from(u32::MAX)
                    } else {
                        (FAT16_LEAST..=FAT16_MOST).contains(&clusters)
                    };
                    if fits {
                        return Ok(Self {
                            wide,
                            sectors,
                            per_cluster,
                            reserved,
                            fat_sectors,
                            root_sectors,
                            clusters,
                        });
                    }
                    break;
                }
                fat_sectors = needed;
            }
        }
        Err(Error::Spec(format!(
            "an EFI system partition of {size} bytes is not possible; use 4 MiB to 1 TiB"
        )))
    }

    fn cluster_bytes(&self) -> u64 {
        self.per_cluster * SECTOR
    }

    fn root_start(&self) -> u64 {
        (self.reserved + FATS * self.fat_sectors) * SECTOR
    }

    fn cluster_start(&self, cluster: u32) -> u64 {
        self.root_start()
            + self.root_sectors * SECTOR
            + u64::from(cluster - 2) * self.cluster_bytes()
    }
}

#[derive(Debug)]
enum Item<'a> {
    Directory(BTreeMap<&'a str, Item<'a>>),
    File { entry: &'a Entry, size: u64, content: &'a Content },
}

fn tree(entries: &[Entry]) -> Result<BTreeMap<&str, Item<'_>>> {
    let mut root = BTreeMap::new();
    for entry in entries {
        let Ok(path) = std::str::from_utf8(&entry.path) else {
            return Err(Error::entry(&entry.path, "names on FAT must be UTF-8"));
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some((name, parents)) = parts.split_last() else { continue };
        for part in &parts {
            check_name(entry, part)?;
        }
        let mut directory = &mut root;
        for parent in parents {
            let item = directory.entry(*parent).or_insert_with(|| Item::Directory(BTreeMap::new()));
            let Item::Directory(inner) = item else {
                return Err(Error::entry(&entry.path, "lies in a file"));
            };
            directory = inner;
        }
        match &entry.kind {
            Kind::Directory => {
                directory.entry(name).or_insert_with(|| Item::Directory(BTreeMap::new()));
            }
            Kind::File { size, content, .. } => {
                sparse::data_runs(content, *size, SECTOR).map_err(|p| p.at(&entry.path))?;
                if *size > u64::from(u32::MAX) {
                    return Err(Error::entry(&entry.path, "FAT holds files below 4 GiB only"));
                }
                let item = Item::File { entry, size: *size, content };
                if directory.insert(name, item).is_some() {
                    return Err(Error::entry(&entry.path, "stands twice in the tree"));
                }
            }
            _ => {
                return Err(Error::entry(&entry.path, "FAT holds files and directories only"));
            }
        }
    }
    Ok(root)
}

fn check_name(entry: &Entry, name: &str) -> Result<()> {
    let bad = |c: char| c < ' ' || "\"*:<>?\\|".contains(c);
    if name == "." || name == ".." || name.encode_utf16().count() > 255 || name.contains(bad) {
        return Err(Error::entry(&entry.path, format!("{name:?} is no name that FAT can hold")));
    }
    if name.ends_with(['.', ' ']) {
        return Err(Error::entry(&entry.path, "a name on FAT cannot end with a dot or a space"));
    }
    Ok(())
}

/// The short name in its eleven bytes, and whether a long name must stand before it.
fn short_name(name: &str, taken: &HashSet<[u8; 11]>) -> ([u8; 11], bool) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(c);
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => (&name[..dot], &name[dot + 1..]),
        _ => (name, ""),
    };
    let clean = |part: &str| -> Vec<u8> {
        part.chars()
            .filter(|c| *c != '.' && *c != ' ')
            .map(|c| if allowed(c) { c.to_ascii_uppercase() as u8 } else { b'_' })
            .collect()
    };
    let (stem_bytes, extension_bytes) = (clean(stem), clean(extension));
    let build = |stem: &[u8], extension: &[u8]| {
        let mut out = [b' '; 11];
        out[..stem.len()].copy_from_slice(stem);
        let len = extension.len().min(3);
        out[8..8 + len].copy_from_slice(&extension[..len]);
        out
    };
    let exact = stem_bytes.len() <= 8
        && !stem_bytes.is_empty()
        && extension_bytes.len() <= 3
        && stem.as_bytes() == stem_bytes
        && extension.as_bytes() == extension_bytes
        && (extension.is_empty() != name.contains('.'));
    if exact {
        let short = build(&stem_bytes, &extension_bytes);
        if !taken.contains(&short) {
            return (short, false);
        }
    }
    let mut number = 1u32;
    loop {
        let tail = format!("~{number}");
        let keep = stem_bytes.len().min(8 - tail.len().min(7));
        let mut stem = stem_bytes[..keep].to_vec();
        stem.extend(tail.as_bytes());
        let short = build(&stem, &extension_bytes);
        if !taken.contains(&short) {
            return (short, true);
        }
        number += 1;
    }
}

/// Date and time of DOS, in UTC. Times outside 1980 to 2107 become the nearest.
fn dos_time(seconds: i64) -> (u16, u16) {
    let seconds = seconds.clamp(315_532_800, 4_354_819_199);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, with years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = ((year - 1980) << 9 | month << 5 | day) as u16;
    let time = (rest / 3600) << 11 | (rest / 60 % 60) << 5 | (rest % 60 / 2);
    (date, time as u16)
}

struct Writer {
    geometry: Geometry,
    layout: Layout,
    fat: Vec<u32>,
    date: u16,
    time: u16,
}

/// Lays out a FAT file system with these files and directories.
pub(crate) fn plan(entries: &[Entry], options: &Options) -> Result<Layout> {
    let geometry = Geometry::new(options.size)?;
    if options.label.len() > 11 || !options.label.is_ascii() {
        let text = format!("the FAT label {:?} is not 11 ASCII characters or fewer", options.label);
        return Err(Error::Spec(text));
    }
    let root = tree(entries)?;
    let (date, time) = dos_time(options.time);
    let end_mark = if geometry.wide { 0x0FFF_FFFF } else { 0xFFFF };
    let media = if geometry.wide { 0x0FFF_FFF8 } else { 0xFFF8 };
    let mut writer = Writer {
        geometry,
        layout: Layout::new(options.size),
        fat: vec![media, end_mark],
        date,
        time,
    };
    let mut label = [b' '; 11];
    label[..options.label.len()].copy_from_slice(options.label.to_ascii_uppercase().as_bytes());
    writer.root(&root, label)?;
    writer.head(options, label);
    writer.layout.sort();
    Ok(writer.layout)
}

impl Writer {
    /// Takes a chain of contiguous clusters; gives its first.
    fn take(&mut self, bytes: u64) -> Result<u32> {
        let count = bytes.div_ceil(self.geometry.cluster_bytes());
        let first = self.fat.len() as u32;
        if u64::from(first) + count > self.geometry.clusters + 2 {
            return Err(Error::TooSmall {
                what: "the EFI system partition",
                needed: (u64::from(first) + count) * self.geometry.cluster_bytes()
                    + self.geometry.root_start(),
                available: self.layout.size,
            });
        }
        for n in 1..count {
            self.fat.push(first + n as u32);
        }
        self.fat.push(if self.geometry.wide { 0x0FFF_FFFF } else { 0xFFFF });
        Ok(first)
    }

    fn root(&mut self, root: &BTreeMap<&str, Item<'_>>, label: [u8; 11]) -> Result<()> {
        let mut records = Vec::new();
        if label != [b' '; 11] {
            records.extend(self.record(&label, 0x08, 0, 0));
        }
        let len = (records.len() + directory_bytes(root)) as u64;
        let start = if self.geometry.wide {
            let first = self.take(len.max(1))?;
            self.geometry.cluster_start(first)
        } else {
            if len > FAT16_ROOT * 32 {
                return Err(Error::Spec("too many names in the root of the FAT16 volume".into()));
            }
            self.geometry.root_start()
        };
        // Subdirectories of the root name cluster 0 as their parent.
        self.children(root, 0, &mut records)?;
        self.layout.put(start, records);
        Ok(())
    }

    /// Appends the records of a directory's children, and places what they hold.
    fn children(
        &mut self,
        items: &BTreeMap<&str, Item<'_>>,
        own: u32,
        records: &mut Vec<u8>,
    ) -> Result<()> {
        let mut taken = HashSet::new();
        let mut folded = HashSet::new();
        for (name, item) in items {
            if !folded.insert(name.to_lowercase()) {
                let text = format!("{name:?} differs only in case from another name on FAT");
                return Err(Error::Spec(text));
            }
            let (short, long) = short_name(name, &taken);
            taken.insert(short);
            if long {
                records.extend(long_name(name, &short));
            }
            match item {
                Item::Directory(inner) => {
                    let len = 64 + directory_bytes(inner) as u64;
                    let first = self.take(len)?;
                    let mut bytes = Vec::new();
                    bytes.extend(self.record(b".          ", 0x10, first, 0));
                    bytes.extend(self.record(b"..         ", 0x10, own, 0));
                    self.children(inner, first, &mut bytes)?;
                    self.layout.put(self.geometry.cluster_start(first), bytes);
                    records.extend(self.record(&short, 0x10, first, 0));
                }
                Item::File { entry, size, content } => {
                    let first = if *size == 0 { 0 } else { self.take(*size)? };
                    if *size > 0 {
                        self.content(first, *size, content);
                    }
                    let read_only = u8::from(entry.mode & 0o222 == 0);
                    records.extend(self.record(&short, 0x20 | read_only, first, *size as u32));
                }
            }
        }
        Ok(())
    }

    fn content(&mut self, first: u32, size: u64, content: &Content) {
        let offset = self.geometry.cluster_start(first);
        let mut parts = Vec::new();
        let mut file = |path: &std::path::Path, offset| {
            self.layout.files.push(HostFile { path: path.to_owned() });
            Source::File { index: self.layout.files.len() - 1, offset }
        };
        let source = match content {
            Content::Bytes(data) => Source::Bytes { data: data.clone(), start: 0 },
            Content::HostFile(path) => file(path, 0),
            Content::HostRange { path, offset } => file(path, *offset),
            Content::HostExtents { path, extents } => {
                for (at, on_host, len) in extents.iter() {
                    let source = file(path, *on_host);
                    parts.push(Segment { offset: offset + at, len: *len, source });
                }
                self.layout.segments.append(&mut parts);
                return;
            }
        };
        self.layout.segments.push(Segment { offset, len: size, source });
    }

    fn record(&self, name: &[u8; 11], attributes: u8, cluster: u32, size: u32) -> [u8; 32] {
        let mut out = [0u8; 32];
        out[..11].copy_from_slice(name);
        out[11] = attributes;
        put16(&mut out, 14, self.time);
        put16(&mut out, 16, self.date);
        put16(&mut out, 18, self.date);
        put16(&mut out, 20, (cluster >> 16) as u16);
        put16(&mut out, 22, self.time);
        put16(&mut out, 24, self.date);
        put16(&mut out, 26, cluster as u16);
        put32(&mut out, 28, size);
        out
    }

    /// Boot sector, information sector with their copies, and both allocation tables.
    fn head(&mut self, options: &Options, label: [u8; 11]) {
        let g = self.geometry;
        let mut boot = vec![0u8; SECTOR as usize];
        boot[0..3].copy_from_slice(&[0xEB, if g.wide { 0x58 } else { 0x3C }, 0x90]);
        boot[3..11].copy_from_slice(b"MSWIN4.1");
        put16(&mut boot, 11, SECTOR as u16);
        boot[13] = g.per_cluster as u8;
        put16(&mut boot, 14, g.reserved as u16);
        boot[16] = FATS as u8;
        put16(&mut boot, 17, if g.wide { 0 } else { FAT16_ROOT as u16 });
        if !g.wide && g.sectors < 65_536 {
            put16(&mut boot, 19, g.sectors as u16);
        } else {
            put32(&mut boot, 32, g.sectors as u32);
        }
        boot[21] = 0xF8;
        put16(&mut boot, 22, if g.wide { 0 } else { g.fat_sectors as u16 });
        put16(&mut boot, 24, 63);
        put16(&mut boot, 26, 255);
        put32(&mut boot, 28, options.hidden_sectors as u32);
        let extended = if g.wide {
            put32(&mut boot, 36, g.fat_sectors as u32);
            put32(&mut boot, 44, 2);
            put16(&mut boot, 48, 1);
            put16(&mut boot, 50, 6);
            64
        } else {
            36
        };
        boot[extended] = 0x80;
        boot[extended + 2] = 0x29;
        put32(&mut boot, extended + 3, options.volume_id);
        boot[extended + 7..extended + 18].copy_from_slice(&if label == [b' '; 11] {
            *b"NO NAME    "
        } else {
            label
        });
        boot[extended + 18..extended + 26].copy_from_slice(if g.wide {
            b"FAT32   "
        } else {
            b"FAT16   "
        });
        boot[510..512].copy_from_slice(&[0x55, 0xAA]);
        if g.wide {
            let mut information = vec![0u8; SECTOR as usize];
            put32(&mut information, 0, 0x4161_5252);
            put32(&mut information, 484, 0x6141_7272);
            let used = self.fat.len() as u64 - 2;
            put32(&mut information, 488, (g.clusters - used) as u32);
            put32(&mut information, 492, self.fat.len() as u32);
            put32(&mut information, 508, 0xAA55_0000);
            boot.extend(information);
            self.layout.put(6 * SECTOR, boot.clone());
        }
        self.layout.put(0, boot);
        let table: Vec<u8> = if g.wide {
            self.fat.iter().flat_map(|entry| entry.to_le_bytes()).collect()
        } else {
            self.fat.iter().flat_map(|entry| (*entry as u16).to_le_bytes()).collect()
        };
        for copy in 0..FATS {
            let at = (g.reserved + copy * g.fat_sectors) * SECTOR;
            self.layout.put(at, table.clone());
        }
    }
}

/// Bytes of the records of these children.
fn directory_bytes(items: &BTreeMap<&str, Item<'_>>) -> usize {
    let mut taken = HashSet::new();
    let mut bytes = 0;
    for name in items.keys() {
        let (short, long) = short_name(name, &taken);
        taken.insert(short);
        bytes += 32;
        if long {
            bytes += name.encode_utf16().count().div_ceil(13) * 32;
        }
    }
    bytes
}

/// The records of a long name, last part first as they stand on disk.
fn long_name(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let sum = short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts: Vec<&[u16]> = units.chunks(13).collect();
    let mut out = Vec::new();
    for (index, part) in parts.iter().enumerate().rev() {
        let mut record = [0u8; 32];
        let last = if index + 1 == parts.len() { 0x40 } else { 0 };
        record[0] = (index as u8 + 1) | last;
        record[11] = 0x0F;
        record[13] = sum;
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        for (position, at) in places.enumerate() {
            let unit = match part.get(position) {
                Some(unit) => *unit,
                None if position == part.len() => 0,
                None => 0xFFFF,
            };
            put16(&mut record, at, unit);
        }
        out.extend(record);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // 2023-11-14 22:13:20 UTC
        let (date, time) = dos_time(1_700_000_000);
        assert_eq!((date >> 9, date >> 5 & 15, date & 31), (43, 11, 14));
        assert_eq!((time >> 11, time >> 5 & 63, time & 31), (22, 13, 10));
        assert_eq!(dos_time(0).0, 0x21);
    }

    #[test]
    fn short_names() {
        let mut taken = HashSet::new();
        assert_eq!(short_name("BOOTX64.EFI", &taken), (*b"BOOTX64 EFI", false));
        assert_eq!(short_name("EFI", &taken), (*b"EFI        ", false));
        let (first, long) = short_name("long name.config", &taken);
        assert_eq!((&first, long), (b"LONGNA~1CON", true));
        taken.insert(first);
        assert_eq!(short_name("long name2.config", &taken).0, *b"LONGNA~2CON");
    }

    #[test]
    fn both_widths_by_size() {
        assert!(!Geometry::new(16 << 20).unwrap().wide);
        assert!(Geometry::new(64 << 20).unwrap().wide);
        assert!(Geometry::new(512 << 20).unwrap().wide);
        assert!(Geometry::new(1 << 20).is_err());
    }
}
