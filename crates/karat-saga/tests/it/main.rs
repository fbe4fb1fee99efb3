//! The executor, recovery and the journal, through sagas of small steps.

mod executor;
mod files;
mod harness;
mod journal;
mod probe;
mod recover;
