//! Unpacks tar archives as root, with everything they record, never outside the target directory.
//!
//! The `tar` crate reads the archive; writing is ours because it must resolve every path inside
//! the target as a chroot would (`openat2` with `RESOLVE_IN_ROOT`), keep directory links such as
//! `/bin -> usr/bin`, and apply the whiteouts of container layers.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::EntryType;

use crate::{Control, Error, Result};

/// Writes the members of tar archives below one directory.
#[derive(Debug)]
pub(crate) struct Extractor {
    root: Rc<OwnedFd>,
    at: PathBuf,
    dirs: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directory times, set at the end because writing below changes them.
    times: Vec<(Vec<u8>, i64)>,
    /// Whether `.wh.` names mean removals, and what this layer itself made.
    whiteouts: Option<HashSet<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Extractor {
    /// Extracts below an existing directory.
    pub(crate) fn new(at: &Path) -> Result<Self> {
        let root =
            rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::sys("open", at))?;
        Ok(Self {
            root: Rc::new(root),
            at: at.to_owned(),
            dirs: HashMap::new(),
            times: Vec::new(),
            whiteouts: None,
            buffer: vec![0; 128 << 10],
        })
    }

    /// Takes `.wh.` names as removals of what earlier archives made.
    pub(crate) fn begin_container_layer(&mut self) {
        self.whiteouts = Some(HashSet::new());
    }

    /// Unpacks one archive. `what` names it in errors. A member for which `keep` is false is left
    /// out.
    pub(crate) fn unpack(
        &mut self,
        reader: impl Read,
        what: &str,
        control: &Control,
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let bad =
            |error: std::io::Error| Error::Archive { what: what.into(), reason: error.to_string() };
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(bad)? {
            control.check()?;
            let mut entry = entry.map_err(bad)?;
            let path = clean(&entry.path_bytes(), what)?;
            if !keep(&path) {
                continue;
            }
            self.member(&mut entry, path, what)?;
        }
        self.set_times()
    }

