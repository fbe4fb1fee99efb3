//! Puts an ext4 file system together: sizes, blocks, tables, and the segments of its image.

use super::alloc::{Allocator, Run};
use super::extent::{self, Extent};
use super::geometry::{Geometry, has_backup};
use super::inode::{self, EXTENTS, Inode};
use super::nodes::{self, Node};
use super::superblock::{self, GroupState, Totals};
use super::xattr::{Attributes, IN_INODE};
use super::{BLOCK, FIRST_INODE, GROUP_BLOCKS, INODE, JOURNAL_INODE, Options, RESIZE_INODE, dir};
use crate::error::{Error, Result};
use crate::segment::{HostFile, Layout, Segment, Source};
use crate::sparse;
use crate::tree::{Content, Entry, Kind, Timestamp};

/// Where the content of a regular file stands within the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileBlocks {
    /// Path in the image.
    pub(crate) path: Vec<u8>,
    /// Length in bytes.
    pub(crate) size: u64,
    /// SHA-256 where the entry stated it.
    pub(crate) digest: Option<[u8; 32]>,
    /// Offset in the file, offset in the file system, length; all in bytes, whole blocks.
    pub(crate) extents: Vec<(u64, u64, u64)>,
}

/// A file system laid out.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) layout: Layout,
    pub(crate) files: Vec<FileBlocks>,
}

/// What an inode needs beside its slot.
#[derive(Debug, Default)]
struct Needs {
    attributes: Attributes,
    /// Runs of blocks with content: first block in the file and length.
    runs: Vec<(u64, u64)>,
}

impl Needs {
    fn blocks(&self) -> u64 {
        let data: u64 = self.runs.iter().map(|run| run.1).sum();
        data + u64::from(self.attributes.needs_block())
            + extent::tree_blocks(self.runs.len()) as u64
    }
}

/// What was taken for an inode.
#[derive(Debug, Default)]
struct Place {
    extents: Vec<Extent>,
    tree: Vec<u64>,
    attribute_block: u64,
}

fn needs(node: &Node<'_>) -> Result<Needs> {
    let attributes = match node.entry {
        Some(entry) => Attributes::new(&entry.path, &entry.xattrs)?,
        None => Attributes::default(),
    };
    let mut runs = Vec::new();
    if let Some(directory) = &node.directory {
        let mut blocks = dir::blocks(&directory.children);
        if node.number == FIRST_INODE {
            blocks = blocks.max(dir::LOST_AND_FOUND_BLOCKS);
        }
        runs.push((0, blocks));
    } else if let Some(entry) = node.entry {
        match &entry.kind {
            Kind::File { size, content, .. } => {
                if *size > 1 << 44 {
                    return Err(Error::entry(&entry.path, "is larger than 16 TiB"));
                }
                runs = sparse::data_runs(content, *size, BLOCK)
                    .map_err(|problem| problem.at(&entry.path))?;
            }
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() >= BLOCK as usize || target.contains(&0) {
                    let reason = "the target of a symbolic link has 1 to 4095 bytes, none zero";
                    return Err(Error::entry(&entry.path, reason));
                }
                if target.len() >= 60 {
                    runs.push((0, 1));
                }
            }
            _ => {}
        }
    }
    Ok(Needs { attributes, runs })
}

