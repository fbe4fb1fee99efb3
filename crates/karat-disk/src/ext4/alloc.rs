//! Hands out blocks in ascending order and keeps the bitmap of all that is taken.

use super::geometry::Geometry;

/// Longest extent.
const MAX_EXTENT: u64 = 32_768;

/// A run of blocks on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// First-fit over the ascending free ranges: equal requests give equal answers.
#[derive(Debug)]
pub(super) struct Allocator<'a> {
    geometry: &'a Geometry,
    bitmap: Vec<u8>,
    cursor: u64,
    /// Index of the first taken range that ends after the cursor.
    next_taken: usize,
}

impl<'a> Allocator<'a> {
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        let bytes = geometry.groups.len() * super::BLOCK as usize;
        let mut allocator = Self { geometry, bitmap: vec![0; bytes], cursor: 0, next_taken: 0 };
        for range in &geometry.taken {
            allocator.mark(range.start, range.end);
        }
        // What lies beyond the last block counts as taken.
        allocator.mark(geometry.blocks, bytes as u64 * 8);
        allocator
    }

    fn mark(&mut self, mut start: u64, end: u64) {
        while start < end {
            if start.is_multiple_of(8) && end - start >= 8 {
                let bytes = (end - start) / 8;
                let at = (start / 8) as usize;
                self.bitmap[at..at + bytes as usize].fill(0xFF);
                start += bytes * 8;
            } else {
                self.bitmap[(start / 8) as usize] |= 1 << (start % 8);
                start += 1;
            }
        }
    }

    /// Takes `count` blocks, in as few runs as the fixed parts allow. `None` when full.
    pub(super) fn take(&mut self, count: u64) -> Option<Vec<Run>> {
        let mut runs = Vec::with_capacity(1);
        let mut left = count;
        while left > 0 {
            let taken = &self.geometry.taken;
            while let Some(range) = taken.get(self.next_taken) {
                if self.cursor < range.start {
                    break;
                }
                self.cursor = self.cursor.max(range.end);
                self.next_taken += 1;
            }
            let limit = taken.get(self.next_taken).map_or(self.geometry.blocks, |r| r.start);
            let len = left.min(limit.saturating_sub(self.cursor)).min(MAX_EXTENT);
            if len == 0 {
                return None;
            }
            runs.push(Run { start: self.cursor, len });
            self.mark(self.cursor, self.cursor + len);
            self.cursor += len;
            left -= len;
        }
        Some(runs)
    }

    /// Takes one block.
    pub(super) fn take_one(&mut self) -> Option<u64> {
        self.take(1).map(|runs| runs[0].start)
    }

    /// The bitmap of all groups, one block each.
    pub(super) fn bitmap(&self) -> &[u8] {
        &self.bitmap
    }
}
