//! Checks the manual: every link leads to a file and a heading that are there, and every chapter
//! stands in `SUMMARY.md`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What is wrong, one line each: file, line, link.
pub(crate) fn problems(root: &Path) -> io::Result<Vec<String>> {
    let src = root.join("docs/src");
    let mut problems = Vec::new();
    let mut files: Vec<PathBuf> = files_below(&src)?;
    files.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|f| root.join(f)),
    );
    files.extend(
        files_below(&root.join("docs"))?
            .into_iter()
            .filter(|f| f.parent() == Some(&root.join("docs"))),
    );
    files.retain(|f| f.extension().is_some_and(|e| e == "md"));
    for file in &files {
        let text = fs::read_to_string(file)?;
        for (line, link) in links(&text) {
            if let Some(why) = broken(file, &link)? {
                let name = file.strip_prefix(root).unwrap_or(file).display();
                problems.push(format!("{name}:{line}: {link}: {why}"));
            }
        }
    }
    let summary = src.join("SUMMARY.md");
    let listed: BTreeSet<PathBuf> =
        links(&fs::read_to_string(&summary)?).into_iter().map(|(_, l)| src.join(l)).collect();
    for file in files.iter().filter(|f| f.starts_with(&src) && **f != summary) {
        if !listed.contains(file) {
            problems.push(format!(
                "{}: not in SUMMARY.md",
                file.strip_prefix(root).unwrap_or(file).display()
            ));
        }
    }
    Ok(problems)
}

/// All files below a folder, sorted; none if it is not there.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Why a link in a file leads nowhere. Addresses on the network are not looked at.
fn broken(file: &Path, link: &str) -> io::Result<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(p, h)| (p, Some(h)));
    let target = if path.is_empty() {
        file.to_owned()
    } else {
        normal(&file.parent().unwrap_or(Path::new("")).join(path))
    };
    if !target.exists() {
        return Ok(Some("no such file".into()));
    }
    let Some(heading) = heading else { return Ok(None) };
    let headings = headings(&included(&target)?);
    Ok((!headings.contains(heading)).then(|| "no such heading".into()))
}

/// A chapter's text, with the files that it includes whole.
fn included(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    let mut whole = String::new();
    for line in text.lines() {
        match line.trim().strip_prefix("{{#include ").and_then(|l| l.strip_suffix("}}")) {
            Some(other) => {
                let other = file.parent().unwrap_or(Path::new("")).join(other.trim());
                whole.push_str(&fs::read_to_string(other)?);
            }
            None => whole.push_str(line),
        }
        whole.push('\n');
    }
    Ok(whole)
}

/// The anchors of a text's headings, as mdBook makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        let level = line.bytes().take_while(|b| *b == b'#').count();
        if level == 0 || !line[level..].starts_with(' ') {
            continue;
        }
        let anchor = anchor(line[level..].trim());
        let mut unique = anchor.clone();
        let mut count = 0;
        while !found.insert(unique.clone()) {
            count += 1;
            unique = format!("{anchor}-{count}");
        }
    }
    found
}

fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|c| match c {
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
            c if c.is_whitespace() => Some('-'),
            _ => None,
        })
        .collect()
}

/// The targets of `[text](target)`, with their lines from 1. Code is left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let bare: String = without_code(line);
        let mut rest = bare.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push((number, rest[..end].to_owned()));
        }
    }
    found
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The lines outside of code blocks, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!fence && !code).then_some((index + 1, line))
    })
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_of_code_are_found() {
        let text = "a [x](y.md#z) [`w`](v)\n```\n[no](no)\n```\n`[no](no)` [u](t)";
        assert_eq!(links(text), [(1, "y.md#z".into()), (1, "v".into()), (5, "t".into())]);
    }

    #[test]
    fn headings_become_anchors() {
        let found = headings("# One `two`, three\n## x\n## x\n```\n# no\n```\n");
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["one-two-three", "x", "x-1"]);
    }

    #[test]
    fn the_manual_has_no_broken_links() {
        let found = problems(&crate::root()).unwrap();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
