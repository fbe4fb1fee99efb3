//! A directory of the host as a list of entries.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::tree::{Content, Entry, Kind, Timestamp, Xattr};

/// Reads a directory of the host, with everything below it, as entries with the contents left
/// where they are. Mount points below are followed; the directory itself becomes `/`.
///
/// # Errors
/// A file or directory cannot be read.
pub fn scan_directory(root: &Path) -> Result<Vec<Entry>> {
    let mut scan = Scan { entries: Vec::new(), links: HashMap::new() };
    scan.one(root, b"/".to_vec())?;
    scan.directory(root, b"")?;
    Ok(scan.entries)
}

struct Scan {
    entries: Vec<Entry>,
    /// First path in the image of files with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Scan {
    fn directory(&mut self, host: &Path, image: &[u8]) -> Result<()> {
        let list = std::fs::read_dir(host).map_err(|error| Error::io("list", host, error))?;
        let mut names = list
            .map(|item| item.map(|item| item.file_name()))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| Error::io("list", host, error))?;
        names.sort_unstable();
        for name in names {
            let path = host.join(&name);
            let mut inside = image.to_vec();
            inside.push(b'/');
            inside.extend(name.as_bytes());
            if self.one(&path, inside.clone())? {
                self.directory(&path, &inside)?;
            }
        }
        Ok(())
    }

    /// Adds one file; says whether it is a directory.
    fn one(&mut self, host: &Path, path: Vec<u8>) -> Result<bool> {
        let meta =
            std::fs::symlink_metadata(host).map_err(|error| Error::io("read", host, error))?;
        let file_type = meta.file_type();
        let device = || (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let first = (!file_type.is_dir() && meta.nlink() > 1)
            .then(|| self.links.get(&(meta.dev(), meta.ino())).cloned())
            .flatten();
        let kind = if let Some(first) = first {
            Kind::Hardlink(first)
        } else if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            let target =
                std::fs::read_link(host).map_err(|error| Error::io("read", host, error))?;
            Kind::Symlink(target.into_os_string().into_vec())
        } else if file_type.is_file() {
            let content = Content::HostFile(host.to_owned());
            Kind::File { size: meta.len(), content, digest: None }
        } else if file_type.is_char_device() {
            let (major, minor) = device();
            Kind::CharDevice { major, minor }
        } else if file_type.is_block_device() {
            let (major, minor) = device();
            Kind::BlockDevice { major, minor }
        } else if file_type.is_fifo() {
            Kind::Fifo
        } else {
            Kind::Socket
        };
        if !file_type.is_dir() && meta.nlink() > 1 {
            self.links.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
        }
        let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or(0);
        self.entries.push(Entry {
            path,
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: Timestamp { secs: meta.mtime(), nanos },
            xattrs: xattrs(host)?,
        });
        Ok(file_type.is_dir())
    }
}

/// Extended attributes of a file, of a link's own where it is one.
fn xattrs(host: &Path) -> Result<Vec<Xattr>> {
    let fail = |error: rustix::io::Errno| Error::io("read the attributes of", host, error);
    let mut names = [0u8; 4096];
    let length = match rustix::fs::llistxattr(host, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut out = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(c_name) = CString::new(name) else { continue };
        let mut value = vec![0u8; 65_536];
        match rustix::fs::lgetxattr(host, c_name.as_c_str(), &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(rustix::io::Errno::NODATA) => continue,
            Err(error) => return Err(fail(error)),
        }
        out.push(Xattr { name: name.to_vec(), value });
    }
    out.sort();
    Ok(out)
}
