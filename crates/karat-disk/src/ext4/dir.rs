//! Directory blocks: linear lists of names, each block with a checksum in its tail.

use super::{BLOCK, crc};
use crate::bytes::{put16, put32};

/// Bytes of a block for names; the rest is the tail with the checksum.
const ROOM: usize = BLOCK as usize - 12;
/// Blocks of `lost+found`, so that a repair finds room in it.
pub(super) const LOST_AND_FOUND_BLOCKS: u64 = 4;

fn record(name: &[u8]) -> usize {
    8 + name.len().next_multiple_of(4)
}

/// Blocks that a directory with these names needs.
pub(super) fn blocks(children: &[(&[u8], u32, u8)]) -> u64 {
    let mut blocks = 1;
    let mut used = record(b".") + record(b"..");
    for (name, _, _) in children {
        if used + record(name) > ROOM {
            blocks += 1;
            used = 0;
        }
        used += record(name);
    }
    blocks
}

struct Writer {
    out: Vec<u8>,
    /// Start of the current block and of its last record.
    block: usize,
    last: usize,
    used: usize,
}

impl Writer {
    fn push(&mut self, name: &[u8], number: u32, file_type: u8) {
        let len = record(name);
        if self.used + len > ROOM {
            self.finish_block();
            self.block = self.out.len();
            self.out.resize(self.block + BLOCK as usize, 0);
            self.used = 0;
        }
        let at = self.block + self.used;
        put32(&mut self.out, at, number);
        put16(&mut self.out, at + 4, len as u16);
        self.out[at + 6] = name.len() as u8;
        self.out[at + 7] = file_type;
        self.out[at + 8..at + 8 + name.len()].copy_from_slice(name);
        self.last = at;
        self.used += len;
    }

    /// The last record of a block reaches to its tail.
    fn finish_block(&mut self) {
        let len = self.block + ROOM - self.last;
        put16(&mut self.out, self.last + 4, len as u16);
    }
}

/// Writes a directory into exactly `count` blocks.
pub(super) fn build(
    number: u32,
    parent: u32,
    children: &[(&[u8], u32, u8)],
    count: u64,
    seed: u32,
) -> Vec<u8> {
    let mut writer = Writer { out: vec![0; BLOCK as usize], block: 0, last: 0, used: 0 };
    writer.push(b".", number, 2);
    writer.push(b"..", parent, 2);
    for (name, number, file_type) in children {
        writer.push(name, *number, *file_type);
    }
    writer.finish_block();
    let mut out = writer.out;
    while (out.len() as u64) < count * BLOCK {
        let at = out.len();
        out.resize(at + BLOCK as usize, 0);
        put16(&mut out, at + 4, ROOM as u16);
    }
    for block in out.chunks_exact_mut(BLOCK as usize) {
        let sum = crc(seed, &block[..ROOM]);
        put16(block, ROOM + 4, 12);
        block[ROOM + 7] = 0xDE;
        put32(block, ROOM + 8, sum);
    }
    out
}
