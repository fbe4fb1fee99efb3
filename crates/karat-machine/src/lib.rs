//! Local machines: content-addressed layers, Debian bootstrap, systemd-nspawn, capture, export.

mod communicator;
pub mod runtime;

pub use communicator::MachineCommunicator;
