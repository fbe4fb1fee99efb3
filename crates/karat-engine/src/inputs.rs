//! Digests of the files and folders that a build reads.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use karat_config::{Body, OptionKind, Schema};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use sha2::{Digest, Sha256};

/// The digest of a file's contents and mode, or of a folder's whole tree: names, kinds, modes,
/// contents and link targets. Times and owners do not count.
///
/// # Errors
/// Names the path that could not be read.
pub(crate) fn digest(path: &Path) -> Result<String, (PathBuf, io::Error)> {
    let mut hasher = Sha256::new();
    add(&mut hasher, path, Path::new(""))?;
    Ok(hasher.finalize().iter().fold(String::new(), |out, b| out + &format!("{b:02x}")))
}

fn add(hasher: &mut Sha256, path: &Path, name: &Path) -> Result<(), (PathBuf, io::Error)> {
    let fail = |e| (path.to_owned(), e);
    // What the user names may be a link; inside a folder a link is copied as one.
    let top = name.as_os_str().is_empty();
    let meta = if top { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) }
        .map_err(fail)?;
    field(hasher, name.as_os_str().as_bytes());
    if meta.is_symlink() {
        field(hasher, b"link");
        field(hasher, std::fs::read_link(path).map_err(fail)?.as_os_str().as_bytes());
    } else if meta.is_dir() {
        field(hasher, b"dir");
        hasher.update((meta.mode() & 0o7777).to_le_bytes());
        let mut entries = std::fs::read_dir(path)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(fail)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            add(hasher, &entry.path(), &name.join(entry.file_name()))?;
        }
    } else if meta.is_file() {
        field(hasher, b"file");
        hasher.update((meta.mode() & 0o7777).to_le_bytes());
        field(hasher, &contents(path).map_err(fail)?);
    } else {
        field(hasher, b"special");
    }
    Ok(())
}

/// The digest of a file's contents.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_vec()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// The length goes first, so that no two lists of fields run together the same way.
fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Reports input files that are not there, and what to do about it.
pub(crate) fn missing_files(body: &Body, schema: &Schema, hint: &str, diags: &mut Diagnostics) {
    if reads_elsewhere(body) {
        return;
    }
    for (name, attribute) in &body.attributes {
        let is_input = schema.option(name).is_some_and(|o| o.kind == OptionKind::Input);
        if !is_input || !attribute.value.is_wholly_known() {
            continue;
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        let value = attribute.value.clone().unmark_deep().0;
        paths.extend(value.as_str().map(PathBuf::from));
        let items = value.as_slice().unwrap_or_default();
        paths.extend(items.iter().filter_map(|v| v.as_str()).map(PathBuf::from));
        for path in paths.iter().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            diags.push(
                Diagnostic::error("File not found")
                    .at(attribute.value_span)
                    .detail(format!(
                        "\"{name}\" names \"{}\", which does not exist.",
                        path.display()
                    ))
                    .hint(hint),
            );
        }
    }
}

/// Whether what the block names as its input is not there before the build: a file that the build
/// itself makes, or one that is fetched from the machine.
pub(crate) fn reads_elsewhere(body: &Body) -> bool {
    let text = |name| body.value(name).cloned().map(|v| v.unmark_deep().0);
    text("generated").and_then(|v| v.as_bool()).unwrap_or(false)
        || text("direction").is_some_and(|v| v.as_str() == Some("download"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_names_and_modes_count_and_times_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let first = digest(dir.path()).unwrap();
        std::fs::File::open(&file)
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(digest(dir.path()).unwrap(), first);
        std::fs::write(&file, "two").unwrap();
        let second = digest(dir.path()).unwrap();
        assert_ne!(second, first);
        std::fs::rename(&file, dir.path().join("b")).unwrap();
        assert_ne!(digest(dir.path()).unwrap(), second);
        assert!(digest(&dir.path().join("none")).is_err());
    }
}
