//! Slash-separated paths as text: cleaning, joining, splitting, relating.
//!
//! Templates see paths as text, and the results are part of the language, so these
//! work on text alone and never look at a disk.

/// The shortest equal path: no `.`, no `..` that can be resolved, no double slash.
/// An empty path is `.`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            name => parts.push(name),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Joins the parts that are not empty and cleans the result; nothing gives nothing.
pub(crate) fn join(parts: &[&str]) -> String {
    let given: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if given.is_empty() { String::new() } else { clean(&given.join("/")) }
}

/// The last element without trailing slashes; `.` for an empty path.
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return "/";
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// Everything before the last element, cleaned.
pub(crate) fn dir(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => clean(&path[..=at]),
        None => ".".to_owned(),
    }
}

/// The path from `from` to `to`, when text alone can tell.
pub(crate) fn relative(from: &str, to: &str) -> Option<String> {
    let (from, to) = (clean(from), clean(to));
    if from == to {
        return Some(".".to_owned());
    }
    let from = if from == "." { "" } else { from.as_str() };
    if from.starts_with('/') != to.starts_with('/') {
        return None;
    }
    let base: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    let target: Vec<&str> = to.split('/').filter(|part| !part.is_empty()).collect();
    let shared = base.iter().zip(&target).take_while(|(a, b)| a == b).count();
    if base.get(shared) == Some(&"..") {
        return None;
    }
    let mut parts = vec![".."; base.len() - shared];
    parts.extend(target.iter().skip(shared).filter(|part| **part != "."));
    Some(parts.join("/"))
}
