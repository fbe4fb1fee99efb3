//! What goes into an archive, by which names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use karat_component::ComponentError;

use crate::written::cannot_read;

/// A file for an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// Its name in the archive.
    pub(super) name: PathBuf,
    pub(super) size: u64,
    /// Its permission bits.
    pub(super) mode: u32,
}

/// The files, and those of folders below them, by their names without folders, as Packer packs
/// them; where two would have one name, by their paths below the folder that all share.
pub(super) fn of(files: &[PathBuf]) -> Result<Vec<Entry>, ComponentError> {
    let mut names = BTreeSet::new();
    let distinct = files.iter().all(|f| names.insert(f.file_name()));
    let shared = if distinct { PathBuf::new() } else { shared_folder(files) };
    let mut entries = Vec::new();
    for file in files {
        let name = match file.file_name() {
            Some(name) if distinct => PathBuf::from(name),
            _ => below(file, &shared),
        };
        add(file, name, &mut entries)?;
    }
    Ok(entries)
}

fn add(path: &Path, name: PathBuf, entries: &mut Vec<Entry>) -> Result<(), ComponentError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |e| cannot_read(path, e);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        let mut inside = std::fs::read_dir(path)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(failed)?;
        inside.sort_by_key(std::fs::DirEntry::file_name);
        return inside
            .iter()
            .try_for_each(|entry| add(&entry.path(), name.join(entry.file_name()), entries));
    }
    if !meta.is_file() {
        return Err(ComponentError::new(format!("\"{}\" is no file", path.display())));
    }
    let mode = meta.permissions().mode() & 0o777;
    entries.push(Entry { path: path.to_owned(), name, size: meta.len(), mode });
    Ok(())
}

fn shared_folder(files: &[PathBuf]) -> PathBuf {
    let mut folders = files.iter().map(|f| f.parent().unwrap_or(Path::new("")));
    let first = folders.next().map(Path::to_owned).unwrap_or_default();
    folders.fold(first, |shared, folder| {
        let pairs = shared.components().zip(folder.components());
        pairs.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    })
}

/// The path below `shared`, without what would lead out of the archive.
fn below(file: &Path, shared: &Path) -> PathBuf {
    let rest = file.strip_prefix(shared).unwrap_or(file);
    rest.components().filter(|c| matches!(c, Component::Normal(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_keep_the_folders_that_tell_them_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a")).unwrap();
        std::fs::create_dir_all(at("b/c")).unwrap();
        for file in ["a/disk", "b/disk", "b/c/x"] {
            std::fs::write(at(file), file).unwrap();
        }
        let names = |files: &[PathBuf]| -> Vec<String> {
            of(files).unwrap().iter().map(|e| e.name.display().to_string()).collect()
        };
        assert_eq!(names(&[at("a/disk"), at("b/c/x")]), ["disk", "x"]);
        assert_eq!(names(&[at("a/disk"), at("b/disk")]), ["a/disk", "b/disk"]);
        assert_eq!(names(&[at("b")]), ["b/c/x", "b/disk"]);
        assert!(of(&[at("none")]).is_err());
    }
}
