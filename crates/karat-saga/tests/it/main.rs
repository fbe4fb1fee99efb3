//! The executor, recovery and the journal, through a saga that makes files and folders.

mod executor;
mod files;
mod harness;
mod journal;
mod recover;