    fn set_times(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.times) {
            if let Ok(dir) = self.dir(&path) {
                utimensat(&*dir, ".", &stamps(time), AtFlags::empty())
                    .map_err(Error::sys("set the time of", self.host(&path)))?;
            }
        }
        Ok(())
    }

    fn host(&self, path: &[u8]) -> PathBuf {
        self.at.join(OsStr::from_bytes(path))
    }

    fn member<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: Vec<u8>,
        what: &str,
    ) -> Result<()> {
        let named = |path: &[u8]| format!("{what}: {}", String::from_utf8_lossy(path));
        let bad = |error: std::io::Error| Error::Archive {
            what: named(&path),
            reason: error.to_string(),
        };
        let xattrs = xattrs(entry).map_err(bad)?;
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode().map_err(bad)? & 0o7777;
        let uid = header.uid().map_err(bad)? as u32;
        let gid = header.gid().map_err(bad)? as u32;
        let time = header.mtime().map_err(bad)? as i64;
        let host = self.host(&path);
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], &path[..]),
        };
        if let Some(made) = &mut self.whiteouts
            && let Some(target) = name.strip_prefix(b".wh.")
        {
            if target == b".wh..opq" {
                let made = std::mem::take(made);
                let result = self.clear(parent, &made);
                self.whiteouts = Some(made);
                return result;
            }
            let gone =
                if parent.is_empty() { target.to_vec() } else { [parent, b"/", target].concat() };
            return self.remove(&gone);
        }
        if path.is_empty() {
            if kind.is_dir() {
                self.own_directory(&path, mode, uid, gid, &xattrs)?;
                self.times.push((path, time));
            }
            return Ok(());
        }
        let dir = self.dir(parent)?;
        let name = OsStr::from_bytes(name);
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let sys = |action| Error::sys(action, &host);
        match kind {
            EntryType::Directory => {
                match mkdirat(&*dir, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => {
                        let found = rustix::fs::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW)
                            .map_err(sys("read"))?;
                        match FileType::from_raw_mode(found.st_mode) {
                            FileType::Directory => {}
                            // A link to a directory stays, as `/bin -> usr/bin`.
                            FileType::Symlink if self.dir(&path).is_ok() => return Ok(()),
                            _ => {
                                unlinkat(&*dir, name, AtFlags::empty()).map_err(sys("replace"))?;
                                mkdirat(&*dir, name, Mode::from_raw_mode(0o700))
                                    .map_err(sys("make the directory"))?;
                            }
                        }
                    }
                    Err(error) => return Err(sys("make the directory")(error)),
                }
                self.own_directory(&path, mode, uid, gid, &xattrs)?;
                self.times.push((path.clone(), time));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let size = entry.size();
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let open = || openat(&*dir, name, flags, Mode::from_raw_mode(0o600));
                let file = match open() {
                    Err(Errno::EXIST) => {
                        self.remove(&path)?;
                        open()
                    }
                    other => other,
                };
                let mut file = File::from(file.map_err(sys("make"))?);
                let mut written = 0;
                loop {
                    let count = match entry.read(&mut self.buffer) {
                        Ok(0) => break,
                        Ok(count) => count,
                        Err(error) => return Err(bad(error)),
                    };
                    file.write_all(&self.buffer[..count])
                        .map_err(|error| Error::io("write", &host)(error).needing(size))?;
                    written += count as u64;
                }
                if written != size {
                    return Err(bad(std::io::Error::other(format!(
                        "the archive ends after {written} of {size} bytes"
                    ))));
                }
                fchown(&file, owner.0, owner.1).map_err(sys("set the owner of"))?;
                fchmod(&file, Mode::from_raw_mode(mode)).map_err(sys("set the mode of"))?;
                for (name, value) in &xattrs {
                    fsetxattr(
                        &file,
                        OsStr::from_bytes(name),
                        value,
                        rustix::fs::XattrFlags::empty(),
                    )
                    .map_err(sys("set an extended attribute of"))?;
                }
                futimens(&file, &stamps(time)).map_err(sys("set the time of"))?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().map(|target| clean(&target, what));
                let target = target.transpose()?.unwrap_or_default();
                let (target_dir, target_name) = match target.iter().rposition(|b| *b == b'/') {
                    Some(at) => (self.dir(&target[..at])?, &target[at + 1..]),
                    None => (Rc::clone(&self.root), &target[..]),
                };
                let target_name = OsStr::from_bytes(target_name);
                let link = || linkat(&*target_dir, target_name, &*dir, name, AtFlags::empty());
                let linked = match link() {
                    Err(Errno::EXIST) => {
                        self.remove(&path)?;
                        link()
                    }
                    other => other,
                };
                linked.map_err(sys("make the hard link"))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = OsStr::from_bytes(&target);
                let linked = match symlinkat(target, &*dir, name) {
                    Err(Errno::EXIST) => {
                        self.remove(&path)?;
                        symlinkat(target, &*dir, name)
                    }
                    other => other,
                };
                linked.map_err(sys("make the link"))?;
                chownat(&*dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(sys("set the owner of"))?;
                utimensat(&*dir, name, &stamps(time), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(sys("set the time of"))?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (major, minor) = match kind {
                    EntryType::Fifo => (0, 0),
                    _ => (
                        header.device_major().map_err(bad)?.unwrap_or(0),
                        header.device_minor().map_err(bad)?.unwrap_or(0),
                    ),
                };
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                self.remove(&path)?;
                let device = makedev(major, minor);
                mknodat(&*dir, name, file_type, Mode::from_raw_mode(mode), device)
                    .map_err(sys("make the device"))?;
                chownat(&*dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(sys("set the owner of"))?;
                rustix::fs::chmodat(&*dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
                    .map_err(sys("set the mode of"))?;
                utimensat(&*dir, name, &stamps(time), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(sys("set the time of"))?;
            }
            EntryType::XGlobalHeader => return Ok(()),
            other => {
                return Err(bad(std::io::Error::other(format!(
                    "members of type {:?} are not supported",
                    other.as_byte() as char
                ))));
            }
        }
        if let Some(made) = &mut self.whiteouts {
            made.insert(path);
        }
        Ok(())
    }

    fn own_directory(
        &mut self,
        path: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<()> {
        let host = self.host(path);
        let dir = self.dir(path)?;
        chownat(&*dir, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
            .map_err(Error::sys("set the owner of", &host))?;
        let real =
            openat(&*dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::sys("open", &host))?;
        fchmod(&real, Mode::from_raw_mode(mode)).map_err(Error::sys("set the mode of", &host))?;
        for (name, value) in xattrs {
            fsetxattr(&real, OsStr::from_bytes(name), value, rustix::fs::XattrFlags::empty())
                .map_err(Error::sys("set an extended attribute of", &host))?;
        }
        Ok(())
    }

    /// Opens a directory inside the target, making what is missing on the way.
    fn dir(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(found) = self.dirs.get(path) {
            return Ok(Rc::clone(found));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |root: &OwnedFd| {
            openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), ResolveFlags::IN_ROOT)
        };
        let found = match open(&self.root) {
            Err(Errno::NOENT) => {
                let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
                    Some(at) => (self.dir(&path[..at])?, &path[at + 1..]),
                    None => (Rc::clone(&self.root), path),
                };
                mkdirat(&*parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o755))
                    .map_err(Error::sys("make the directory", self.host(path)))?;
                open(&self.root)
            }
            other => other,
        };
        let found = Rc::new(found.map_err(Error::sys("open the directory", self.host(path)))?);
        if self.dirs.len() > 512 {
            self.dirs.clear();
        }
        self.dirs.insert(path.to_vec(), Rc::clone(&found));
        Ok(found)
    }

    /// Removes a name with what is below it; a missing one is fine.
    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let host = self.host(path);
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (self.dir(&path[..at])?, &path[at + 1..]),
            None => (Rc::clone(&self.root), path),
        };
        let name = OsStr::from_bytes(name);
        match unlinkat(&*parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(Error::sys("remove", &host)(error)),
        }
        self.clear(path, &HashSet::new())?;
        self.dirs.clear();
        unlinkat(&*parent, name, AtFlags::REMOVEDIR).map_err(Error::sys("remove", &host))
    }

    /// Removes what is in a directory, less what is in `made`.
    fn clear(&mut self, path: &[u8], made: &HashSet<Vec<u8>>) -> Result<()> {
        let host = self.host(path);
        let dir = self.dir(path)?;
        let list =
            openat(&*dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::sys("open", &host))?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&list).map_err(Error::sys("list", &host))? {
            let entry = entry.map_err(Error::sys("list", &host))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        for name in names {
            let child = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            if made.contains(&child) {
                let found = rustix::fs::statat(
                    &*self.root,
                    OsStr::from_bytes(&child),
                    AtFlags::SYMLINK_NOFOLLOW,
                );
                if found.is_ok_and(|f| FileType::from_raw_mode(f.st_mode) == FileType::Directory) {
                    self.clear(&child, made)?;
                }
                continue;
            }
            self.remove(&child)?;
        }
        Ok(())
    }
}

fn stamps(time: i64) -> Timestamps {
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// A member's path without `./` and slashes around; empty for the root. `..` is refused.
fn clean(path: &[u8], what: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                return Err(Error::Archive {
                    what: format!("{what}: {}", String::from_utf8_lossy(path)),
                    reason: "a member's path leads out of the archive by `..`".into(),
                });
            }
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Ok(out)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn xattrs<R: Read>(entry: &mut tar::Entry<'_, R>) -> std::io::Result<Pairs> {
    let mut out = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.")
                && name != b"security.selinux"
            {
                out.push((name.to_vec(), extension.value_bytes().to_vec()));
            }
        }
    }
    Ok(out)
}
