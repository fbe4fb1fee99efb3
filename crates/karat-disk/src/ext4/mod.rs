//! An ext4 file system written once, from a list of entries, without the kernel.
//!
//! Source of the format: the kernel's `Documentation/filesystems/ext4/` and the headers of
//! e2fsprogs. Features written: `has_journal ext_attr resize_inode dir_index filetype extent
//! 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum`, which
//! Debian's kernels, e2fsck and GRUB's driver all read. Blocks have 4096 bytes, inodes 256.
//!
//! Which file holds what: `nodes` the tree with inode numbers, `geometry` where groups and their
//! tables stand, `alloc` the blocks of files, `inode`, `extent`, `dir`, `xattr` the structures,
//! `superblock` the superblock, group descriptors and journal, `build` puts it all together,
//! `read` reads such a file system back.

mod alloc;
mod build;
mod dir;
mod extent;
mod geometry;
mod inode;
mod nodes;
pub(crate) mod read;
mod superblock;
mod xattr;

use uuid::Uuid;

pub(crate) use build::{Planned, plan};

/// Bytes per block.
pub(crate) const BLOCK: u64 = 4096;
/// Blocks per group.
const GROUP_BLOCKS: u64 = 8 * BLOCK;
/// Bytes per inode.
const INODE: usize = 256;
/// The root directory's inode.
const ROOT_INODE: u32 = 2;
/// The inode that holds the blocks kept for a larger group descriptor table.
const RESIZE_INODE: u32 = 7;
/// The journal's inode.
const JOURNAL_INODE: u32 = 8;
/// First inode that is not reserved: `lost+found`.
const FIRST_INODE: u32 = 11;

/// What a file system is besides its files.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Size in bytes; `None` for content and margin.
    pub(crate) size: Option<u64>,
    /// Free bytes to leave where the size is chosen here.
    pub(crate) margin: u64,
    /// Identifier of the file system.
    pub(crate) uuid: Uuid,
    /// Seed of the directory hashes.
    pub(crate) hash_seed: Uuid,
    /// Volume label, at most 16 bytes.
    pub(crate) label: String,
    /// Time of making, seconds since 1970.
    pub(crate) time: i64,
    /// Share of the blocks kept for root, in percent (0 to 50).
    pub(crate) reserved_percent: u32,
}

/// CRC-32C as ext4 uses it: a running register with no inversion at the ends.
fn crc(register: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!register, data)
}
