//! Real machines, real deaths: whatever moment a build ends at, nothing is left of it.
//!
//! The tests need root, the packages that `machine` needs, and for their first run a mirror. What
//! they make once is kept beside the build's other outputs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod ends;
mod kills;
mod lab;
mod stack;
