//! Steps that can be undone, and the journal that makes a run survive a crash. Knows nothing of images.
//!
//! | file | what |
//! |---|---|
//! | `step.rs` | [`Step`]: one reversible piece of work, and its erased twin [`DynStep`] |
//! | `saga.rs` | [`Saga`]: named steps in order |
//! | `context.rs` | [`StepContext`]: what a step sees: outputs of earlier steps, cancellation, services |
//! | `services.rs` | [`Services`]: the typed map of what the process offers to steps |
//! | `state.rs` | the states of nodes and sagas, and the one function each by which they change |
//! | `journal/` | the SQLite file: intent before a side effect, result after it |
//! | `executor/` | forward, undo, what happens on failure and on cancellation, resume |
//! | `recover.rs` | finishing what dead runs left |
//! | `observe.rs` | [`Observer`]: what a report can follow while sagas run |
//! | `fault.rs` | failures on request, at any point |
//! | `harness.rs` | the tests that every saga gets (feature `testing`) |
//!
//! Terms, each chosen once:
//!
//! - *step*: a value that can `run` and `undo`. Its fields are its stored parameters.
//! - *node*: a step's place in a saga, known by name. States belong to nodes.
//! - *saga*: nodes in order. It either completes or is undone.
//! - *run*: one process's work on some sagas, held by a file lock for as long as the process lives.
//! - *settle*: after success, undo what was only temporary. *Unwind*: after failure, undo everything.

mod context;
mod executor;
pub mod fault;
#[cfg(feature = "testing")]
pub mod harness;
mod ids;
pub mod journal;
mod observe;
mod recover;
mod saga;
mod services;
mod state;
mod step;

pub use context::{Outputs, StepContext};
pub use executor::{
    Answer, Ask, Cancellation, Cause, CleanupHook, Completed, Ending, Executor, Left, OnError,
    Policy, SagaFailure, UndoPolicy,
};
pub use fault::{FaultSpecError, Faults};
pub use ids::{ParseIdError, RunId, SagaId};
pub use journal::{Journal, JournalError, RunHold, RunInfo, RunState};
pub use observe::{Observer, Place, Progress};
pub use recover::{RecoverOptions, RecoverReport, RecoveredRun, RecoveredSaga, recover};
pub use saga::{Node, Saga, SagaBuilder, SagaError};
pub use services::Services;
pub use state::{NodeEvent, NodeState, Refused, SagaEvent, SagaState};
pub use step::{DynStep, Lifetime, Step, StepError, StepErrorKind, StepRegistry};
