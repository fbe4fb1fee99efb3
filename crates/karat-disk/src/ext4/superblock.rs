//! Superblock, group descriptors, the resize inode's blocks and the journal's first block.

use super::geometry::{ADDRESSES, DESCRIPTOR, Geometry, has_backup};
use super::{BLOCK, FIRST_INODE, GROUP_BLOCKS, INODE, JOURNAL_INODE, Options, crc};
use crate::bytes::{put16, put32, put32_be};

/// `has_journal ext_attr resize_inode dir_index`
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x10 | 0x20;
/// `filetype extent 64bit flex_bg`
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// `sparse_super large_file huge_file dir_nlink extra_isize metadata_csum`
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

/// Checksum seed of a file system.
pub(super) fn seed(options: &Options) -> u32 {
    crc(!0, options.uuid.as_bytes())
}

/// Counts of the whole file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
}

/// The superblock, 1024 bytes, as its copy in `group` reads.
pub(super) fn superblock(
    geometry: &Geometry,
    options: &Options,
    totals: Totals,
    journal: (&[u8; 60], u64),
    group: u64,
) -> Vec<u8> {
    let mut sb = vec![0u8; 1024];
    let reserved = geometry.blocks * u64::from(options.reserved_percent) / 100;
    let time = options.time as u32;
    put32(&mut sb, 0x00, (geometry.inodes_per_group * geometry.groups.len() as u64) as u32);
    put32(&mut sb, 0x04, geometry.blocks as u32);
    put32(&mut sb, 0x08, reserved as u32);
    put32(&mut sb, 0x0C, totals.free_blocks as u32);
    put32(&mut sb, 0x10, totals.free_inodes as u32);
    put32(&mut sb, 0x18, 2);
    put32(&mut sb, 0x1C, 2);
    put32(&mut sb, 0x20, GROUP_BLOCKS as u32);
    put32(&mut sb, 0x24, GROUP_BLOCKS as u32);
    put32(&mut sb, 0x28, geometry.inodes_per_group as u32);
    put32(&mut sb, 0x30, time);
    put16(&mut sb, 0x36, u16::MAX);
    put16(&mut sb, 0x38, 0xEF53);
    put16(&mut sb, 0x3A, 1);
    put16(&mut sb, 0x3C, 1);
    put32(&mut sb, 0x40, time);
    put32(&mut sb, 0x4C, 1);
    put32(&mut sb, 0x54, FIRST_INODE);
    put16(&mut sb, 0x58, INODE as u16);
    put16(&mut sb, 0x5A, group as u16);
    put32(&mut sb, 0x5C, COMPATIBLE);
    put32(&mut sb, 0x60, INCOMPATIBLE);
    put32(&mut sb, 0x64, READ_ONLY_COMPATIBLE);
    sb[0x68..0x78].copy_from_slice(options.uuid.as_bytes());
    let label = &options.label.as_bytes()[..options.label.len().min(16)];
    sb[0x78..0x78 + label.len()].copy_from_slice(label);
    put16(&mut sb, 0xCE, geometry.reserved_descriptor_blocks as u16);
    put32(&mut sb, 0xE0, JOURNAL_INODE);
    sb[0xEC..0xFC].copy_from_slice(options.hash_seed.as_bytes());
    sb[0xFC] = 1;
    sb[0xFD] = 1;
    put16(&mut sb, 0xFE, DESCRIPTOR as u16);
    put32(&mut sb, 0x100, 0xC);
    put32(&mut sb, 0x108, time);
    sb[0x10C..0x148].copy_from_slice(journal.0);
    put32(&mut sb, 0x148, (journal.1 >> 32) as u32);
    put32(&mut sb, 0x14C, journal.1 as u32);
    put32(&mut sb, 0x150, (geometry.blocks >> 32) as u32);
    put32(&mut sb, 0x154, (reserved >> 32) as u32);
    put32(&mut sb, 0x158, (totals.free_blocks >> 32) as u32);
    put16(&mut sb, 0x15C, 32);
    put16(&mut sb, 0x15E, 32);
    put32(&mut sb, 0x160, 1);
    sb[0x174] = 4;
    sb[0x175] = 1;
    let upper = |seconds: i64| (seconds >> 32) as u8;
    sb[0x274] = upper(options.time);
    sb[0x276] = upper(options.time);
    sb[0x277] = upper(options.time);
    let sum = crc(!0, &sb[..0x3FC]);
    put32(&mut sb, 0x3FC, sum);
    sb
}

/// What the descriptor of one group is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupState<'a> {
    pub(super) number: u64,
    pub(super) free_blocks: u64,
    pub(super) used_inodes: u64,
    pub(super) directories: u64,
    /// The group's bitmaps where they are written; else the kernel makes them on first use.
    pub(super) block_bitmap: Option<&'a [u8]>,
    pub(super) inode_bitmap: Option<&'a [u8]>,
}

