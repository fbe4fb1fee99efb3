//! `karat recover`

use std::path::Path;

use clap::Args;
use karat_provisioners::local_command::end_leftovers;
use karat_saga::journal::RunRecord;
use karat_saga::{
    Cancellation, Journal, RecoverOptions, RunId, RunState, SagaState, Services, recover,
};

use crate::cli::runtime;
use crate::commands::lab::{self, was_rehearsal};
use crate::commands::verify_build;
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
    let runs = args.runs.iter().map(|text| run_id(text)).collect::<Result<Vec<RunId>, _>>()?;
    let mut places = vec![state_dir.clone()];
    if runs.is_empty() {
        places.extend(verify_build::folders(&state_dir)?);
    }
    places.retain(|place| place.join("journal.db").exists());
    if places.is_empty() {
        out::stdout_line("Nothing to recover.");
        return Ok(());
    }
    let faults = match env::fault() {
        Some(text) => karat_saga::Faults::parse(&text)?,
        None => karat_saga::Faults::none(),
    };
    let mut options = RecoverOptions {
        runs,
        aborted: args.aborted,
        list_only: args.list,
        faults,
        ..RecoverOptions::default()
    };
    runtime()?.block_on(async {
        let cancellation = Cancellation::new();
        signals::watch(&cancellation, None)?;
        let (mut said, mut failed) = (false, false);
        if places.contains(&state_dir) {
            let others = recover_rehearsals(&state_dir, &options).await?;
            said |= others.any;
            failed |= others.failed;
            match others.rest {
                Some(rest) if rest.is_empty() => places.retain(|place| *place != state_dir),
                Some(rest) => options.runs = rest,
                None => {}
            }
        }
        for place in places {
            let done = recover_in(&place, &options, &cancellation).await?;
            said |= done.said;
            failed |= done.left;
            if place != state_dir && !args.list && !done.left && !done.held {
                std::fs::remove_dir_all(&place)?;
            }
        }
        if failed && !args.list {
            return Err(Failure::Reported);
        }
        if !said {
            out::stdout_line("Nothing to recover.");
        }
        Ok(())
    })
}

/// What became of the runs in the lab.
#[derive(Default)]
struct Rehearsals {
    any: bool,
    failed: bool,
    /// The runs that are left to recover here; `None` for all that were asked for.
    rest: Option<Vec<RunId>>,
}

/// Recovers what builds left in the lab, with another process of this program that reaches the lab.
async fn recover_rehearsals(
    state_dir: &Path,
    options: &RecoverOptions,
) -> Result<Rehearsals, Failure> {
    let journal = Journal::open(state_dir)?;
    let runs = journal.runs().await?;
    let asked = |run: &&RunRecord| options.runs.is_empty() || options.runs.contains(&run.id);
    let all: Vec<&RunRecord> = runs.iter().filter(asked).collect();
    if options.list_only || !all.iter().any(|run| was_rehearsal(&run.info.command)) {
        return Ok(Rehearsals::default());
    }
    let looks = RecoverOptions {
        runs: options.runs.clone(),
        aborted: options.aborted,
        list_only: true,
        ..RecoverOptions::default()
    };
    let (registry, cancellation) = (components::all().steps(), Cancellation::new());
    let report = recover(&journal, &registry, &Services::new(), &looks, &cancellation).await?;
    drop(journal);
    let there: Vec<RunId> = report
        .runs
        .iter()
        .filter(|run| was_rehearsal(&run.run.info.command))
        .filter(|run| run.sagas.iter().any(|saga| !saga.undone.is_empty()))
        .map(|run| run.run.id)
        .collect();
    if there.is_empty() {
        return Ok(Rehearsals::default());
    }
    let mut args = vec!["recover".to_owned()];
    args.extend(options.aborted.then(|| "--aborted".to_owned()));
    args.extend(there.iter().map(ToString::to_string));
    let succeeded = match lab::run_there(&args).await {
        Ok(None) => return Ok(Rehearsals::default()),
        Ok(Some(succeeded)) => succeeded,
        // What is elsewhere is recovered all the same.
        Err(failure) => {
            failure.report();
            false
        }
    };
    let rest = all.iter().map(|run| run.id).filter(|id| !there.contains(id)).collect();
    Ok(Rehearsals { any: true, failed: !succeeded, rest: Some(rest) })
}

/// What recovering in one state folder came to.
struct Recovered {
    /// Something was told on stdout.
    said: bool,
    /// A living process holds a run there.
    held: bool,
    /// Something could not be undone.
    left: bool,
}

async fn recover_in(
    state_dir: &Path,
    options: &RecoverOptions,
    cancellation: &Cancellation,
) -> Result<Recovered, Failure> {
    let journal = Journal::open(state_dir)?;
    if !options.list_only {
        for run in journal.runs().await?.iter().filter(|run| is_dead(run)) {
            let asked = options.runs.is_empty() || options.runs.contains(&run.id);
            let sagas = journal.sagas(run.id).await?;
            let kept = sagas.iter().any(|saga| saga.state == SagaState::Aborted);
            if asked && (options.aborted || !kept) {
                end_leftovers(&run.id.to_uuid())?;
            }
        }
    }
    let registry = components::all().steps();
    let services = Services::new().with(std::sync::Arc::new(karat_component::Events::discard()));
    let report = recover(&journal, &registry, &services, options, cancellation).await?;
    for held in &report.held {
        out::stderr_line(&format!("Run {held} is held by a living process and was left alone."));
    }
    let verb = if options.list_only { "would undo" } else { "undid" };
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
    if !options.list_only {
        karat_machine::sweep(state_dir).map_err(|e| Failure::new(e.to_string()))?;
        for left in report.left() {
            out::stderr_line(&format!("Could not undo {}: {}", left.node, left.error));
        }
    }
    let left = report.left().next().is_some();
    Ok(Recovered { said, held: !report.held.is_empty(), left })
}

/// Whether a run's process ended before the run did.
pub(crate) fn is_dead(run: &RunRecord) -> bool {
    !run.live && run.state == RunState::Running
}

/// The id of a run as the user gives it.
pub(crate) fn run_id(text: &str) -> Result<RunId, Failure> {
    text.parse().map_err(|_| {
        Failure::new(format!("\"{text}\" is not the id of a run")).hint("`karat runs` lists them")
    })
}
