//! How a saga ends.

use std::error::Error;
use std::fmt;

use serde_json::Value;

use crate::context::Outputs;
use crate::ids::SagaId;
use crate::journal::JournalError;
use crate::step::{StepError, StepErrorKind};

/// An effect that is still there although it should not be.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// The saga.
    pub saga: SagaId,
    /// The node.
    pub node: String,
    /// The step's kind.
    pub kind: String,
    /// The step's parameters, by which the effect can be found.
    pub params: Value,
    /// Why it is still there.
    pub error: String,
}

/// A saga that succeeded.
#[derive(Debug, Clone)]
pub struct Completed {
    /// The saga.
    pub saga: SagaId,
    /// The outputs of all nodes.
    pub outputs: Outputs,
    /// What was temporary and could not be undone; `recover` tries again.
    pub left: Vec<Left>,
}

/// What made a saga fail.
#[derive(Debug)]
pub enum Cause {
    /// A step failed, was cancelled or ran out of time.
    Step(StepError),
    /// The journal could not be written, so the step was not begun or counts as failed.
    Journal(JournalError),
}

/// What became of the effects of a saga that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything is undone.
    Undone,
    /// Everything was left in place, as was asked for.
    Aborted,
    /// Some of it could not be undone, or was not waited for: see [`SagaFailure::left`].
    Left,
}

/// A saga that did not succeed.
#[derive(Debug)]
pub struct SagaFailure {
    /// The saga.
    pub saga: SagaId,
    /// Its name.
    pub name: String,
    /// The node that failed, or was next when the saga was cancelled; `None` before the first one.
    pub node: Option<String>,
    /// What made it fail.
    pub cause: Cause,
    /// What became of its effects.
    pub ending: Ending,
    /// What is still there: by mistake after [`Ending::Left`], on purpose after [`Ending::Aborted`].
    pub left: Vec<Left>,
    /// Why the cleanup hook failed, when it did.
    pub hook_error: Option<StepError>,
}

impl SagaFailure {
    /// Whether the user ended the saga.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(&self.cause, Cause::Step(error) if error.kind() == StepErrorKind::Cancelled)
    }

    /// What made it fail, with all causes in one line.
    #[must_use]
    pub fn cause_text(&self) -> String {
        self.cause.chain()
    }

    /// The step's error, when it was one.
    #[must_use]
    pub fn step_error(&self) -> Option<&StepError> {
        match &self.cause {
            Cause::Step(error) => Some(error),
            Cause::Journal(_) => None,
        }
    }
}

impl fmt::Display for SagaFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, self.is_cancelled()) {
            (Some(node), false) => write!(f, "`{}` failed at the step `{node}`", self.name),
            (Some(node), true) => write!(f, "`{}` was cancelled at the step `{node}`", self.name),
            (None, _) => write!(f, "`{}` could not begin", self.name),
        }
    }
}

impl Error for SagaFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Step(error) => Some(error),
            Cause::Journal(error) => Some(error),
        }
    }
}

impl Cause {
    /// The message and its causes in one line, as the journal stores it.
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::Step(error) => error.chain(),
            Self::Journal(error) => {
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    text.push_str(": ");
                    text.push_str(&error.to_string());
                    cause = error.source();
                }
                text
            }
        }
    }
}
