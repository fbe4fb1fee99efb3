//! What can go wrong while a disk is laid out, written or read.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a disk could not be laid out, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on a file of the host failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, a verb with its object's relation ("open", "write to").
        action: &'static str,
        /// The file of the host.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry of the tree cannot stand in the image.
    #[error("{}: {reason}", path.display())]
    Entry {
        /// The path in the image.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The content does not fit the size that was asked for.
    #[error("{what} needs {needed} bytes, but has {available}; ask for a larger size")]
    TooSmall {
        /// The part of the disk.
        what: &'static str,
        /// Bytes needed at least.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The specification contradicts itself.
    #[error("{0}")]
    Spec(String),
    /// A program or file that comes from a package of the host is missing or failed.
    #[error("{what}; {hint}")]
    Tool {
        /// What is missing or failed.
        what: String,
        /// What to install or change.
        hint: String,
    },
    /// An image that was to be read is damaged or of a kind not supported.
    #[error("{}: {reason}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller cancelled the work; nothing is left behind.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn entry(path: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry { path: bytes_path(path).to_owned(), reason: reason.into() }
    }

    pub(crate) fn image(path: &Path, reason: impl Into<String>) -> Self {
        Self::Image { path: path.to_owned(), reason: reason.into() }
    }
}

/// A path of bytes as the standard library's path.
pub(crate) fn bytes_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
