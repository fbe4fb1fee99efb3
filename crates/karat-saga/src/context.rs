//! What a step sees while it runs or is undone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::fault::{Faults, Point};
use crate::ids::{RunId, SagaId};
use crate::services::Services;
use crate::step::StepError;

/// The stored outputs of a saga's finished nodes, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    values: BTreeMap<String, Value>,
}

impl Outputs {
    /// The output of a node, as the type that its step returns.
    ///
    /// # Errors
    /// When no such node has finished, or its output has another form.
    pub fn get<T: DeserializeOwned>(&self, node: &str) -> Result<T, StepError> {
        let value = self.values.get(node).ok_or_else(|| {
            StepError::new(format!("the step `{node}` has no output"))
                .with_hint("only the outputs of earlier, finished steps can be read")
        })?;
        T::deserialize(value).map_err(|error| {
            StepError::because(
                format!("the output of the step `{node}` is not a {}", std::any::type_name::<T>()),
                error,
            )
        })
    }

    /// The output of a node as it is stored.
    #[must_use]
    pub fn raw(&self, node: &str) -> Option<&Value> {
        self.values.get(node)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn insert(&mut self, node: &str, value: Value) {
        self.values.insert(node.to_owned(), value);
    }
}

/// What a step sees while it runs or is undone. Cloning is cheap.
#[derive(Clone)]
pub struct StepContext {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) run: RunId,
    pub(crate) saga: SagaId,
    pub(crate) saga_name: String,
    pub(crate) node: String,
    pub(crate) outputs: Outputs,
    pub(crate) token: CancellationToken,
    pub(crate) deadline: Option<Instant>,
    pub(crate) services: Services,
    pub(crate) faults: Faults,
    /// The saga's own token, which the fault `cancel` pulls.
    pub(crate) cancel_saga: CancellationToken,
}

impl StepContext {
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// A context for calling one step by itself, outside a saga, as a component's unit tests do.
    #[must_use]
    pub fn detached(node: &str, services: Services) -> Self {
        Self::from_inner(Inner {
            run: RunId::generate(),
            saga: SagaId::generate(),
            saga_name: "detached".to_owned(),
            node: node.to_owned(),
            outputs: Outputs::default(),
            token: CancellationToken::new(),
            deadline: None,
            services,
            faults: Faults::none(),
            cancel_saga: CancellationToken::new(),
        })
    }

    /// The same context with an output of an earlier node added, for a [`detached`](Self::detached) one.
    ///
    /// # Errors
    /// When the output cannot be serialised.
    pub fn with_output<T: serde::Serialize>(
        self,
        node: &str,
        output: &T,
    ) -> Result<Self, StepError> {
        let value = serde_json::to_value(output)
            .map_err(|e| StepError::because("could not write down the step's output", e))?;
        let inner = &*self.inner;
        let mut outputs = inner.outputs.clone();
        outputs.insert(node, value);
        Ok(Self::from_inner(Inner {
            run: inner.run,
            saga: inner.saga,
            saga_name: inner.saga_name.clone(),
            node: inner.node.clone(),
            outputs,
            token: inner.token.clone(),
            deadline: inner.deadline,
            services: inner.services.clone(),
            faults: inner.faults.clone(),
            cancel_saga: inner.cancel_saga.clone(),
        }))
    }

    /// The run that this call belongs to: when recovering, the run that is being recovered.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.inner.run
    }

    /// The saga that this call belongs to.
    #[must_use]
    pub fn saga(&self) -> SagaId {
        self.inner.saga
    }

    /// The saga's name.
    #[must_use]
    pub fn saga_name(&self) -> &str {
        &self.inner.saga_name
    }

    /// This step's name in the saga.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// The output of an earlier node: `cx.output::<Instance>("launch")?`.
    ///
    /// In `undo`, outputs of earlier nodes are there too, unless those failed or were half run.
    ///
    /// # Errors
    /// When that node has no output, or it has another form.
    pub fn output<T: DeserializeOwned>(&self, node: &str) -> Result<T, StepError> {
        self.inner.outputs.get(node)
    }

    /// All outputs of earlier nodes.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.inner.outputs
    }

    /// What the process offers.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// The service of this type.
    ///
    /// # Errors
    /// When nobody offers it.
    pub fn service<T: ?Sized + Send + Sync + 'static>(&self) -> Result<Arc<T>, StepError> {
        self.inner.services.require::<T>()
    }

    /// Cancelled when the step should end soon: by the user, or because time is up. A step that does not end
    /// within the grace period has its future dropped, so what must not be cut off belongs in a task of its own.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.inner.token
    }

    /// Resolves when the step should end soon; then return [`StepError::cancelled`].
    pub async fn cancelled(&self) {
        self.inner.token.cancelled().await;
    }

    /// Whether the step should end soon.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// Waits for a future, or fails with [`StepError::cancelled`] as soon as the step should end.
    ///
    /// # Errors
    /// Only when cancelled; what the future returns is passed on.
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, StepError> {
        self.inner.token.run_until_cancelled(work).await.ok_or_else(StepError::cancelled)
    }

    /// The time left until the deadline; `None` when there is none.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.inner.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// A place inside a step at which a fault can be injected, for steps with several effects in a row.
    /// Known to fault injection as `NODE:name`.
    ///
    /// # Errors
    /// When a failure was asked for here.
    pub fn fault_point(&self, name: &str) -> Result<(), StepError> {
        let point = Point { saga: self.saga_name(), node: self.node(), phase: name };
        self.inner.faults.reach(&point, &self.inner.cancel_saga)
    }
}

impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext")
            .field("run", &self.inner.run)
            .field("saga", &self.inner.saga)
            .field("node", &self.inner.node)
            .field("deadline", &self.inner.deadline)
            .finish_non_exhaustive()
    }
}
