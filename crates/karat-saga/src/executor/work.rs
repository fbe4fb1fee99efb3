//! A saga at work: its nodes' states and outputs in memory, one step's call, and undoing.

use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::outcome::Left;
use super::policy::{Cancellation, UndoPolicy};
use crate::context::{Inner, Outputs, StepContext};
use crate::fault::{EFFECT, Faults, Point, UNDO_AFTER, UNDO_BEFORE, UNDO_EFFECT};
use crate::ids::{RunId, SagaId};
use crate::journal::{Journal, NodeChange, NodeRecord, Outlives, SagaRecord};
use crate::observe::{Observer, Place, Progress};
use crate::saga::Node;
use crate::services::Services;
use crate::state::{NodeEvent, NodeState, SagaEvent};
use crate::step::{DynStep, Lifetime, StepError, StepErrorKind, StepRegistry};

/// What every call of a step needs, whichever saga it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) journal: Journal,
    pub(crate) services: Services,
    pub(crate) faults: Faults,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// A saga at work.
pub(crate) struct Work {
    pub(crate) id: SagaId,
    pub(crate) run: RunId,
    pub(crate) name: String,
    pub(crate) nodes: Vec<WorkNode>,
    pub(crate) around: Surroundings,
    pub(crate) cancellation: Cancellation,
}

pub(crate) struct WorkNode {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) params: Value,
    pub(crate) lifetime: Lifetime,
    pub(crate) state: NodeState,
    pub(crate) output: Option<Value>,
    /// Why there is no step: the journal holds one that this program cannot read.
    pub(crate) step: Result<Arc<dyn DynStep>, StepError>,
}

impl WorkNode {
    pub(crate) fn new(node: &Node) -> Result<Self, StepError> {
        let params = node.step.stored_params().map_err(|error| {
            StepError::because(
                format!("could not write down the parameters of the step `{}`", node.name),
                error,
            )
        })?;
        Ok(Self {
            name: node.name.clone(),
            kind: node.step.kind().to_owned(),
            params,
            lifetime: node.step.stored_lifetime(),
            state: NodeState::Pending,
            output: None,
            step: Ok(Arc::clone(&node.step)),
        })
    }

    fn stored(record: NodeRecord, registry: &StepRegistry) -> Self {
        let step = registry.read(&record.kind, record.params.clone()).map(Arc::from);
        Self {
            name: record.name,
            kind: record.kind,
            params: record.params,
            lifetime: record.lifetime,
            state: record.state,
            output: record.output,
            step,
        }
    }
}

/// Why a step was told to end before it did.
#[derive(Clone, Copy)]
enum Told {
    Cancelled,
    TimedOut,
}

impl Work {
    pub(crate) fn stored(
        record: SagaRecord,
        registry: &StepRegistry,
        around: Surroundings,
        cancellation: Cancellation,
    ) -> Self {
        let nodes = record.nodes.into_iter().map(|n| WorkNode::stored(n, registry)).collect();
        Self { id: record.id, run: record.run, name: record.name, nodes, around, cancellation }
    }

    /// All outputs of the first `count` nodes.
    pub(crate) fn outputs(&self, count: usize) -> Outputs {
        let mut outputs = Outputs::default();
        for node in &self.nodes[..count] {
            if let Some(value) = &node.output {
                outputs.insert(&node.name, value.clone());
            }
        }
        outputs
    }

    pub(crate) fn context(
        &self,
        index: usize,
        token: CancellationToken,
        deadline: Option<Instant>,
    ) -> StepContext {
        StepContext::from_inner(Inner {
            run: self.run,
            saga: self.id,
            saga_name: self.name.clone(),
            node: self.nodes[index].name.clone(),
            outputs: self.outputs(index),
            token,
            deadline,
            services: self.around.services.clone(),
            faults: self.around.faults.clone(),
            cancel_saga: self.cancellation.cancel_token().clone(),
        })
    }

