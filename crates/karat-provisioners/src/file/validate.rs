//! Options of `file` that were proved.

use karat_component::ValidateContext;

use super::FileConfig;

/// Which way files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the machine.
    Upload,
    /// From the machine.
    Download,
}

impl Direction {
    const NAMES: [&'static str; 2] = ["upload", "download"];

    fn check(text: &str, cx: &mut ValidateContext<'_>) -> Self {
        match text {
            "upload" => Self::Upload,
            "download" => Self::Download,
            other => {
                let problem = cx.error("direction", "Direction must be one of: download, upload");
                problem.detail(format!("\"{other}\" is neither."));
                if let Some(near) = karat_hcl::diag::closest(other, Self::NAMES) {
                    problem.hint(format!("Did you mean \"{near}\"?"));
                }
                Self::Upload
            }
        }
    }
}

/// Options of `file` that were proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileValidated {
    /// A text becomes a file on the machine.
    Content {
        /// The text.
        content: String,
        /// The file.
        destination: String,
    },
    /// Files and folders go to the machine.
    Upload {
        /// Files and folders here.
        sources: Vec<String>,
        /// The file or folder there.
        destination: String,
    },
    /// Files and folders come from the machine.
    Download {
        /// Files and folders there.
        sources: Vec<String>,
        /// The file or folder here.
        destination: String,
    },
}

impl FileValidated {
    pub(super) fn of(config: FileConfig, cx: &mut ValidateContext<'_>) -> Option<Self> {
        let direction = Direction::check(&config.direction, cx);
        let FileConfig { source, sources, content, destination, generated, .. } = config;
        if destination.is_empty() {
            cx.error("destination", "Destination must be specified")
                .hint("Write the path of a file, or of a folder with \"/\" at its end.");
        }
        let sources: Vec<String> = source.into_iter().chain(sources).collect();
        if sources.iter().any(String::is_empty) {
            let option = if cx.is_set("source") { "source" } else { "sources" };
            cx.error(option, "The name of a file is empty");
        }
        if let Some(content) = content {
            check_content(&sources, &destination, direction, generated, cx);
            return Some(Self::Content { content, destination });
        }
        if sources.is_empty() {
            if ["source", "sources", "content"].iter().all(|o| cx.is_known(o)) {
                cx.block_error("Source must be specified")
                    .detail("One of \"source\", \"sources\" and \"content\" has to be set.");
            }
            // Not known yet, or reported.
            return Some(Self::Upload { sources, destination });
        }
        check_wildcards(&sources, direction, cx);
        Some(match direction {
            Direction::Upload => Self::Upload { sources, destination },
            Direction::Download => Self::Download { sources, destination },
        })
    }
}

fn check_content(
    sources: &[String],
    destination: &str,
    direction: Direction,
    generated: bool,
    cx: &mut ValidateContext<'_>,
) {
    if !sources.is_empty() {
        cx.error("content", "\"content\" and a source exclude each other")
            .hint("Use a block of its own for each of them.");
    }
    if direction == Direction::Download {
        cx.error("direction", "A text can only be uploaded")
            .detail("\"content\" is the text of a file on the machine.");
    }
    if destination.ends_with('/') {
        cx.error("destination", format!("\"{destination}\" does not name a file"))
            .detail("A text has no name of its own, so the destination has to be a file.");
    }
    if generated {
        cx.warning("generated", "\"generated\" has no effect beside \"content\"");
    }
}

fn check_wildcards(sources: &[String], direction: Direction, cx: &mut ValidateContext<'_>) {
    let option = if cx.is_set("sources") { "sources" } else { "source" };
    if direction == Direction::Upload
        && let Some(pattern) = sources.iter().find(|s| s.contains('*'))
    {
        cx.warning(option, format!("\"{pattern}\" is taken as a name, not as a pattern"))
            .hint("sources = fileset(\"folder\", \"*\") gives the files that match a pattern.");
    }
}
