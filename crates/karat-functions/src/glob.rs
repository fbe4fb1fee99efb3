//! Finding files by patterns with `**`, `{a,b}` and classes, through the world.
//!
//! The rules are those that `fileset` has always had: `[^a]` negates and `[!a]` does
//! not, `**` matches any number of folders and follows links, names are matched by
//! code points, a backslash escapes.

use std::path::Path;

use crate::paths;
use crate::world::{FileKind, World};

/// The most files and folders that one pattern may look at.
const MAX_VISITS: usize = 1_000_000;
/// The deepest folder, which ends loops of links.
const MAX_DEPTH: usize = 255;
/// The most steps that matching one name may take.
const MAX_STEPS: usize = 1_000_000;

/// Why a pattern found nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobError {
    /// The pattern is no pattern.
    #[error("the pattern is malformed")]
    Malformed,
    /// The search was given up.
    #[error("the pattern looks at too many files")]
    TooMany,
}

struct Search<'w> {
    world: &'w dyn World,
    visits: usize,
    steps: usize,
    found: Vec<String>,
}

/// Finds what matches a pattern, in the order of the walk.
pub(crate) fn glob(pattern: &str, world: &dyn World) -> Result<Vec<String>, GlobError> {
    let mut search = Search { world, visits: 0, steps: 0, found: Vec::new() };
    search.start(pattern, 0)?;
    Ok(search.found)
}

impl Search<'_> {
    fn start(&mut self, pattern: &str, depth: usize) -> Result<(), GlobError> {
        if pattern.is_empty() {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(GlobError::TooMany);
        }
        if let Some(inner) = pattern.strip_prefix('{') {
            let (options, rest) = alternatives(inner).ok_or(GlobError::Malformed)?;
            for option in options {
                self.start(&format!("{option}{rest}"), depth + 1)?;
            }
            return Ok(());
        }
        match pattern.strip_prefix('/') {
            Some(rest) => self.walk("/", rest, 0),
            None => self.walk(".", pattern, 0),
        }
    }

    fn walk(&mut self, folder: &str, pattern: &str, depth: usize) -> Result<(), GlobError> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return Err(GlobError::TooMany);
        }
        // The elements before the first with a wildcard are taken as they are.
        let plain_end = match pattern.find(['*', '?', '[', '{', '\\']) {
            Some(0) => None,
            Some(at) => pattern[..at].rfind('/'),
            None => pattern.rfind('/'),
        };
        let joined;
        let (folder, pattern) = match plain_end {
            Some(at) if at > 0 => {
                joined = paths::join(&[folder, &pattern[..at]]);
                (joined.as_str(), &pattern[at + 1..])
            }
            _ => (folder, pattern),
        };
        if pattern.is_empty() {
            if self.world.file_kind(Path::new(folder)).is_ok() {
                self.found.push(folder.to_owned());
            }
            return Ok(());
        }
        if self.world.file_kind(Path::new(folder)).ok() != Some(FileKind::Directory) {
            return Ok(());
        }
        let Ok(mut names) = self.world.list_folder(Path::new(folder)) else { return Ok(()) };
        names.sort_unstable();
        self.visits += names.len();
        if self.visits > MAX_VISITS {
            return Err(GlobError::TooMany);
        }

        let slash = find_unescaped(pattern, '/');
        let (element, rest) = match slash {
            Some(at) => (&pattern[..at], Some(&pattern[at + 1..])),
            None => (pattern, None),
        };
        let mut pattern = pattern;
        if element == "**" {
            for name in &names {
                let path = paths::join(&[folder, name]);
                match self.world.file_kind(Path::new(&path)) {
                    Ok(FileKind::Directory) => {
                        if rest.is_none() {
                            self.found.push(path.clone());
                        }
                        self.walk(&path, pattern, depth + 1)?;
                    }
                    Ok(_) if rest.is_none() => self.found.push(path),
                    _ => {}
                }
            }
            match rest {
                None => return Ok(()),
                Some(rest) => pattern = rest,
            }
        }
        for name in &names {
            self.steps = 0;
            let Some(rests) = self.matches(pattern, name)? else { continue };
            let path = paths::join(&[folder, name]);
            if rests.is_empty() {
                self.found.push(path);
            } else {
                for rest in rests {
                    self.walk(&path, &rest, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Matches one name with the first element of a pattern. `None` is no match; no
    /// rests mean that the pattern ends here, otherwise each rest is to go on with.
    fn matches(&mut self, pattern: &str, name: &str) -> Result<Option<Vec<String>>, GlobError> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(GlobError::TooMany);
        }
        let mut pattern = pattern;
        let mut name = name;
        while let (Some(want), Some(have)) = (pattern.chars().next(), name.chars().next()) {
            let after = &pattern[want.len_utf8()..];
            match want {
                '/' => {
                    pattern = after;
                    break;
                }
                '\\' => {
                    let Some(literal) = after.chars().next() else {
                        return Err(GlobError::Malformed);
                    };
                    if literal != have {
                        return Ok(None);
                    }
                    pattern = &after[literal.len_utf8()..];
                }
                '*' => {
                    if after.is_empty() {
                        return Ok(Some(Vec::new()));
                    }
                    if let Some(rest) = after.strip_prefix('/') {
                        return Ok(Some(vec![rest.to_owned()]));
                    }
                    for (at, _) in name.char_indices() {
                        if let Some(rests) = self.matches(after, &name[at..])? {
                            return Ok(Some(rests));
                        }
                    }
                    return Ok(None);
                }
                '[' => {
                    let end = find_unescaped(after, ']').ok_or(GlobError::Malformed)?;
                    if !class_holds(&after[..end], have)? {
                        return Ok(None);
                    }
                    pattern = &after[end + 1..];
                }
                '{' => {
                    let (options, rest) = alternatives(after).ok_or(GlobError::Malformed)?;
                    let mut all: Option<Vec<String>> = None;
                    for option in options {
                        if let Some(rests) = self.matches(&format!("{option}{rest}"), name)? {
                            all.get_or_insert_default().extend(rests);
                        }
                    }
                    return Ok(all);
                }
                '?' => pattern = after,
                want if want == have => pattern = after,
                _ => return Ok(None),
            }
            name = &name[have.len_utf8()..];
        }
        if !name.is_empty() {
            return Ok(None);
        }
        if pattern.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let slash = find_unescaped(pattern, '/');
        let element = slash.map_or(pattern, |at| &pattern[..at]);
        if !may_be_empty(element)? {
            return Ok(None);
        }
        Ok(Some(slash.map(|at| pattern[at + 1..].to_owned()).into_iter().collect()))
    }
}

/// Finds a character that no backslash stands before.
fn find_unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(wanted)?;
        if !text[..at].ends_with('\\') {
            return Some(at);
        }
        from = at + wanted.len_utf8();
    }
}

