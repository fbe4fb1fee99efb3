//! Data sources `external` and `external-raw`: what a program of one's own prints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use karat_component::{ComponentError, DataSource, ValidateContext};
use karat_config::{Config, Duration};
use karat_saga::Services;
use karat_value::{Type, Value};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::program::Program;

/// Runs a program on this computer, and gives what it answers.
///
/// The program reads `query` as a JSON object from its standard input, and prints a JSON object
/// whose values are all text; that is the value `result`. When it fails, what it printed to its
/// standard error is shown. It is run once in each run of the template, and not at all by
/// `karat validate`. It must change nothing.
#[derive(Clone, Debug, Config)]
pub struct ExternalConfig {
    /// The program and its arguments.
    #[option(required)]
    program: Vec<String>,
    /// What is asked: names and texts.
    query: BTreeMap<String, String>,
    /// The folder that it is run in. Otherwise that of the command.
    #[option(default = "")]
    working_dir: String,
    /// How long it may take.
    #[option(default = "10m", volatile)]
    timeout: Duration,
}

/// Runs a program on this computer, and gives what it prints, as it is.
///
/// The program reads `query` from its standard input; what it prints is the value `result`. Else it
/// is like `external`.
#[derive(Clone, Debug, Config)]
pub struct ExternalRawConfig {
    /// The program and its arguments.
    #[option(required)]
    program: Vec<String>,
    /// What the program reads.
    #[option(default = "")]
    query: String,
    /// The folder that it is run in. Otherwise that of the command.
    #[option(default = "")]
    working_dir: String,
    /// How long it may take.
    #[option(default = "10m", volatile)]
    timeout: Duration,
}

/// Data source `external`.
#[derive(Clone, Copy, Debug)]
pub struct External;

/// Data source `external-raw`.
#[derive(Clone, Copy, Debug)]
pub struct ExternalRaw;

fn program(
    arguments: Vec<String>,
    input: String,
    working_dir: String,
    timeout: Duration,
    cx: &mut ValidateContext<'_>,
) -> Program {
    if arguments.first().is_none_or(String::is_empty) {
        cx.error("program", "No program")
            .detail("\"program\" is a list: the program, then its arguments.")
            .hint("Write program = [\"sh\", \"lookup.sh\"].");
    }
    let working_dir = (!working_dir.is_empty()).then(|| PathBuf::from(working_dir));
    Program { arguments, input, working_dir, timeout: timeout.0 }
}

impl DataSource for External {
    const TYPE: &'static str = "external";
    type Config = ExternalConfig;
    type Validated = Program;

    fn output(&self) -> Type {
        Type::object([("result", Type::map(Type::String))])
    }

    fn validate(&self, config: ExternalConfig, cx: &mut ValidateContext<'_>) -> Option<Program> {
        let query = config.query.into_iter().map(|(name, text)| (name, Json::String(text)));
        let input = Json::Object(query.collect()).to_string();
        Some(program(config.program, input, config.working_dir, config.timeout, cx))
    }

    async fn fetch(
        &self,
        program: &Program,
        _: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        let text = program.run(cancel).await?;
        let result = answer(&text).map_err(|reason| {
            let text = format!("cannot use what \"{}\" printed", program.arguments[0]);
            ComponentError::because(text, reason)
                .with_hint("it has to print a JSON object whose values are all text")
        })?;
        Ok(Value::object_of([("result", Value::map(Type::String, result))]))
    }
}

impl DataSource for ExternalRaw {
    const TYPE: &'static str = "external-raw";
    type Config = ExternalRawConfig;
    type Validated = Program;

    fn output(&self) -> Type {
        Type::object([("result", Type::String)])
    }

    fn validate(&self, config: ExternalRawConfig, cx: &mut ValidateContext<'_>) -> Option<Program> {
        Some(program(config.program, config.query, config.working_dir, config.timeout, cx))
    }

