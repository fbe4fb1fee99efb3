//! A machine's root directory, reached by a descriptor: every path is resolved inside it, links
//! and `..` included, as a process of the machine would resolve it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat2, readlinkat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// A root directory.
#[derive(Debug)]
pub(crate) struct RootFs {
    root: OwnedFd,
}

/// A place in a folder that exists: the folder and the last name.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: OwnedFd,
    pub(crate) name: OsString,
}

impl RootFs {
    /// The root that a descriptor stands for.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a path, following links.
    pub(crate) fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            // EAGAIN: something was renamed while `..` was resolved.
            match openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Opens a folder.
    pub(crate) fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens a file for reading.
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<File> {
        Ok(File::from(self.open(path, OFlags::RDONLY, Mode::empty())?))
    }

    /// Metadata of what a path leads to.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<Stat> {
        let fd = self.open(path, OFlags::PATH, Mode::empty())?;
        Ok(rustix::fs::fstat(&fd)?)
    }

    /// Where a path leads: links at its end are followed, so that a file written there and moved
    /// into place replaces the file and not the link.
    pub(crate) fn place(&self, path: &Path) -> io::Result<Place> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let bytes = path.as_os_str().as_bytes();
            let slash = bytes.iter().rposition(|b| *b == b'/');
            let (parent, name) = match slash {
                Some(at) => (&bytes[..=at], &bytes[at + 1..]),
                None => (&b"."[..], bytes),
            };
            if name.is_empty() || name == b"." || name == b".." {
                return Err(Errno::ISDIR.into());
            }
            let parent = PathBuf::from(OsStr::from_bytes(parent));
            let name = OsStr::from_bytes(name).to_owned();
            let dir = self.open(&parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            match readlinkat(&dir, &name, Vec::new()) {
                // A relative link starts where it stands; an absolute one replaces the path.
                Ok(target) => path = parent.join(OsStr::from_bytes(target.as_bytes())),
                Err(Errno::INVAL | Errno::NOENT) => return Ok(Place { dir, name }),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Removes a file or a link; nothing there is success.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().ok_or(Errno::ISDIR)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        let dir = match self.open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a node of a block device, for root and the group `disk`. What has the name gives way.
    pub(crate) fn make_device(&self, path: &Path, device: (u64, u64)) -> io::Result<()> {
        /// What the group has as its number in every distribution.
        const DISK: u32 = 6;
        let number = |n: u64| u32::try_from(n).map_err(io::Error::other);
        let device = rustix::fs::makedev(number(device.0)?, number(device.1)?);
        self.remove_file(path)?;
        let place = self.place(path)?;
        let mode = Mode::from_raw_mode(0o660);
        rustix::fs::mknodat(&place.dir, &place.name, FileType::BlockDevice, mode, device)?;
        let (owner, group) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::from_raw(DISK));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&place.dir, &place.name, Some(owner), Some(group), flags)?;
        rustix::fs::chmodat(&place.dir, &place.name, mode, AtFlags::empty())?;
        Ok(())
    }

    /// Makes a symbolic link. What has the name gives way.
    pub(crate) fn make_link(&self, path: &Path, to: &str) -> io::Result<()> {
        self.remove_file(path)?;
        let place = self.place(path)?;
        Ok(rustix::fs::symlinkat(to, &place.dir, &place.name)?)
    }

    /// Makes a folder and the missing ones above it, mode 0755. Those that are there stay.
    pub(crate) fn make_dirs(&self, path: &Path) -> io::Result<()> {
        match self.open_dir(path) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Some(parent) = path.parent() {
            self.make_dirs(parent)?;
        }
        let place = self.place(Path::new(OsStr::from_bytes(trim_slashes(path))))?;
        match mkdirat(&place.dir, &place.name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn trim_slashes(path: &Path) -> &[u8] {
    let mut bytes = path.as_os_str().as_bytes();
    while let [rest @ .., b'/'] = bytes
        && !rest.is_empty()
    {
        bytes = rest;
    }
    bytes
}

/// A file under a temporary name that takes its place when it is whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    place: Place,
    temporary: Option<OsString>,
}

impl NewFile {
    /// Begins it. `mode` is the new file's; without it an existing file's mode is kept, and a
    /// new one gets 0644. The owner of an existing file is kept. What is there and is no regular
    /// file (a device, a pipe) is written to as it is.
    pub(crate) fn begin(root: &RootFs, path: &Path, mode: Option<u32>) -> io::Result<(Self, File)> {
        let place = root.place(path)?;
        let old = match statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        match old.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None | Some(FileType::RegularFile) => {}
            Some(FileType::Directory) => return Err(Errno::ISDIR.into()),
            Some(_) => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let fd = rustix::fs::openat(&place.dir, &place.name, flags, Mode::empty())?;
                return Ok((Self { place, temporary: None }, File::from(fd)));
            }
        }
        let bits = mode.unwrap_or_else(|| old.as_ref().map_or(0o644, |s| s.st_mode & 0o7777));
        let temporary = temporary_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&place.dir, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let new = Self { place, temporary: Some(temporary) };
        if let Some(old) = &old {
            let owner = rustix::fs::Uid::from_raw(old.st_uid);
            let group = rustix::fs::Gid::from_raw(old.st_gid);
            rustix::fs::fchown(&fd, Some(owner), Some(group))?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(bits & 0o7777))?;
        Ok((new, File::from(fd)))
    }

    /// Gives it its name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(temporary) = self.temporary.take() {
            let Place { dir, name } = &self.place;
            if let Err(error) = renameat(dir, &temporary, dir, name) {
                self.temporary = Some(temporary);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(self.place.dir.as_fd(), temporary, AtFlags::empty());
        }
    }
}

