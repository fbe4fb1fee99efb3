//! Reads an ext2, ext3 or ext4 file system without mounting it.
//!
//! Contents are not read: an entry says which bytes of the image they are. Everything that the
//! image states is checked before it is used, since images come from elsewhere.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::xattr::{PREFIXES, acl_from_disk};
use crate::bytes::{get16, get32};
use crate::error::{Error, Result};
use crate::tree::{Content, Entry, Kind, Timestamp, Xattr};

/// `compression`, `journal_dev`, `meta_bg`, `mmp`, `ea_inode`, `dirdata`, `inline_data`,
/// `encrypt`, `casefold` are not read; all else is, `recover` is refused on its own.
const READABLE: u32 = 0x2 | 0x4 | 0x40 | 0x80 | 0x200 | 0x2000 | 0x4000;
const RECOVER: u32 = 0x4;
const EXTENTS_FLAG: u32 = 0x0008_0000;
const ATTRIBUTE_MAGIC: u32 = 0xEA02_0000;

/// Whether a file system of the family begins at this byte.
pub(crate) fn is_present(file: &File, start: u64) -> bool {
    let mut magic = [0u8; 2];
    file.read_exact_at(&mut magic, start + 1024 + 0x38).is_ok() && magic == [0x53, 0xEF]
}

/// Whether the journal of the file system that begins at this byte has to be read first.
pub(crate) fn has_journal_to_read(file: &File, start: u64) -> bool {
    let mut features = [0u8; 4];
    file.read_exact_at(&mut features, start + 1024 + 0x60).is_ok()
        && get32(&features, 0) & RECOVER != 0
}

/// All entries of the file system that begins at byte `start` of an image.
pub(crate) fn entries(path: &Path, file: &File, start: u64) -> Result<Vec<Entry>> {
    let volume = Volume::open(path, file, start)?;
    let mut walk = Walk { volume: &volume, names: HashMap::new(), entries: Vec::new() };
    let root = volume.inode(2)?;
    walk.add(b"/".to_vec(), 2, &root)?;
    walk.directory(b"", &root, 0)?;
    Ok(walk.entries)
}

struct Volume<'a> {
    path: &'a Path,
    file: &'a File,
    start: u64,
    block: u64,
    blocks: u64,
    inode_size: u64,
    inodes_per_group: u32,
    inodes: u32,
    tables: Vec<u64>,
}

struct Inode {
    raw: Vec<u8>,
    size: u64,
}

impl Inode {
    fn mode(&self) -> u16 {
        get16(&self.raw, 0)
    }

    fn flags(&self) -> u32 {
        get32(&self.raw, 0x20)
    }

    fn is_directory(&self) -> bool {
        self.mode() & 0o170_000 == 0o040_000
    }
}

