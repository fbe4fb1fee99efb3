//! Both ends of session manager together, over real connections.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;
mod sessions;
mod ssh;
