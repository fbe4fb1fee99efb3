//! Where groups, their bitmaps, inode tables and the copies of the superblock stand.

use std::ops::Range;

use super::{BLOCK, GROUP_BLOCKS, INODE};

/// Groups whose tables stand together (`flex_bg`).
const FLEX: u64 = 16;
/// Bytes per group descriptor.
pub(super) const DESCRIPTOR: u64 = 64;
/// Block numbers that fit in an indirect block.
pub(super) const ADDRESSES: u64 = BLOCK / 4;
/// Inodes per block.
const INODES_PER_BLOCK: u64 = BLOCK / INODE as u64;

/// Tables of one group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

/// The fixed parts of a file system of a given size.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: Vec<Group>,
    pub(super) inodes_per_group: u64,
    pub(super) descriptor_blocks: u64,
    pub(super) reserved_descriptor_blocks: u64,
    /// Blocks taken by the fixed parts: sorted, not touching each other.
    pub(super) taken: Vec<Range<u64>>,
}

/// Whether a group holds a copy of superblock and descriptors (`sparse_super`).
pub(super) fn has_backup(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

impl Geometry {
    /// Lays out a file system of at most `blocks` blocks for at least `inodes` inodes.
    ///
    /// A last group too small for its own tables is left out. `None` when there is not room for
    /// one group's.
    pub(super) fn new(blocks: u64, inodes: u64) -> Option<Self> {
        let rest = blocks % GROUP_BLOCKS;
        if rest != 0 && blocks > GROUP_BLOCKS {
            Self::try_new(blocks, inodes, rest)
                .or_else(|| Self::try_new(blocks - rest, inodes, GROUP_BLOCKS))
        } else {
            Self::try_new(blocks, inodes, if rest == 0 { GROUP_BLOCKS } else { rest })
        }
    }

    fn try_new(blocks: u64, inodes: u64, last_group: u64) -> Option<Self> {
        let count = blocks.div_ceil(GROUP_BLOCKS);
        if count == 0 || blocks > u64::from(u32::MAX) {
            return None;
        }
        let per_block = BLOCK / DESCRIPTOR;
        let descriptor_blocks = count.div_ceil(per_block);
        // Room to grow a thousandfold, as mke2fs leaves it.
        let largest = (blocks * 1024).min(u64::from(u32::MAX));
        let reserved_descriptor_blocks =
            (largest.div_ceil(GROUP_BLOCKS).div_ceil(per_block) - descriptor_blocks).min(ADDRESSES);
        // One inode for 16 KiB, and for all that must stand in the image.
        let per_group = inodes.div_ceil(count).max(GROUP_BLOCKS.min(blocks) * BLOCK / 16384);
        let inodes_per_group = per_group.next_multiple_of(INODES_PER_BLOCK).max(32);
        if inodes_per_group > 8 * BLOCK {
            return None;
        }
        let table_blocks = inodes_per_group / INODES_PER_BLOCK;
        let own = 1 + descriptor_blocks + reserved_descriptor_blocks;
        let backups: Vec<Range<u64>> = (0..count)
            .filter(|group| has_backup(*group))
            .map(|group| group * GROUP_BLOCKS..group * GROUP_BLOCKS + own)
            .collect();
        if last_group < 64 || (has_backup(count - 1) && last_group < own + 64) {
            return None;
        }
        let mut taken = backups.clone();
        let mut groups = vec![Group::default(); usize::try_from(count).ok()?];
        for (flex, members) in groups.chunks_mut(FLEX as usize).enumerate() {
            let mut cursor = flex as u64 * FLEX * GROUP_BLOCKS;
            let mut take = |len: u64| {
                while let Some(backup) =
                    backups.iter().find(|range| range.start < cursor + len && range.end > cursor)
                {
                    cursor = backup.end;
                }
                let start = cursor;
                cursor += len;
                taken.push(start..cursor);
                (cursor <= blocks).then_some(start)
            };
            for group in members.iter_mut() {
                group.block_bitmap = take(1)?;
            }
            for group in members.iter_mut() {
                group.inode_bitmap = take(1)?;
            }
            for group in members.iter_mut() {
                group.inode_table = take(table_blocks)?;
            }
        }
        taken.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in taken {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        Some(Self {
            blocks,
            groups,
            inodes_per_group,
            descriptor_blocks,
            reserved_descriptor_blocks,
            taken: merged,
        })
    }

    /// Blocks not taken by the fixed parts.
    pub(super) fn free(&self) -> u64 {
        self.blocks - self.taken.iter().map(|range| range.end - range.start).sum::<u64>()
    }

    /// Blocks of superblock copy and descriptors in a group.
    pub(super) fn overhead(&self, group: u64) -> u64 {
        if has_backup(group) {
            1 + self.descriptor_blocks + self.reserved_descriptor_blocks
        } else {
            0
        }
    }

    /// Blocks of the journal: the sizes that mke2fs chooses.
    pub(super) fn journal_blocks(blocks: u64) -> u64 {
        match blocks {
            0..32_768 => 1024,
            32_768..262_144 => 4096,
            262_144..524_288 => 8192,
            524_288..4_194_304 => 16_384,
            4_194_304..8_388_608 => 32_768,
            8_388_608..16_777_216 => 65_536,
            16_777_216..33_554_432 => 131_072,
            _ => 262_144,
        }
    }
}
