//! What tests of several crates share.

pub mod qemu;

pub mod relay;
pub mod sshd;
