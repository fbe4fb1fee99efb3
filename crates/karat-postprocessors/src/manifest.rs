//! Writes down what was built.
//!
//! The file is Packer's: `builds`, a list of objects, and `last_run_uuid`. What else stands in it
//! stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use karat_component::{
    Artifact, ComponentError, PostProcessContext, PostProcessor, Processed, ValidateContext,
};
use karat_config::Config;
use karat_provisioners::late::{self, Late};
use serde_json::{Map, Value, json};

use crate::lock::Lock;
use crate::work;
use crate::written::{Written, cannot_read};

/// Writes a JSON file with what was built: the artifact's id and files, the build, and when.
///
/// Each build adds an entry to the file, so that one file tells of all builds of all runs;
/// `-force` starts it anew. The entry of this run is the one whose `packer_run_uuid` is the file's
/// `last_run_uuid`. The artifact is kept.
#[derive(Clone, Debug, Config)]
pub struct ManifestConfig {
    /// The file. Relative paths start at the folder that the command is run in; missing folders
    /// are made.
    #[option(default = "packer-manifest.json", output)]
    pub output: String,
    /// Writes only the names of the artifact's files, without their folders.
    pub strip_path: bool,
    /// Leaves the time out, so that the file can stand in a repository without changing each time.
    pub strip_time: bool,
    /// Values of your own, written into the entry. They may use values of the build: `{{.ID}}`.
    #[option(late)]
    pub custom_data: BTreeMap<String, String>,
}

/// The post-processor `manifest`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manifest;

impl PostProcessor for Manifest {
    const TYPE: &'static str = "manifest";
    type Config = ManifestConfig;
    type Validated = ManifestConfig;

    fn validate(
        &self,
        config: ManifestConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<ManifestConfig> {
        if config.output.is_empty() || config.output.ends_with('/') {
            cx.error("output", format!("\"{}\" does not name a file", config.output))
                .hint("The default is \"packer-manifest.json\".");
        }
        for text in config.custom_data.values() {
            late::check("custom_data", text, cx);
        }
        Some(config)
    }

    async fn post_process(
        &self,
        config: &ManifestConfig,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let mut entry = entry(config, cx, &artifact)?;
        for value in entry.as_object_mut().into_iter().flat_map(Map::values_mut) {
            cx.events.masker().mask_json(value);
        }
        let output = PathBuf::from(&config.output);
        let (run, force) = (cx.build.run_uuid.clone(), cx.build.force);
        work::blocking(&cx.cancel, move |cancel| {
            let written = Written::begin(&output)?;
            let _lock = Lock::take(&output, cancel)?;
            let mut all = read(&output, &run, force)?;
            add(&mut all, entry, &run, &output)?;
            let mut text = serde_json::to_vec_pretty(&Value::Object(all))
                .map_err(|e| ComponentError::because("cannot write the manifest", e))?;
            text.push(b'\n');
            written.write(&text)?;
            written.finish()
        })
        .await?;
        Ok(Processed { artifact: Some(artifact), keep: true, force: true })
    }
}

fn entry(
    config: &ManifestConfig,
    cx: &PostProcessContext,
    artifact: &Artifact,
) -> Result<Value, ComponentError> {
    let late = Late::new(&cx.build, &cx.generated, &cx.services);
    let mut custom = Map::new();
    for (name, text) in &config.custom_data {
        custom.insert(name.clone(), late.render_loosely("custom_data", text, &[])?.into());
    }
    let mut entry = Map::new();
    entry.insert("name".into(), json!(cx.build.source_name));
    entry.insert("builder_type".into(), json!(cx.build.source_type));
    if !config.strip_time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        entry.insert("build_time".into(), json!(now.as_secs()));
    }
    let files: Vec<Value> = artifact.files.iter().map(|f| file(f, config.strip_path)).collect();
    let nothing_or = |empty: bool, value: Value| if empty { Value::Null } else { value };
    entry.insert("files".into(), nothing_or(files.is_empty(), Value::Array(files)));
    entry.insert("artifact_id".into(), json!(artifact.id));
    entry.insert("packer_run_uuid".into(), json!(cx.build.run_uuid));
    entry.insert("custom_data".into(), nothing_or(custom.is_empty(), Value::Object(custom)));
    Ok(Value::Object(entry))
}

fn file(path: &Path, strip: bool) -> Value {
    let name = match path.file_name() {
        Some(name) if strip => Path::new(name),
        _ => path,
    };
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    json!({ "name": name.to_string_lossy(), "size": size })
}

