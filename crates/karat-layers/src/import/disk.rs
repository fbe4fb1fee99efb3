//! Unpacks the root file system of a disk image, without mounting it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use karat_disk::{DiskImage, Entry, Kind};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat,
    utimensat,
};

use crate::scan::host_path;
use crate::{Control, Error, Result};

/// Writes the files of the image's root partition below `root`; `raw` is where a compressed image
/// may be unpacked.
pub(super) fn unpack(image: &Path, root: &Path, raw: &Path, control: &Control) -> Result<()> {
    let bad = |error: karat_disk::Error| Error::Archive {
        what: image.display().to_string(),
        reason: error.to_string(),
    };
    let disk = DiskImage::open(image, raw).map_err(bad)?;
    let mut entries = disk.entries(disk.root().map_err(bad)?).map_err(bad)?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    // Links after what they lead to, directory times after their content.
    let is_link = |entry: &&Entry| matches!(entry.kind, Kind::Hardlink(_));
    for entry in entries.iter().filter(|entry| !is_link(entry)) {
        control.check()?;
        write(root, entry)?;
    }
    for entry in entries.iter().filter(is_link) {
        if let Kind::Hardlink(target) = &entry.kind {
            let at = host_path(root, &entry.path);
            fs::hard_link(host_path(root, target), &at)
                .map_err(Error::io("make the hard link", &at))?;
        }
    }
    for entry in entries.iter().rev().filter(|entry| !is_link(entry)) {
        let at = host_path(root, &entry.path);
        let time = Timespec { tv_sec: entry.mtime.secs, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::sys("set the time of", &at))?;
    }
    match fs::remove_file(raw) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", raw)(error))
        }
        _ => Ok(()),
    }
}

fn write(root: &Path, entry: &Entry) -> Result<()> {
    let at = host_path(root, &entry.path);
    let node = |file_type, device| {
        mknodat(CWD, &at, file_type, Mode::from_raw_mode(0o600), device)
            .map_err(Error::sys("make the device", &at))
    };
    match &entry.kind {
        Kind::Directory => match fs::create_dir(&at) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make the directory", &at)(error));
            }
            _ => {}
        },
        Kind::File { size, content, .. } => {
            let mut reader =
                content.reader(*size).map_err(Error::io("read the content of", &at))?;
            let mut file = fs::File::create_new(&at).map_err(Error::io("make", &at))?;
            std::io::copy(&mut reader, &mut file)
                .map_err(|error| Error::io("write", &at)(error).needing(*size))?;
        }
        Kind::Symlink(target) => {
            symlink(OsStr::from_bytes(target), &at).map_err(Error::io("make the link", &at))?;
        }
        Kind::CharDevice { major, minor } => {
            node(FileType::CharacterDevice, makedev(*major, *minor))?;
        }
        Kind::BlockDevice { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor))?,
        Kind::Fifo => node(FileType::Fifo, 0)?,
        // A socket without the program that listens on it is nothing; and links come later.
        Kind::Socket => node(FileType::Socket, 0)?,
        Kind::Hardlink(_) => return Ok(()),
    }
    lchown(&at, Some(entry.uid), Some(entry.gid)).map_err(Error::io("set the owner of", &at))?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        fs::set_permissions(&at, fs::Permissions::from_mode(entry.mode & 0o7777))
            .map_err(Error::io("set the mode of", &at))?;
    }
    for xattr in &entry.xattrs {
        lsetxattr(&at, OsStr::from_bytes(&xattr.name), &xattr.value, XattrFlags::empty())
            .map_err(Error::sys("set an extended attribute of", &at))?;
    }
    Ok(())
}