/// A name that nothing else uses: process and counter.
pub(crate) fn temporary_name() -> OsString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".karat-{}-{next}", std::process::id()).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, RootFs) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        (dir, RootFs::new(fd.unwrap()))
    }

    fn write(root: &RootFs, path: &str, text: &str, mode: Option<u32>) -> io::Result<()> {
        let (new, mut file) = NewFile::begin(root, Path::new(path), mode)?;
        file.write_all(text.as_bytes())?;
        new.finish()
    }

    #[test]
    fn links_never_lead_out() {
        let (dir, root) = root();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(outside.path().strip_prefix("/").unwrap()))
            .unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        symlink("../../../../../../../../etc", dir.path().join("up")).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        write(&root, "/link/file", "in", None).unwrap();
        write(&root, "/up/passwd", "in", None).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(std::fs::read_to_string(dir.path().join("etc/passwd")).unwrap(), "in");
    }

    #[test]
    fn a_link_at_the_end_is_kept_and_its_target_replaced() {
        let (dir, root) = root();
        symlink("/real", dir.path().join("name")).unwrap();
        write(&root, "/name", "one", Some(0o600)).unwrap();
        let real = dir.path().join("real");
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "one");
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(dir.path().join("name").is_symlink());
        write(&root, "/name", "two", None).unwrap();
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o600);
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(write(&root, "/loop", "x", None).is_err());
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("f"), "old").unwrap();
        let (new, mut file) = NewFile::begin(&root, Path::new("/f"), None).unwrap();
        file.write_all(b"half").unwrap();
        drop(new);
        assert_eq!(std::fs::read_to_string(dir.path().join("f")).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_made_with_those_above() {
        let (dir, root) = root();
        symlink("b", dir.path().join("a")).unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        root.make_dirs(Path::new("/a/x/y/")).unwrap();
        root.make_dirs(Path::new("/a/x/y")).unwrap();
        assert!(dir.path().join("b/x/y").is_dir());
        assert!(root.place(Path::new("/a/x/")).is_err());
    }
}
