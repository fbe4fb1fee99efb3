//! Copying files and folders between the host and a machine's root.
//!
//! Modes are kept, owners are root's, links are followed (as Packer does): what arrives is
//! contents. Files of any size pass in pieces.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use tokio_util::sync::CancellationToken;

use super::error::{Result, RuntimeError};
use super::rootfs::{NewFile, RootFs, temporary_name};

/// After this many bytes it is asked whether the copy is still wanted.
const PIECE: u64 = 8 * 1024 * 1024;

/// Copies a file of the host into the machine.
pub(super) fn put_file(
    root: &RootFs,
    from: &Path,
    to: &Path,
    mode: Option<u32>,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut source = File::open(from).map_err(|e| RuntimeError::file("read", from, e))?;
    let write = |e| RuntimeError::file("write", to, e);
    let (new, mut target) = NewFile::begin(root, to, mode).map_err(write)?;
    copy(&mut source, &mut target, cancel, |e| RuntimeError::file("copy", from, e))?;
    new.finish().map_err(write)
}

/// Copies what is in a folder of the host into a folder of the machine, which is made if missing.
pub(super) fn put_dir(
    root: &RootFs,
    from: &Path,
    to: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    put_level(root, from, to, cancel, &mut Vec::new())
}

fn put_level(
    root: &RootFs,
    from: &Path,
    to: &Path,
    cancel: &CancellationToken,
    above: &mut Vec<(u64, u64)>,
) -> Result<()> {
    let read = |e: io::Error| RuntimeError::file("read", from, e);
    let own = fs::metadata(from).map_err(read)?;
    descend(above, (own.dev(), own.ino())).map_err(read)?;
    let new = root.stat(to).is_err();
    root.make_dirs(to).map_err(|e| RuntimeError::file("make", to, e))?;
    for entry in sorted(from)? {
        if cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled);
        }
        let (source, target) = (from.join(&entry), to.join(&entry));
        let metadata = fs::metadata(&source).map_err(|e| RuntimeError::file("read", &source, e))?;
        if metadata.is_dir() {
            put_level(root, &source, &target, cancel, above)?;
        } else if metadata.is_file() {
            put_file(root, &source, &target, Some(metadata.mode() & 0o7777), cancel)?;
        } else {
            let error = io::Error::other("it is neither a file nor a folder");
            return Err(RuntimeError::file("copy", &source, error));
        }
    }
    // Last, since a folder may forbid writing. Those that were there keep their mode.
    if new {
        let mode = own.mode() & 0o7777;
        let dir = root.open_dir(to).map_err(|e| RuntimeError::file("open", to, e))?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))
            .map_err(|e| RuntimeError::file("change", to, e))?;
    }
    above.pop();
    Ok(())
}

/// Remembers a folder (device and inode) while it is copied; one that is remembered already was
/// reached by a link to a folder above it.
fn descend(above: &mut Vec<(u64, u64)>, own: (u64, u64)) -> io::Result<()> {
    if above.contains(&own) {
        return Err(rustix::io::Errno::LOOP.into());
    }
    above.push(own);
    Ok(())
}

