//! Takes other files as the artifact.

use std::path::PathBuf;

use karat_component::{
    Artifact, ComponentError, PostProcessContext, PostProcessor, Processed, ValidateContext,
};
use karat_config::Config;

/// Puts other files in the place of the artifact: what the provisioners fetched from the machine,
/// for example. The next post-processors work on these.
///
/// The artifact that was there before is kept, unless `keep_input_artifact = false`.
#[derive(Clone, Debug, Config)]
pub struct ArtificeConfig {
    /// The files. Patterns with `*`, `?` and `[…]` stand for all files that match. Relative paths
    /// start at the folder that the command is run in.
    #[option(required)]
    pub files: Vec<String>,
}

/// The post-processor `artifice`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Artifice;

impl PostProcessor for Artifice {
    const TYPE: &'static str = "artifice";
    type Config = ArtificeConfig;
    type Validated = ArtificeConfig;

    fn validate(
        &self,
        config: ArtificeConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<ArtificeConfig> {
        if config.files.is_empty() {
            cx.error("files", "No files specified in artifice configuration")
                .detail("The list has to name one file at least.");
        }
        for file in &config.files {
            if file.is_empty() {
                cx.error("files", "The name of a file is empty");
            } else if let Err(e) = glob::Pattern::new(file) {
                cx.error("files", format!("\"{file}\" is no pattern")).detail(format!("{e}."));
            }
        }
        Some(config)
    }

    async fn post_process(
        &self,
        config: &ArtificeConfig,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let files = found(config)?;
        if !artifact.files.is_empty() {
            cx.events.say(format!("Discarding files from artifact: {}", list(&artifact.files)));
        }
        cx.events.say(format!("Using these artifact files: {}", list(&files)));
        let artifact = Artifact {
            builder_id: "packer.post-processor.artifice".into(),
            description: format!("Created artifact from files: {}", list(&files)),
            files,
            ..Artifact::default()
        };
        Ok(Processed { artifact: Some(artifact), keep: true, force: false })
    }
}

fn found(config: &ArtificeConfig) -> Result<Vec<PathBuf>, ComponentError> {
    let mut files = Vec::new();
    for pattern in &config.files {
        let exact = PathBuf::from(pattern);
        if exact.exists() {
            files.push(exact);
            continue;
        }
        let unusable =
            |e: String| ComponentError::new(format!("cannot look for \"{pattern}\": {e}"));
        let matches = glob::glob(pattern).map_err(|e| unusable(e.to_string()))?;
        let before = files.len();
        for path in matches {
            files.push(path.map_err(|e| unusable(e.to_string()))?);
        }
        if files.len() == before {
            return Err(ComponentError::new(format!("no file is there for \"{pattern}\""))
                .with_hint(
                    "\"files\" has to name what the build made on this machine; relative paths \
                     start at the folder that the command is run in",
                ));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

pub(crate) fn list(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use karat_component::testing::{
        self, Component, Recorded, artifact, body, leaves_nothing, post_process_context,
        post_processor,
    };
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn run(options: &Value) -> (Result<Processed, ComponentError>, Recorded) {
        let (events, recorded) = Recorded::new(&[]);
        let cx = post_process_context(events, CancellationToken::new());
        let prepared = post_processor(Artifice, options);
        (prepared.post_process(&cx, artifact(["out.txt"])).await, recorded)
    }

    #[test]
    fn complies() {
        let component = Component::PostProcessor(Arc::new(Artifice));
        testing::options(&component, &body(&json!({ "files": ["a*"] })));
        let found = component.errors(&body(&json!({ "files": [] })));
        assert!(found[0].starts_with("No files specified"), "{found:?}");
        let found = component.errors(&body(&json!({ "files": ["a[", ""] })));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[tokio::test]
    async fn takes_files_and_patterns_once_each() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c[1]"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let (result, recorded) = run(&json!({ "files": [at("c[1]"), at("*"), at("a")] })).await;
        let processed = result.unwrap();
        assert!(processed.keep && !processed.force);
        let made = processed.artifact.unwrap();
        assert_eq!(made.files, [at("c[1]"), at("a"), at("b")]);
        let names =
            format!("{}, {}, {}", made.files[0].display(), at("a").display(), at("b").display());
        assert_eq!(made.description, format!("Created artifact from files: {names}"));
        assert_eq!(
            recorded.said(),
            [
                "Discarding files from artifact: out.txt".to_owned(),
                format!("Using these artifact files: {names}"),
            ]
        );
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["none", "*.none"] {
            let work = async { run(&json!({ "files": [dir.path().join(name)] })).await.0 };
            let error = leaves_nothing(&[dir.path()], work).await;
            assert!(error.to_string().starts_with("no file is there for"), "{error}");
        }
    }
}