/// The descriptor of a group, 64 bytes.
pub(super) fn descriptor(geometry: &Geometry, seed: u32, state: &GroupState<'_>) -> [u8; 64] {
    let mut out = [0u8; DESCRIPTOR as usize];
    let group = geometry.groups[state.number as usize];
    let split = |out: &mut [u8; 64], low: usize, high: usize, value: u64| {
        put32(out, low, value as u32);
        put32(out, high, (value >> 32) as u32);
    };
    split(&mut out, 0x00, 0x20, group.block_bitmap);
    split(&mut out, 0x04, 0x24, group.inode_bitmap);
    split(&mut out, 0x08, 0x28, group.inode_table);
    let free_inodes = geometry.inodes_per_group - state.used_inodes;
    let halves = |out: &mut [u8; 64], low: usize, high: usize, value: u64| {
        put16(out, low, value as u16);
        put16(out, high, (value >> 16) as u16);
    };
    halves(&mut out, 0x0C, 0x2C, state.free_blocks);
    halves(&mut out, 0x0E, 0x2E, free_inodes);
    halves(&mut out, 0x10, 0x30, state.directories);
    halves(&mut out, 0x1C, 0x32, free_inodes);
    let mut flags = INODE_ZEROED;
    match state.block_bitmap {
        Some(bitmap) => halves(&mut out, 0x18, 0x38, u64::from(crc(seed, bitmap))),
        None => flags |= BLOCK_UNINIT,
    }
    match state.inode_bitmap {
        Some(bitmap) => {
            let covered = &bitmap[..geometry.inodes_per_group as usize / 8];
            halves(&mut out, 0x1A, 0x3A, u64::from(crc(seed, covered)));
        }
        None => flags |= INODE_UNINIT,
    }
    put16(&mut out, 0x12, flags);
    let sum = crc(crc(seed, &(state.number as u32).to_le_bytes()), &out);
    put16(&mut out, 0x1E, sum as u16);
    out
}

/// The block of the resize inode that points at the blocks kept for descriptors.
pub(super) fn resize_index(geometry: &Geometry) -> Vec<u8> {
    let mut block = vec![0u8; BLOCK as usize];
    for kept in 0..geometry.reserved_descriptor_blocks {
        let slot = (geometry.descriptor_blocks + kept) % ADDRESSES;
        let number = 1 + geometry.descriptor_blocks + kept;
        put32(&mut block, slot as usize * 4, number as u32);
    }
    block
}

/// The primary kept blocks, each of which points at its own copies in the backup groups.
pub(super) fn resize_blocks(geometry: &Geometry) -> Vec<u8> {
    let backups: Vec<u64> =
        (1..geometry.groups.len() as u64).filter(|group| has_backup(*group)).collect();
    if backups.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0u8; (geometry.reserved_descriptor_blocks * BLOCK) as usize];
    for (kept, block) in out.chunks_exact_mut(BLOCK as usize).enumerate() {
        let own = 1 + geometry.descriptor_blocks + kept as u64;
        for (slot, group) in backups.iter().enumerate() {
            put32(block, slot * 4, (own + group * GROUP_BLOCKS) as u32);
        }
    }
    out
}

/// Blocks that belong to the resize inode.
pub(super) fn resize_inode_blocks(geometry: &Geometry) -> u64 {
    let backups = (0..geometry.groups.len() as u64).filter(|group| has_backup(*group)).count();
    1 + geometry.reserved_descriptor_blocks * backups as u64
}

/// Size that the resize inode states: all that a doubly indirect block can reach.
pub(super) const RESIZE_INODE_SIZE: u64 = (ADDRESSES * ADDRESSES + ADDRESSES + 12) * BLOCK;

/// First block of an empty journal (its own superblock, version 2, big endian).
pub(super) fn journal_head(options: &Options, blocks: u64) -> Vec<u8> {
    let mut head = vec![0u8; BLOCK as usize];
    put32_be(&mut head, 0x00, 0xC03B_3998);
    put32_be(&mut head, 0x04, 4);
    put32_be(&mut head, 0x0C, BLOCK as u32);
    put32_be(&mut head, 0x10, blocks as u32);
    put32_be(&mut head, 0x14, 1);
    put32_be(&mut head, 0x18, 1);
    head[0x30..0x40].copy_from_slice(options.uuid.as_bytes());
    put32_be(&mut head, 0x40, 1);
    head
}

/// Device number as inodes hold it: short form where it fits, else the long one.
pub(super) fn device(major: u32, minor: u32) -> [u8; 60] {
    let mut out = [0u8; 60];
    if major < 256 && minor < 256 {
        put32(&mut out, 0, major << 8 | minor);
    } else {
        put32(&mut out, 4, (minor & 0xFF) | (major << 8) | ((minor & !0xFF) << 12));
    }
    out
}
