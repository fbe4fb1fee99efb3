//! Finishing what dead runs left.
//!
//! Needs nothing but the journal, the registry and services: no template, no variables. Sagas that were complete
//! keep what is kept; of all others everything is undone. A run that a live process holds is not touched, and a
//! run is held while it is recovered, so any number of recoveries may run at once.

use std::sync::Arc;

use futures::StreamExt;

use crate::executor::{Cancellation, Left, Surroundings, UndoPolicy, Work};
use crate::fault::Faults;
use crate::ids::{RunId, SagaId};
use crate::journal::{Journal, JournalError, RunHold, RunRecord, RunState, SagaRecord};
use crate::observe::Observer;
use crate::services::Services;
use crate::state::{SagaEvent, SagaState};
use crate::step::{Lifetime, StepRegistry};

/// How many sagas of a run are undone side by side.
const SIDE_BY_SIDE: usize = 8;

/// What to recover, and how.
#[derive(Debug, Clone, Default)]
pub struct RecoverOptions {
    /// Only these runs; all when empty.
    pub runs: Vec<RunId>,
    /// Also what was kept on purpose by aborting.
    pub aborted: bool,
    /// Only say what would be undone.
    pub list_only: bool,
    /// How often and how long undoing is tried.
    pub undo: UndoPolicy,
    /// Faults to inject.
    pub faults: Faults,
    /// Someone to follow it.
    pub observer: Option<Arc<dyn Observer>>,
}

/// What was recovered, or would be.
#[derive(Debug, Clone, Default)]
pub struct RecoverReport {
    /// The runs that needed it, the newest first.
    pub runs: Vec<RecoveredRun>,
    /// Runs that were left alone because a live process holds them.
    pub held: Vec<RunId>,
}

/// What was done about one run.
#[derive(Debug, Clone)]
pub struct RecoveredRun {
    /// The run, as it was found.
    pub run: RunRecord,
    /// Its sagas that needed something.
    pub sagas: Vec<RecoveredSaga>,
}

/// What was done about one saga.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveredSaga {
    /// The saga.
    pub id: SagaId,
    /// Its name.
    pub name: String,
    /// How it was found.
    pub found: SagaState,
    /// The nodes that were undone, or would be, in that order.
    pub undone: Vec<String>,
    /// What is still there: by failure, or because the saga was aborted on purpose.
    pub left: Vec<Left>,
}

impl RecoverReport {
    /// Everything that is still there although it should not be.
    pub fn left(&self) -> impl Iterator<Item = &Left> {
        self.runs
            .iter()
            .flat_map(|run| &run.sagas)
            .filter(|saga| saga.found != SagaState::Aborted || !saga.undone.is_empty())
            .flat_map(|saga| &saga.left)
    }
}

/// Finishes the undoing of runs whose processes have ended.
///
/// # Errors
/// When the journal cannot be read, or there is no such run. A step that cannot be undone is no error here: it
/// is in the report.
pub async fn recover(
    journal: &Journal,
    registry: &StepRegistry,
    services: &Services,
    options: &RecoverOptions,
    cancellation: &Cancellation,
) -> Result<RecoverReport, JournalError> {
    let mut runs = Vec::new();
    if options.runs.is_empty() {
        runs = journal.runs().await?;
    } else {
        for id in &options.runs {
            runs.push(journal.run(*id).await?);
        }
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.id));
    let mut report = RecoverReport::default();
    for run in runs {
        if run.unsettled == 0 && run.state != RunState::Running {
            continue;
        }
        if run.live {
            report.held.push(run.id);
            continue;
        }
        if options.list_only {
            let sagas = journal.sagas(run.id).await?;
            let sagas = sagas.iter().filter_map(|saga| planned(saga, options)).collect();
            report.runs.push(RecoveredRun { run, sagas });
            continue;
        }
        match journal.take_run(run.id).await {
            Ok(hold) => {
                let around = Surroundings {
                    journal: journal.clone(),
                    services: services.clone(),
                    faults: options.faults.clone(),
                    observer: options.observer.clone(),
                };
                let done = recover_run(hold, run, registry, around, options, cancellation).await?;
                report.runs.push(done);
            }
            Err(JournalError::Held { .. }) => report.held.push(run.id),
            Err(error) => return Err(error),
        }
    }
    if !options.list_only {
        journal.sweep_locks().await?;
    }
    Ok(report)
}

async fn recover_run(
    hold: RunHold,
    run: RunRecord,
    registry: &StepRegistry,
    around: Surroundings,
    options: &RecoverOptions,
    cancellation: &Cancellation,
) -> Result<RecoveredRun, JournalError> {
    // Read again under the lock: another recovery may have done it all meanwhile.
    let mut sagas = around.journal.sagas(run.id).await?;
    sagas.retain(|saga| !saga.state.is_settled());
    sagas.reverse();
    let work = sagas.into_iter().map(|saga| {
        let around = around.clone();
        async move {
            match planned(&saga, options) {
                Some(plan) if plan.undone.is_empty() && saga.state == SagaState::Aborted => {
                    Ok(plan)
                }
                _ => recover_saga(saga, registry, around, options, cancellation).await,
            }
        }
    });
    let done: Vec<_> = futures::stream::iter(work).buffered(SIDE_BY_SIDE).collect().await;
    let sagas = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    let clean = sagas.iter().all(|saga| saga.left.is_empty());
    match run.state {
        RunState::Running if clean => hold.finish(RunState::Recovered).await?,
        RunState::Running => hold.let_go().await?,
        ended => hold.finish(ended).await?,
    }
    Ok(RecoveredRun { run, sagas })
}

async fn recover_saga(
    saga: SagaRecord,
    registry: &StepRegistry,
    around: Surroundings,
    options: &RecoverOptions,
    cancellation: &Cancellation,
) -> Result<RecoveredSaga, JournalError> {
    let found = saga.state;
    let success = found == SagaState::Settling;
    let (id, name) = (saga.id, saga.name.clone());
    if !success {
        around.journal.saga_event(id, SagaEvent::Unwind, None).await?;
    }
    let mut undone = undoable(&saga);
    let mut work = Work::stored(saga, registry, around, cancellation.clone());
    let left = work.unwind(success, &options.undo).await;
    undone.retain(|node| left.iter().all(|left| left.node != *node));
    Ok(RecoveredSaga { id, name, found, undone, left })
}

/// What recovering would do; `None` when there is nothing to do.
fn planned(saga: &SagaRecord, options: &RecoverOptions) -> Option<RecoveredSaga> {
    if saga.state.is_settled() {
        return None;
    }
    let mut plan = RecoveredSaga {
        id: saga.id,
        name: saga.name.clone(),
        found: saga.state,
        undone: undoable(saga),
        left: Vec::new(),
    };
    if saga.state == SagaState::Aborted && !options.aborted {
        plan.left = std::mem::take(&mut plan.undone)
            .into_iter()
            .filter_map(|name| saga.nodes.iter().find(|node| node.name == name))
            .map(|node| Left {
                saga: saga.id,
                node: node.name.clone(),
                kind: node.kind.clone(),
                params: node.params.clone(),
                error: "kept, as was asked for".to_owned(),
            })
            .collect();
    }
    Some(plan)
}

/// The nodes that are to be undone, in that order.
fn undoable(saga: &SagaRecord) -> Vec<String> {
    let success = saga.state == SagaState::Settling;
    saga.nodes
        .iter()
        .rev()
        .filter(|node| node.state.may_have_effect())
        .filter(|node| !(success && node.lifetime == Lifetime::Kept))
        .map(|node| node.name.clone())
        .collect()
}
