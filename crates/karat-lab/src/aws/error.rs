//! Errors as AWS's clients know them.

/// An error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, AwsError>;

impl AwsError {
    /// The caller's fault.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.into(), message: message.into() }
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The lab's own trouble.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new("InternalError", format!("An internal error has occurred: {error}")).status(500)
    }

    pub(crate) fn missing(name: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {name}"))
    }

    pub(crate) fn value(value: &str, name: &str, why: &str) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("Value ({value}) for parameter {name} is invalid. {why}"),
        )
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    /// What a glob of faults asks for.
    pub(crate) fn of_fault(code: &str) -> Self {
        let status = match code {
            "InternalError" | "InternalFailure" | "InsufficientInstanceCapacity" => 500,
            "RequestLimitExceeded" | "Unavailable" | "ServiceUnavailable" => 503,
            "UnauthorizedOperation" | "AccessDenied" | "AuthFailure" => 403,
            _ => 400,
        };
        Self::new(code, "This failure was asked for (karat lab faults).").status(status)
    }
}