fn sorted(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let fail = |e| RuntimeError::file("read", dir, e);
    let mut names = fs::read_dir(dir)
        .and_then(|entries| {
            entries.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(fail)?;
    names.sort();
    Ok(names)
}

/// Copies a file of the machine to the host, whole or not at all.
pub(super) fn get_file(
    root: &RootFs,
    from: &Path,
    to: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    let read = |e: io::Error| RuntimeError::file("read", from, e);
    // A pipe without writer must not hold us.
    let fd = root.open(from, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).map_err(read)?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| read(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(read(rustix::io::Errno::ISDIR.into()));
    }
    let mut source = File::from(fd);
    let write = |e: io::Error| RuntimeError::file("write", to, e);
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = Temporary(parent.join(temporary_name()));
    let mode = stat.st_mode & 0o777;
    let mut target = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary.0)
        .map_err(write)?;
    copy(&mut source, &mut target, cancel, |e| RuntimeError::file("copy", from, e))?;
    target.set_permissions(fs::Permissions::from_mode(mode)).map_err(write)?;
    fs::rename(&temporary.0, to).map_err(write)
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Copies what is in a folder of the machine into a folder of the host, which is made if missing.
pub(super) fn get_dir(
    root: &RootFs,
    from: &Path,
    to: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    get_level(root, from, to, cancel, &mut Vec::new())
}

fn get_level(
    root: &RootFs,
    from: &Path,
    to: &Path,
    cancel: &CancellationToken,
    above: &mut Vec<(u64, u64)>,
) -> Result<()> {
    let read = |e: io::Error| RuntimeError::file("read", from, e);
    let dir = root.open_dir(from).map_err(read)?;
    let own = rustix::fs::fstat(&dir).map_err(|e| read(e.into()))?;
    descend(above, (own.st_dev, own.st_ino)).map_err(read)?;
    let mode = own.st_mode & 0o777;
    let new = !to.exists();
    fs::create_dir_all(to).map_err(|e| RuntimeError::file("make", to, e))?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(dir).map_err(|e| read(e.into()))? {
        let entry = entry.map_err(|e| read(e.into()))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    for name in names {
        if cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled);
        }
        let (source, target) = (from.join(&name), to.join(&name));
        let stat = root.stat(&source).map_err(|e| RuntimeError::file("read", &source, e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => get_level(root, &source, &target, cancel, above)?,
            FileType::RegularFile => get_file(root, &source, &target, cancel)?,
            _ => {
                let error = io::Error::other("it is neither a file nor a folder");
                return Err(RuntimeError::file("copy", &source, error));
            }
        }
    }
    if new {
        fs::set_permissions(to, fs::Permissions::from_mode(mode))
            .map_err(|e| RuntimeError::file("change", to, e))?;
    }
    above.pop();
    Ok(())
}

/// Copies to the end, asking now and then whether it is still wanted.
fn copy(
    from: &mut File,
    to: &mut File,
    cancel: &CancellationToken,
    fail: impl Fn(io::Error) -> RuntimeError,
) -> Result<()> {
    loop {
        if cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled);
        }
        // The standard library lets the kernel move the bytes where it can.
        let copied = io::copy(&mut from.by_ref().take(PIECE), to).map_err(&fail)?;
        if copied == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_in_and_come_out_the_same() {
        let (host, machine, back) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let source = host.path().join("d");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("a"), "text").unwrap();
        fs::set_permissions(source.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(source.join("sub/run"), "#!").unwrap();
        fs::set_permissions(source.join("sub/run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("a", source.join("link")).unwrap();
        fs::set_permissions(source.join("sub"), fs::Permissions::from_mode(0o500)).unwrap();

        let fd = rustix::fs::open(machine.path(), OFlags::PATH, Mode::empty()).unwrap();
        let root = RootFs::new(fd);
        let cancel = CancellationToken::new();
        put_dir(&root, &source, Path::new("/opt/d"), &cancel).unwrap();
        get_dir(&root, Path::new("/opt/d"), &back.path().join("e"), &cancel).unwrap();
        for (path, mode, text) in
            [("a", 0o640, "text"), ("sub/run", 0o755, "#!"), ("link", 0o640, "text")]
        {
            let path = back.path().join("e").join(path);
            assert!(!path.is_symlink());
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode, "{path:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(back.path().join("e/sub")).unwrap().mode() & 0o777, 0o500);
        cancel.cancel();
        let error = put_dir(&root, &source, Path::new("/x"), &cancel).unwrap_err();
        assert!(matches!(error, RuntimeError::Cancelled));
    }

    #[test]
    fn circles_of_links_end() {
        let (host, machine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(".", host.path().join("again")).unwrap();
        let fd = rustix::fs::open(machine.path(), OFlags::PATH, Mode::empty()).unwrap();
        let cancel = CancellationToken::new();
        assert!(put_dir(&RootFs::new(fd), host.path(), Path::new("/x"), &cancel).is_err());
    }
}
