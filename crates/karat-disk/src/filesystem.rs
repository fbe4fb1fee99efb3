//! A bare ext4 file system in a file, without partitions or boot loader.

use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::ext4;
use crate::ids::derive_uuid;
use crate::output::{self, Control, Output, Progress, Written};
use crate::tree::Entry;

/// What a file system is besides its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystemSpec {
    /// Seed of the identifiers.
    pub seed: Vec<u8>,
    /// Size in bytes; `None` for content and margin.
    pub size: Option<u64>,
    /// Free bytes to leave where the size is chosen here.
    pub margin: u64,
    /// Volume label, at most 16 bytes.
    pub label: String,
    /// Time of making, seconds since 1970.
    pub time: i64,
    /// Share of the blocks kept for root, in percent (0 to 50).
    pub reserved_percent: u32,
}

/// Writes an ext4 file system with these entries to files that hold nothing else.
///
/// # Errors
/// As [`crate::write_disk`].
pub fn write_file_system(
    spec: &FileSystemSpec,
    entries: &[Entry],
    outputs: &[Output],
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &AtomicBool,
) -> Result<Vec<Written>> {
    let options = ext4::Options {
        size: spec.size,
        margin: spec.margin,
        uuid: derive_uuid(&spec.seed, "root file system"),
        hash_seed: derive_uuid(&spec.seed, "root directory hashes"),
        label: spec.label.clone(),
        time: spec.time,
        reserved_percent: spec.reserved_percent,
    };
    let entries: Vec<&Entry> = entries.iter().collect();
    let planned = ext4::plan(&entries, &options)?;
    output::write(&planned.layout, outputs, None, &Control { progress, cancel })
}
