//! Writes bootable disks in user space: GPT, FAT, ext4, qcow2. No loop device, no mount.

mod boot;
mod bytes;
mod disk;
mod error;
mod ext4;
mod fat;
mod filesystem;
mod gpt;
mod ids;
mod output;
mod qcow2;
mod qcow2_read;
mod read;
mod scan;
mod segment;
mod sparse;
mod tree;

pub use boot::{BootSpec, Firmware};
pub use disk::{BlockMap, DiskSpec, FileExtents, Previous, Report, update_disk, write_disk};
pub use error::{Error, Result};
pub use filesystem::{FileSystemSpec, write_file_system};
pub use gpt::Partition;
pub use ids::derive_uuid;
pub use output::{Format, Output, Progress, Stamp, Written};
pub use read::{DiskImage, PartitionTable, ReadPartition};
pub use scan::scan_directory;
pub use tree::{Content, ContentReader, Entry, Kind, Timestamp, Xattr};
