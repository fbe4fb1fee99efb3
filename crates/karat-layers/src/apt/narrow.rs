//! The package lists, and the small part of them that can matter for a request.
//!
//! `apt` weighs every package of an archive before it decides, which takes most of a second for
//! Debian's 60,000. What it decides depends only on the packages that can be reached from what is
//! asked for and what is installed: by dependencies, with all alternatives, and by whoever provides
//! a name. Lists of these alone give the same plan. Conflicts lead to no further packages: they
//! matter only between packages that are reached anyway.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::{Error, Result};

/// Package lists in memory, by name.
#[derive(Debug)]
pub(super) struct Lists<'a> {
    texts: &'a [String],
    stanzas: HashMap<&'a str, Vec<(usize, &'a str)>>,
    providers: HashMap<&'a str, Vec<&'a str>>,
}

/// The value of a field of one line. Lines that go on are Debian's long descriptions alone.
pub(super) fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = stanza;
    loop {
        let at = rest.find(name)?;
        let after = &rest[at + name.len()..];
        if (at == 0 || rest.as_bytes()[at - 1] == b'\n') && after.starts_with(':') {
            return Some(after[1..].lines().next().unwrap_or_default().trim());
        }
        rest = after;
    }
}

/// The names in a dependency field: groups of alternatives.
pub(super) fn relations(text: Option<&str>) -> impl Iterator<Item = Vec<&str>> {
    let name = |alternative: &'_ str| -> usize {
        alternative.find([' ', '(', '[', ':', '<']).unwrap_or(alternative.len())
    };
    text.unwrap_or_default()
        .split(',')
        .map(move |group| {
            let alternatives = group.split('|').map(str::trim);
            alternatives.map(|a| &a[..name(a)]).filter(|n| !n.is_empty()).collect()
        })
        .filter(|group: &Vec<&str>| !group.is_empty())
}

fn stanzas(text: &str) -> impl Iterator<Item = (&str, &str)> {
    static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\n\n"));
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('\n');
        if rest.is_empty() {
            return None;
        }
        let end = END.find(rest.as_bytes()).unwrap_or(rest.len());
        let (stanza, after) = rest.split_at(end);
        rest = after;
        Some(stanza)
    })
    .filter_map(|stanza| {
        let name = stanza.strip_prefix("Package:")?.lines().next()?.trim();
        Some((name, stanza))
    })
}

