//! Writes bootable disks in user space: GPT, FAT, ext4, qcow2. No loop device, no mount.

mod tree;

pub use tree::{Content, Entry, Kind, Timestamp, Xattr};
