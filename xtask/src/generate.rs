//! Writes the manual's reference and the man pages from the program.
//!
//! The folders named in [`FOLDERS`] hold nothing else, so a file in them that is not generated any
//! more is removed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{commands, events};

/// Below `docs/`: all that is in them is generated.
const FOLDERS: [&str; 2] = ["src/reference", "man"];

/// Below `docs/`: a list of all pages of components stands in it between two lines.
const SUMMARY: &str = "src/SUMMARY.md";
const BEGIN: &str = "<!-- components: cargo xtask generate -->";
const END: &str = "<!-- end of components -->";

/// A file that is not as it should be.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is to have this text.
    Write(PathBuf, String),
    /// It is not to be there.
    Remove(PathBuf),
}

impl Change {
    /// The file, below `docs/`.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Write(path, _) | Self::Remove(path) => path,
        }
    }

    /// Makes the change in `docs`.
    pub(crate) fn apply(&self, docs: &Path) -> io::Result<()> {
        match self {
            Self::Write(path, text) => {
                let path = docs.join(path);
                fs::create_dir_all(path.parent().unwrap_or(docs))?;
                fs::write(path, text)
            }
            Self::Remove(path) => fs::remove_file(docs.join(path)),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Write(..) => "written",
            Self::Remove(_) => "removed",
        };
        write!(f, "{word}: docs/{}", self.path().display())
    }
}

/// What in `docs` differs from what the program says.
pub(crate) fn changes(docs: &Path) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut wanted = files()?;
    if let Ok(text) = fs::read_to_string(docs.join(SUMMARY)) {
        wanted.insert(SUMMARY.into(), summary(&text, &wanted)?);
    }
    for (path, text) in &wanted {
        let now = match fs::read_to_string(docs.join(path)) {
            Ok(now) => Some(now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if now.as_ref() != Some(text) {
            changes.push(Change::Write(path.clone(), text.clone()));
        }
    }
    for folder in FOLDERS {
        for path in crate::links::files_below(&docs.join(folder))? {
            let path = path.strip_prefix(docs).unwrap_or(&path).to_owned();
            if !wanted.contains_key(&path) {
                changes.push(Change::Remove(path));
            }
        }
    }
    Ok(changes)
}

/// All generated files by their paths below `docs/`.
fn files() -> io::Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let reference = Path::new("src/reference");
    for page in karat::manual::pages() {
        files.insert(reference.join(page.path), page.text);
    }
    let command = karat::manual::command();
    files.insert(reference.join("commands.md"), commands::markdown(&command));
    files.insert(reference.join("environment.md"), environment());
    let source = fs::read_to_string(crate::root().join(events::SOURCE))?;
    files.insert(reference.join("events.md"), events::markdown(&source));
    for (name, text) in commands::man_pages(&command)? {
        files.insert(Path::new("man").join(name), text);
    }
    Ok(files)
}

/// `SUMMARY.md` with a line for each page of a component, which lie in folders of the reference.
fn summary(text: &str, files: &BTreeMap<PathBuf, String>) -> io::Result<String> {
    let missing =
        || io::Error::other(format!("docs/{SUMMARY} has no line \"{BEGIN}\" before \"{END}\""));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    let mut lines = String::new();
    for (path, page) in files {
        let Ok(link) = path.strip_prefix("src") else { continue };
        if link.components().count() == 3 {
            let title = page.lines().next().unwrap_or_default().trim_start_matches("# ");
            lines.push_str(&format!("- [{title}]({})\n", link.display()));
        }
    }
    Ok(format!("{before}{BEGIN}\n\n{lines}\n{END}{after}"))
}

fn environment() -> String {
    let mut text = String::from(
        "# Environment variables\n\nEverything that `karat` reads from its environment. Templates \
         see the environment through `PKR_VAR_NAME` and the function \
         [`env`](functions.md#env) alone.\n\n| variable | what |\n|---|---|\n",
    );
    for (name, doc) in karat::manual::variables() {
        text.push_str(&format!("| `{name}` | {} |\n", doc.replace('|', "\\|")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_up_to_date_and_what_is_foreign_goes() {
        let docs = tempfile::tempdir().unwrap();
        let first = changes(docs.path()).unwrap();
        assert!(first.iter().any(|c| c.path().ends_with("reference/sources/machine.md")));
        first.iter().for_each(|c| c.apply(docs.path()).unwrap());
        assert!(changes(docs.path()).unwrap().is_empty());

        fs::write(docs.path().join(SUMMARY), format!("a\n{BEGIN}\nold\n{END}\nb\n")).unwrap();
        changes(docs.path()).unwrap().iter().for_each(|c| c.apply(docs.path()).unwrap());
        let summary = fs::read_to_string(docs.path().join(SUMMARY)).unwrap();
        assert!(summary.contains("- [Source `machine`](reference/sources/machine.md)\n"));
        assert!(summary.starts_with("a\n") && summary.ends_with("b\n") && !summary.contains("old"));

        fs::write(docs.path().join("man/stray.1"), "x").unwrap();
        fs::write(docs.path().join("src/reference/commands.md"), "x").unwrap();
        let second = changes(docs.path()).unwrap();
        let names: Vec<String> = second.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["written: docs/src/reference/commands.md", "removed: docs/man/stray.1"]);
    }
}
