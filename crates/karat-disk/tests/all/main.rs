//! Disks and file systems, judged by the programs that others use for them.

mod boot;
mod disks;
mod errors;
mod file_systems;
mod mounted;
mod support;
