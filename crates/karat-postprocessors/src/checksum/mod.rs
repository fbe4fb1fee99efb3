//! Digests of the artifact's files.
//!
//! | file | what |
//! |---|---|
//! | `digests.rs` | several digests of a file in one pass |
//! | `list.rs` | the file that digests are written to |

mod digests;
mod list;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use karat_component::{
    Artifact, ComponentError, PostProcessContext, PostProcessor, Processed, ValidateContext,
};
use karat_config::Config;
use karat_provisioners::late;

use crate::artifice::list as names;
use crate::names::Names;
use crate::work;
use digests::Kind;

/// Writes digests of the artifact's files, one line for each file: the digest in hexadecimal, a
/// tab, and the file's name without its folder.
///
/// The artifact is kept, and goes on together with the files of digests.
#[derive(Clone, Debug, Config)]
pub struct ChecksumConfig {
    /// Which digests: `md5`, `sha1`, `sha224`, `sha256`, `sha384`, `sha512`.
    #[option(default = ["md5"])]
    pub checksum_types: Vec<String>,
    /// The file that digests are written to. `{{.BuildName}}` is the name of the source,
    /// `{{.BuilderType}}` its type, `{{.ChecksumType}}` the digest. Lines about other files stay.
    /// Missing folders are made. The default is
    /// `packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum`.
    #[option(late)]
    pub output: Option<String>,
}

/// Options of `checksum` that were proved.
#[derive(Clone, Debug)]
pub struct ChecksumValidated {
    kinds: Vec<Kind>,
    output: String,
}

/// The post-processor `checksum`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum;

impl PostProcessor for Checksum {
    const TYPE: &'static str = "checksum";
    type Config = ChecksumConfig;
    type Validated = ChecksumValidated;

    fn validate(
        &self,
        config: ChecksumConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<ChecksumValidated> {
        let mut kinds = Vec::new();
        for name in &config.checksum_types {
            match Kind::of(name) {
                Some(kind) if kinds.contains(&kind) => {}
                Some(kind) => kinds.push(kind),
                None => {
                    let text = format!("unrecognized checksum type: {name}");
                    let problem = cx.error("checksum_types", text);
                    problem.detail(format!("There are {}.", Kind::NAMES.join(", ")));
                    if let Some(near) = karat_hcl::diag::closest(name, Kind::NAMES) {
                        problem.hint(format!("Did you mean \"{near}\"?"));
                    }
                }
            }
        }
        if config.checksum_types.is_empty() {
            cx.error("checksum_types", "No digest is asked for")
                .hint("Leave the option out to have md5.");
        }
        let output = config.output.unwrap_or_else(|| {
            "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum".to_owned()
        });
        late::check("output", &output, cx);
        if output.is_empty() || output.ends_with('/') {
            cx.error("output", format!("\"{output}\" does not name a file"));
        }
        Some(ChecksumValidated { kinds, output })
    }

    async fn post_process(
        &self,
        validated: &ChecksumValidated,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let names_of = Names::new(cx);
        let mut outputs: Vec<(Kind, PathBuf)> = Vec::new();
        for kind in &validated.kinds {
            let own = [("ChecksumType", kind.name())];
            outputs.push((*kind, names_of.render("output", &validated.output, &own)?.into()));
        }
        let made = work::blocking(&cx.cancel, {
            let (files, events) = (artifact.files.clone(), cx.events.clone());
            move |cancel| {
                let kinds: Vec<Kind> = outputs.iter().map(|(kind, _)| *kind).collect();
                let mut lines: BTreeMap<&Path, Vec<list::Line>> = BTreeMap::new();
                // In the order of kinds, then of files, as Packer writes them.
                let mut all = Vec::new();
                for file in &files {
                    all.push((file, digests::of(file, &kinds, &events, cancel)?));
                }
                for (place, (_, output)) in outputs.iter().enumerate() {
                    for (file, digests) in &all {
                        let line = list::Line::new(&digests[place], file);
                        lines.entry(output).or_default().push(line);
                    }
                }
                list::write_all(&lines, cancel)?;
                let mut made: Vec<PathBuf> = outputs.into_iter().map(|(_, path)| path).collect();
                made.dedup();
                Ok(made)
            }
        })
        .await?;
        let mut files = artifact.files;
        files.extend(made);
        let artifact = Artifact {
            builder_id: "packer.post-processor.checksum".into(),
            description: format!("Created artifact from files: {}", names(&files)),
            files,
            ..Artifact::default()
        };
        Ok(Processed { artifact: Some(artifact), keep: true, force: true })
    }
}
