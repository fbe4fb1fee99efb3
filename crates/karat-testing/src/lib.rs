//! What tests of several crates share.

pub mod document;
pub mod host_state;
pub mod local_communicator;
pub mod qemu;

pub mod relay;
pub mod sshd;
