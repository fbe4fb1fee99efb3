//! Starting, entering and stopping local machines.
//!
//! A machine is an overlay of read-only layers and a writable one, mounted where only the machine's
//! own processes see it; in it `systemd-nspawn` boots a real systemd, in a network namespace of its
//! own with outbound network, a resolver and a metadata server. Nothing of it shows on the host but
//! processes and one control group, and nothing is left when it stops, fails, or karat is killed.
//!
//! | file | what |
//! |---|---|
//! | `spec.rs` | what a machine is started from |
//! | `machine.rs` | [`Machine`]: start, stop, files, sockets |
//! | `exec.rs` | running commands |
//! | `lazy.rs` | [`LazyMachine`]: boots at the first need |
//! | `recover.rs` | removing what a dead run left |
//! | `supervisor/` | the processes beside a machine; `wire.rs`, `client.rs` how to talk to them |
//! | `disk.rs` | files as disks of a machine |
//! | `rootfs.rs`, `files.rs` | the machine's files |
//! | `metadata.rs`, `dns.rs`, `network.rs` | what the machine finds in its network |

mod client;
mod disk;
mod dns;
mod error;
mod exec;
mod files;
mod lazy;
mod machine;
mod metadata;
mod network;
mod recover;
mod rootfs;
mod spec;
mod supervisor;
mod wire;

use std::net::Ipv4Addr;

pub use disk::{Disk, DiskPartition, is_attached};
pub use error::{Result, RuntimeError};
pub use exec::Exec;
pub use lazy::LazyMachine;
pub use machine::{BootReport, Machine, Stopped};
pub use metadata::{MetadataAnswer, MetadataRequest, MetadataService};
pub use network::Forward;
pub use recover::{MachineRecord, recover};
pub use spec::{Bind, Datasource, Limits, MachineSpec, Metadata, Network};
pub use supervisor::{Frozen, SUPERVISOR_COMMAND, supervisor_main};

/// Where the metadata server answers, as in the clouds.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where the resolver answers, as in Amazon's.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