impl<'a> Volume<'a> {
    fn open(path: &'a Path, file: &'a File, start: u64) -> Result<Self> {
        let bad = |reason: String| Error::image(path, reason);
        let mut sb = vec![0u8; 1024];
        file.read_exact_at(&mut sb, start + 1024)
            .map_err(|error| Error::io("read", path, error))?;
        if get16(&sb, 0x38) != 0xEF53 {
            return Err(bad("holds no ext4 file system at this place".into()));
        }
        let features = get32(&sb, 0x60);
        if features & RECOVER != 0 {
            return Err(bad("its file system was not unmounted cleanly; run e2fsck on it".into()));
        }
        if features & !READABLE != 0 {
            let text = format!(
                "its file system uses features that are not read here (0x{:x})",
                features & !READABLE
            );
            return Err(bad(text));
        }
        let shift = get32(&sb, 0x18);
        if shift > 6 {
            return Err(bad("its block size is out of range".into()));
        }
        let block = 1024u64 << shift;
        let wide = features & 0x80 != 0;
        let high = |at: usize| if wide { u64::from(get32(&sb, at)) << 32 } else { 0 };
        let blocks = u64::from(get32(&sb, 4)) | high(0x150);
        let first = u64::from(get32(&sb, 0x14));
        let per_group = u64::from(get32(&sb, 0x20));
        let inodes_per_group = get32(&sb, 0x28);
        let inodes = get32(&sb, 0);
        let old = get32(&sb, 0x4C) == 0;
        let inode_size = if old { 128 } else { u64::from(get16(&sb, 0x58)) };
        let descriptor = if wide { usize::from(get16(&sb, 0xFE)) } else { 32 };
        if per_group == 0
            || inodes_per_group == 0
            || !(128..=block).contains(&inode_size)
            || !(32..=1024).contains(&descriptor)
            || blocks <= first
            || blocks > 1 << 44
        {
            return Err(bad("its superblock is damaged".into()));
        }
        let groups = (blocks - first).div_ceil(per_group);
        let len = groups * descriptor as u64;
        if len > 1 << 28 {
            return Err(bad("its superblock is damaged".into()));
        }
        let mut table = vec![0u8; len as usize];
        file.read_exact_at(&mut table, start + (first + 1) * block)
            .map_err(|error| Error::io("read", path, error))?;
        let tables = table
            .chunks_exact(descriptor)
            .map(|d| {
                let high = if descriptor >= 64 { u64::from(get32(d, 0x28)) << 32 } else { 0 };
                u64::from(get32(d, 8)) | high
            })
            .collect();
        Ok(Self { path, file, start, block, blocks, inode_size, inodes_per_group, inodes, tables })
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::image(self.path, reason)
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0u8; len];
        self.file
            .read_exact_at(&mut buffer, self.start + at)
            .map_err(|error| Error::io("read", self.path, error))?;
        Ok(buffer)
    }

    fn block(&self, number: u64) -> Result<Vec<u8>> {
        if number == 0 || number >= self.blocks {
            return Err(self.damaged(format!("names block {number}, which it does not have")));
        }
        self.read(number * self.block, self.block as usize)
    }

    fn inode(&self, number: u32) -> Result<Inode> {
        if number == 0 || number > self.inodes {
            return Err(self.damaged(format!("names inode {number}, which it does not have")));
        }
        let group = (number - 1) / self.inodes_per_group;
        let index = u64::from((number - 1) % self.inodes_per_group);
        let table = self
            .tables
            .get(group as usize)
            .ok_or_else(|| self.damaged("its group descriptors are damaged"))?;
        if *table >= self.blocks {
            return Err(self.damaged("its group descriptors are damaged"));
        }
        let at = table * self.block + index * self.inode_size;
        let raw = self.read(at, self.inode_size as usize)?;
        let size = u64::from(get32(&raw, 4)) | u64::from(get32(&raw, 0x6C)) << 32;
        Ok(Inode { raw, size })
    }

    /// Runs of blocks of an inode: first block in the file, first on disk, count; ascending.
    fn runs(&self, inode: &Inode) -> Result<Vec<(u64, u64, u64)>> {
        let field = &inode.raw[0x28..0x64];
        let mut runs = Vec::new();
        if inode.flags() & EXTENTS_FLAG != 0 {
            self.extents(field, 6, &mut runs)?;
        } else {
            for direct in 0..12u64 {
                push(&mut runs, direct, u64::from(get32(field, direct as usize * 4)));
            }
            let mut next = 12;
            for depth in 1..=3 {
                let number = u64::from(get32(field, 44 + depth * 4));
                self.indirect(number, depth, &mut next, inode.size, &mut runs)?;
            }
        }
        for (_, physical, count) in &runs {
            if physical.checked_add(*count).is_none_or(|end| end > self.blocks) {
                return Err(self.damaged("a file lies outside of its file system"));
            }
        }
        runs.sort_unstable();
        Ok(runs)
    }

    fn extents(&self, node: &[u8], room: u16, runs: &mut Vec<(u64, u64, u64)>) -> Result<()> {
        let (entries, depth) = (usize::from(get16(node, 2)), get16(node, 6));
        if get16(node, 0) != 0xF30A || depth >= room || 12 + entries * 12 > node.len() {
            return Err(self.damaged("an extent tree is damaged"));
        }
        for entry in node[12..12 + entries * 12].chunks_exact(12) {
            let logical = u64::from(get32(entry, 0));
            if depth == 0 {
                let len = u64::from(get16(entry, 4));
                let physical = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
                // Longer ones are reserved but not written: they read as zeros.
                if len <= 32_768 {
                    runs.push((logical, physical, len));
                }
            } else {
                let child = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
                self.extents(&self.block(child)?, depth, runs)?;
            }
            if runs.len() > 1 << 22 {
                return Err(self.damaged("an extent tree is damaged"));
            }
        }
        Ok(())
    }

    fn indirect(
        &self,
        number: u64,
        depth: usize,
        next: &mut u64,
        size: u64,
        runs: &mut Vec<(u64, u64, u64)>,
    ) -> Result<()> {
        let per_block = self.block / 4;
        if *next * self.block >= size {
            return Ok(());
        }
        if number == 0 {
            *next += per_block.pow(depth as u32);
            return Ok(());
        }
        for entry in self.block(number)?.chunks_exact(4) {
            let child = u64::from(get32(entry, 0));
            if depth > 1 {
                self.indirect(child, depth - 1, next, size, runs)?;
            } else {
                push(runs, *next, child);
                *next += 1;
            }
        }
        Ok(())
    }

    /// Content of a directory or long symbolic link.
    fn content(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.size > 1 << 30 {
            return Err(self.damaged("a directory is larger than 1 GiB"));
        }
        let mut out = vec![0u8; inode.size as usize];
        for (logical, physical, count) in self.runs(inode)? {
            for n in 0..count {
                let at = ((logical + n) * self.block) as usize;
                if at >= out.len() {
                    break;
                }
                let len = (out.len() - at).min(self.block as usize);
                let bytes = self.read((physical + n) * self.block, len)?;
                out[at..at + len].copy_from_slice(&bytes);
            }
        }
        Ok(out)
    }

    fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut out = Vec::new();
        if inode.raw.len() > 132 {
            let start = 128 + usize::from(get16(&inode.raw, 0x80));
            if start + 4 <= inode.raw.len() && get32(&inode.raw, start) == ATTRIBUTE_MAGIC {
                self.attributes(&inode.raw[start + 4..], 0, &mut out)?;
            }
        }
        let block = u64::from(get32(&inode.raw, 0x68)) | u64::from(get16(&inode.raw, 0x76)) << 32;
        if block != 0 {
            let bytes = self.block(block)?;
            if get32(&bytes, 0) != ATTRIBUTE_MAGIC {
                return Err(self.damaged("a block of extended attributes is damaged"));
            }
            self.attributes(&bytes, 32, &mut out)?;
        }
        out.sort();
        Ok(out)
    }

    fn attributes(&self, bytes: &[u8], start: usize, out: &mut Vec<Xattr>) -> Result<()> {
        let damaged = || self.damaged("extended attributes are damaged");
        let mut at = start;
        while at + 16 <= bytes.len() && get32(bytes, at) != 0 {
            let (name_len, index) = (usize::from(bytes[at]), bytes[at + 1]);
            let offset = usize::from(get16(bytes, at + 2));
            let len = get32(bytes, at + 8) as usize;
            if get32(bytes, at + 4) != 0 {
                return Err(self.damaged("an attribute in an inode of its own is not read here"));
            }
            let rest = bytes.get(at + 16..at + 16 + name_len).ok_or_else(damaged)?;
            let value = bytes.get(offset..offset.saturating_add(len)).ok_or_else(damaged)?;
            if let Some((_, prefix)) = PREFIXES.iter().find(|prefix| prefix.0 == index) {
                let value = if index == 2 || index == 3 {
                    acl_from_disk(value).ok_or_else(damaged)?
                } else {
                    value.to_vec()
                };
                out.push(Xattr { name: [*prefix, rest].concat(), value });
            }
            at += 16 + name_len.next_multiple_of(4);
        }
        Ok(())
    }
}

