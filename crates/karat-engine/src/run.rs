//! All builds of a run, each when those it needs are done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::future::{MaybeDone, maybe_done};
use karat_component::{Artifact, BuildInfo, Components, EventKind, Events, OnError, Outcome};
use karat_functions::World;
use karat_plan::Graph;
use karat_saga::{
    Cancellation, Faults, Journal, JournalError, RunHold, RunId, RunInfo, RunState, SagaId,
    SagaState, Services,
};
use karat_template::{Build, Evaluated};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};

use crate::task::{Ended, Task};

/// What runs builds.
#[derive(Clone)]
pub struct Engine {
    /// The components of the program.
    pub components: Arc<Components>,
    /// The journal of the state folder. Without one nothing can be run, only checked and planned.
    pub journal: Option<Journal>,
    /// Karat's state folder.
    pub state_dir: PathBuf,
    /// Karat's cache folder.
    pub cache_dir: PathBuf,
    /// What the program offers to steps and components.
    pub services: Services,
    /// The outside, as functions see it.
    pub world: Arc<dyn World + Send + Sync>,
    /// The outside at a fixed moment and without chance, for fingerprints.
    pub frozen_world: Arc<dyn World + Send + Sync>,
    /// Failures on request.
    pub faults: Faults,
}

/// Why nothing could be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine was made for checking and planning only.
    #[error("a run needs a journal")]
    NoJournal,
    /// The journal does not work.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// How many builds run at a time; 0 is no limit.
    pub parallel: usize,
    /// What to do when a step fails.
    pub on_error: OnError,
    /// Whether to wait for the person before each step.
    pub debug: bool,
    /// Whether to build what is up to date, and over what is there.
    pub force: bool,
    /// Whether what can be newer (packages, say) is looked up anew.
    pub update: bool,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The template.
    pub template: Arc<Evaluated>,
    /// The same template evaluated in the frozen world.
    pub frozen: Arc<Evaluated>,
    /// The builds, with all that they need.
    pub builds: Vec<Build>,
    /// Who needs whom among them.
    pub graph: Graph,
    /// The template as the user named it.
    pub template_path: PathBuf,
    /// Its folder as the user named it.
    pub template_dir: PathBuf,
    /// How to run.
    pub options: RunOptions,
    /// The command line, secrets masked.
    pub command: Vec<String>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// How each build ended, in the order of the request.
    pub builds: Vec<(String, Outcome)>,
    /// Steps whose undoing did not succeed or was not waited for: what is left, in words.
    pub left: Vec<String>,
    /// Whether everything was kept on purpose, and can be gone on with.
    pub aborted: bool,
}

impl RunSummary {
    /// Whether all builds made what they should.
    pub fn success(&self) -> bool {
        self.builds.iter().all(|(_, o)| matches!(o, Outcome::Finished | Outcome::Reused))
    }
}

impl Engine {
    /// Runs all builds and waits for their ends.
    ///
    /// # Errors
    /// When the journal is missing or cannot be written. That a build fails is no error of the run.
    pub async fn run(
        &self,
        request: RunRequest,
        sink: impl FnOnce(&str) -> Events,
        cancellation: &Cancellation,
    ) -> Result<RunSummary, RunError> {
        let journal = self.journal.clone().ok_or(RunError::NoJournal)?;
        let hold = begin(&journal, &request).await?;
        self.go(request, hold, BTreeMap::new(), sink, cancellation).await
    }

    /// Goes on with a run that failed, was kept or whose process died: each build from the first
    /// step that is not done. The request has to be that of the run.
    ///
    /// # Errors
    /// When a live process holds the run, there is no such run, or the journal does not work.
    pub async fn resume(
        &self,
        request: RunRequest,
        run: RunId,
        sink: impl FnOnce(&str) -> Events,
        cancellation: &Cancellation,
    ) -> Result<RunSummary, RunError> {
        let journal = self.journal.clone().ok_or(RunError::NoJournal)?;
        let hold = journal.take_run(run).await?;
        let sagas = journal.sagas(run).await?;
        let found = sagas.into_iter().map(|s| (s.name, (s.id, s.state))).collect();
        self.go(request, hold, found, sink, cancellation).await
    }

    async fn go(
        &self,
        request: RunRequest,
        hold: RunHold,
        found: BTreeMap<String, (SagaId, SagaState)>,
        sink: impl FnOnce(&str) -> Events,
        cancellation: &Cancellation,
    ) -> Result<RunSummary, RunError> {
        let run = hold.id().to_string();
        let events = sink(&run);
        let start = Instant::now();
        let targets: Vec<String> = request.builds.iter().map(|b| b.target.clone()).collect();
        events.emit(EventKind::RunStarted { run: run.clone(), builds: targets.clone() });

        let hold = Arc::new(hold);
        let ended = self.run_builds(request, found, &hold, &events, cancellation).await;
        let left: Vec<String> = ended.iter().flat_map(|e| e.left.clone()).collect();
        let summary = RunSummary {
            run,
            builds: targets.into_iter().zip(ended.iter().map(|e| e.outcome)).collect(),
            aborted: ended.iter().any(|e| e.aborted),
            left,
        };
        let exit_code = i32::from(!summary.success());
        events.emit(EventKind::RunFinished { duration: start.elapsed(), exit_code });
        self.end(hold, &summary, cancellation).await?;
        Ok(summary)
    }

