//! The lab: an AWS of one's own on this computer, to rehearse builds without an account.
//!
//! It speaks the protocols that AWS's own clients speak, and keeps AWS's rules where image building
//! meets them. Instances are local machines, where this host can run those, and records otherwise.
//!
//! | part | what |
//! |---|---|
//! | `core/` | what any cloud needs: records that survive, states that take their time, settings, faults |
//! | `aws/` | the services of AWS over it, one port for all of them |
//! | `machines/` | instances as machines: booting, reaching, capturing them |
//! | `server.rs` | HTTP: in, routed, out; and the lab's own questions below `/_lab/` |
//! | `control.rs` | finding, starting and ending a lab from another process |
//!
//! A second front, such as Compute Engine's, is a sibling of `aws/` over the same core.
//!
//! A request runs under one lock against the records in memory. What it changes is written in one
//! transaction when it succeeds and taken back when it fails, so a dry run is a run that is taken
//! back.

pub mod aws;
pub mod control;
pub mod core;
mod machines;
mod server;

pub use server::{Lab, LabError, Options};
