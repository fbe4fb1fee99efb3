//! Runs a plan: dispatcher, executor, cancellation, event stream.
//!
//! | file | what |
//! |---|---|
//! | `run.rs` | [`Engine::run`]: all builds of a run, each when those it needs are done |
//! | `task.rs` | one build: evaluate, reuse or run the saga, post-process, record |
//! | `prepare.rs` | from blocks to proved components |
//! | `unknown.rs` | what to say of a component that there is not |
//! | `provision.rs`, `post.rs` | provisioners with their wrappers; chains of post-processors |
//! | `check.rs` | [`Engine::validate`] and [`Engine::plan`]: everything that can be said before |
//! | `inputs.rs`, `record.rs` | digests of files; what each build made last |

mod check;
mod inputs;
mod post;
mod post_saga;
mod prepare;
mod provision;
mod record;
mod run;
mod task;
mod unknown;

pub use check::{BuildPlan, Verdict};
pub use record::{Record, Records};
pub use run::{Engine, RunError, RunOptions, RunRequest, RunSummary};
pub use unknown::{own_type, unknown_component};