    /// Tells the observer.
    pub(crate) fn tell(&self, index: usize, progress: &Progress<'_>) {
        if let Some(observer) = &self.around.observer {
            let node = &self.nodes[index];
            let place = Place {
                run: self.run,
                saga: self.id,
                saga_name: &self.name,
                node: &node.name,
                kind: &node.kind,
            };
            observer.observe(&place, progress);
        }
    }

    /// Passes a fault point. `Ok(true)` asks for a repetition.
    pub(crate) fn pass(&self, index: usize, phase: &str) -> Result<bool, StepError> {
        let point = Point { saga: &self.name, node: &self.nodes[index].name, phase };
        self.around.faults.pass(&point, self.cancellation.cancel_token())
    }

    /// Runs one step whose intent is stored, to its effect.
    pub(crate) async fn effect(
        &self,
        index: usize,
        grace: Duration,
        deadline: Option<Instant>,
    ) -> Result<Value, StepError> {
        let step = match &self.nodes[index].step {
            Ok(step) => step,
            Err(error) => return Err(StepError::new(error.chain())),
        };
        let token = self.cancellation.cancel_token().child_token();
        let cx = self.context(index, token.clone(), deadline);
        let limit = Limit { grace, deadline, hurry: self.cancellation.stop_token().clone() };
        let output = limit.watch(&token, step.run_erased(&cx)).await?;
        if self.pass(index, EFFECT)? {
            return limit.watch(&token, step.run_erased(&cx)).await;
        }
        Ok(output)
    }

    /// Undoes what may have an effect, the last node first; at success only what is temporary.
    /// Goes on after a failure, and returns what is still there.
    pub(crate) async fn unwind(&mut self, success: bool, policy: &UndoPolicy) -> Vec<Left> {
        let mut left = Vec::new();
        for index in (0..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            if !node.state.may_have_effect() || (success && node.lifetime == Lifetime::Kept) {
                continue;
            }
            if let Err(error) = self.undo(index, policy).await {
                let node = &self.nodes[index];
                left.push(Left {
                    saga: self.id,
                    node: node.name.clone(),
                    kind: node.kind.clone(),
                    params: node.params.clone(),
                    error: error.chain(),
                });
            }
        }
        if left.is_empty() {
            let event = if success { SagaEvent::Settle } else { SagaEvent::Unwound };
            if let Err(error) = self.around.journal.saga_event(self.id, event, None).await {
                // Recovering it later finds nothing to undo.
                tracing::warn!(saga = %self.id, %error, "the end of a saga could not be stored");
            }
        }
        left
    }

    async fn undo(&mut self, index: usize, policy: &UndoPolicy) -> Result<(), StepError> {
        let stop = self.cancellation.stop_token().clone();
        let not_waited =
            || StepError::cancelled().with_hint("it was not waited for; recovering undoes it");
        if stop.is_cancelled() {
            return Err(not_waited());
        }
        // Undoing goes on when the journal fails, as on a full disk: the node is stored as having an effect,
        // and undoing it once more is harmless.
        self.note(index, NodeEvent::Undo, None).await;
        self.tell(index, &Progress::Undoing);
        let since = Instant::now();
        let mut delay = policy.delay;
        let mut attempt = 1;
        let error = loop {
            match self.undo_once(index, policy).await {
                Ok(()) => {
                    self.note(index, NodeEvent::UndoFinish, None).await;
                    self.nodes[index].output = None;
                    self.tell(index, &Progress::Undone { took: since.elapsed() });
                    return self.pass(index, UNDO_AFTER).map(|_| ()).or_else(|error| {
                        tracing::warn!(%error, "a failure after undoing changes nothing");
                        Ok(())
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        node = self.nodes[index].name,
                        attempt,
                        error = error.chain(),
                        "undoing failed"
                    );
                    let last = attempt >= policy.attempts
                        || self.nodes[index].step.is_err()
                        || stop.is_cancelled();
                    self.tell(index, &Progress::UndoFailed { error: &error, again: !last });
                    if last {
                        break error;
                    }
                }
            }
            attempt += 1;
            if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                break not_waited();
            }
            delay = delay.saturating_mul(2);
        };
        self.note(index, NodeEvent::UndoFail, Some(error.chain())).await;
        Err(error)
    }

