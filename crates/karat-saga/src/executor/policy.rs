//! What to do on failure, how long to wait, and how a run is told to stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::context::StepContext;
use crate::step::StepError;

/// How a saga is told to end. Cloning shares it.
///
/// The first request cancels: the running step is told, and everything is undone. The second stops waiting:
/// undoing is cut off, and what is left is returned.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    cancel: CancellationToken,
    stop: CancellationToken,
}

impl Cancellation {
    /// Not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What Ctrl-C calls: cancels at first, stops waiting when already cancelled.
    pub fn request(&self) {
        if self.cancel.is_cancelled() {
            self.stop.cancel();
        } else {
            self.cancel.cancel();
        }
    }

    /// Cancels. Calling it again changes nothing.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Cancels and stops waiting.
    pub fn stop(&self) {
        self.cancel.cancel();
        self.stop.cancel();
    }

    /// One that is cancelled and stopped with this one, and can be by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { cancel: self.cancel.child_token(), stop: self.stop.child_token() }
    }

    /// Cancelled by the first request.
    #[must_use]
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Cancelled by the second request.
    #[must_use]
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }
}

/// What to do when a step has failed.
#[derive(Clone, Default)]
pub enum OnError {
    /// Undo everything.
    #[default]
    Cleanup,
    /// Leave everything in place, so that it can be looked at, resumed or cleaned up later.
    Abort,
    /// Call the cleanup hook, then leave everything in place.
    RunCleanupProvisioner,
    /// Ask. Cancelling while the question is open means [`Answer::Cleanup`].
    Ask(Arc<dyn Ask>),
}

/// What is to be done about a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Undo everything.
    Cleanup,
    /// Leave everything in place.
    Abort,
    /// Run the failed step again.
    Retry,
}

/// Decides what becomes of a saga whose step failed.
#[async_trait]
pub trait Ask: Send + Sync {
    /// The context is that of the failed step.
    async fn ask(&self, cx: &StepContext, error: &StepError) -> Answer;
}

/// What is called after a step failed and before anything is undone.
#[async_trait]
pub trait CleanupHook: Send + Sync {
    /// The context is that of the failed step. A failure here is reported beside the first one.
    async fn before_cleanup(&self, cx: &StepContext, error: &StepError) -> Result<(), StepError>;
}

/// How often and how long undoing is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoPolicy {
    /// How often in all; at least once.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles for each further one.
    pub delay: Duration,
    /// The limit of one attempt.
    pub timeout: Duration,
}

impl Default for UndoPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            delay: Duration::from_millis(500),
            timeout: Duration::from_secs(15 * 60),
        }
    }
}

/// How an executor treats failures and time.
#[derive(Clone)]
pub struct Policy {
    /// What to do when a step has failed.
    pub on_error: OnError,
    /// Called before undoing after a failed step, and before aborting with
    /// [`OnError::RunCleanupProvisioner`].
    pub cleanup_hook: Option<Arc<dyn CleanupHook>>,
    /// How long a step may go on after it was told to end, before its future is dropped.
    pub grace: Duration,
    /// The limit for all steps of a saga together, undoing not counted.
    pub limit: Option<Duration>,
    /// How often and how long undoing is tried.
    pub undo: UndoPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            on_error: OnError::Cleanup,
            cleanup_hook: None,
            grace: Duration::from_secs(10),
            limit: None,
            undo: UndoPolicy::default(),
        }
    }
}

impl fmt::Debug for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cleanup => "Cleanup",
            Self::Abort => "Abort",
            Self::RunCleanupProvisioner => "RunCleanupProvisioner",
            Self::Ask(_) => "Ask",
        })
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("on_error", &self.on_error)
            .field("cleanup_hook", &self.cleanup_hook.is_some())
            .field("grace", &self.grace)
            .field("limit", &self.limit)
            .field("undo", &self.undo)
            .finish()
    }
}
