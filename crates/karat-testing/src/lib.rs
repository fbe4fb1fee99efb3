//! What tests of several crates share.

pub mod document;
pub mod host_state;
pub mod local_communicator;
pub mod port;
pub mod qemu;
pub mod registry;
pub mod relay;
pub mod sshd;
pub mod winrm;
