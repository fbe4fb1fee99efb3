//! What a service of AWS answered, in words.

use std::error::Error;
use std::fmt;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use karat_component::ComponentError;
use karat_saga::StepError;

/// What a service of AWS answered to a call, or why the call did not get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    /// The service's word for it (`InvalidAMIID.NotFound`); empty where there was no answer.
    pub(crate) code: String,
    /// The service's sentence, or why there was no answer.
    pub(crate) message: String,
    /// What the user can do about it.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{} ({})", self.message, self.code),
        }
    }
}

impl Error for AwsError {}

impl AwsError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: String::new(), message: message.into(), hint: None }
    }

    /// Whether the service refused because the caller may not.
    pub(crate) fn is_refusal(&self) -> bool {
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "UnauthorizedAccess"]
            .contains(&self.code.as_str())
    }

    /// The words in which the credentials or the way to AWS are at fault.
    fn hint_for(code: &str) -> Option<&'static str> {
        Some(match code {
            "AuthFailure" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
                "the credentials are not known to AWS, or not in this region"
            }
            "ExpiredToken" | "RequestExpired" | "ExpiredTokenException" => {
                "the session has ended: log in again, or use a role, which is renewed"
            }
            "SignatureDoesNotMatch" => "the secret key does not belong to the access key",
            "OptInRequired" => {
                "the account has not enabled this region, or this image of the marketplace"
            }
            "InstanceLimitExceeded" | "VcpuLimitExceeded" => {
                "ask AWS for a higher quota, or choose a smaller instance_type"
            }
            "InsufficientInstanceCapacity" => {
                "choose another zone or instance_type, or try again later"
            }
            _ => return None,
        })
    }
}

impl<E, R> From<SdkError<E, R>> for AwsError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    fn from(error: SdkError<E, R>) -> Self {
        if let SdkError::ServiceError(answer) = &error {
            let meta = answer.err();
            let code = meta.code().unwrap_or_default().to_owned();
            let message = meta.message().map(|m| m.trim_end_matches('.').to_owned());
            let message = message.filter(|m| !m.is_empty());
            let hint = Self::hint_for(&code).map(str::to_owned);
            let message = message.unwrap_or_else(|| match code.is_empty() {
                true => "the service answered with an error that cannot be read".to_owned(),
                false => "the service refused".to_owned(),
            });
            return Self { code, message, hint };
        }
        let lead = match &error {
            SdkError::TimeoutError(_) => "no answer in time",
            SdkError::DispatchFailure(_) => "the service cannot be reached",
            SdkError::ResponseError(_) => "the service's answer cannot be read",
            _ => "the call could not be made",
        };
        let cause = deepest(&error);
        let hint = match cause.contains("credential") || cause.contains("identity") {
            true => Some(
                "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                 AWS_PROFILE, or \"profile\" in the template"
                    .to_owned(),
            ),
            false => None,
        };
        Self { code: String::new(), message: format!("{lead}: {cause}"), hint }
    }
}

/// The innermost cause of an error, which says the most.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// Whether a failed call was answered with one of these codes.
pub(crate) fn has_code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>, codes: &[&str]) -> bool {
    matches!(error, SdkError::ServiceError(answer) if answer.err().code().is_some_and(|c| codes.contains(&c)))
}

/// Says what was tried when a call failed.
pub(crate) trait Explain<T> {
    /// As a step's failure.
    fn or_fail(self, what: impl Into<String>) -> Result<T, StepError>;

    /// As a component's failure.
    fn or_tell(self, what: impl Into<String>) -> Result<T, ComponentError>;
}

impl<T, E: Into<AwsError>> Explain<T> for Result<T, E> {
    fn or_fail(self, what: impl Into<String>) -> Result<T, StepError> {
        self.map_err(|e| {
            let error = e.into();
            let hint = error.hint.clone();
            let failed = StepError::because(what, error);
            match hint {
                Some(hint) => failed.with_hint(hint),
                None => failed,
            }
        })
    }

    fn or_tell(self, what: impl Into<String>) -> Result<T, ComponentError> {
        self.map_err(|e| {
            let error = e.into();
            let hint = error.hint.clone();
            let failed = ComponentError::because(what, error);
            match hint {
                Some(hint) => failed.with_hint(hint),
                None => failed,
            }
        })
    }
}
