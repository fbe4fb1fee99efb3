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
        let entry = entry(config, cx, &artifact)?;
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
