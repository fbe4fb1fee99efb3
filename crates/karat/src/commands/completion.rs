//! `karat completion`

use clap::Args;
use clap_complete::Shell;

use crate::cli;
use crate::error::Failure;
use crate::report::out;

/// Prints a shell's completions.
///
/// For bash: source <(karat completion bash)
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(args: CompletionArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "karat", &mut text);
    out::stdout(&String::from_utf8_lossy(&text));
    Ok(())
}
