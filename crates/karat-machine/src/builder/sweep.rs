//! What belongs to no run any more, and package locks from one state folder to another.

use std::io;
use std::path::Path;

/// Removes folders of machines that nothing holds: those of runs whose journal was lost.
///
/// # Errors
/// When a folder cannot be removed.
pub fn sweep(state_dir: &Path) -> io::Result<()> {
    let machines = state_dir.join("machines");
    match std::fs::remove_dir(&machines) {
        Err(e)
            if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
        {
            Err(e)
        }
        _ => Ok(()),
    }
}

/// Copies package locks, so that a build in another state folder reads the same ones.
///
/// # Errors
/// When a lock cannot be read or written.
pub fn copy_locks(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.join("apt"), to.join("apt"));
    let entries = match std::fs::read_dir(&from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    std::fs::create_dir_all(&to)?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".lock.json") {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Copies the locks that a build made back to where others find them.
///
/// # Errors
/// When a lock cannot be read or written.
pub fn keep_locks(from: &Path, to: &Path) -> io::Result<()> {
    copy_locks(from, to)
}
