//! `karat recover`

use clap::Args;
use karat_saga::{Cancellation, Journal, RecoverOptions, RunId, SagaState, Services, recover};

use crate::cli::runtime;
use crate::error::Failure;
use crate::report::out;
use crate::{components, env, signals};

/// Removes what dead runs left.
///
/// Asks nothing. Runs of living processes are left alone, and so is what was kept on purpose.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Only shows what would be removed.
    #[arg(long)]
    list: bool,
    /// Also removes what was kept on purpose by -on-error=abort.
    #[arg(long)]
    aborted: bool,
    /// Only these runs; all without any.
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
}

pub(crate) fn run(args: RecoverArgs) -> Result<(), Failure> {
    let state_dir = env::state_dir();
    if !state_dir.join("journal.db").exists() {
        out::stdout_line("Nothing to recover.");
        return Ok(());
    }
    let runs = args.runs.iter().map(|text| run_id(text)).collect::<Result<Vec<RunId>, _>>()?;
    runtime()?.block_on(async {
        let journal = Journal::open(&state_dir)?;
        let cancellation = Cancellation::new();
        signals::watch(&cancellation, None)?;
        let faults = match env::fault() {
            Some(text) => karat_saga::Faults::parse(&text)?,
            None => karat_saga::Faults::none(),
        };
        let options = RecoverOptions {
            runs,
            aborted: args.aborted,
            list_only: args.list,
            faults,
            ..RecoverOptions::default()
        };
        let registry = components::all().steps();
        let services =
            Services::new().with(std::sync::Arc::new(karat_component::Events::discard()));
        let report = recover(&journal, &registry, &services, &options, &cancellation).await?;
        for held in &report.held {
            out::stderr_line(&format!(
                "Run {held} is held by a living process and was left alone."
            ));
        }
        let verb = if args.list { "would undo" } else { "undid" };
        let mut said = false;
        for run in &report.runs {
            for saga in &run.sagas {
                for node in &saga.undone {
                    said = true;
                    out::stdout_line(&format!("{}: {verb} {} of {}", run.run.id, node, saga.name));
                }
                if saga.found == SagaState::Aborted && saga.undone.is_empty() {
                    said = true;
                    out::stdout_line(&format!(
                        "{0}: {1} was kept on purpose; remove it with: karat recover --aborted {0}",
                        run.run.id, saga.name
                    ));
                }
            }
        }
        if !args.list {
            karat_machine::sweep(&state_dir).map_err(|e| Failure::new(e.to_string()))?;
        }
        let mut left = report.left().peekable();
        if args.list || left.peek().is_none() {
            if !said {
                out::stdout_line("Nothing to recover.");
            }
            return Ok(());
        }
        for left in left {
            out::stderr_line(&format!("Could not undo {}: {}", left.node, left.error));
        }
        Err(Failure::Reported)
    })
}

/// The id of a run as the user gives it.
pub(crate) fn run_id(text: &str) -> Result<RunId, Failure> {
    text.parse().map_err(|_| {
        Failure::new(format!("\"{text}\" is not the id of a run")).hint("`karat runs` lists them")
    })
}
