//! Runs a saga: forward, and back when it must not stand.
//!
//! For each node: the intent is committed to the journal, the step runs, its result is committed. After the
//! last one, in the same commit, the saga counts as complete. What was temporary is then undone in the reverse
//! order; after a failure, everything is.

mod outcome;
mod policy;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::fault::{AFTER, BEFORE, Faults};
use crate::ids::SagaId;
use crate::journal::{JournalError, NewNode, NodeChange, Outlives, RunHold};
use crate::observe::{Observer, Progress};
use crate::saga::Saga;
use crate::services::Services;
use crate::state::{NodeEvent, NodeState, SagaEvent, SagaState};
use crate::step::{DynStep, StepError, StepErrorKind, StepRegistry};

pub use outcome::{Cause, Completed, Ending, Left, SagaFailure};
pub use policy::{Answer, Ask, Cancellation, CleanupHook, OnError, Policy, UndoPolicy};
use work::{Limit, WorkNode};
pub(crate) use work::{Surroundings, Work};

/// Runs sagas of one run. Cloning is cheap; many sagas may run side by side.
#[derive(Debug, Clone)]
pub struct Executor {
    hold: Arc<RunHold>,
    around: Surroundings,
    policy: Policy,
    stand_in: StandIn,
}

type ReplaceStep = dyn Fn(&str, Arc<dyn DynStep>) -> Arc<dyn DynStep> + Send + Sync;

/// What stands in for steps that were read from the journal.
#[derive(Clone, Default)]
struct StandIn(Option<Arc<ReplaceStep>>);

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "StandIn(set)" } else { "StandIn(none)" })
    }
}

/// Where a forward run stopped.
struct Stopped {
    index: Option<usize>,
    cause: Cause,
}

impl Executor {
    /// An executor of a held run, with the default policy and no faults.
    #[must_use]
    pub fn new(hold: Arc<RunHold>, services: Services) -> Self {
        let journal = hold.journal().clone();
        let around = Surroundings { journal, services, faults: Faults::none(), observer: None };
        Self { hold, around, policy: Policy::default(), stand_in: StandIn::default() }
    }

