//! Data source `amazon-secretsmanager`: a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_component::{ComponentError, DataSource, ValidateContext};
use karat_config::Config;
use karat_saga::Services;
use karat_value::{Marks, Type, Value};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::client::{Access, Aws, Explain};
use crate::options::AccessConfig;

/// Reads a secret of AWS Secrets Manager.
///
/// The values are `value`, the field `key` of the secret; `secret_string`, the secret as it is
/// stored; `secret_binary`, a binary one in base64; and `version_id`. The first three are
/// sensitive.
#[derive(Clone, Debug, Config)]
pub struct SecretConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// The secret's name or ARN.
    #[option(required)]
    pub name: String,
    /// Which field of a secret that is a JSON object. One that has a single field needs none.
    #[option(default = "")]
    pub key: String,
    /// Which version, by its id.
    #[option(default = "")]
    pub version_id: String,
    /// Which version, by its stage.
    #[option(default = "AWSCURRENT")]
    pub version_stage: String,
}

/// Data source `amazon-secretsmanager`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonSecretsManager;

/// What is read.
#[derive(Debug)]
pub struct Wanted {
    access: Access,
    name: String,
    key: String,
    version: String,
    stage: String,
}

/// A secret as it is stored.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) text: String,
    pub(crate) binary: String,
    pub(crate) version: String,
}

/// Reads a secret. An empty version or stage is not asked for.
///
/// # Errors
/// When there is no such secret, or it may not be read.
pub(crate) async fn read(
    aws: &Aws,
    name: &str,
    version: &str,
    stage: &str,
) -> Result<Secret, ComponentError> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ask = aws
        .secrets()
        .get_secret_value()
        .secret_id(name)
        .set_version_id(text(version))
        .set_version_stage(text(stage));
    let answer = ask.send().await.or_tell(format!("could not read the secret {name}"))?;
    Ok(Secret {
        text: answer.secret_string().unwrap_or_default().to_owned(),
        binary: answer.secret_binary().map(|b| STANDARD.encode(b.as_ref())).unwrap_or_default(),
        version: answer.version_id().unwrap_or_default().to_owned(),
    })
}

/// A field of a secret: of a JSON object the one called `key`, or its only one; of anything else
/// the whole.
///
/// # Errors
/// When there is no such field, or none is named and there are several. Names fields, and never
/// says what is in them.
pub(crate) fn field(name: &str, text: &str, key: &str) -> Result<String, ComponentError> {
    let parsed: Option<Json> = serde_json::from_str(text).ok();
    let Some(Json::Object(fields)) = parsed else {
        if key.is_empty() {
            return Ok(text.to_owned());
        }
        return Err(ComponentError::new(format!(
            "the secret {name} is no JSON object, so it has no field \"{key}\""
        ))
        .with_hint("leave the key out to have the whole secret"));
    };
    let names = || fields.keys().map(|k| format!("\"{k}\"")).collect::<Vec<_>>().join(", ");
    let value = match (key.is_empty(), fields.len()) {
        (true, 1) => fields.values().next(),
        (true, _) => {
            return Err(ComponentError::new(format!(
                "the secret {name} has {} fields, and no key says which",
                fields.len()
            ))
            .with_hint(format!("it has {}", names())));
        }
        (false, _) => fields.get(key),
    };
    match value {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(other) => Ok(other.to_string()),
        None => Err(ComponentError::new(format!("the secret {name} has no field \"{key}\""))
            .with_hint(format!("it has {}", names()))),
    }
}

impl DataSource for AmazonSecretsManager {
    const TYPE: &'static str = "amazon-secretsmanager";
    type Config = SecretConfig;
    type Validated = Wanted;

    fn output(&self) -> Type {
        Type::object([
            ("value", Type::String),
            ("secret_string", Type::String),
            ("secret_binary", Type::String),
            ("version_id", Type::String),
        ])
    }

    fn validate(&self, config: SecretConfig, cx: &mut ValidateContext<'_>) -> Option<Wanted> {
        let access = config.access.validate(cx);
        if config.name.is_empty() {
            cx.error("name", "a secret has a name");
        }
        // The stage that is taken by default does not narrow a version that is asked for.
        let stage = match config.version_id.is_empty() || cx.is_set("version_stage") {
            true => config.version_stage,
            false => String::new(),
        };
        let version = config.version_id;
        Some(Wanted { access, name: config.name, key: config.key, version, stage })
    }

    async fn fetch(
        &self,
        wanted: &Wanted,
        _: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        let work = async {
            let aws = Aws::connect(&wanted.access).await.or_tell("could not reach AWS")?;
            read(&aws, &wanted.name, &wanted.version, &wanted.stage).await
        };
        let secret =
            cancel.run_until_cancelled(work).await.ok_or_else(ComponentError::cancelled)??;
        let value = match secret.text.is_empty() {
            true => String::new(),
            false => field(&wanted.name, &secret.text, &wanted.key)?,
        };
        let hidden = |text: String| Value::string(text).with_marks(&Marks::sensitive());
        Ok(Value::object_of([
            ("value", hidden(value)),
            ("secret_string", hidden(secret.text)),
            ("secret_binary", hidden(secret.binary)),
            ("version_id", Value::string(secret.version)),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_or_named() {
        assert_eq!(field("s", "plain", "").unwrap(), "plain");
        assert_eq!(field("s", r#"{"a":"x"}"#, "").unwrap(), "x");
        assert_eq!(field("s", r#"{"a":"x","b":2}"#, "b").unwrap(), "2");
        let error = field("s", r#"{"a":"x","b":"geheim"}"#, "").unwrap_err();
        assert_eq!(error.hint(), Some("it has \"a\", \"b\""));
        assert!(!error.chain().contains("geheim"));
        assert!(field("s", r#"{"a":"x"}"#, "c").is_err());
        assert!(field("s", "plain", "c").is_err());
    }
}
