//! Sagas of post-processors, in the journal of the run.

use std::sync::Arc;

use async_trait::async_trait;
use karat_component::{ComponentError, Components, Events, RunSaga};
use karat_saga::{Cancellation, DynStep, Executor, Outputs, RunHold, Saga, SagaState};

/// Runs sagas under the name of a post-processor.
pub(crate) struct PostSagas {
    /// The build, and which of its post-processors it is.
    pub(crate) name: String,
    pub(crate) hold: Arc<RunHold>,
    pub(crate) executor: Executor,
    pub(crate) components: Arc<Components>,
    pub(crate) events: Events,
    pub(crate) cancellation: Cancellation,
}

impl std::fmt::Debug for PostSagas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostSagas").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl RunSaga for PostSagas {
    async fn run_saga(&self, saga: Saga) -> Result<Outputs, ComponentError> {
        let name = format!("{} {}", self.name, saga.name());
        let read = |e| ComponentError::because("could not read the journal", e);
        let known = self.hold.journal().sagas(self.hold.id()).await.map_err(read)?;
        let known = known.into_iter().rfind(|known| known.name == name);
        let done = match known {
            Some(known) if known.state == SagaState::Succeeded => return Ok(known.outputs()),
            Some(known) if !known.state.is_settled() => {
                let steps: Vec<_> =
                    saga.nodes().iter().map(|n| (n.name.clone(), Arc::clone(&n.step))).collect();
                // The fresh step holds what is not stored, where it is the same otherwise.
                let stand_in = move |node: &str, stored: Arc<dyn DynStep>| {
                    let same = |step: &Arc<dyn DynStep>| {
                        matches!((step.stored_params(), stored.stored_params()),
                            (Ok(a), Ok(b)) if a == b)
                    };
                    let fresh = steps.iter().find(|(name, _)| name == node);
                    fresh.map(|(_, step)| Arc::clone(step)).filter(same).unwrap_or(stored)
                };
                let executor = self.executor.clone().with_stand_in(stand_in);
                let registry = self.components.steps();
                executor.resume(known.id, &registry, &self.cancellation).await
            }
            _ => {
                let mut builder = Saga::new(name);
                for node in saga.nodes() {
                    builder = builder.shared(&node.name, Arc::clone(&node.step));
                }
                let saga = builder
                    .build()
                    .map_err(|e| ComponentError::because("could not lay out the work", e))?;
                self.executor.execute(saga, &self.cancellation).await
            }
        };
        let (left, result) = match done {
            Ok(done) => (done.left, Ok(done.outputs)),
            Err(failure) => {
                let error = ComponentError::from(&*failure);
                (failure.left, Err(error))
            }
        };
        for left in left {
            self.events.error(format!(
                "What step {} made could not be removed: {}. `karat recover` tries again.",
                left.node, left.error
            ));
        }
        result
    }
}
