//! One archive of the artifact's files.
//!
//! | file | what |
//! |---|---|
//! | `format.rs` | which archive and which compression a file name asks for |
//! | `entries.rs` | what goes into an archive, by which names |
//! | `pack.rs` | writes the archive |
//! | `blocks.rs` | compresses blocks side by side, in order |
//! | `gzip.rs` | gzip and bgzf made of such blocks |

mod blocks;
mod entries;
mod format;
mod gzip;
mod pack;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use karat_component::{
    Artifact, ComponentError, PostProcessContext, PostProcessor, Processed, ValidateContext,
};
use karat_config::Config;
use karat_provisioners::late;

use crate::artifice::list;
use crate::names::Names;
use crate::work;
use crate::written::Written;
use format::Format;

/// Packs the artifact's files into one archive, or compresses its only file.
///
/// The files that went in are removed, unless `keep_input_artifact = true`. Archives are the same,
/// byte for byte, when the files are: times and owners are not written.
#[derive(Clone, Debug, Config)]
pub struct CompressConfig {
    /// The archive. Its name says how it is packed: `.tar`, `.zip`, or the compressions `.gz`,
    /// `.bgzf`, `.lz4`, `.xz` and `.zst`, alone for a single file or behind `.tar` (`.tar.gz`,
    /// `.tgz`). Any other name is packed as `.tar.gz` and stays as it is. `{{.BuildName}}` is the
    /// name of the source, `{{.BuilderType}}` and `{{.Provider}}` its type, `{{.ArtifactId}}` the
    /// artifact's id. The default is `packer_{{.BuildName}}_{{.Provider}}`. Missing folders are
    /// made.
    #[option(late)]
    pub output: Option<String>,
    /// How it is packed, whatever the name says: `tar.gz`, `zip`, `xz`, ….
    pub format: Option<String>,
    /// How hard to try, from 1 (fast) to 9 (small). The default is 6; `.zst` then takes its own,
    /// which is 3. `.tar` and `.lz4` have no levels.
    pub compression_level: Option<u32>,
}

/// Options of `compress` that were proved.
#[derive(Clone, Debug)]
pub struct CompressValidated {
    output: String,
    format: Option<Format>,
    level: Option<u32>,
}

/// The post-processor `compress`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compress;

impl PostProcessor for Compress {
    const TYPE: &'static str = "compress";
    type Config = CompressConfig;
    type Validated = CompressValidated;

    fn validate(
        &self,
        config: CompressConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<CompressValidated> {
        let output =
            config.output.unwrap_or_else(|| "packer_{{.BuildName}}_{{.Provider}}".to_owned());
        late::check("output", &output, cx);
        if output.is_empty() || output.ends_with('/') {
            cx.error("output", format!("\"{output}\" does not name a file"));
        }
        let format = config.format.as_deref().filter(|f| !f.is_empty()).and_then(|text| {
            let format = Format::exact(text);
            if format.is_none() {
                let problem = cx.error("format", format!("\"{text}\" is no archive format"));
                problem.detail(format!("There are {}.", Format::NAMES.join(", ")));
                if let Some(near) = karat_hcl::diag::closest(text, Format::NAMES) {
                    problem.hint(format!("Did you mean \"{near}\"?"));
                }
            }
            format
        });
        // Packer takes 0 for the default.
        let level = config.compression_level.filter(|level| *level != 0);
        if let Some(level) = level.filter(|level| *level > 9) {
            cx.error("compression_level", format!("{level} is no compression level"))
                .detail("Levels go from 1, the fastest, to 9, the smallest.");
        }
        Some(CompressValidated { output, format, level })
    }

    async fn post_process(
        &self,
        validated: &CompressValidated,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let own =
            [("Provider", cx.build.source_type.as_str()), ("ArtifactId", artifact.id.as_str())];
        let output = PathBuf::from(Names::new(cx).render("output", &validated.output, &own)?);
        let format = validated.format.unwrap_or_else(|| Format::of_name(&output));
        check_files(&artifact, format, &output)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let place = output.display();
        if let Some(text) = format.announce(threads, &place.to_string()) {
            cx.events.say(text);
        }
        cx.events.say(format.describe(&place.to_string(), &list(&artifact.files)));
        let job = pack::Job {
            files: artifact.files,
            format,
            level: validated.level,
            threads,
            what: format!("compressing {place}"),
            events: cx.events.clone(),
        };
        work::blocking(&cx.cancel, {
            let output = output.clone();
            move |cancel| {
                let written = Written::begin(&output)?;
                job.run(&written, cancel)?;
                written.finish()
            }
        })
        .await?;
        cx.events.say(format!("Archive {place} completed"));
        let artifact = Artifact {
            builder_id: "packer.post-processor.compress".into(),
            description: format!("compressed artifacts in: {place}"),
            files: vec![output.clone()],
            ..Artifact::default()
        };
        Ok(Processed { artifact: Some(artifact), keep: false, force: false })
    }
}

fn check_files(
    artifact: &Artifact,
    format: Format,
    output: &std::path::Path,
) -> Result<(), ComponentError> {
    if artifact.files.is_empty() {
        return Err(ComponentError::new("the artifact has no files to compress").with_hint(
            "images in a cloud have none; \"artifice\" before this takes files of your own",
        ));
    }
    let one = match artifact.files.as_slice() {
        [file] => !file.is_dir(),
        _ => false,
    };
    if !one && !format.holds_many() {
        return Err(ComponentError::new(format!(
            "Can only have 1 input file when not using tar/zip. Found {} files: [{}]",
            artifact.files.len(),
            list(&artifact.files)
        ))
        .with_hint("put \".tar\" before the last ending of \"output\", or use \".zip\""));
    }
    let same = |file: &PathBuf| match (file.canonicalize(), output.canonicalize()) {
        (Ok(file), Ok(output)) => file == output,
        _ => false,
    };
    if let Some(file) = artifact.files.iter().find(|f| same(f)) {
        return Err(ComponentError::new(format!(
            "the archive \"{}\" would replace a file that goes into it",
            file.display()
        ))
        .with_hint("set \"output\" to another name"));
    }
    Ok(())
}
