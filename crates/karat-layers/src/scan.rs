//! Reads a directory into a manifest: every name, owner, mode, time, attribute and content digest.
//!
//! Overlay file systems mark removed names with character devices 0:0 and opaque directories with
//! the attribute `trusted.overlay.opaque`; both are read as such here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::control::parallel;
use crate::manifest::{Item, Kind, Manifest};
use crate::{Control, Digest, Error, Result};

/// Reads the tree below `root`, hashing files on all processors.
pub(crate) fn scan(root: &Path, control: &Control) -> Result<Manifest> {
    let mut found = Vec::with_capacity(16 << 10);
    let meta = fs::symlink_metadata(root).map_err(Error::io("read", root))?;
    walk(root, b"", &meta, control, &mut found)?;
    // The first name in path order holds the content, later ones are links to it.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    for index in 0..found.len() {
        let meta = &found[index].meta;
        if meta.is_dir() || meta.nlink() < 2 {
            continue;
        }
        if is_whiteout(meta) {
            continue;
        }
        let id = (meta.dev(), meta.ino());
        if let Some(&original) = first.get(&id) {
            found[index].link_to = Some(found[original].path.clone());
        } else {
            first.insert(id, index);
        }
    }
    let hashed = AtomicU64::new(0);
    let total = found.len() as u64;
    let items = parallel(&found, control, |name| {
        let item = name.read(root)?;
        let done = hashed.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(2048) {
            control.done(done, total, "files");
        }
        Ok(item)
    })?;
    Ok(Manifest::new(items))
}

struct Name {
    /// `/` for the root.
    path: Vec<u8>,
    meta: Metadata,
    link_to: Option<Vec<u8>>,
}

fn walk(
    dir: &Path,
    prefix: &[u8],
    meta: &Metadata,
    control: &Control,
    out: &mut Vec<Name>,
) -> Result<()> {
    control.check()?;
    let path = if prefix.is_empty() { b"/".to_vec() } else { prefix.to_vec() };
    out.push(Name { path, meta: meta.clone(), link_to: None });
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let at = entry.path();
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("read", &at)(error)),
        };
        let path = [prefix, b"/", entry.file_name().as_bytes()].concat();
        if meta.is_dir() {
            walk(&at, &path, &meta, control, out)?;
        } else {
            out.push(Name { path, meta, link_to: None });
        }
    }
    Ok(())
}

/// Where an absolute path of an image is below a directory of the host.
pub(crate) fn host_path(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

impl Name {
    fn read(&self, root: &Path) -> Result<Item> {
        let at = host_path(root, &self.path);
        let meta = &self.meta;
        let bare = |kind| Item {
            path: self.path.clone(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Vec::new(),
        };
        if is_whiteout(meta) {
            return Ok(bare(Kind::Whiteout));
        }
        if let Some(target) = &self.link_to {
            return Ok(bare(Kind::Hardlink(target.clone())));
        }
        let (xattrs, opaque) = read_xattrs(&at)?;
        let file_type = meta.file_type();
        let device = || (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let kind = if file_type.is_file() {
            let (digest, size) = hash_stable(&at, meta)?;
            Kind::File { size, digest }
        } else if file_type.is_dir() {
            Kind::Directory { opaque }
        } else if file_type.is_symlink() {
            let target = fs::read_link(&at).map_err(Error::io("read the link", &at))?;
            Kind::Symlink(target.into_os_string().into_vec())
        } else if file_type.is_char_device() {
            let (major, minor) = device();
            Kind::CharDevice(major, minor)
        } else if file_type.is_block_device() {
            let (major, minor) = device();
            Kind::BlockDevice(major, minor)
        } else if file_type.is_fifo() {
            Kind::Fifo
        } else {
            Kind::Socket
        };
        Ok(Item {
            path: self.path.clone(),
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: meta.mtime(),
            xattrs,
        })
    }
}

/// Hashes a file that should not change; one that does is tried again, then an error.
fn hash_stable(at: &Path, seen: &Metadata) -> Result<(Digest, u64)> {
    let stamp = |meta: &Metadata| (meta.size(), meta.mtime(), meta.mtime_nsec());
    let mut before = stamp(seen);
    for _ in 0..3 {
        let file = File::open(at).map_err(Error::io("open", at))?;
        let (digest, size) = Digest::of_reader(&file).map_err(Error::io("read", at))?;
        let after = stamp(&file.metadata().map_err(Error::io("read", at))?);
        if after == before && size == before.0 {
            return Ok((digest, size));
        }
        before = after;
    }
    Err(Error::Unstable { path: at.to_owned() })
}

/// The extended attributes that belong to the file, and whether it is an opaque directory.
type Xattrs = (Vec<(Vec<u8>, Vec<u8>)>, bool);

fn read_xattrs(at: &Path) -> Result<Xattrs> {
    use rustix::io::Errno;
    let mut names = vec![0u8; 1024];
    let length = loop {
        match rustix::fs::llistxattr(at, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok((Vec::new(), false)),
            Err(error) => return Err(Error::sys("list the extended attributes of", at)(error)),
        }
    };
    let mut out = Vec::new();
    let mut opaque = false;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            match name {
                b"trusted.overlay.opaque" => {
                    opaque = get_xattr(at, OsStr::new("trusted.overlay.opaque"))? == b"y";
                }
                b"trusted.overlay.redirect" | b"trusted.overlay.metacopy" => {
                    return Err(Error::Archive {
                        what: at.display().to_string(),
                        reason: "the overlay was mounted with redirect_dir or metacopy, \
                                 which layers cannot hold; mount it with both off"
                            .into(),
                    });
                }
                _ => {}
            }
            continue;
        }
        // Labels come from the policy of the host, not from the image.
        if name == b"security.selinux" {
            continue;
        }
        out.push((name.to_vec(), get_xattr(at, OsStr::from_bytes(name))?));
    }
    out.sort();
    Ok((out, opaque))
}

fn get_xattr(at: &Path, name: &OsStr) -> Result<Vec<u8>> {
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::lgetxattr(at, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(rustix::io::Errno::RANGE) => value.resize(value.len() * 8, 0),
            Err(error) => return Err(Error::sys("read an extended attribute of", at)(error)),
        }
    }
}
