//! What can go wrong with layers, each with the operation, the object and a way out.

use std::io;
use std::path::{Path, PathBuf};

/// The result of anything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the layer store, a bootstrap, a capture or an import.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file failed.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// The verb of the operation, as in "failed to VERB PATH".
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system that holds a directory is full.
    #[error(
        "no space left in {}: {free} bytes are free{}; free some space there, or choose another directory with XDG_STATE_HOME or XDG_CACHE_HOME",
        dir.display(),
        needed.map(|n| format!(", about {n} bytes are needed")).unwrap_or_default()
    )]
    NoSpace {
        /// The directory (or file) that was written to.
        dir: PathBuf,
        /// Bytes the operation needs, where known.
        needed: Option<u64>,
        /// Bytes free when it failed.
        free: u64,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Building layers mounts, changes owners and makes devices.
    #[error("building layers needs root: run karat as root, for example with sudo")]
    NeedsRoot,
    /// A program of the host is not installed.
    #[error("the program `{program}` is missing: install the package `{package}`")]
    MissingProgram {
        /// The name looked for in PATH.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program ran and failed.
    #[error("`{command}` failed with {status}{}", tail(log))]
    Command {
        /// The command line, shortened.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// A file that Karat reads has wrong content.
    #[error("{}:{line}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, with the offending text.
        reason: String,
    },
    /// Bytes do not have the digest they should have.
    #[error("{what} has digest sha256:{actual}, but sha256:{expected} was expected; {hint}")]
    Mismatch {
        /// A file, URL or layer.
        what: String,
        /// What it should be, in hexadecimal.
        expected: String,
        /// What it is.
        actual: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// No such layer in the store.
    #[error(
        "layer {digest} is not in the store {}; it may have been collected: build its parent again",
        store.display()
    )]
    NoLayer {
        /// The layer asked for.
        digest: String,
        /// The store's directory.
        store: PathBuf,
    },
    /// A file kept changing while it was captured.
    #[error("{} kept changing while it was read; stop the machine before capturing it", path.display())]
    Unstable {
        /// The file.
        path: PathBuf,
    },
    /// An archive or image is not what it should be.
    #[error("{what}: {reason}")]
    Archive {
        /// The archive, and the member in it where there is one.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Packages cannot be resolved.
    #[error("{0}")]
    Packages(String),
    /// A setting has a value that cannot work.
    #[error("{0}")]
    Invalid(String),
}

fn tail(log: &str) -> String {
    let log = log.trim_end();
    if log.is_empty() { String::new() } else { format!("; it said:\n{log}") }
}

impl Error {
    /// For `map_err`: names the operation and the file, and knows a full disk.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| {
            if matches!(source.raw_os_error(), Some(28 | 122)) {
                let free = free_space(&path).unwrap_or(0);
                return Self::NoSpace { dir: path, needed: None, free };
            }
            Self::Io { action, path, source }
        }
    }

    /// The same for errors of the system-call crate.
    pub(crate) fn sys(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let build = Self::io(action, path);
        move |errno| build(io::Error::from(errno))
    }

    /// Adds how many bytes are needed to an error about a full disk.
    pub(crate) fn needing(self, bytes: u64) -> Self {
        match self {
            Self::NoSpace { dir, free, .. } => Self::NoSpace { dir, needed: Some(bytes), free },
            other => other,
        }
    }
}

/// Bytes an unprivileged process could still write below `path` (or its nearest parent).
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    let mut at = path;
    loop {
        if let Ok(found) = rustix::fs::statvfs(at) {
            return Some(found.f_bavail * found.f_frsize);
        }
        at = at.parent()?;
    }
}

/// Fails in one sentence when the process is not root.
pub(crate) fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NeedsRoot) }
}