/// Appends a block to runs.
fn push(runs: &mut Vec<(u64, u64, u64)>, logical: u64, physical: u64) {
    if physical == 0 {
        return;
    }
    match runs.last_mut() {
        Some((first, start, count))
            if *first + *count == logical && *start + *count == physical =>
        {
            *count += 1;
        }
        _ => runs.push((logical, physical, 1)),
    }
}

struct Walk<'a> {
    volume: &'a Volume<'a>,
    /// First name of each inode that may have several.
    names: HashMap<u32, Vec<u8>>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &[u8], inode: &Inode, depth: usize) -> Result<()> {
        if depth > 1024 {
            return Err(self.volume.damaged("directories are nested without end"));
        }
        let bytes = self.volume.content(inode)?;
        let mut children = Vec::new();
        for block in bytes.chunks(self.volume.block as usize) {
            let mut at = 0;
            while at + 8 <= block.len() {
                let len = usize::from(get16(block, at + 4));
                if len < 8 || at + len > block.len() {
                    return Err(self.volume.damaged("a directory is damaged"));
                }
                let number = get32(block, at);
                let name_len = usize::from(block[at + 6]);
                let name = block.get(at + 8..at + 8 + name_len).unwrap_or_default();
                if number != 0 && name != b"." && name != b".." {
                    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                        return Err(self.volume.damaged("a directory holds an impossible name"));
                    }
                    children.push((name.to_vec(), number));
                }
                at += len;
            }
        }
        children.sort_unstable();
        for (name, number) in children {
            let child = [path, b"/", &name].concat();
            let inode = self.volume.inode(number)?;
            self.add(child.clone(), number, &inode)?;
            if inode.is_directory() {
                if self.names.insert(number, child.clone()).is_some() {
                    return Err(self.volume.damaged("a directory has two names"));
                }
                self.directory(&child, &inode, depth + 1)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, number: u32, inode: &Inode) -> Result<()> {
        let raw = &inode.raw;
        if !inode.is_directory() && get16(raw, 0x1A) > 1 {
            if let Some(first) = self.names.get(&number) {
                let first = first.clone();
                self.entries
                    .push(Entry { kind: Kind::Hardlink(first), ..self.common(path, inode) });
                return Ok(());
            }
            self.names.insert(number, path.clone());
        }
        let volume = self.volume;
        let device = || {
            let (short, long) = (get32(raw, 0x28), get32(raw, 0x2C));
            if short != 0 {
                (short >> 8 & 0xFF, short & 0xFF)
            } else {
                (long >> 8 & 0xFFF, (long & 0xFF) | (long >> 12 & 0xF_FF00))
            }
        };
        let kind = match inode.mode() & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => self.file(inode)?,
            0o120_000 => {
                let inline = inode.size < 60 && inode.flags() & EXTENTS_FLAG == 0;
                let target = if inline {
                    raw[0x28..0x28 + inode.size as usize].to_vec()
                } else {
                    volume.content(inode)?
                };
                Kind::Symlink(target)
            }
            0o020_000 => {
                let (major, minor) = device();
                Kind::CharDevice { major, minor }
            }
            0o060_000 => {
                let (major, minor) = device();
                Kind::BlockDevice { major, minor }
            }
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            other => {
                return Err(volume.damaged(format!("inode {number} has an unknown type {other:o}")));
            }
        };
        let xattrs = volume.xattrs(inode)?;
        self.entries.push(Entry { kind, xattrs, ..self.common(path, inode) });
        Ok(())
    }

    fn common(&self, path: Vec<u8>, inode: &Inode) -> Entry {
        let raw = &inode.raw;
        let mut mtime = Timestamp::from_secs(i64::from(get32(raw, 0x10) as i32));
        if raw.len() >= 0x8C && get16(raw, 0x80) >= 12 {
            let extra = get32(raw, 0x88);
            mtime.secs += i64::from(extra & 3) << 32;
            mtime.nanos = (extra >> 2).min(999_999_999);
        }
        Entry {
            path,
            kind: Kind::Directory,
            mode: u32::from(inode.mode() & 0o7777),
            uid: u32::from(get16(raw, 2)) | u32::from(get16(raw, 0x78)) << 16,
            gid: u32::from(get16(raw, 0x18)) | u32::from(get16(raw, 0x7A)) << 16,
            mtime,
            xattrs: Vec::new(),
        }
    }

    fn file(&self, inode: &Inode) -> Result<Kind> {
        let volume = self.volume;
        let size = inode.size;
        let mut extents: Vec<(u64, u64, u64)> = Vec::new();
        for (logical, physical, count) in volume.runs(inode)? {
            let at = logical * volume.block;
            if at >= size {
                break;
            }
            let len = (count * volume.block).min(size - at);
            let on_disk = volume.start + physical * volume.block;
            match extents.last_mut() {
                Some(last) if last.0 + last.2 > at => {
                    return Err(volume.damaged("extents of a file overlap"));
                }
                Some(last) if last.0 + last.2 == at && last.1 + last.2 == on_disk => {
                    last.2 += len;
                }
                _ => extents.push((at, on_disk, len)),
            }
        }
        let path = volume.path.to_owned();
        let content = match extents.as_slice() {
            [] if size == 0 => Content::Bytes(Arc::new([])),
            [(0, offset, len)] if *len == size => Content::HostRange { path, offset: *offset },
            _ => Content::HostExtents { path, extents: extents.into() },
        };
        Ok(Kind::File { size, content, digest: None })
    }
}
