//! Data source `null`: gives back what it is given, to try out templates.

use karat_component::{ComponentError, DataSource, ValidateContext};
use karat_config::Config;
use karat_saga::Services;
use karat_value::{Type, Value};
use tokio_util::sync::CancellationToken;

/// Gives back its input, as `output`.
#[derive(Clone, Debug, Config)]
pub struct NullConfig {
    /// What to give back; not the empty text.
    #[option(required)]
    input: String,
}

/// Data source `null`.
#[derive(Clone, Copy, Debug)]
pub struct Null;

impl DataSource for Null {
    const TYPE: &'static str = "null";
    const OFFLINE: bool = true;
    type Config = NullConfig;
    type Validated = NullConfig;

    fn output(&self) -> Type {
        Type::object([("output", Type::String)])
    }

    fn validate(&self, config: NullConfig, cx: &mut ValidateContext<'_>) -> Option<NullConfig> {
        if config.input.is_empty() && cx.is_known("input") {
            cx.error("input", "The input must be specified")
                .detail("\"input\" is empty, so there is nothing to be given back.");
            return None;
        }
        Some(config)
    }

    async fn fetch(
        &self,
        config: &NullConfig,
        _: &Services,
        _: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        Ok(Value::object_of([("output", Value::string(config.input.as_str()))]))
    }
}
