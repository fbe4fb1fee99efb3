//! What can go wrong with the journal.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::{RunId, SagaId};
use crate::state::Refused;

/// A failure of the journal. Each names the file or the record.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file or its folder cannot be opened or made.
    #[error("could not open the journal {}", path.display())]
    Open {
        /// The journal's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file is no journal, or is damaged.
    #[error("the journal {} is damaged or is no journal", path.display())]
    Corrupt {
        /// The journal's file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The file is a database of something else.
    #[error("{} is a database, but not a journal of this program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote it.
    #[error("the journal {} has version {found}, this program knows versions up to {known}", path.display())]
    Newer {
        /// The journal's file.
        path: PathBuf,
        /// The version it has.
        found: i64,
        /// The newest version that this program reads.
        known: i64,
    },
    /// Reading or writing failed.
    #[error("the journal {} could not be used", path.display())]
    Database {
        /// The journal's file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A record holds what no version of the program writes.
    #[error("the journal {} holds a bad record: {what}", path.display())]
    BadRecord {
        /// The journal's file.
        path: PathBuf,
        /// Which table, record and value.
        what: String,
    },
    /// The lock of a run failed.
    #[error("could not lock the run {run} in {}", path.display())]
    Lock {
        /// The run.
        run: RunId,
        /// The folder of the locks.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A live process holds the run.
    #[error("the run {run} belongs to a process that is alive{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The run.
        run: RunId,
        /// Its process, when it is known.
        pid: Option<u32>,
    },
    /// There is no such run.
    #[error("there is no run {0} in the journal")]
    NoSuchRun(RunId),
    /// There is no such saga.
    #[error("there is no saga {0} in the journal")]
    NoSuchSaga(SagaId),
    /// There is no such node.
    #[error("the saga {saga} has no step `{node}`")]
    NoSuchNode {
        /// The saga.
        saga: SagaId,
        /// The name asked for.
        node: String,
    },
    /// A change of state that does not exist: a bug, or two processes at work on one saga.
    #[error("the journal refused a change of {what}")]
    Refused {
        /// Which saga or node.
        what: String,
        /// State and event.
        #[source]
        source: Refused,
    },
    /// The run still has something to be undone.
    #[error("the run {0} has left things that are not undone")]
    Unsettled(RunId),
    /// The journal's thread has ended.
    #[error("the journal {} is closed", path.display())]
    Closed {
        /// The journal's file.
        path: PathBuf,
    },
}

impl JournalError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "it belongs to another user; name another state directory, or run as that user",
            ),
            Self::Corrupt { .. } => Some(
                "move the file away to begin a new journal; what unfinished runs left must then be removed by hand",
            ),
            Self::Foreign { .. } => Some("name another state directory"),
            Self::Newer { .. } => Some("use the newer program, or another state directory"),
            Self::Held { .. } => Some("wait for it, or end it"),
            Self::Unsettled(_) => Some("recover it first"),
            _ => None,
        }
    }
}
