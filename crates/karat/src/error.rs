//! From failures to messages and exit codes.

use std::fmt;

use crate::report::out;

/// Exit codes, as Packer's.
pub(crate) mod exit {
    /// All went well.
    pub(crate) const OK: u8 = 0;
    /// An error in a template, on the command line or in a build; a cancelled run.
    pub(crate) const FAILED: u8 = 1;
    /// `fmt -check` found something to change.
    pub(crate) const WOULD_CHANGE: u8 = 3;
    /// No command, or an unknown one.
    pub(crate) const NO_COMMAND: u8 = 127;
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What is wrong was printed already.
    Reported,
    /// To be printed: what, why, and what to do.
    Message {
        /// What went wrong, with its causes.
        text: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Another exit code than 1; what there was to say was said.
    Exit(u8),
}

impl Failure {
    /// A failure in words.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), hint: None }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Message { text, .. } => Self::Message { text, hint: Some(hint.into()) },
            other => other,
        }
    }

    /// Prints it if that was not done, and gives the exit code.
    pub(crate) fn report(self) -> u8 {
        match self {
            Self::Reported => exit::FAILED,
            Self::Exit(code) => code,
            Self::Message { text, hint } => {
                out::stderr_line(&format!("Error: {text}"));
                if let Some(hint) = hint {
                    out::stderr_line(&format!("Hint: {hint}"));
                }
                exit::FAILED
            }
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// The error and its causes in one line.
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            // Some libraries repeat the cause in the message.
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self::new(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { text, .. } => f.write_str(text),
            Self::Reported => f.write_str("failed"),
            Self::Exit(code) => write!(f, "exit code {code}"),
        }
    }
}
