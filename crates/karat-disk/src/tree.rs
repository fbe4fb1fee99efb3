//! The input of a disk: a flat list of files with everything a file system records about them.
//!
//! A list comes from layer manifests or from a directory on the host; owners, modes and extended
//! attributes are data here, so that writing an image needs neither root nor the host's own file
//! system to support them. Paths are bytes: Linux names need not be UTF-8.

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
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
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
