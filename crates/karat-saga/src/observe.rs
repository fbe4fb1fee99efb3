//! What a report can follow while sagas run.

use std::fmt;
use std::time::Duration;

use crate::ids::{RunId, SagaId};
use crate::step::StepError;

/// Is told what happens to nodes, in order for each saga.
///
/// Called between steps, on the task of the saga: it must not block, so it passes things on.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Something happened to a node. The journal knows of it already, unless it could not be written.
    fn observe(&self, place: &Place<'_>, progress: &Progress<'_>);
}

/// Which node.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The run that the saga belongs to.
    pub run: RunId,
    /// The saga.
    pub saga: SagaId,
    /// The saga's name.
    pub saga_name: &'a str,
    /// The node.
    pub node: &'a str,
    /// The step's kind.
    pub kind: &'a str,
}

/// What happens to a node.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The step begins to run.
    Running,
    /// It is done.
    Done {
        /// How long it took.
        took: Duration,
    },
    /// It failed, was cancelled or ran out of time.
    Failed {
        /// Why.
        error: &'a StepError,
        /// How long it took.
        took: Duration,
    },
    /// It begins to be undone.
    Undoing,
    /// It is undone.
    Undone {
        /// How long it took.
        took: Duration,
    },
    /// An attempt at undoing it failed.
    UndoFailed {
        /// Why.
        error: &'a StepError,
        /// Whether it is tried again.
        again: bool,
    },
}
