//! Everything against a real OpenSSH server.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says why")]

mod common;

mod exec;
mod files;
mod login;
mod loss;
mod tunnels;
