//! Scripts that run on the machine that the program runs on: what the provisioner and the
//! post-processor `shell-local` share.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | the options |
//! | `validate.rs` | options that were proved |
//! | `run.rs` | script files, and what is run |
//! | `process.rs` | one process and all that it started |
//! | `leftover.rs` | what scripts of a dead run still run |

mod config;
mod leftover;
mod process;
mod run;
#[cfg(test)]
mod tests;
mod validate;

pub use config::LocalCommandConfig;
pub use leftover::end_leftovers;
pub use process::{Invocation, run_process};
pub use run::LocalContext;
pub use validate::LocalCommand;