    async fn undo_once(&self, index: usize, policy: &UndoPolicy) -> Result<(), StepError> {
        let node = &self.nodes[index];
        let step = match &node.step {
            Ok(step) => step,
            Err(error) => return Err(StepError::new(error.chain())),
        };
        self.pass(index, UNDO_BEFORE)?;
        // A fresh token: the saga is cancelled already, and undoing must not see that.
        let stop = self.cancellation.stop_token();
        let deadline = Some(Instant::now() + policy.timeout);
        let cx = self.context(index, stop.child_token(), deadline);
        let undo = || async {
            let work = AssertUnwindSafe(step.undo_erased(&cx, node.output.clone())).catch_unwind();
            let work = tokio::time::timeout(policy.timeout, work);
            match stop.run_until_cancelled(work).await {
                None => {
                    Err(StepError::cancelled()
                        .with_hint("it was not waited for; recovering undoes it"))
                }
                Some(Err(_)) => Err(StepError::timed_out(format!(
                    "undoing took longer than {:?}",
                    policy.timeout
                ))),
                Some(Ok(Err(panic))) => Err(StepError::panicked(&*panic)),
                Some(Ok(Ok(done))) => done,
            }
        };
        undo().await?;
        if self.pass(index, UNDO_EFFECT)? {
            undo().await?;
        }
        Ok(())
    }

    /// What a commit has to outlive that tells of some nodes.
    pub(crate) fn outlives(&self, nodes: RangeInclusive<usize>) -> Outlives {
        let remote = |node: &WorkNode| node.step.as_ref().is_ok_and(|step| step.is_remote());
        if self.nodes[nodes].iter().any(remote) { Outlives::Power } else { Outlives::Process }
    }

    /// Moves a node here and in the journal, where the journal's failure must not stop the work.
    pub(crate) async fn note(&mut self, index: usize, event: NodeEvent, error: Option<String>) {
        let node = &mut self.nodes[index];
        match node.state.next(event) {
            Ok(next) => node.state = next,
            Err(refused) => tracing::error!(node = node.name, %refused, "a bug in the executor"),
        }
        let change = NodeChange { error, ..NodeChange::of(event) };
        let stored = self.around.journal.node_event(self.id, &node.name, change).await;
        if let Err(error) = stored {
            tracing::warn!(node = node.name, ?event, %error, "a state could not be stored");
        }
    }
}

/// How long a step may take, and how it is told to end.
pub(crate) struct Limit {
    pub(crate) grace: Duration,
    pub(crate) deadline: Option<Instant>,
    /// Cuts the grace period short.
    pub(crate) hurry: CancellationToken,
}

impl Limit {
    /// Waits for a step's future. When its token is cancelled, or the deadline passes, the step is told and
    /// given the grace period; then its future is dropped.
    pub(crate) async fn watch<T>(
        &self,
        token: &CancellationToken,
        work: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        let mut work = std::pin::pin!(AssertUnwindSafe(work).catch_unwind());
        let unpanicked = |done: std::thread::Result<Result<T, StepError>>| match done {
            Ok(done) => done,
            Err(panic) => Err(StepError::panicked(&*panic)),
        };
        let told = tokio::select! {
            biased;
            done = &mut work => return unpanicked(done),
            () = token.cancelled() => Told::Cancelled,
            () = until(self.deadline) => Told::TimedOut,
        };
        token.cancel();
        let late = tokio::select! {
            biased;
            done = &mut work => Some(unpanicked(done)),
            () = self.hurry.cancelled() => None,
            () = tokio::time::sleep(self.grace) => None,
        };
        let error = match told {
            Told::Cancelled => StepError::cancelled(),
            Told::TimedOut => StepError::timed_out("the time for this was up"),
        };
        match late {
            // It was done before it noticed.
            Some(Ok(value)) => Ok(value),
            Some(Err(cause)) if cause.kind() == StepErrorKind::Cancelled => Err(error),
            Some(Err(cause)) => Err(error.caused_by(cause)),
            None => Err(error.caused_by(StepError::new("it did not end when told to"))),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