    async fn fetch(
        &self,
        program: &Program,
        _: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        let text = program.run(cancel).await?;
        Ok(Value::object_of([("result", Value::string(text))]))
    }
}

fn answer(text: &str) -> Result<BTreeMap<Arc<str>, Value>, String> {
    let json: Json = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let Json::Object(all) = json else {
        return Err(format!("it is {} and no object", kind(&json)));
    };
    all.into_iter()
        .map(|(name, value)| match value {
            Json::String(text) => Ok((name.into(), Value::string(text))),
            other => Err(format!("\"{name}\" is {} and no text", kind(&other))),
        })
        .collect()
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use karat_component::testing::{self, Component, body, data_source, ends_when_cancelled};
    use serde_json::json;

    use super::*;

    async fn fetch(options: &Json) -> Result<Value, String> {
        let source = data_source(External, options);
        let value = source.fetch(&Services::new(), &CancellationToken::new()).await;
        value.map_err(|e| e.chain())
    }

    fn sh(script: &str) -> Json {
        json!({ "program": ["sh", "-c", script] })
    }

    #[test]
    fn complies() {
        let valid = body(&json!({ "program": ["true"] }));
        let component = Component::DataSource(Arc::new(External));
        testing::options(&component, &valid);
        assert!(!component.errors(&body(&json!({ "program": [] }))).is_empty());
        testing::options(&Component::DataSource(Arc::new(ExternalRaw)), &valid);
    }

    #[tokio::test]
    async fn gives_what_the_program_answers() {
        let options = json!({ "program": ["cat"], "query": { "a": "1", "b": "\"\n" } });
        let value = fetch(&options).await.unwrap();
        assert_eq!(value.ty(), &DataSource::output(&External));
        let all = value.as_map().unwrap()["result"].as_map().unwrap();
        assert_eq!(all["a"].as_str(), Some("1"));
        assert_eq!(all["b"].as_str(), Some("\"\n"));
        let raw = data_source(ExternalRaw, &json!({ "program": ["tr", "a", "b"], "query": "aXa" }));
        let value = raw.fetch(&Services::new(), &CancellationToken::new()).await.unwrap();
        assert_eq!(value.as_map().unwrap()["result"].as_str(), Some("bXb"));
    }

    #[tokio::test]
    async fn runs_in_the_folder_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here.json"), r#"{"a": "b"}"#).unwrap();
        let options = json!({ "program": ["cat", "here.json"], "working_dir": folder.path() });
        assert!(fetch(&options).await.is_ok());
    }

    #[tokio::test]
    async fn says_what_went_wrong() {
        for (script, reason) in [
            ("echo oh no >&2; exit 3", "\"sh\" failed with exit code 3: oh no"),
            ("echo", "cannot use what \"sh\" printed: it is no JSON: EOF while parsing"),
            ("echo '[]'", "cannot use what \"sh\" printed: it is a list and no object"),
            (r#"echo '{"n": 1}'"#, "cannot use what \"sh\" printed: \"n\" is a number and no text"),
            ("printf '\\377'", "\"sh\" printed something that is no text"),
        ] {
            let error = fetch(&sh(script)).await.unwrap_err();
            assert!(error.starts_with(reason), "{script}: {error}");
        }
        let error = fetch(&json!({ "program": ["/nowhere/at/all"] })).await.unwrap_err();
        assert!(error.starts_with("cannot start \"/nowhere/at/all\": "), "{error}");
        let mut slow = sh("sleep 600");
        slow["timeout"] = json!("50ms");
        let error = fetch(&slow).await.unwrap_err();
        assert_eq!(error, "\"sh\" did not end within 0.05 seconds");
    }

    #[tokio::test]
    async fn ends_what_the_program_started() {
        ends_when_cancelled(&[], |cancel| async move {
            let source = data_source(External, &sh("sleep 600 & sleep 600"));
            source.fetch(&Services::new(), &cancel).await
        })
        .await;
    }
}
