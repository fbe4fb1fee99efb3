//! The data sources of AWS.

mod ami;
mod parameter;
mod secret;

pub use ami::{AmazonAmi, AmiDataConfig};
pub use parameter::{AmazonParameterStore, ParameterConfig};
pub use secret::{AmazonSecretsManager, SecretConfig};
pub(crate) use secret::{field, read};
