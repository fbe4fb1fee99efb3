//! Why a component failed while a build ran.

use std::error::Error;
use std::fmt;

/// A failure of a component: what was tried, as [`source`](Error::source) why it did not work, and
/// what the user can do.
#[derive(Debug)]
pub struct ComponentError {
    message: String,
    hint: Option<String>,
    cancelled: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ComponentError {
    /// A failure with no cause below it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, cancelled: false, source: None }
    }

    /// A failure with its cause: `ComponentError::because("cannot read the script", error)`.
    pub fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(message) }
    }

    /// What a component returns when it stopped because it was told to.
    pub fn cancelled() -> Self {
        Self { cancelled: true, ..Self::new("cancelled") }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether it stopped because it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// The message and its causes in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Display for ComponentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ComponentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<crate::CommunicatorError> for ComponentError {
    fn from(error: crate::CommunicatorError) -> Self {
        match error {
            crate::CommunicatorError::Cancelled => Self::cancelled(),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<&karat_saga::SagaFailure> for ComponentError {
    /// What the step that failed says, without the saga around it.
    fn from(failure: &karat_saga::SagaFailure) -> Self {
        if failure.is_cancelled() {
            return Self::cancelled();
        }
        let error = Self::new(failure.cause_text());
        match failure.step_error().and_then(karat_saga::StepError::hint) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<ComponentError> for karat_saga::StepError {
    fn from(error: ComponentError) -> Self {
        if error.cancelled {
            return Self::cancelled();
        }
        let step = match error.source {
            Some(source) => Self::because(error.message, source),
            None => Self::new(error.message),
        };
        match error.hint {
            Some(hint) => step.with_hint(hint),
            None => step,
        }
    }
}
