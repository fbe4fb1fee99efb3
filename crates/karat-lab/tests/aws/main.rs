//! The lab through AWS's own command line, which we did not write.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boto3;
mod buckets;
mod cli;
mod contents;
mod images;
mod instances;
mod network;
mod packer;
mod rules;
mod secrets;
