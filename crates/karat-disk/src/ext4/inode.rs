//! One inode as it stands in the table.

use super::{INODE, crc};
use crate::bytes::{put16, put32};
use crate::tree::Timestamp;

/// Flag: the block field holds an extent tree.
pub(super) const EXTENTS: u32 = 0x0008_0000;

/// Fields of an inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    /// Type and permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) time: Timestamp,
    pub(super) links: u32,
    /// Blocks of 4096 bytes, with those of extent tree and attributes.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    /// Extent tree, short symbolic link or device number.
    pub(super) block: [u8; 60],
    /// Block with extended attributes, or 0.
    pub(super) attribute_block: u64,
}

impl Inode {
    pub(super) fn new(mode: u16, time: Timestamp) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            time,
            links: 1,
            blocks: 0,
            flags: 0,
            block: [0; 60],
            attribute_block: 0,
        }
    }

    /// Writes the fixed fields into the 256 bytes of a slot; attributes follow from byte 160.
    pub(super) fn write(&self, slot: &mut [u8]) {
        let seconds = self.time.secs as u32;
        // Two bits extend the seconds beyond 2038, thirty are nanoseconds.
        let epoch = (self.time.secs.wrapping_sub(i64::from(seconds as i32)) >> 32) as u32 & 3;
        let extra = self.time.nanos << 2 | epoch;
        let sectors = self.blocks * 8;
        put16(slot, 0x00, self.mode);
        put16(slot, 0x02, self.uid as u16);
        put32(slot, 0x04, self.size as u32);
        for at in [0x08, 0x0C, 0x10, 0x90] {
            put32(slot, at, seconds);
        }
        put16(slot, 0x18, self.gid as u16);
        put16(slot, 0x1A, self.links as u16);
        put32(slot, 0x1C, sectors as u32);
        put32(slot, 0x20, self.flags);
        slot[0x28..0x64].copy_from_slice(&self.block);
        put32(slot, 0x68, self.attribute_block as u32);
        put32(slot, 0x6C, (self.size >> 32) as u32);
        put16(slot, 0x74, (sectors >> 32) as u16);
        put16(slot, 0x76, (self.attribute_block >> 32) as u16);
        put16(slot, 0x78, (self.uid >> 16) as u16);
        put16(slot, 0x7A, (self.gid >> 16) as u16);
        put16(slot, 0x80, 32);
        for at in [0x84, 0x88, 0x8C, 0x94] {
            put32(slot, at, extra);
        }
    }
}

/// Checksum seed of an inode: of its number and generation (always 0 here).
pub(super) fn seed(file_system: u32, number: u32) -> u32 {
    crc(crc(file_system, &number.to_le_bytes()), &[0; 4])
}

/// Writes the checksum of a filled slot. An inode that is all zero has no room for its upper half.
pub(super) fn seal(slot: &mut [u8], file_system: u32, number: u32) {
    put16(slot, 0x7C, 0);
    let extra = slot[0x80] != 0;
    if extra {
        put16(slot, 0x82, 0);
    }
    let sum = crc(seed(file_system, number), &slot[..INODE]);
    put16(slot, 0x7C, sum as u16);
    if extra {
        put16(slot, 0x82, (sum >> 16) as u16);
    }
}