    async fn end(
        &self,
        hold: Arc<RunHold>,
        summary: &RunSummary,
        cancellation: &Cancellation,
    ) -> Result<(), JournalError> {
        hold.journal().flush().await?;
        // Each build's task has ended, and with it its clone.
        let Some(hold) = Arc::into_inner(hold) else { return Ok(()) };
        if !summary.left.is_empty() || summary.aborted {
            return hold.let_go().await;
        }
        hold.finish(if summary.success() {
            RunState::Succeeded
        } else if cancellation.cancel_token().is_cancelled() {
            RunState::Cancelled
        } else {
            RunState::Failed
        })
        .await
    }

    async fn run_builds(
        &self,
        request: RunRequest,
        mut found: BTreeMap<String, (SagaId, SagaState)>,
        hold: &Arc<RunHold>,
        events: &Events,
        cancellation: &Cancellation,
    ) -> Vec<Ended> {
        let request = Arc::new(request);
        let count = request.builds.len();
        let parallel = match (request.options.debug, request.options.parallel) {
            (true, _) => 1,
            (false, 0) => Semaphore::MAX_PERMITS,
            (false, n) => n,
        };
        let slots = Arc::new(Semaphore::new(parallel));
        let (done, watches): (Vec<_>, Vec<_>) =
            (0..count).map(|_| watch::channel::<Option<Done>>(None)).unzip();
        let mut tasks = tokio::task::JoinSet::new();
        for (index, done) in done.into_iter().enumerate() {
            let needs: Vec<(usize, watch::Receiver<Option<Done>>)> =
                request.graph.needs(index).iter().map(|i| (*i, watches[*i].clone())).collect();
            let (engine, request) = (self.clone(), Arc::clone(&request));
            let (hold, cancellation) = (Arc::clone(hold), cancellation.clone());
            let build = &request.builds[index];
            let events = events.for_build_at(index, build.target.as_str());
            let saga = found.remove(&build.key);
            // Slots are given in the order in which they are asked for, and tasks begin in any
            // order: those that need nothing ask here, so that they begin in the template's order.
            let mut slot = Box::pin(maybe_done(Arc::clone(&slots).acquire_owned()));
            if needs.is_empty() {
                let _ = futures::poll!(slot.as_mut());
            }
            tasks.spawn(async move {
                let ended =
                    engine.one(index, request, needs, saga, slot, hold, events, cancellation).await;
                // Those that need it may all be gone.
                let _ = done.send(Some(Done {
                    success: matches!(ended.outcome, Outcome::Finished | Outcome::Reused),
                    artifact: ended.artifact.clone(),
                }));
                (index, ended)
            });
        }
        let mut ended: BTreeMap<usize, Ended> = BTreeMap::new();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((index, end)) => {
                    ended.insert(index, end);
                }
                Err(error) => events.error(format!("a build ended by a bug in Karat: {error}")),
            }
        }
        (0..count).map(|i| ended.remove(&i).unwrap_or_else(Ended::broken)).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "one call, all of it what a task is made of")]
    async fn one(
        &self,
        index: usize,
        request: Arc<RunRequest>,
        needs: Vec<(usize, watch::Receiver<Option<Done>>)>,
        saga: Option<(SagaId, SagaState)>,
        mut slot: Pin<
            Box<MaybeDone<impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>>>,
        >,
        hold: Arc<RunHold>,
        events: Events,
        cancellation: Cancellation,
    ) -> Ended {
        let mut artifacts = BTreeMap::new();
        for (other, mut done) in needs {
            let result = done.wait_for(Option::is_some).await.ok().and_then(|d| d.clone());
            let build = &request.builds[other];
            match result {
                Some(Done { success: true, artifact: Some(artifact) }) => {
                    let value = crate::prepare::artifact_value(&artifact);
                    artifacts.insert(build.artifact_key(), value);
                }
                _ => return Ended::skipped(&events, &build.target),
            }
        }
        let cancelled = cancellation.cancel_token();
        cancelled.run_until_cancelled(slot.as_mut()).await;
        let Some(Ok(_slot)) = slot.as_mut().take_output() else {
            return Ended::not_started(&events);
        };
        if cancelled.is_cancelled() {
            return Ended::not_started(&events);
        }
        let build = Arc::new(request.builds[index].clone());
        let mut info = build_info(&request, &build, &hold.id().to_uuid());
        info.temporary_folder = Some(hold.temporary_folder());
        let engine = self.clone();
        let task = Task { engine, request, build, info, hold, events, artifacts, saga };
        task.run(&cancellation).await
    }
}

async fn begin(journal: &Journal, request: &RunRequest) -> Result<RunHold, JournalError> {
    journal
        .begin_run(RunInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            command: request.command.clone(),
            cwd: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
            template: Some(request.template_path.to_string_lossy().into_owned()),
            fingerprint: None,
        })
        .await
}

#[derive(Clone, Debug)]
struct Done {
    success: bool,
    artifact: Option<Artifact>,
}

/// What components are told of a build.
pub(crate) fn build_info(request: &RunRequest, build: &Build, run: &str) -> BuildInfo {
    BuildInfo {
        target: build.target.clone(),
        build_name: build.build_name.clone(),
        source_type: build.source_type.clone(),
        source_name: build.source_name.clone(),
        local_name: build.local_name.clone(),
        template_dir: request.template_dir.clone(),
        template_path: request.template_path.clone(),
        legacy: request.template.legacy().is_some(),
        run_uuid: run.to_owned(),
        force: request.options.force,
        debug: request.options.debug,
        update: request.options.update,
        on_error: request.options.on_error,
        temporary_folder: None,
    }
}
