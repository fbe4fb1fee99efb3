//! The input of a disk: a flat list of files with everything a file system records about them.
//!
//! A list comes from layer manifests or from a directory on the host; owners, modes and extended
//! attributes are data here, so that writing an image needs neither root nor the host's own file
//! system to support them. Paths are bytes: Linux names need not be UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A point in time as file systems record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC; may be negative.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// A whole second.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// The whole name with its prefix, for example `security.capability`.
    pub name: Vec<u8>,
    /// The value as `getxattr(2)` gives it. POSIX ACLs too are in that form, not in ext4's own.
    pub value: Vec<u8>,
}

/// Where the bytes of a regular file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The whole of a file on the host, from its first byte. Holes stay holes.
    HostFile(PathBuf),
    /// A part of a file on the host, starting at `offset` (in bytes). The entry's size says how
    /// much of it. Holes stay holes.
    HostRange {
        /// The file on the host.
        path: PathBuf,
        /// First byte of the content within it.
        offset: u64,
    },
    /// Parts of a file on the host, typically of a disk image. What no part covers is a hole.
    HostExtents {
        /// The file on the host.
        path: PathBuf,
        /// Offset in the content, offset in the file on the host, length; in bytes, ascending
        /// and without overlap.
        extents: Arc<[(u64, u64, u64)]>,
    },
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// Reads the content in order. `size` is the entry's size; holes read as zeros.
    ///
    /// # Errors
    /// The file on the host cannot be opened.
    pub fn reader(&self, size: u64) -> io::Result<ContentReader<'_>> {
        let file = match self {
            Self::HostFile(path)
            | Self::HostRange { path, .. }
            | Self::HostExtents { path, .. } => Some(File::open(path)?),
            Self::Bytes(_) => None,
        };
        Ok(ContentReader { content: self, file, at: 0, size })
    }
}

/// Reads a [`Content`] in order.
#[derive(Debug)]
pub struct ContentReader<'a> {
    content: &'a Content,
    file: Option<File>,
    at: u64,
    size: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if len == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..len];
        // How many bytes from here are contiguous, and where; nowhere for a hole.
        let (place, run) = match self.content {
            Content::Bytes(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                let part = bytes.get(at..).unwrap_or_default();
                let len = part.len().min(buffer.len());
                buffer[..len].copy_from_slice(&part[..len]);
                self.at += len as u64;
                return Ok(len);
            }
            Content::HostFile(_) => (Some(self.at), left),
            Content::HostRange { offset, .. } => (Some(offset + self.at), left),
            Content::HostExtents { extents, .. } => {
                let next = extents.partition_point(|extent| extent.0 + extent.2 <= self.at);
                match extents.get(next) {
                    Some((at, on_host, len)) if *at <= self.at => {
                        let skip = self.at - at;
                        (Some(on_host + skip), len - skip)
                    }
                    Some((at, _, _)) => (None, at - self.at),
                    None => (None, left),
                }
            }
        };
        let len = usize::try_from(run).unwrap_or(usize::MAX).min(len);
        let read = match (place, &self.file) {
            (Some(place), Some(file)) => file.read_at(&mut buffer[..len], place)?,
            _ => {
                buffer[..len].fill(0);
                len
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Length in bytes. Reading another length from `content` is an error.
        size: u64,
        /// Where its bytes are.
        content: Content,
        /// SHA-256 of the content where the caller knows it: lets a later write of an almost
        /// equal tree see what did not change without reading it.
        digest: Option<[u8; 32]>,
    },
    /// A directory. Directories that are missing on the way to another entry are made with mode
    /// 0755, owner 0:0 and the image's default time.
    Directory,
    /// A symbolic link and its target (1 to 4095 bytes).
    Symlink(Vec<u8>),
    /// A further name of the entry at this absolute path in the image. Mode, owner, time and
    /// extended attributes of such an entry are ignored: the first name has them.
    Hardlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// One name in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path in the image: begins with `/`, no empty, `.` or `..` component. `/` itself
    /// gives the root directory its mode, owner and time.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes, in any order.
    pub xattrs: Vec<Xattr>,
}

impl Entry {
    /// A directory owned by root.
    #[must_use]
    pub fn directory(path: impl Into<Vec<u8>>, mode: u32, mtime: Timestamp) -> Self {
        Self {
            path: path.into(),
            kind: Kind::Directory,
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: Vec::new(),
        }
    }

    /// A regular file owned by root with its bytes in memory.
    #[must_use]
    pub fn bytes(
        path: impl Into<Vec<u8>>,
        mode: u32,
        mtime: Timestamp,
        bytes: impl Into<Arc<[u8]>>,
    ) -> Self {
        let bytes = bytes.into();
        let kind =
            Kind::File { size: bytes.len() as u64, content: Content::Bytes(bytes), digest: None };
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    /// A symbolic link owned by root.
    #[must_use]
    pub fn symlink(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>, mtime: Timestamp) -> Self {
        let kind = Kind::Symlink(target.into());
        Self { path: path.into(), kind, mode: 0o777, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }

    /// Length of the content of a regular file, 0 for all else.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => *size,
            _ => 0,
        }
    }
}