impl<'a> Lists<'a> {
    pub(super) fn new(texts: &'a [String]) -> Self {
        let provides = Finder::new("\nProvides:");
        let (mut by_name, mut providers) =
            (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (list, text) in texts.iter().enumerate() {
            for (name, stanza) in stanzas(text) {
                by_name.entry(name).or_default().push((list, stanza));
                if let Some(at) = provides.find(stanza.as_bytes()) {
                    for given in relations(field(&stanza[at..], "Provides")).flatten() {
                        providers.entry(given).or_default().push(name);
                    }
                }
            }
        }
        Self { texts, stanzas: by_name, providers }
    }

    /// The paragraphs of a package, each with the list that it is in.
    pub(super) fn of(&self, name: &str) -> &[(usize, &'a str)] {
        self.stanzas.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that a new system begins with, sorted.
    pub(super) fn basic(&self, required: bool) -> Vec<String> {
        let essential = Finder::new("\nEssential: yes");
        let priority = Finder::new("\nPriority: required");
        let is = |finder: &Finder<'_>, stanza: &str| finder.find(stanza.as_bytes()).is_some();
        let wanted = |stanza: &str| is(&essential, stanza) || required && is(&priority, stanza);
        let of_all = self.stanzas.iter();
        let mut names: Vec<String> = of_all
            .filter(|(_, all)| all.iter().any(|(_, stanza)| wanted(stanza)))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        names.sort();
        names
    }

    /// All packages that can be reached from these names and from what is installed; `None` when a
    /// name is more than a name, so that only apt knows what it means.
    fn reach(
        &self,
        names: &[String],
        status: Option<&'a str>,
        recommends: bool,
    ) -> Option<HashSet<&'a str>> {
        let mut pending: Vec<&str> = Vec::new();
        for asked in names {
            let name = asked.split(['=', '/', ':']).next().unwrap_or(asked);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            let is_known = self.stanzas.contains_key(name) || self.providers.contains_key(name);
            // `name+` and `name-` have a meaning of their own, unless they are names.
            if !name.chars().all(plain) || !is_known {
                return None;
            }
            pending.push(name);
        }
        let mut fields = vec!["Depends", "Pre-Depends"];
        if recommends {
            fields.push("Recommends");
        }
        let installed: Vec<(&str, &str)> = status.map(|s| stanzas(s).collect()).unwrap_or_default();
        for (name, stanza) in &installed {
            pending.push(name);
            let needs = fields.iter().flat_map(|name| relations(field(stanza, name))).flatten();
            pending.extend(needs);
        }
        let mut seen: HashSet<&str> = HashSet::new();
        let mut reached: HashSet<&'a str> = HashSet::new();
        while let Some(name) = pending.pop() {
            if !seen.insert(name) {
                continue;
            }
            if let Some((own, stanzas)) = self.stanzas.get_key_value(name) {
                reached.insert(own);
                for (_, stanza) in stanzas {
                    for name in &fields {
                        pending.extend(relations(field(stanza, name)).flatten());
                    }
                }
            }
            pending.extend(self.providers.get(name).into_iter().flatten());
        }
        Some(reached)
    }

    /// Writes lists of the packages that can matter into a folder, under the names of the whole
    /// ones and beside links to all else that stands with them. `false` when there is no saying.
    pub(super) fn narrow(
        &self,
        files: &[PathBuf],
        names: &[String],
        status: Option<&'a [u8]>,
        recommends: bool,
        folder: &Path,
    ) -> Result<bool> {
        let status = match status.map(std::str::from_utf8) {
            None => None,
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => return Ok(false),
        };
        let Some(reached) = self.reach(names, status, recommends) else { return Ok(false) };
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", folder)(e));
            }
            _ => {}
        }
        let partial = folder.join("partial");
        fs::create_dir_all(&partial).map_err(Error::io("make the directory", &partial))?;
        let mut lists = vec![String::new(); self.texts.len()];
        // In the order of their lists, since apt prefers the first of equals.
        for (list, text) in self.texts.iter().enumerate() {
            for (name, stanza) in stanzas(text) {
                if reached.contains(name) {
                    lists[list].push_str(stanza);
                    lists[list].push_str("\n\n");
                }
            }
        }
        for (file, list) in files.iter().zip(lists) {
            let at = folder.join(file.file_name().unwrap_or_default());
            fs::write(&at, list).map_err(Error::io("write", &at))?;
        }
        let Some(whole) = files.first().and_then(|file| file.parent()) else { return Ok(false) };
        for entry in fs::read_dir(whole).map_err(Error::io("list", whole))? {
            let entry = entry.map_err(Error::io("list", whole))?;
            let at = folder.join(entry.file_name());
            if !at.exists() {
                symlink(entry.path(), &at).map_err(Error::io("link", &at))?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Package: web\nVersion: 1\nDepends: libc (>= 2), mail | mta\nRecommends: \
                        extra\n\nPackage: libc\nVersion: 2\nEssential: yes\n\nPackage: \
                        postman\nProvides: mta (= 1), x\n\nPackage: extra\nDescription: Depends: \
                        other\n\nPackage: other\nPriority: required\nDepends: far\n\nPackage: \
                        far\n";

    fn reached(names: &[&str], status: Option<&'static str>, recommends: bool) -> Vec<String> {
        let texts = [LIST.to_owned()];
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let lists = Lists::new(&texts);
        let found = lists.reach(&names, status, recommends);
        let mut found: Vec<String> = found.into_iter().flatten().map(str::to_owned).collect();
        found.sort();
        found
    }

    #[test]
    fn alternatives_and_providers_are_reached() {
        assert_eq!(reached(&["web"], None, false), ["libc", "postman", "web"]);
        assert_eq!(reached(&["web"], None, true), ["extra", "libc", "postman", "web"]);
        let status = "Package: old\nStatus: install ok installed\nDepends: other\n";
        let all = ["far", "libc", "other", "postman", "web"];
        assert_eq!(reached(&["web=1"], Some(status), false), all);
    }

    #[test]
    fn what_only_apt_understands_is_left_to_it() {
        let texts = [LIST.to_owned()];
        let lists = Lists::new(&texts);
        for name in ["we*", "unknown", "web-", "task^"] {
            assert!(lists.reach(&[name.to_owned()], None, false).is_none(), "{name}");
        }
        assert_eq!(lists.basic(false), ["libc"]);
        assert_eq!(lists.basic(true), ["libc", "other"]);
    }

    #[test]
    fn fields_are_found_at_the_start_of_lines_only() {
        let stanza = "Package: a\nDescription: Version: no\nVersion: 1:2\nPre-Depends: x (>= 1) | y:any, z [amd64]";
        assert_eq!(field(stanza, "Version"), Some("1:2"));
        let groups: Vec<_> = relations(field(stanza, "Pre-Depends")).collect();
        assert_eq!(groups, vec![vec!["x", "y"], vec!["z"]]);
        assert_eq!(relations(None).count(), 0);
    }
}
