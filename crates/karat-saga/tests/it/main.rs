//! The executor, recovery and the journal, through sagas of small steps.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; the lint's exception for tests knows only the test functions"
)]

mod executor;
mod files;
mod harness;
mod journal;
mod probe;
mod recover;