/// Takes `a,b}rest` apart.
fn alternatives(text: &str) -> Option<(Vec<&str>, &str)> {
    let mut options = Vec::new();
    let mut depth = 1;
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 1 => {
                options.push(&text[start..at]);
                return Some((options, &text[at + 1..]));
            }
            '}' => depth -= 1,
            ',' if depth == 1 => {
                options.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn may_be_empty(pattern: &str) -> Result<bool, GlobError> {
    if matches!(pattern, "" | "*" | "**") {
        return Ok(true);
    }
    let Some(inner) = pattern.strip_prefix('{') else { return Ok(false) };
    let (options, rest) = alternatives(inner).ok_or(GlobError::Malformed)?;
    if !may_be_empty(rest)? {
        return Ok(false);
    }
    for option in options {
        if may_be_empty(option)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does the inside of a class hold the character?
fn class_holds(class: &str, wanted: char) -> Result<bool, GlobError> {
    if class.is_empty() {
        return Err(GlobError::Malformed);
    }
    let (negated, members) = match class.strip_prefix('^') {
        Some(members) => (true, members),
        None => (false, class),
    };
    let mut members = members.chars().peekable();
    let mut held = false;
    while let Some(first) = members.next() {
        let mut single = |c: char| match c {
            '-' => Err(GlobError::Malformed),
            '\\' => members.next().ok_or(GlobError::Malformed),
            c => Ok(c),
        };
        let low = single(first)?;
        let mut high = low;
        if members.peek() == Some(&'-') {
            members.next();
            let end = members.next().ok_or(GlobError::Malformed)?;
            high = match end {
                '-' => return Err(GlobError::Malformed),
                '\\' => members.next().ok_or(GlobError::Malformed)?,
                end => end,
            };
        }
        held |= (low..=high).contains(&wanted);
    }
    Ok(held != negated)
}
