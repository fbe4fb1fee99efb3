//! `karat`: an image-as-code pipeline. Packer templates in, golden images out.
//!
//! | file | what |
//! |---|---|
//! | `cli.rs`, `goflags.rs` | the command line |
//! | `commands/VERB.rs` | one command each |
//! | `components.rs` | the one list of components |
//! | `manual.rs` | what the manual's reference is made from |
//! | `data.rs` | fetches the data sources of a template |
//! | `session.rs` | from the command line to a loaded template and an engine |
//! | `legacy.rs` | what `inspect` and `console` show of a legacy template |
//! | `report/` | what a person or a program sees |
//! | `error.rs` | from failures to messages and exit codes |
//! | `prompt.rs`, `line_editor.rs` | questions and lines at the terminal |
//! | `env.rs`, `world.rs` | the environment; files, clock and chance |
//! | `stores.rs` | Consul and Vault, for the functions that read secrets |

mod cli;
mod commands;
mod components;
mod data;
mod env;
mod error;
mod goflags;
mod legacy;
mod line_editor;
mod log;
pub mod manual;
mod prompt;
mod report;
mod session;
mod signals;
mod stores;
mod world;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The program: does what the process's arguments ask for.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    // The one process that a machine needs beside the program is the program itself.
    if args.first().is_some_and(|a| a == karat_machine::runtime::SUPERVISOR_COMMAND) {
        return karat_machine::runtime::supervisor_main(args.into_iter().skip(1));
    }
    let as_packer = Path::new(&program).file_name().is_some_and(|name| name == "packer");
    if as_packer {
        report::out::errors_to_stdout();
    }
    let args = args.into_iter().map(|a| a.to_string_lossy().into_owned()).collect();
    ExitCode::from(cli::run(args, as_packer))
}
