//! Writes bootable disks in user space: GPT, FAT, ext4, qcow2. No loop device, no mount.
//!
//! A list of [`Entry`] becomes a disk in two steps. First everything is laid out: which bytes
//! stand where, with the contents of files left on the host (`ext4`, `fat`, `gpt`, `boot`, put
//! together by `disk`; a `segment::Layout` is the result). Then the layout is written to all
//! containers at once by several threads (`output`, `qcow2`), skipping what is a hole. Equal
//! inputs give equal bytes, since identifiers come from a seed and times from the caller.
//!
//! [`update_disk`] brings a former result up to date in place, and [`DiskImage`] reads disks back
//! (`read`, `qcow2_read`, `ext4::read`), those of other programs by `qemu-img` (`contained`, `ova`).
//!
//! The writers are own code because the programs that make file systems copy from a mounted tree
//! or directory with the owners and attributes that the host allows, and none of the libraries
//! writes ext4 with journal and checksums from a list.

mod boot;
mod bytes;
mod contained;
mod disk;
mod error;
mod ext4;
mod fat;
mod filesystem;
mod gpt;
mod ids;
mod output;
mod ova;
mod qcow2;
mod qcow2_read;
mod read;
mod scan;
mod segment;
mod sparse;
mod tree;

pub use boot::{BootSpec, Firmware};
pub use contained::Container;
pub use disk::{BlockMap, DiskSpec, FileExtents, Previous, Report, update_disk, write_disk};
pub use error::{Error, Result};
pub use filesystem::{FileSystemSpec, write_file_system};
pub use gpt::Partition;
pub use ids::derive_uuid;
pub use output::{Format, Output, Progress, Stamp, Written};
pub use read::{DiskImage, PartitionTable, ReadPartition, needs_recovery, partition_table};
pub use scan::scan_directory;
pub use tree::{Content, ContentReader, Entry, Kind, Timestamp, Xattr};
