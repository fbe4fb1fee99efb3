//! The qcow2 container, version 3, written once (QEMU's `docs/interop/qcow2.txt`).
//!
//! Clusters that hold nothing are left unallocated and read as zeros. All that is allocated
//! stands in ascending order, so that neighbours on the virtual disk are neighbours in the file.

use crate::bytes::{put32_be, put64_be};
use crate::segment::Layout;

/// Bytes per cluster.
pub(crate) const CLUSTER: u64 = 65_536;
/// Entries of a level-2 table.
const L2_ENTRIES: u64 = CLUSTER / 8;
/// Clusters that a block of 16-bit reference counts covers.
const REFCOUNTS: u64 = CLUSTER / 2;
/// The cluster is not shared and may be written in place.
const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
const COMPRESSED: u64 = 1 << 62;

/// Where a cluster of the virtual disk stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// As it is, at this offset.
    Plain(u64),
    /// Compressed: offset and bytes.
    Packed(u64, u64),
}

/// Runs of clusters that hold something: first cluster and count, ascending.
pub(crate) fn used_clusters(layout: &Layout) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for segment in &layout.segments {
        let first = segment.offset / CLUSTER;
        let after = segment.end().div_ceil(CLUSTER);
        match runs.last_mut() {
            Some(last) if last.0 + last.1 >= first => last.1 = last.1.max(after - last.0),
            _ => runs.push((first, after - first)),
        }
    }
    runs
}

/// The map of an image without compression, known before anything is written.
#[derive(Debug)]
pub(crate) struct PlainMap {
    /// First virtual cluster, count, offset in the file.
    runs: Vec<(u64, u64, u64)>,
    /// Bytes of the whole file.
    pub(crate) file_size: u64,
    /// Header and tables with their offsets.
    pub(crate) tables: Vec<(u64, Vec<u8>)>,
}

impl PlainMap {
    pub(crate) fn new(layout: &Layout) -> Self {
        let used = used_clusters(layout);
        let data: u64 = used.iter().map(|run| run.1).sum();
        let l2_tables = l2_indexes(used.iter().flat_map(|run| run.0..run.0 + run.1)).len() as u64;
        let l1_clusters = l1_entries(layout.size).max(1).div_ceil(L2_ENTRIES);
        let fixed = 1 + l1_clusters + l2_tables + data;
        let (table_clusters, blocks) = refcount_clusters(fixed);
        let data_start = (1 + table_clusters + blocks + l1_clusters + l2_tables) * CLUSTER;
        let mut at = data_start;
        let mut runs = Vec::with_capacity(used.len());
        for (first, count) in used {
            runs.push((first, count, at));
            at += count * CLUSTER;
        }
        let places = runs.iter().flat_map(|(first, count, offset)| {
            (0..*count).map(move |n| (first + n, Place::Plain(offset + n * CLUSTER)))
        });
        let mut counts = vec![1u16; (at / CLUSTER) as usize];
        let tables = tables(layout.size, places, CLUSTER, &mut counts, false);
        Self { runs, file_size: at, tables }
    }

    /// Offset in the file of a byte of the virtual disk, and how many bytes follow it there.
    ///
    /// The byte must lie in a cluster that is used.
    pub(crate) fn locate(&self, offset: u64) -> (u64, u64) {
        let cluster = offset / CLUSTER;
        let index = self.runs.partition_point(|run| run.0 <= cluster).saturating_sub(1);
        let (first, count, at) = self.runs.get(index).copied().unwrap_or_default();
        let within = offset - first * CLUSTER;
        (at + within, count * CLUSTER - within)
    }
}

fn l1_entries(size: u64) -> u64 {
    size.div_ceil(CLUSTER * L2_ENTRIES)
}

/// Indexes of the level-2 tables that these ascending clusters need.
fn l2_indexes(clusters: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut out: Vec<u64> = Vec::new();
    for cluster in clusters {
        let index = cluster / L2_ENTRIES;
        if out.last() != Some(&index) {
            out.push(index);
        }
    }
    out
}