    /// With these faults.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.around.faults = faults;
        self
    }

    /// With someone to follow it.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.around.observer = Some(observer);
        self
    }

    /// With other steps in place of those that `resume` reads from the journal: given a node's name and its
    /// stored step, `replace` gives the one to be run. So a caller can hand over what is never stored, such as
    /// a secret. What stands in must have the same effect, and undo it.
    #[must_use]
    pub fn with_stand_in(
        mut self,
        replace: impl Fn(&str, Arc<dyn DynStep>) -> Arc<dyn DynStep> + Send + Sync + 'static,
    ) -> Self {
        self.stand_in = StandIn(Some(Arc::new(replace)));
        self
    }

    /// With this policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Runs a saga to its end.
    ///
    /// Dropping the future leaves everything as a crash would, for `resume` or `recover`; to end a saga early
    /// use `cancellation`.
    ///
    /// # Errors
    /// When a step failed, the saga was cancelled or ran out of time, or the journal could not be written.
    /// What was done is then undone already, unless the failure says otherwise.
    pub async fn execute(
        &self,
        saga: Saga,
        cancellation: &Cancellation,
    ) -> Result<Completed, Box<SagaFailure>> {
        let id = SagaId::generate();
        let begin_error = |cause| {
            Box::new(SagaFailure {
                saga: id,
                name: saga.name().to_owned(),
                node: None,
                cause,
                ending: Ending::Undone,
                left: Vec::new(),
                hook_error: None,
            })
        };
        let mut nodes = Vec::with_capacity(saga.nodes().len());
        let mut stored = Vec::with_capacity(saga.nodes().len());
        for node in saga.nodes() {
            let work = WorkNode::new(node).map_err(|e| begin_error(Cause::Step(e)))?;
            stored.push(NewNode {
                name: work.name.clone(),
                kind: node.step.kind(),
                params: work.params.clone(),
                lifetime: work.lifetime,
            });
            nodes.push(work);
        }
        let run = self.hold.id();
        self.around
            .journal
            .create_saga(id, run, saga.name().to_owned(), stored)
            .await
            .map_err(|e| begin_error(Cause::Journal(e)))?;
        let work = Work {
            id,
            run,
            name: saga.name().to_owned(),
            nodes,
            around: self.around.clone(),
            cancellation: cancellation.clone(),
        };
        self.go_on(work).await
    }

    /// Goes on with a saga of this run that failed, was aborted, or whose process died: from the first node
    /// that is not done, with the parameters and outputs that the journal holds. A saga that was complete is
    /// settled.
    ///
    /// A saga that was undone runs again with the same parameters; a step whose client token the other side
    /// remembers must see that what it finds is gone.
    ///
    /// # Errors
    /// As [`execute`](Self::execute); also when the saga belongs to another run, has succeeded already, or
    /// holds a step that the registry does not know.
    pub async fn resume(
        &self,
        saga: SagaId,
        registry: &StepRegistry,
        cancellation: &Cancellation,
    ) -> Result<Completed, Box<SagaFailure>> {
        let begin_error = |name: &str, cause| {
            Box::new(SagaFailure {
                saga,
                name: name.to_owned(),
                node: None,
                cause,
                ending: Ending::Left,
                left: Vec::new(),
                hook_error: None,
            })
        };
        let text = saga.to_string();
        let record = self
            .around
            .journal
            .saga(saga)
            .await
            .map_err(|e| begin_error(&text, Cause::Journal(e)))?;
        let name = record.name.clone();
        if record.run != self.hold.id() {
            let held = JournalError::Held { run: record.run, pid: None };
            return Err(begin_error(&name, Cause::Journal(held)));
        }
        let state = record.state;
        let mut work = Work::stored(record, registry, self.around.clone(), cancellation.clone());
        if state == SagaState::Settling {
            return Ok(self.settle(work).await);
        }
        for node in &mut work.nodes {
            if node.state != NodeState::Done {
                node.output = None;
            }
            if let Err(error) = &node.step {
                let error = StepError::new(error.chain());
                return Err(begin_error(&name, Cause::Step(error)));
            }
            if let (Some(replace), Ok(step)) = (&self.stand_in.0, &node.step) {
                node.step = Ok(replace(&node.name, Arc::clone(step)));
            }
        }
        self.around
            .journal
            .saga_event(saga, SagaEvent::Resume, None)
            .await
            .map_err(|e| begin_error(&name, Cause::Journal(e)))?;
        self.go_on(work).await
    }

    async fn go_on(&self, mut work: Work) -> Result<Completed, Box<SagaFailure>> {
        let deadline = self.policy.limit.map(|limit| Instant::now() + limit);
        loop {
            let stopped = match self.forward(&mut work, deadline).await {
                Ok(()) => return Ok(self.settle(work).await),
                Err(stopped) => stopped,
            };
            let (answer, hook_error) = self.decide(&work, &stopped).await;
            return Err(Box::new(match answer {
                Answer::Retry => continue,
                Answer::Abort => self.abort(work, stopped, hook_error).await,
                Answer::Cleanup => self.clean_up(work, stopped, hook_error).await,
            }));
        }
    }

    /// Runs the nodes that are not done.
    async fn forward(&self, work: &mut Work, deadline: Option<Instant>) -> Result<(), Stopped> {
        let count = work.nodes.len();
        if work.nodes.iter().all(|node| node.state == NodeState::Done) {
            let event = SagaEvent::Complete;
            return match work.around.journal.saga_event(work.id, event, None).await {
                Ok(_) => Ok(()),
                Err(error) => Err(Stopped { index: None, cause: Cause::Journal(error) }),
            };
        }
        for index in 0..count {
            if work.nodes[index].state == NodeState::Done {
                continue;
            }
            let cause = |cause| Stopped { index: Some(index), cause };
            if work.cancellation.cancel_token().is_cancelled() {
                return Err(cause(Cause::Step(StepError::cancelled())));
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                let error = StepError::timed_out("the time for this was up");
                return Err(cause(Cause::Step(error)));
            }
            let last = work.nodes[index + 1..].iter().all(|node| node.state == NodeState::Done);
            self.run_node(work, index, last, deadline).await.map_err(cause)?;
        }
        Ok(())
    }

    async fn run_node(
        &self,
        work: &mut Work,
        index: usize,
        last: bool,
        deadline: Option<Instant>,
    ) -> Result<(), Cause> {
        let journal = work.around.journal.clone();
        let name = work.nodes[index].name.clone();
        let outlives = work.outlives(index..=index);
        let started = journal
            .node_event(work.id, &name, NodeChange { outlives, ..NodeChange::of(NodeEvent::Start) })
            .await
            .map_err(Cause::Journal)?;
        work.nodes[index].state = started;
        work.nodes[index].output = None;
        work.tell(index, &Progress::Running);
        let since = Instant::now();

        let ran = match work.pass(index, BEFORE) {
            Ok(_) => work.effect(index, self.policy.grace, deadline).await,
            Err(error) => Err(error),
        };
        let output = match ran {
            Ok(output) => output,
            Err(error) => {
                work.note(index, NodeEvent::Fail, Some(error.chain())).await;
                work.tell(index, &Progress::Failed { error: &error, took: since.elapsed() });
                return Err(Cause::Step(error));
            }
        };
        // Kept even if storing it fails, so that undoing has it.
        work.nodes[index].output = Some(output.clone());
        let then = last.then_some(SagaEvent::Complete);
        // A saga that is complete is not undone.
        let outlives = if last { work.outlives(0..=index) } else { Outlives::Process };
        let finish = NodeChange::of(NodeEvent::Finish);
        let finish = NodeChange { output: Some(output), then, outlives, ..finish };
        let finished = journal.node_event(work.id, &name, finish).await.map_err(Cause::Journal)?;
        work.nodes[index].state = finished;
        work.tell(index, &Progress::Done { took: since.elapsed() });
        match work.pass(index, AFTER) {
            // The saga is complete, and nothing that comes after can make it fail.
            Err(error) if last => {
                tracing::warn!(%error, "a failure after the last step changes nothing");
                Ok(())
            }
            passed => passed.map(|_| ()).map_err(Cause::Step),
        }
    }

    /// Undoes what was temporary, after success.
    async fn settle(&self, mut work: Work) -> Completed {
        let outputs = work.outputs(work.nodes.len());
        let left = work.unwind(true, &self.policy.undo).await;
        Completed { saga: work.id, outputs, left }
    }

    async fn decide(&self, work: &Work, stopped: &Stopped) -> (Answer, Option<StepError>) {
        let cancel = work.cancellation.cancel_token();
        let (Some(index), Cause::Step(error)) = (stopped.index, &stopped.cause) else {
            return (Answer::Cleanup, None);
        };
        if error.kind() == StepErrorKind::Cancelled || cancel.is_cancelled() {
            return (Answer::Cleanup, None);
        }
        let token = cancel.child_token();
        let cx = work.context(index, token.clone(), None);
        let answer = match &self.policy.on_error {
            OnError::Cleanup => Answer::Cleanup,
            OnError::Abort => return (Answer::Abort, None),
            OnError::RunCleanupProvisioner => Answer::Abort,
            OnError::Ask(ask) => match cancel.run_until_cancelled(ask.ask(&cx, error)).await {
                None | Some(Answer::Cleanup) => Answer::Cleanup,
                Some(other) => return (other, None),
            },
        };
        let Some(hook) = &self.policy.cleanup_hook else { return (answer, None) };
        let limit = Limit {
            grace: self.policy.grace,
            deadline: None,
            hurry: work.cancellation.stop_token().clone(),
        };
        let hooked = limit.watch(&token, hook.before_cleanup(&cx, error)).await;
        // Who cancels while the hook runs wants everything gone.
        let answer = if cancel.is_cancelled() { Answer::Cleanup } else { answer };
        (answer, hooked.err())
    }

    async fn abort(
        &self,
        work: Work,
        stopped: Stopped,
        hook_error: Option<StepError>,
    ) -> SagaFailure {
        let text = Some(stopped.cause.chain());
        if let Err(error) = work.around.journal.saga_event(work.id, SagaEvent::Abort, text).await {
            tracing::warn!(saga = %work.id, %error, "that a saga was aborted could not be stored");
        }
        let left = work
            .nodes
            .iter()
            .filter(|node| node.state.may_have_effect())
            .map(|node| Left {
                saga: work.id,
                node: node.name.clone(),
                kind: node.kind.clone(),
                params: node.params.clone(),
                error: "kept, as was asked for".to_owned(),
            })
            .collect();
        failure(&work, stopped, Ending::Aborted, left, hook_error)
    }

    async fn clean_up(
        &self,
        mut work: Work,
        stopped: Stopped,
        hook_error: Option<StepError>,
    ) -> SagaFailure {
        let text = Some(stopped.cause.chain());
        if let Err(error) = work.around.journal.saga_event(work.id, SagaEvent::Unwind, text).await {
            tracing::warn!(saga = %work.id, %error, "that a saga is being undone could not be stored");
        }
        let left = work.unwind(false, &self.policy.undo).await;
        let ending = if left.is_empty() { Ending::Undone } else { Ending::Left };
        failure(&work, stopped, ending, left, hook_error)
    }
}

fn failure(
    work: &Work,
    stopped: Stopped,
    ending: Ending,
    left: Vec<Left>,
    hook_error: Option<StepError>,
) -> SagaFailure {
    SagaFailure {
        saga: work.id,
        name: work.name.clone(),
        node: stopped.index.map(|index| work.nodes[index].name.clone()),
        cause: stopped.cause,
        ending,
        left,
        hook_error,
    }
}
