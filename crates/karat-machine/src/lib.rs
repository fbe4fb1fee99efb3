//! Local machines: content-addressed layers, Debian bootstrap, systemd-nspawn, capture, export.

mod builder;
mod communicator;
pub mod runtime;

pub use builder::{
    BUILDER_ID, BaseConfig, Disk, MachineBuilder, MachineConfig, UserConfig, Validated, copy_locks,
    keep_locks, sweep,
};
pub use communicator::MachineCommunicator;
