//! What can go wrong with a local machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result of work with a local machine.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Why a machine could not be started, used or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The process is not root's.
    #[error("local machines need root: run karat with sudo, or use another source")]
    NotRoot,
    /// A program is missing.
    #[error("the program \"{program}\" is missing: install the package {package}")]
    Missing {
        /// What was looked for in `PATH`.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The machine's specification is wrong.
    #[error("{what}")]
    Specification {
        /// What and why.
        what: String,
    },
    /// The process beside the machine could not be started or ended.
    #[error("cannot run the process beside the machine")]
    Supervisor {
        /// Why.
        source: io::Error,
    },
    /// The machine has ended, or was ended.
    #[error("the machine is gone")]
    Gone,
    /// The process beside the machine could not do it.
    #[error("{what}")]
    Refused {
        /// What and why.
        what: String,
        /// The system's error number, where there is one.
        errno: Option<i32>,
    },
    /// The machine's first process ended while it started.
    #[error("the machine ended while it started; its console is in \"{console}\"{tail}")]
    EndedEarly {
        /// The console's log.
        console: PathBuf,
        /// Its last lines, each on a line of its own.
        tail: String,
    },
    /// systemd did not finish in time.
    #[error(
        "the machine did not finish starting in {}: still at work: {}; its console is in \"{console}\"{tail}",
        seconds(after),
        list(jobs)
    )]
    NotReady {
        /// How long was waited.
        after: Duration,
        /// systemd's jobs that still run or wait.
        jobs: Vec<String>,
        /// The console's log.
        console: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// A file on the host or in the machine could not be used.
    #[error("cannot {verb} \"{path}\"")]
    File {
        /// `read`, `write`, `make`, …
        verb: &'static str,
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
}

impl RuntimeError {
    /// Wraps an error about a path.
    pub(crate) fn file(
        verb: &'static str,
        path: impl AsRef<std::path::Path>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::File { verb, path: path.as_ref().display().to_string(), source: source.into() }
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "unknown".into() } else { names.join(", ") }
}
