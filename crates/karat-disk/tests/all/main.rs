//! Disks and file systems, judged by the programs that others use for them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests panic, and say what was passed over"
)]

mod boot;
mod contained;
mod disks;
mod errors;
mod file_systems;
mod mounted;
mod support;
