//! Why a connection, a command or a transfer failed.

use std::time::Duration;

use karat_component::CommunicatorError;

/// What can go wrong over WinRM.
#[derive(Debug, thiserror::Error)]
pub enum WinrmError {
    /// The HTTP client cannot be made.
    #[error("cannot prepare for WinRM: {reason}")]
    Client {
        /// Why not.
        reason: String,
    },
    /// The machine did not answer.
    #[error("cannot reach {url}: {reason}")]
    Connect {
        /// The address of its WinRM.
        url: String,
        /// Why, in words.
        reason: String,
    },
    /// The machine did not let the user in.
    #[error("{url} did not let user \"{user}\" in by {way} (it offers {offers})")]
    Refused {
        /// The address of its WinRM.
        url: String,
        /// The user name.
        user: String,
        /// How the login was tried.
        way: &'static str,
        /// What the server would take.
        offers: String,
    },
    /// The machine refused a request.
    #[error("WinRM refused {what}: {reason}")]
    Fault {
        /// What was asked.
        what: &'static str,
        /// What it said.
        reason: String,
        /// Its number for it, by which it is known.
        code: Option<u32>,
    },
    /// The answer is none of WinRM.
    #[error("{url} gave an answer that is none of WinRM: {reason}")]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine could not be reached in time.
    #[error("{url} could not be reached within {} s: {last}", waited.as_secs())]
    Timeout {
        /// The address of its WinRM.
        url: String,
        /// How long was waited.
        waited: Duration,
        /// Why the last attempt failed.
        last: String,
    },
    /// A file could not be sent or fetched.
    #[error("cannot {verb} \"{path}\": {reason}")]
    Transfer {
        /// `upload` or `download`.
        verb: &'static str,
        /// The path that failed.
        path: String,
        /// Why.
        reason: String,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Nothing came up in the time that was asked for: ask again.
pub(crate) const NOTHING_YET: u32 = 2_150_858_793;

impl WinrmError {
    /// Whether the machine went away, or is not there yet.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Answer { .. })
    }

    /// Whether the machine lives, and has nothing to say yet.
    pub(crate) fn is_nothing_yet(&self) -> bool {
        matches!(self, Self::Fault { code: Some(NOTHING_YET), .. })
    }
}

impl From<WinrmError> for CommunicatorError {
    fn from(error: WinrmError) -> Self {
        match error {
            WinrmError::Cancelled => Self::Cancelled,
            WinrmError::Transfer { verb, path, reason } => Self::Transfer { verb, path, reason },
            WinrmError::Client { .. } => Self::Failed { what: error.to_string() },
            other => Self::Connection { what: other.to_string() },
        }
    }
}
