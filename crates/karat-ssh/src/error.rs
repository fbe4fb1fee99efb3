//! Why a connection, a command or a transfer failed.

use std::path::PathBuf;
use std::time::Duration;

use karat_component::CommunicatorError;

/// What can go wrong over ssh.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// An option is wrong.
    #[error("{option}: {summary}")]
    Config {
        /// The option at fault.
        option: &'static str,
        /// What is wrong.
        summary: String,
    },
    /// A private key or certificate cannot be used.
    #[error("{option}: cannot use \"{}\": {reason}", path.display())]
    Key {
        /// The option that names the file.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The ssh agent cannot be used.
    #[error("the ssh agent cannot be used: {reason}")]
    Agent {
        /// Why not.
        reason: String,
    },
    /// The host showed another key than the one expected.
    #[error(
        "the host key of {host} is not the expected one: it showed {found}, but {place} has \
         {expected}. Either the machine was replaced, or somebody sits between"
    )]
    HostKeyMismatch {
        /// `host:port`.
        host: String,
        /// Fingerprint of the key that was shown.
        found: String,
        /// Fingerprints of the keys that would do.
        expected: String,
        /// Where those stand.
        place: String,
    },
    /// The host's key is in no list.
    #[error(
        "the host key of {host}, {found}, stands not in {}. Add it there, set ssh_host_key, or use \
         ssh_host_key_checking = \"accept-new\"", place.display()
    )]
    HostKeyUnknown {
        /// `host:port`.
        host: String,
        /// Fingerprint of the key that was shown.
        found: String,
        /// The file that was searched.
        place: PathBuf,
    },
    /// A connection could not be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// The server did not let the user in.
    #[error("{address} did not let user \"{user}\" in (tried {tried}; it accepts {accepted})")]
    Authentication {
        /// `host:port`.
        address: String,
        /// The user name.
        user: String,
        /// Methods that were tried.
        tried: String,
        /// Methods that the server would accept.
        accepted: String,
    },
    /// The machine could not be reached in time.
    #[error(
        "{address} could not be reached within {}: {last}", crate::wait::seconds(*waited)
    )]
    Timeout {
        /// `host:port`.
        address: String,
        /// How long was waited.
        waited: Duration,
        /// What the last attempt met.
        last: String,
    },
    /// The connection went away.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// `host:port`.
        address: String,
        /// Why, as far as known.
        reason: String,
    },
    /// The server refused something that ssh servers usually do.
    #[error("{address} refused {what}")]
    Refused {
        /// `host:port`.
        address: String,
        /// What was asked.
        what: String,
    },
    /// A file could not be sent or fetched.
    #[error("cannot {verb} \"{path}\": {reason}")]
    Transfer {
        /// `upload` or `download`.
        verb: &'static str,
        /// The path on the machine.
        path: String,
        /// Why.
        reason: String,
    },
    /// What a command was to read could not be read here.
    #[error("cannot read what is to be sent: {reason}")]
    Input {
        /// Why not.
        reason: String,
    },
    /// A program is missing on the machine; another way is taken.
    #[error("the machine has no tar")]
    Missing,
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The ssh library failed in a way that has no words of its own here.
    #[error("ssh: {0}")]
    Protocol(#[source] russh::Error),
}

impl From<russh::Error> for SshError {
    fn from(e: russh::Error) -> Self {
        Self::Protocol(e)
    }
}

impl SshError {
    /// Whether another attempt may succeed without anybody changing anything.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Authentication { .. }
                | Self::Lost { .. }
                | Self::Protocol(_)
        )
    }

    /// Whether it came after the server answered, so that it counts as a failed handshake.
    pub(crate) fn is_handshake(&self) -> bool {
        matches!(self, Self::Authentication { .. })
    }

    pub(crate) fn transfer(verb: &'static str, path: &str, reason: impl ToString) -> Self {
        Self::Transfer { verb, path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<SshError> for CommunicatorError {
    fn from(e: SshError) -> Self {
        match e {
            SshError::Cancelled => Self::Cancelled,
            SshError::Transfer { verb, path, reason } => Self::Transfer { verb, path, reason },
            other => Self::Connection { what: other.to_string() },
        }
    }
}
