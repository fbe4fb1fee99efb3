//! Package sources: what the system itself uses, and how to write them down.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One archive with its suites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AptSource {
    /// The archive's address.
    pub uri: String,
    /// Suites (pockets) in it, such as `trixie` and `trixie-updates`.
    pub suites: Vec<String>,
    /// Components, such as `main`.
    pub components: Vec<String>,
    /// The keyring that its signatures are checked with; `None` trusts what the system's apt does.
    pub signed_by: Option<PathBuf>,
}

impl AptSource {
    /// The stanza of a `.sources` file.
    #[must_use]
    pub fn to_deb822(&self) -> String {
        let mut out =
            format!("Types: deb\nURIs: {}\nSuites: {}\n", self.uri, self.suites.join(" "));
        if !self.components.is_empty() {
            out.push_str(&format!("Components: {}\n", self.components.join(" ")));
        }
        if let Some(keyring) = &self.signed_by {
            out.push_str(&format!("Signed-By: {}\n", keyring.display()));
        }
        out
    }
}

/// The code name of the running system, such as `bookworm`.
pub(crate) fn host_suite() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// The system's own archives, turned to another suite: those that carry the running system's suite,
/// its updates and its security updates. Third-party archives and backports are left out.
///
/// # Errors
/// When the system's sources cannot be read or none fits; the message says what to set.
pub fn system_sources(suite: &str) -> Result<Vec<AptSource>> {
    let host = host_suite().unwrap_or_default();
    let mut all = Vec::new();
    let list = Path::new("/etc/apt/sources.list");
    if let Ok(text) = fs::read_to_string(list) {
        all.extend(text.lines().filter_map(parse_line));
    }
    let dir = Path::new("/etc/apt/sources.list.d");
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    files.sort();
    for file in files {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
        let text = match extension.as_str() {
            "list" | "sources" => fs::read_to_string(&file).map_err(Error::io("read", &file))?,
            _ => continue,
        };
        all.extend(parse_sources(&text, extension == "sources"));
    }
    let found = retarget(&all, &host, suite);
    if found.is_empty() {
        return Err(Error::Packages(format!(
            "the system's apt sources have no archive of its own suite (`{host}`), so there is \
             nothing to derive the mirror of `{suite}` from; set the mirror in the template"
        )));
    }
    Ok(found)
}

/// Reads a source file in either style.
pub(crate) fn parse_sources(text: &str, deb822: bool) -> Vec<AptSource> {
    if deb822 {
        text.split("\n\n").flat_map(parse_stanza).collect()
    } else {
        text.lines().filter_map(parse_line).collect()
    }
}

/// Picks the archives with the host's suite and its update pockets, renamed to another suite.
fn retarget(all: &[AptSource], host: &str, suite: &str) -> Vec<AptSource> {
    const POCKETS: [&str; 3] = ["", "-updates", "-security"];
    let mut out: Vec<AptSource> = Vec::new();
    for source in all {
        let suites: Vec<String> = source
            .suites
            .iter()
            .filter_map(|name| name.strip_prefix(host))
            .filter(|pocket| POCKETS.contains(pocket))
            .map(|pocket| format!("{suite}{pocket}"))
            .collect();
        if host.is_empty() || suites.is_empty() {
            continue;
        }
        let found = AptSource { suites, ..source.clone() };
        match out.iter_mut().find(|o| o.uri == found.uri && o.components == found.components) {
            Some(same) => {
                for suite in found.suites {
                    if !same.suites.contains(&suite) {
                        same.suites.push(suite);
                    }
                }
            }
            None => out.push(found),
        }
    }
    out
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Reads a line of a one-line-style source file.
fn parse_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(PathBuf::from);
    let mut fields = rest.split_whitespace().map(str::to_owned);
    Some(AptSource {
        uri: fields.next()?,
        suites: vec![fields.next()?],
        components: fields.collect(),
        signed_by,
    })
}

/// Reads a stanza of a `.sources` file: one source per address in it.
fn parse_stanza(stanza: &str) -> Vec<AptSource> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let get = |name: &str| fields.iter().find(|f| f.0 == name).map_or("", |f| f.1.as_str());
    let off = get("enabled").eq_ignore_ascii_case("no");
    if off || !words(get("types")).iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    // A key inside the file itself cannot be carried over; the system's trust is used then.
    let signed_by = Some(get("signed-by"))
        .filter(|value| value.starts_with('/') && !value.contains('\n'))
        .map(PathBuf::from);
    words(get("uris"))
        .into_iter()
        .map(|uri| AptSource {
            uri,
            suites: words(get("suites")),
            components: words(get("components")),
            signed_by: signed_by.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_are_read_and_retargeted() {
        let mut all = parse_stanza(
            "Types: deb deb-src\n# why\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main\nSigned-By: /k.gpg",
        );
        all.extend(parse_line("deb [arch=amd64 signed-by=/k.gpg] http://sec.example/s bookworm-security main contrib # x"));
        all.extend(parse_line("deb http://third.example/apt cloud-bookworm main"));
        all.extend(parse_line("# deb http://off.example bookworm main"));
        all.extend(parse_line("deb-src http://off.example bookworm main"));
        all.extend(parse_stanza(
            "Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: bookworm",
        ));
        let found = retarget(&all, "bookworm", "trixie");
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].suites, ["trixie", "trixie-updates"]);
        assert_eq!(found[1].suites, ["trixie-security"]);
        assert_eq!(found[1].components, ["main", "contrib"]);
        assert_eq!(found[1].signed_by.as_deref(), Some(Path::new("/k.gpg")));
        assert!(found[0].to_deb822().contains("Suites: trixie trixie-updates\n"));
    }
}
