//! Tests that are documents: Markdown whose fenced blocks hold what goes in and what comes out.
//!
//! The expected blocks are compared with what a program gives. With `KARAT_UPDATE_SUITE=1` they
//! are written anew instead, to be read and judged in the change.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// A fenced block of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// What stands after the opening fence, such as `hcl main.pkr.hcl`.
    pub info: String,
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// The text between the fences.
    pub text: String,
}

/// What came of one or more documents.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many blocks were compared.
    pub compared: usize,
    /// Every difference, with its place.
    pub failures: String,
}

impl Outcome {
    /// Adds another outcome.
    pub fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.failures.push_str(&other.failures);
    }
}

/// The documents of a folder, by name, without its README.
///
/// # Errors
/// When the folder cannot be read.
pub fn documents(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_document = path.extension().is_some_and(|e| e == "md");
        if is_document && path.file_stem().is_some_and(|name| name != "README") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Gives each fenced block of a document to `each`. Where that answers with a text, the block is
/// an expectation, and the text is what it should be.
///
/// # Errors
/// When the document cannot be read or written.
pub fn run(path: &Path, mut each: impl FnMut(&Fence) -> Option<String>) -> io::Result<Outcome> {
    let document = std::fs::read_to_string(path)?;
    let mut updated = String::with_capacity(document.len());
    let mut outcome = Outcome::default();
    let mut lines = document.split_inclusive('\n').enumerate();
    while let Some((number, line)) = lines.next() {
        updated.push_str(line);
        let Some(info) = line.trim_end().strip_prefix("```").filter(|info| !info.is_empty()) else {
            continue;
        };
        let mut fence = Fence { info: info.to_owned(), line: number + 1, text: String::new() };
        for (_, line) in lines.by_ref() {
            if line.trim_end() == "```" {
                break;
            }
            fence.text.push_str(line);
        }
        let found = each(&fence);
        if let Some(found) = &found {
            outcome.compared += 1;
            if *found != fence.text {
                let place = format_args!("{}:{}", path.display(), fence.line);
                // Writing to a String cannot fail.
                let _ = writeln!(
                    outcome.failures,
                    "{place}: {info}\nwanted:\n{}found:\n{found}",
                    fence.text
                );
            }
        }
        updated.push_str(found.as_ref().unwrap_or(&fence.text));
        updated.push_str("```\n");
    }
    if std::env::var_os("KARAT_UPDATE_SUITE").is_some() {
        if updated != document {
            std::fs::write(path, updated)?;
        }
        outcome.failures.clear();
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.md");
        std::fs::write(&path, "# A\n\n```in x\n1\n```\n\n```out\n2\n```\n").unwrap();
        assert_eq!(documents(folder.path()).unwrap(), std::slice::from_ref(&path));
        let mut input = String::new();
        let outcome = run(&path, |fence| match fence.info.as_str() {
            "in x" => {
                input.clone_from(&fence.text);
                None
            }
            _ => Some(input.clone()),
        })
        .unwrap();
        assert_eq!(outcome.compared, 1);
        assert!(outcome.failures.contains("a.md:7: out"), "{}", outcome.failures);
    }
}
