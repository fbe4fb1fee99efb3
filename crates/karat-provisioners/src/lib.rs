//! The built-in provisioners.
//!
//! | file | what |
//! |---|---|
//! | `shell/` | [`Shell`]: runs scripts on the machine |
//! | `shell_local.rs` | [`ShellLocal`]: runs scripts where the program runs |
//! | `file/` | [`File`]: sends and fetches files and folders |
//! | `sleep.rs`, `breakpoint.rs` | [`Sleep`], [`Breakpoint`]: wait for a time, or for a person |
//! | `local_command/` | [`local_command`]: running scripts here, shared with the post-processor |
//! | `late.rs` | [`late`]: text that a component renders itself, with values of its own |
//! | `environment.rs` | `NAME=value` pairs, and how a shell is told of them |
//! | `reach.rs` | tries again while a machine comes back |

mod breakpoint;
mod environment;
mod exit_codes;
mod file;
pub mod late;
pub mod local_command;
mod reach;
mod scripts;
mod shell;
mod shell_local;
mod sleep;

pub use breakpoint::{Breakpoint, BreakpointConfig};
pub use file::{Direction, File, FileConfig, FileValidated};
pub use shell::{Shell, ShellConfig, ShellValidated};
pub use shell_local::{ShellLocal, ShellLocalConfig};
pub use sleep::{Sleep, SleepConfig};