/// What is there already. With `-force` only what this run itself wrote counts.
fn read(path: &Path, run: &str, force: bool) -> Result<Map<String, Value>, ComponentError> {
    let text = match std::fs::read(path) {
        Ok(text) if !text.trim_ascii().is_empty() => text,
        Ok(_) => return Ok(Map::new()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(cannot_read(path, e)),
    };
    let all = match serde_json::from_slice(&text) {
        Ok(Value::Object(all)) => all,
        _ if force => return Ok(Map::new()),
        Ok(_) => return Err(not_a_manifest(path, "it is no object".into())),
        Err(e) => return Err(not_a_manifest(path, e.to_string())),
    };
    let of_this_run = all.get("last_run_uuid").and_then(Value::as_str) == Some(run);
    if force && !of_this_run { Ok(Map::new()) } else { Ok(all) }
}

fn add(
    all: &mut Map<String, Value>,
    entry: Value,
    run: &str,
    path: &Path,
) -> Result<(), ComponentError> {
    let builds = all.entry("builds").or_insert(Value::Null);
    if builds.is_null() {
        *builds = json!([]);
    }
    match builds {
        Value::Array(builds) => builds.push(entry),
        _ => return Err(not_a_manifest(path, "\"builds\" is no list".into())),
    }
    all.insert("last_run_uuid".into(), json!(run));
    Ok(())
}

fn not_a_manifest(path: &Path, reason: String) -> ComponentError {
    ComponentError::new(format!("\"{}\" is no manifest: {reason}", path.display()))
        .with_hint("-force starts the file anew; or choose another file by \"output\"")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use karat_component::testing::{
        self, Component, Recorded, artifact, body, ends_when_cancelled, leaves_nothing,
        post_process_context, post_processor,
    };
    use karat_value::Value as KaratValue;
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn run(
        options: &Value,
        run: &str,
        force: bool,
        files: &[&Path],
    ) -> Result<Processed, ComponentError> {
        let mut cx = post_process_context(Recorded::new(&[]).0, CancellationToken::new());
        cx.build.run_uuid = run.into();
        cx.build.force = force;
        cx.generated.insert("ID".into(), KaratValue::string("i-1"));
        post_processor(Manifest, options).post_process(&cx, artifact(files)).await
    }

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn complies() {
        let component = Component::PostProcessor(Arc::new(Manifest));
        testing::options(&component, &body(&json!({})));
        let found = component.errors(&body(&json!({ "output": "", "custom_data": { "a": "{{" } })));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[tokio::test]
    async fn entries_are_packers_and_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("deep/m.json");
        let file = dir.path().join("disk");
        std::fs::write(&file, "12345").unwrap();
        let options = json!({
            "output": output, "strip_path": true, "strip_time": true,
            "custom_data": { "a": "1", "b": "id {{.ID}} {{build_type}} {{.None}}" },
        });
        let processed = run(&options, "run-1", false, &[&file]).await.unwrap();
        assert!(processed.keep && processed.force);
        assert_eq!(processed.artifact.unwrap().files, std::slice::from_ref(&file));
        let first = json!({
            "name": "test",
            "builder_type": "null",
            "files": [{ "name": "disk", "size": 5 }],
            "artifact_id": "test-id",
            "packer_run_uuid": "run-1",
            "custom_data": { "a": "1", "b": "id i-1 null <no value>" },
        });
        assert_eq!(read(&output), json!({ "builds": [first], "last_run_uuid": "run-1" }));

        let plain = json!({ "output": output });
        run(&plain, "run-2", false, &[&file]).await.unwrap();
        let all = read(&output);
        assert_eq!(all["builds"][0], first);
        assert_eq!(all["builds"][1]["files"][0]["name"], json!(file));
        assert_eq!(all["builds"][1]["custom_data"], Value::Null);
        let time = all["builds"][1]["build_time"].as_u64().unwrap();
        assert!(time > 1_700_000_000, "{time}");
        assert_eq!(all["last_run_uuid"], "run-2");

        run(&plain, "run-3", true, &[]).await.unwrap();
        run(&plain, "run-3", true, &[]).await.unwrap();
        let all = read(&output);
        assert_eq!(all["builds"].as_array().unwrap().len(), 2, "-force starts anew once a run");
        assert_eq!(all["builds"][0]["files"], Value::Null);
        assert_eq!(std::fs::read_dir(output.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn builds_side_by_side_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("m.json");
        let options = json!({ "output": output });
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let options = options.clone();
                tokio::spawn(async move { run(&options, "run", false, &[]).await.map(drop) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(read(&output)["builds"].as_array().unwrap().len(), 20);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no lock is left");
    }

    #[tokio::test]
    async fn a_file_that_is_no_manifest_stays_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("m.json");
        let options = json!({ "output": output });
        for text in ["no json", "[]", "{\"builds\": 1}"] {
            std::fs::write(&output, text).unwrap();
            let work = async { run(&options, "r", false, &[]).await };
            let error = leaves_nothing(&[dir.path()], work).await;
            assert!(error.hint().unwrap().contains("-force"), "{error:?}");
            assert_eq!(std::fs::read_to_string(&output).unwrap(), text);
        }
        run(&options, "r", true, &[]).await.unwrap();
        assert_eq!(read(&output)["builds"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn waiting_for_another_build_can_be_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("m.json");
        let _other = Lock::take(&output, &CancellationToken::new()).unwrap();
        let prepared = post_processor(Manifest, &json!({ "output": output }));
        ends_when_cancelled(&[dir.path()], |cancel| {
            let cx = post_process_context(Recorded::new(&[]).0, cancel);
            let prepared = &prepared;
            async move { prepared.post_process(&cx, Artifact::default()).await }
        })
        .await;
        assert!(!output.exists());
    }
}
