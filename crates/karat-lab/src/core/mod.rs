//! What any cloud of the lab is made from; knows no protocol.
//!
//! | file | what |
//! |---|---|
//! | `records.rs` | tables in memory, written through to SQLite, taken back on failure |
//! | `phase.rs` | states that change by themselves after a time |
//! | `settings.rs` | the lab's configuration file |
//! | `catalogue.rs` | base images, by the names that templates look for |
//! | `faults.rs` | failures on request |
//! | `blocks.rs` | contents of snapshots, by digest |
//! | `disks.rs` | where disks of volumes lie |
//! | `ids.rs` | names of resources |

pub mod blocks;
pub mod catalogue;
pub(crate) mod disks;
pub mod faults;
pub mod ids;
pub mod phase;
pub mod records;
pub mod settings;
