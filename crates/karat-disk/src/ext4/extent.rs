//! Extent trees: which blocks of a file stand where.

use super::{BLOCK, crc};
use crate::bytes::{put16, put32};

/// Extents that fit in an inode.
const IN_INODE: usize = 4;
/// Extents that fit in a block, which leaves four bytes for the checksum.
const IN_BLOCK: usize = (BLOCK as usize - 12) / 12;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block within the file.
    pub(super) logical: u32,
    /// First block on disk.
    pub(super) physical: u64,
    /// Length in blocks, at most 32768.
    pub(super) len: u32,
}

/// Blocks that the tree of so many extents needs outside the inode.
pub(super) fn tree_blocks(extents: usize) -> usize {
    let mut total = 0;
    let mut level = extents;
    while level > IN_INODE {
        level = level.div_ceil(IN_BLOCK);
        total += level;
    }
    total
}

fn header(buffer: &mut [u8], entries: usize, max: usize, depth: u16) {
    put16(buffer, 0, 0xF30A);
    put16(buffer, 2, entries as u16);
    put16(buffer, 4, max as u16);
    put16(buffer, 6, depth);
}

fn leaf(buffer: &mut [u8], extent: &Extent) {
    put32(buffer, 0, extent.logical);
    put16(buffer, 4, extent.len as u16);
    put16(buffer, 6, (extent.physical >> 32) as u16);
    put32(buffer, 8, extent.physical as u32);
}

fn index(buffer: &mut [u8], logical: u32, block: u64) {
    put32(buffer, 0, logical);
    put32(buffer, 4, block as u32);
    put16(buffer, 8, (block >> 32) as u16);
}

/// Builds the tree: the 60 bytes for the inode, and the blocks of the tree with their numbers.
///
/// `blocks` are as many block numbers as [`tree_blocks`] says; `seed` is the inode's checksum
/// seed.
pub(super) fn build(
    extents: &[Extent],
    blocks: &[u64],
    seed: u32,
) -> ([u8; 60], Vec<(u64, Vec<u8>)>) {
    let mut root = [0u8; 60];
    let mut out = Vec::new();
    if extents.len() <= IN_INODE {
        header(&mut root, extents.len(), IN_INODE, 0);
        for (extent, place) in extents.iter().zip(root[12..].chunks_exact_mut(12)) {
            leaf(place, extent);
        }
        return (root, out);
    }
    let mut blocks = blocks.iter().copied();
    let mut depth = 0u16;
    // First the leaves, then index levels over them until one fits in the inode.
    let mut level: Vec<(u32, u64)> = Vec::new();
    for chunk in extents.chunks(IN_BLOCK) {
        let Some(number) = blocks.next() else { break };
        let mut block = vec![0u8; BLOCK as usize];
        header(&mut block, chunk.len(), IN_BLOCK, depth);
        for (extent, place) in chunk.iter().zip(block[12..].chunks_exact_mut(12)) {
            leaf(place, extent);
        }
        seal(&mut block, seed);
        level.push((chunk[0].logical, number));
        out.push((number, block));
    }
    while level.len() > IN_INODE {
        depth += 1;
        let mut above = Vec::new();
        for chunk in level.chunks(IN_BLOCK) {
            let Some(number) = blocks.next() else { break };
            let mut block = vec![0u8; BLOCK as usize];
            header(&mut block, chunk.len(), IN_BLOCK, depth);
            for ((logical, child), place) in chunk.iter().zip(block[12..].chunks_exact_mut(12)) {
                index(place, *logical, *child);
            }
            seal(&mut block, seed);
            above.push((chunk[0].0, number));
            out.push((number, block));
        }
        level = above;
    }
    header(&mut root, level.len(), IN_INODE, depth + 1);
    for ((logical, child), place) in level.iter().zip(root[12..].chunks_exact_mut(12)) {
        index(place, *logical, *child);
    }
    (root, out)
}

fn seal(block: &mut [u8], seed: u32) {
    let end = 12 + 12 * IN_BLOCK;
    let sum = crc(seed, &block[..end]);
    put32(block, end, sum);
}
