//! What can go wrong.

/// Why a session did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SsmError {
    /// The service refused a call.
    #[error("{call}: {reason}")]
    Service {
        /// The call, such as `StartSession`.
        call: &'static str,
        /// What the service said.
        reason: String,
        /// Whether to ask again: the agent is not connected yet, or the service is busy.
        retry: bool,
    },
    /// The data channel's web socket could not be opened.
    #[error("cannot open the data channel at {host}: {reason}")]
    Connect {
        /// The host of the web socket.
        host: String,
        /// What was wrong.
        reason: String,
    },
    /// The data channel was lost, and could not be opened again.
    #[error("the session was lost: {0}")]
    Lost(String),
    /// The other side ended the session.
    #[error("the session was ended{}", reason(.0))]
    Closed(String),
    /// The other side said something that cannot be.
    #[error("the session manager's data channel: {0}")]
    Protocol(String),
    /// Both sides could not agree.
    #[error("the handshake of the session failed: {0}")]
    Handshake(String),
    /// It took too long.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long, in seconds.
        seconds: u64,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn reason(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { " by the other side".to_owned() } else { format!(": {text}") }
}
