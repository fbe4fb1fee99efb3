//! Source `file`: makes one local file, by copying or from text.

use std::io::Write;
use std::path::{Path, PathBuf};

use karat_component::{Artifact, Builder, Events, SagaContext, ValidateContext};
use karat_config::Config;
use karat_saga::{Lifetime, Outputs, Saga, SagaError, Step, StepContext, StepError, StepRegistry};
use serde::{Deserialize, Serialize};

use crate::ConnectAndProvision;

/// Makes one local file, by copying another or from text. For tests of post-processors.
#[derive(Debug, Config)]
pub struct FileConfig {
    /// The file to be made.
    #[option(required, output)]
    target: String,
    /// The file to be copied.
    #[option(input)]
    source: String,
    /// The text of the file.
    content: Option<String>,
}

/// Source `file`.
#[derive(Clone, Copy, Debug)]
pub struct File;

/// A target, and what goes into it.
#[derive(Clone, Debug)]
pub struct Validated {
    target: PathBuf,
    from: From,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum From {
    Copy(PathBuf),
    Text(String),
}

impl Builder for File {
    const TYPE: &'static str = "file";
    type Config = FileConfig;
    type Validated = Validated;

    fn validate(&self, config: FileConfig, cx: &mut ValidateContext<'_>) -> Option<Validated> {
        let given = (!config.source.is_empty(), config.content);
        let from = match given {
            (true, Some(_)) => {
                cx.error("content", "only one of \"source\" and \"content\" can be set");
                None
            }
            (true, None) => Some(From::Copy(config.source.into())),
            (false, Some(text)) => Some(From::Text(text)),
            (false, None) if cx.is_known("source") => {
                cx.warning(
                    "content",
                    "neither \"source\" nor \"content\" is set: the file will be empty",
                );
                Some(From::Text(String::new()))
            }
            (false, None) => Some(From::Text(String::new())),
        };
        if config.target.is_empty() {
            cx.error("target", "\"target\" must not be empty");
        }
        Some(Validated { target: config.target.into(), from: from? })
    }

    fn has_machine(&self, _: &Validated) -> bool {
        false
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        registry.register::<WriteFile>().register::<ConnectAndProvision>();
    }

    fn saga(&self, validated: &Validated, cx: &SagaContext) -> Result<Saga, SagaError> {
        let Validated { target, from } = validated.clone();
        let target = std::path::absolute(&target).unwrap_or(target);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = target.with_file_name(format!(".{name}.{}", cx.token));
        let step = WriteFile { target, temporary, from: Some(from) };
        let provision = ConnectAndProvision::local(&cx.build.target);
        Saga::new(&cx.build.target).step("write-file", step).step("provision", provision).build()
    }

    fn artifact(
        &self,
        validated: &Validated,
        _: &SagaContext,
        _: &Outputs,
    ) -> Result<Option<Artifact>, StepError> {
        let target = &validated.target;
        Ok(Some(Artifact {
            builder_id: "packer.file".into(),
            id: "File".into(),
            description: format!("Stored file: {}", target.display()),
            files: vec![target.clone()],
            ..Artifact::default()
        }))
    }
}

/// Writes the file beside its place and renames it, so that it is never half there.
///
/// What goes into it may be a secret and is not stored: a run is resumed with a new step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WriteFile {
    target: PathBuf,
    temporary: PathBuf,
    #[serde(skip)]
    from: Option<From>,
}

impl Step for WriteFile {
    const KIND: &'static str = "file.write";
    type Output = ();

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let events = cx.service::<Events>()?;
        let Some(from) = &self.from else {
            return Err(StepError::new("what the file is made of is not known any more")
                .with_hint("begin anew: karat build"));
        };
        let text = match from {
            From::Copy(source) => {
                format!("Copying {} to {}", source.display(), self.target.display())
            }
            From::Text(_) => format!("Writing {}", self.target.display()),
        };
        events.say(text);
        let (step, from) = (self.clone(), from.clone());
        let written = tokio::task::spawn_blocking(move || step.write(&from)).await;
        let failed =
            |e| StepError::because(format!("could not write {}", self.target.display()), e);
        written.map_err(|e| failed(std::io::Error::other(e)))?.map_err(failed)
    }

    /// What stood at the target before is not brought back, and what was renamed to it is whole:
    /// only the temporary file is removed.
    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        match std::fs::remove_file(&self.temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StepError::because(format!("could not remove {}", self.temporary.display()), e))
            }
            _ => Ok(()),
        }
    }
}

impl WriteFile {
    fn write(&self, from: &From) -> std::io::Result<()> {
        if let Some(parent) = self.target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match from {
            From::Copy(source) => {
                if same_file(source, &self.target) {
                    return Ok(());
                }
                std::fs::copy(source, &self.temporary)?;
            }
            From::Text(text) => {
                std::fs::File::create(&self.temporary)?.write_all(text.as_bytes())?;
            }
        }
        std::fs::rename(&self.temporary, &self.target)
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((std::fs::canonicalize(a), std::fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}
