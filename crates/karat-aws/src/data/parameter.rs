//! Data source `amazon-parameterstore`: a parameter of the Systems Manager.

use aws_sdk_ssm::types::ParameterType;
use karat_component::{ComponentError, DataSource, ValidateContext};
use karat_config::Config;
use karat_saga::Services;
use karat_value::{Marks, Type, Value};
use tokio_util::sync::CancellationToken;

use crate::client::{Access, Aws, Explain};
use crate::options::AccessConfig;

/// Reads a parameter of the Systems Manager.
///
/// The values are `value`, `version` and `arn`. The value of a `SecureString` is sensitive.
#[derive(Clone, Debug, Config)]
pub struct ParameterConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// The parameter's name or ARN.
    #[option(required)]
    pub name: String,
    /// Whether a `SecureString` is decrypted.
    #[option(default = false)]
    pub with_decryption: bool,
}

/// Data source `amazon-parameterstore`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonParameterStore;

/// What is read.
#[derive(Debug)]
pub struct Wanted {
    access: Access,
    name: String,
    decrypted: bool,
}

impl DataSource for AmazonParameterStore {
    const TYPE: &'static str = "amazon-parameterstore";
    type Config = ParameterConfig;
    type Validated = Wanted;

    fn output(&self) -> Type {
        Type::object([("value", Type::String), ("version", Type::String), ("arn", Type::String)])
    }

    fn validate(&self, config: ParameterConfig, cx: &mut ValidateContext<'_>) -> Option<Wanted> {
        let access = config.access.validate(cx);
        if config.name.is_empty() {
            cx.error("name", "a parameter has a name").hint("for example \"/images/base\"");
        }
        Some(Wanted { access, name: config.name, decrypted: config.with_decryption })
    }

    async fn fetch(
        &self,
        wanted: &Wanted,
        _: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        let what = format!("could not read the parameter {}", wanted.name);
        let work = async {
            let aws = Aws::connect(&wanted.access).await.or_tell("could not reach AWS")?;
            let ask =
                aws.ssm().get_parameter().name(&wanted.name).with_decryption(wanted.decrypted);
            ask.send().await.or_tell(&*what)
        };
        let answer =
            cancel.run_until_cancelled(work).await.ok_or_else(ComponentError::cancelled)??;
        let parameter = answer.parameter().ok_or_else(|| ComponentError::new(what.clone()))?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let value = Value::string(text(parameter.value()));
        let secret = parameter.r#type() == Some(&ParameterType::SecureString) && wanted.decrypted;
        let value = if secret { value.with_marks(&Marks::sensitive()) } else { value };
        Ok(Value::object_of([
            ("value", value),
            ("version", Value::string(parameter.version().to_string())),
            ("arn", Value::string(text(parameter.arn()))),
        ]))
    }
}
