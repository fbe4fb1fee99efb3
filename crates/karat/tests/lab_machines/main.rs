//! The lab's instances as machines: launched, logged in to, captured and launched again, by clients
//! that are not ours; and built from by our own sources.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

mod agent;
mod alone;
mod blocks;
mod catalogue;
mod chroot;
mod cloud;
mod disks;
mod golden;
mod guide;
mod life;
mod ours;
mod packer;
mod private;
mod roots;
mod sessions;
mod surrogates;
mod terraform;