/// Works out the needs of all inodes, on several threads: each file of the host is looked at.
fn all_needs(nodes: &[Node<'_>]) -> Result<Vec<Needs>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = nodes.len().div_ceil(threads).max(256);
    std::thread::scope(|scope| {
        let parts: Vec<_> = nodes
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(needs).collect::<Result<Vec<_>>>()))
            .collect();
        let mut all = Vec::with_capacity(nodes.len());
        for part in parts {
            match part.join() {
                Ok(needs) => all.extend(needs?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

/// Lays out a file system with these entries.
pub(crate) fn plan(entries: &[&Entry], options: &Options) -> Result<Planned> {
    check(options)?;
    let nodes = nodes::build(entries)?;
    let needs = all_needs(&nodes)?;
    let data: u64 = needs.iter().map(Needs::blocks).sum();
    // Ten reserved inodes, and room for as many files again as a tenth of what there is.
    let inodes = nodes.len() as u64 + 10 + nodes.len() as u64 / 10 + 64;
    let fits = |blocks: u64, margin: u64| {
        let geometry = Geometry::new(blocks, inodes)?;
        let journal = Geometry::journal_blocks(geometry.blocks);
        (geometry.free() >= data + journal + 1 + margin).then_some(geometry)
    };
    let grow = |margin: u64| {
        let mut blocks = (data + margin + 2048).next_multiple_of(256);
        while fits(blocks, margin).is_none() {
            blocks = (blocks + blocks / 64 + 1).next_multiple_of(256);
        }
        blocks
    };
    if let Some(size) = options.size {
        let blocks = size / BLOCK;
        let placed = fits(blocks, 0).and_then(|geometry| {
            let places = Places::take(&geometry, &nodes, &needs)?;
            Some(emit(&geometry, options, &nodes, &needs, &places))
        });
        return placed.unwrap_or_else(|| {
            let needed = grow(64) * BLOCK;
            Err(Error::TooSmall { what: "the root file system", needed, available: size })
        });
    }
    let mut margin = options.margin.div_ceil(BLOCK).max(64);
    loop {
        let blocks = grow(margin);
        if let Some(geometry) = fits(blocks, 0)
            && let Some(places) = Places::take(&geometry, &nodes, &needs)
        {
            return emit(&geometry, options, &nodes, &needs, &places);
        }
        margin += margin / 8 + 64;
    }
}

fn check(options: &Options) -> Result<()> {
    if options.label.len() > 16 {
        let text = format!("the label {:?} is longer than ext4's 16 bytes", options.label);
        return Err(Error::Spec(text));
    }
    if options.reserved_percent > 50 {
        return Err(Error::Spec("at most 50 percent of a file system can be reserved".into()));
    }
    if !(0..=0x3_7FFF_FFFF).contains(&options.time) {
        let text =
            format!("the time {} is outside what ext4 can hold (1970 to 2446)", options.time);
        return Err(Error::Spec(text));
    }
    Ok(())
}

/// All blocks taken, and the bitmap that says so.
struct Places {
    nodes: Vec<Place>,
    resize_index: u64,
    journal: Vec<Run>,
    /// Blocks of the journal's extent tree, where it has more runs than fit in its inode.
    journal_tree: Vec<u64>,
    bitmap: Vec<u8>,
}

impl Places {
    /// Takes blocks: first what describes files, then the journal, then contents in path order.
    fn take(geometry: &Geometry, nodes: &[Node<'_>], needs: &[Needs]) -> Option<Self> {
        let mut allocator = Allocator::new(geometry);
        let mut places: Vec<Place> = nodes.iter().map(|_| Place::default()).collect();
        let resize_index = allocator.take_one()?;
        let is_file = |node: &Node<'_>| {
            node.entry.is_some_and(|entry| matches!(entry.kind, Kind::File { .. }))
        };
        let mut journal = Vec::new();
        let mut journal_tree = Vec::new();
        for contents in [false, true] {
            for ((node, needs), place) in nodes.iter().zip(needs).zip(&mut places) {
                if !contents && needs.attributes.needs_block() {
                    place.attribute_block = allocator.take_one()?;
                }
                if is_file(node) != contents {
                    continue;
                }
                for (first, count) in &needs.runs {
                    let mut logical = *first;
                    for run in allocator.take(*count)? {
                        let extent = Extent {
                            logical: logical as u32,
                            physical: run.start,
                            len: run.len as u32,
                        };
                        place.extents.push(extent);
                        logical += run.len;
                    }
                }
                for _ in 0..extent::tree_blocks(place.extents.len()) {
                    place.tree.push(allocator.take_one()?);
                }
            }
            if !contents {
                journal = allocator.take(Geometry::journal_blocks(geometry.blocks))?;
                for _ in 0..extent::tree_blocks(journal.len()) {
                    journal_tree.push(allocator.take_one()?);
                }
            }
        }
        let bitmap = allocator.bitmap().to_vec();
        Some(Self { nodes: places, resize_index, journal, journal_tree, bitmap })
    }
}

/// Writes a file system's structures into segments.
struct Emitter<'a> {
    geometry: &'a Geometry,
    options: &'a Options,
    seed: u32,
    layout: Layout,
    files: Vec<FileBlocks>,
    /// The used part of all inode tables, as if they followed each other.
    table: Vec<u8>,
    ranges: std::collections::HashMap<&'a std::path::Path, usize>,
}

fn emit(
    geometry: &Geometry,
    options: &Options,
    nodes: &[Node<'_>],
    needs: &[Needs],
    places: &Places,
) -> Result<Planned> {
    let last = nodes.last().map_or(FIRST_INODE, |node| node.number.max(FIRST_INODE));
    let size = options.size.unwrap_or(geometry.blocks * BLOCK);
    let mut emitter = Emitter {
        geometry,
        options,
        seed: superblock::seed(options),
        layout: Layout::new(size),
        files: Vec::new(),
        table: vec![0u8; last as usize * INODE],
        ranges: std::collections::HashMap::new(),
    };
    let journal = emitter.reserved_inodes(places);
    for ((node, needs), place) in nodes.iter().zip(needs).zip(&places.nodes) {
        emitter.node(node, needs, place)?;
    }
    emitter.inode_tables(last);
    emitter.groups(nodes, places, last, &journal);
    emitter.layout.sort();
    Ok(Planned { layout: emitter.layout, files: emitter.files })
}

impl<'a> Emitter<'a> {
    fn slot(&mut self, number: u32) -> &mut [u8] {
        let at = (number as usize - 1) * INODE;
        &mut self.table[at..at + INODE]
    }

    fn put_inode(&mut self, number: u32, inode: &Inode) {
        let seed = self.seed;
        let slot = self.slot(number);
        inode.write(slot);
        inode::seal(slot, seed, number);
    }

    /// Inodes 1 to 10. Gives the journal's block field, of which the superblock keeps a copy.
    fn reserved_inodes(&mut self, places: &Places) -> [u8; 60] {
        let time = Timestamp::from_secs(self.options.time);
        for number in 1..FIRST_INODE {
            let seed = self.seed;
            inode::seal(self.slot(number), seed, number);
        }
        let mut resize = Inode::new(0o100_600, time);
        resize.size = superblock::RESIZE_INODE_SIZE;
        resize.blocks = superblock::resize_inode_blocks(self.geometry);
        resize.block[13 * 4..14 * 4].copy_from_slice(&(places.resize_index as u32).to_le_bytes());
        self.put_inode(RESIZE_INODE, &resize);
        self.layout.put(places.resize_index * BLOCK, superblock::resize_index(self.geometry));

        let count: u64 = places.journal.iter().map(|run| run.len).sum();
        let mut logical = 0;
        let mut extents = Vec::new();
        for run in &places.journal {
            extents.push(Extent { logical, physical: run.start, len: run.len as u32 });
            logical += run.len as u32;
        }
        let mut journal = Inode::new(0o100_600, time);
        journal.size = count * BLOCK;
        journal.blocks = count + places.journal_tree.len() as u64;
        journal.flags = EXTENTS;
        let seed = inode::seed(self.seed, JOURNAL_INODE);
        let (root, tree) = extent::build(&extents, &places.journal_tree, seed);
        journal.block = root;
        for (number, block) in tree {
            self.layout.put(number * BLOCK, block);
        }
        self.put_inode(JOURNAL_INODE, &journal);
        let head = superblock::journal_head(self.options, count);
        self.layout.put(places.journal[0].start * BLOCK, head);
        journal.block
    }

    fn node(&mut self, node: &Node<'a>, needs: &Needs, place: &Place) -> Result<()> {
        let time = Timestamp::from_secs(self.options.time);
        let mode = node.entry.map_or(0o755, |entry| (entry.mode & 0o7777) as u16);
        let mode = if node.entry.is_none() && node.number == FIRST_INODE { 0o700 } else { mode };
        let mut inode = Inode::new(mode, node.mtime(time));
        if let Some(entry) = node.entry {
            inode.uid = entry.uid;
            inode.gid = entry.gid;
            if entry.mtime.nanos >= 1_000_000_000 {
                return Err(Error::entry(node.path, "the nanoseconds of its time exceed a second"));
            }
            if !(-0x8000_0000..=0x3_7FFF_FFFF).contains(&entry.mtime.secs) {
                let reason = "its time is outside what ext4 can hold (1901 to 2446)";
                return Err(Error::entry(node.path, reason));
            }
        }
        inode.links = node.links;
        inode.attribute_block = place.attribute_block;
        let data: u64 = place.extents.iter().map(|extent| u64::from(extent.len)).sum();
        inode.blocks = data + place.tree.len() as u64 + u64::from(place.attribute_block != 0);
        let seed = inode::seed(self.seed, node.number);
        let kind = node.entry.map_or(&Kind::Directory, |entry| &entry.kind);
        if matches!(kind, Kind::File { .. } | Kind::Directory)
            || matches!(kind, Kind::Symlink(target) if target.len() >= 60)
        {
            inode.flags = EXTENTS;
            let (root, tree) = extent::build(&place.extents, &place.tree, seed);
            inode.block = root;
            for (number, block) in tree {
                self.layout.put(number * BLOCK, block);
            }
        }
        match kind {
            Kind::Directory => {
                inode.mode |= 0o040_000;
                inode.size = data * BLOCK;
                if inode.links >= 65_000 {
                    inode.links = 1;
                }
                if let Some(directory) = &node.directory {
                    let bytes =
                        dir::build(node.number, directory.parent, &directory.children, data, seed);
                    self.scatter(&place.extents, bytes);
                }
            }
            Kind::File { size, content, digest } => {
                inode.mode |= 0o100_000;
                inode.size = *size;
                self.file(node.path, *size, content, *digest, &place.extents);
            }
            Kind::Symlink(target) => {
                inode.mode = 0o120_777;
                inode.size = target.len() as u64;
                if target.len() < 60 {
                    inode.block[..target.len()].copy_from_slice(target);
                } else {
                    self.layout.put(place.extents[0].physical * BLOCK, target.clone());
                }
            }
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                let block = matches!(kind, Kind::BlockDevice { .. });
                inode.mode |= if block { 0o060_000 } else { 0o020_000 };
                if *major > 0xFFF || *minor > 0xF_FFFF {
                    let reason = format!("the device number {major}:{minor} is out of range");
                    return Err(Error::entry(node.path, reason));
                }
                inode.block = superblock::device(*major, *minor);
            }
            Kind::Fifo => inode.mode |= 0o010_000,
            Kind::Socket => inode.mode |= 0o140_000,
            Kind::Hardlink(_) => {}
        }
        let fs_seed = self.seed;
        if needs.attributes.needs_block() {
            let block = needs.attributes.block(place.attribute_block, fs_seed);
            self.layout.put(place.attribute_block * BLOCK, block);
        }
        let number = node.number;
        let slot = self.slot(number);
        inode.write(slot);
        needs.attributes.write_inode(&mut slot[INODE - IN_INODE..]);
        inode::seal(slot, fs_seed, number);
        Ok(())
    }

    /// Places bytes over extents that are contiguous in the file.
    fn scatter(&mut self, extents: &[Extent], bytes: Vec<u8>) {
        let data: std::sync::Arc<[u8]> = bytes.into();
        for extent in extents {
            let start = extent.logical as usize * BLOCK as usize;
            self.layout.segments.push(Segment {
                offset: extent.physical * BLOCK,
                len: u64::from(extent.len) * BLOCK,
                source: Source::Bytes { data: data.clone(), start },
            });
        }
    }

    fn file(
        &mut self,
        path: &[u8],
        size: u64,
        content: &'a Content,
        digest: Option<[u8; 32]>,
        extents: &[Extent],
    ) {
        for extent in extents {
            let at = u64::from(extent.logical) * BLOCK;
            let len = (u64::from(extent.len) * BLOCK).min(size - at);
            let offset = extent.physical * BLOCK;
            let source = match content {
                Content::Bytes(data) => Source::Bytes { data: data.clone(), start: at as usize },
                Content::HostFile(path) => Source::File { index: self.host_file(path), offset: at },
                Content::HostRange { path, offset } => {
                    Source::File { index: self.host_file(path), offset: offset + at }
                }
                Content::HostExtents { path, extents } => {
                    let index = self.host_file(path);
                    let first = extents.partition_point(|part| part.0 + part.2 <= at);
                    let parts = extents[first..].iter().take_while(|part| part.0 < at + len);
                    self.layout.segments.extend(parts.map(|(part, on_host, part_len)| {
                        let from = at.max(*part);
                        let to = (at + len).min(part + part_len);
                        let source = Source::File { index, offset: on_host + (from - part) };
                        Segment { offset: offset + (from - at), len: to - from, source }
                    }));
                    continue;
                }
            };
            self.layout.segments.push(Segment { offset, len, source });
        }
        self.files.push(FileBlocks {
            path: path.to_vec(),
            size,
            digest,
            extents: extents
                .iter()
                .map(|e| {
                    let len = u64::from(e.len) * BLOCK;
                    (u64::from(e.logical) * BLOCK, e.physical * BLOCK, len)
                })
                .collect(),
        });
    }

    fn host_file(&mut self, path: &'a std::path::Path) -> usize {
        let files = &mut self.layout.files;
        *self.ranges.entry(path).or_insert_with(|| {
            files.push(HostFile { path: path.to_owned() });
            files.len() - 1
        })
    }

    fn inode_tables(&mut self, last: u32) {
        let table = std::mem::take(&mut self.table);
        let per_group = self.geometry.inodes_per_group as usize * INODE;
        debug_assert_eq!(table.len(), last as usize * INODE);
        for (group, part) in self.geometry.groups.iter().zip(table.chunks(per_group)) {
            self.layout.put(group.inode_table * BLOCK, part.to_vec());
        }
    }

    /// Bitmaps, descriptors, and superblock with its copies.
    fn groups(&mut self, nodes: &[Node<'_>], places: &Places, last: u32, journal: &[u8; 60]) {
        let geometry = self.geometry;
        let per_group = geometry.inodes_per_group;
        let mut directories = vec![0u64; geometry.groups.len()];
        for node in nodes.iter().filter(|node| node.directory.is_some()) {
            directories[(u64::from(node.number - 1) / per_group) as usize] += 1;
        }
        let mut descriptors = Vec::new();
        let mut free_blocks = 0;
        for (number, group) in geometry.groups.iter().enumerate() {
            let bitmap = &places.bitmap[number * BLOCK as usize..][..BLOCK as usize];
            let used: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
            let free = GROUP_BLOCKS - used;
            free_blocks += free;
            let clean =
                used == geometry.overhead(number as u64) && number + 1 < geometry.groups.len();
            let used_inodes =
                u64::from(last).saturating_sub(number as u64 * per_group).min(per_group);
            let inode_bitmap = (used_inodes > 0).then(|| {
                let mut bits = vec![0u8; BLOCK as usize];
                for bit in (0..used_inodes).chain(per_group..8 * BLOCK) {
                    bits[(bit / 8) as usize] |= 1 << (bit % 8);
                }
                bits
            });
            let state = GroupState {
                number: number as u64,
                free_blocks: free,
                used_inodes,
                directories: directories[number],
                block_bitmap: (!clean).then_some(bitmap),
                inode_bitmap: inode_bitmap.as_deref(),
            };
            descriptors.extend(superblock::descriptor(geometry, self.seed, &state));
            if !clean {
                self.layout.put(group.block_bitmap * BLOCK, bitmap.to_vec());
            }
            if let Some(bits) = inode_bitmap {
                self.layout.put(group.inode_bitmap * BLOCK, bits);
            }
        }
        let totals = Totals {
            free_blocks,
            free_inodes: per_group * geometry.groups.len() as u64 - u64::from(last),
        };
        let size = places.journal.iter().map(|run| run.len).sum::<u64>() * BLOCK;
        for group in (0..geometry.groups.len() as u64).filter(|group| has_backup(*group)) {
            let sb = superblock::superblock(geometry, self.options, totals, (journal, size), group);
            let start = group * GROUP_BLOCKS * BLOCK;
            self.layout.put(start + if group == 0 { 1024 } else { 0 }, sb);
            self.layout.put(start + BLOCK, descriptors.clone());
        }
        let kept = superblock::resize_blocks(geometry);
        self.layout.put((1 + geometry.descriptor_blocks) * BLOCK, kept);
    }
}
