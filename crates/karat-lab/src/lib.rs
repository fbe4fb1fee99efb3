//! The lab: an AWS of one's own on this computer, to rehearse builds without an account.
//!
//! It speaks the protocols that AWS's own clients speak, and keeps AWS's rules where image building
//! meets them. Instances are records: every call about them answers, and nothing boots.
//!
//! | part | what |
//! |---|---|
//! | `core/` | what any cloud needs: records that survive, states that take their time, settings, faults |
//! | `aws/` | the services of AWS over it, one port for all of them |
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
mod server;

pub use server::{Lab, LabError, Options};
