//! Chores of this repository: `cargo xtask COMMAND`.
//!
//! | command | what |
//! |---|---|
//! | `generate` | writes the manual's reference and the man pages from the program (`generate.rs`) |
//! | `links` | checks the links of the manual (`links.rs`) |

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to whoever runs it")]

mod commands;
mod events;
mod generate;
mod links;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Writes the manual's reference and the man pages from the program.
    Generate {
        /// Writes nothing; exit code 1, with the names of the stale files, if something would change.
        #[arg(long)]
        check: bool,
    },
    /// Checks that every link of the manual leads somewhere, and every chapter stands in SUMMARY.md.
    Links,
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Generate { check } => generate(check),
        Chore::Links => check_links(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("Error: {error}");
        ExitCode::FAILURE
    })
}

/// The repository's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in it").to_owned()
}

fn generate(check: bool) -> io::Result<ExitCode> {
    let changes = generate::changes(&root().join("docs"))?;
    for change in &changes {
        if check {
            println!("stale: docs/{}", change.path().display());
        } else {
            change.apply(&root().join("docs"))?;
            println!("{change}");
        }
    }
    if check && !changes.is_empty() {
        eprintln!(
            "Error: the generated part of the manual is out of date\nHint: cargo xtask generate"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn check_links() -> io::Result<ExitCode> {
    let problems = links::problems(&root())?;
    for problem in &problems {
        println!("{problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
