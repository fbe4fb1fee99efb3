//! The file that digests are written to.

use std::collections::BTreeMap;
use std::path::Path;

use karat_component::ComponentError;
use tokio_util::sync::CancellationToken;

use crate::lock::Lock;
use crate::written::{Written, cannot_read};

/// One digest of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    digest: String,
    name: String,
}

impl Line {
    pub(crate) fn new(digest: &str, file: &Path) -> Self {
        let name = file.file_name().unwrap_or(file.as_os_str());
        Self { digest: digest.to_owned(), name: name.to_string_lossy().into_owned() }
    }

    /// Whether a line of the file is about the same digest of the same file.
    fn replaces(&self, line: &str) -> bool {
        line.split_once('\t')
            .is_some_and(|(digest, name)| name == self.name && digest.len() == self.digest.len())
    }
}

/// Writes lines to their files. Other lines of a file stay: several blocks and builds may share
/// it. A line that a former run wrote about the same file is replaced.
pub(crate) fn write_all(
    lines: &BTreeMap<&Path, Vec<Line>>,
    cancel: &CancellationToken,
) -> Result<(), ComponentError> {
    let mut ready = Vec::new();
    for (path, lines) in lines {
        let written = Written::begin(path)?;
        let lock = Lock::take(path, cancel)?;
        let mut text = match std::fs::read_to_string(path) {
            Ok(text) => text
                .lines()
                .filter(|line| !lines.iter().any(|new| new.replaces(line)))
                .fold(String::new(), |text, line| text + line + "\n"),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(cannot_read(path, e)),
        };
        for line in lines {
            text.push_str(&format!("{}\t{}\n", line.digest, line.name));
        }
        written.write(text.as_bytes())?;
        ready.push((written, lock));
    }
    // All of them or none.
    ready.into_iter().try_for_each(|(written, _lock)| written.finish())
}