/// Clusters of the reference count table and of its blocks, for a file of so many others.
fn refcount_clusters(others: u64) -> (u64, u64) {
    let (mut table, mut blocks) = (1, 1);
    loop {
        let total = others + table + blocks;
        let need_blocks = total.div_ceil(REFCOUNTS);
        let need_table = need_blocks.div_ceil(L2_ENTRIES);
        if need_blocks <= blocks && need_table <= table {
            return (table, blocks);
        }
        (table, blocks) = (need_table.max(table), need_blocks.max(blocks));
    }
}

/// Header and tables. They stand from `start` on: reference counts, level 1, level 2.
///
/// `counts` has one reference count for each cluster of the file; it is extended by the tables'
/// own where they stand at the end.
pub(crate) fn tables(
    size: u64,
    places: impl Iterator<Item = (u64, Place)>,
    start: u64,
    counts: &mut Vec<u16>,
    compressed: bool,
) -> Vec<(u64, Vec<u8>)> {
    let mut l2: Vec<(u64, Vec<u8>)> = Vec::new();
    for (cluster, place) in places {
        let index = cluster / L2_ENTRIES;
        if l2.last().is_none_or(|last| last.0 != index) {
            l2.push((index, vec![0; CLUSTER as usize]));
        }
        let entry = match place {
            Place::Plain(offset) => COPIED | offset,
            Place::Packed(offset, len) => {
                let sectors = (offset + len - 1) / 512 - offset / 512;
                COMPRESSED | sectors << 54 | offset
            }
        };
        if let Some((_, table)) = l2.last_mut() {
            put64_be(table, (cluster % L2_ENTRIES) as usize * 8, entry);
        }
    }
    let entries = l1_entries(size).max(1);
    let l1_clusters = entries.div_ceil(L2_ENTRIES);
    let own = l1_clusters + l2.len() as u64;
    let at_end = start / CLUSTER >= counts.len() as u64;
    let others = counts.len() as u64 + if at_end { own } else { 0 };
    let (table_clusters, blocks) = if at_end {
        refcount_clusters(others)
    } else {
        // The counts already include the tables.
        let blocks = (counts.len() as u64).div_ceil(REFCOUNTS);
        (blocks.div_ceil(L2_ENTRIES), blocks)
    };
    if at_end {
        counts.resize((others + table_clusters + blocks) as usize, 1);
    }
    let refcount_table = start;
    let refcount_blocks = refcount_table + table_clusters * CLUSTER;
    let l1_at = refcount_blocks + blocks * CLUSTER;
    let l2_at = l1_at + l1_clusters * CLUSTER;

    let mut header = vec![0u8; 112];
    header[0..4].copy_from_slice(b"QFI\xFB");
    put32_be(&mut header, 4, 3);
    put32_be(&mut header, 20, CLUSTER.trailing_zeros());
    put64_be(&mut header, 24, size);
    put32_be(&mut header, 36, entries as u32);
    put64_be(&mut header, 40, l1_at);
    put64_be(&mut header, 48, refcount_table);
    put32_be(&mut header, 56, table_clusters as u32);
    // Incompatible feature bit 3: a compression type other than deflate, here zstd.
    put64_be(&mut header, 72, if compressed { 1 << 3 } else { 0 });
    put32_be(&mut header, 96, 4);
    put32_be(&mut header, 100, 112);
    header[104] = u8::from(compressed);

    let mut table = vec![0u8; (table_clusters * CLUSTER) as usize];
    for block in 0..blocks {
        put64_be(&mut table, block as usize * 8, refcount_blocks + block * CLUSTER);
    }
    let mut block_bytes = vec![0u8; (blocks * CLUSTER) as usize];
    for (count, place) in counts.iter().zip(block_bytes.chunks_exact_mut(2)) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    let mut l1 = vec![0u8; (l1_clusters * CLUSTER) as usize];
    let mut out = Vec::with_capacity(l2.len() + 4);
    for (position, (index, bytes)) in l2.into_iter().enumerate() {
        let at = l2_at + position as u64 * CLUSTER;
        put64_be(&mut l1, index as usize * 8, COPIED | at);
        out.push((at, bytes));
    }
    out.push((l1_at, l1));
    out.push((refcount_blocks, block_bytes));
    out.push((refcount_table, table));
    out.push((0, header));
    out
}
