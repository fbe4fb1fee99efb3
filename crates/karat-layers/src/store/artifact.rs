//! Records of finished files: what lets a build with nothing to do end at once.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use crate::{Digest, Error, Result};

/// One file of an artifact, with what tells cheaply that it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Seconds of the last change.
    pub mtime: i64,
    /// Nanoseconds of the last change.
    pub mtime_nanos: i64,
    /// Of the content, where it was computed.
    pub sha256: Option<Digest>,
}

impl ArtifactFile {
    /// Describes a file as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: impl Into<PathBuf>, sha256: Option<Digest>) -> Result<Self> {
        let path = path.into();
        let meta = fs::metadata(&path).map_err(Error::io("read", &path))?;
        Ok(Self {
            size: meta.len(),
            mtime: meta.mtime(),
            mtime_nanos: meta.mtime_nsec(),
            sha256,
            path,
        })
    }

    /// Whether the file is there with the same size and time.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Self::of(&self.path, None).is_ok_and(|found| {
            (found.size, found.mtime, found.mtime_nanos)
                == (self.size, self.mtime, self.mtime_nanos)
        })
    }
}

/// What a finished build left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Its files.
    pub files: Vec<ArtifactFile>,
    /// The layer they were made from.
    pub layer: Option<Digest>,
    /// Whatever the builder wants to find again.
    #[serde(default)]
    pub data: serde_json::Value,
}

impl ArtifactRecord {
    /// Whether all files are as they were, and the layer is in the store.
    #[must_use]
    pub fn is_current(&self, store: &Store) -> bool {
        self.layer.is_none_or(|layer| store.has(layer))
            && self.files.iter().all(ArtifactFile::is_current)
    }
}

impl Store {
    /// The record of the build with this fingerprint.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn artifact(&self, fingerprint: Digest) -> Result<Option<ArtifactRecord>> {
        let at = self.artifact_path(fingerprint);
        let text = match fs::read(&at) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &at)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::Format {
            path: at,
            line: error.line(),
            reason: error.to_string(),
        })
    }

    /// Remembers what the build with this fingerprint left.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn remember_artifact(&self, fingerprint: Digest, record: &ArtifactRecord) -> Result<()> {
        let json = serde_json::to_vec_pretty(record)
            .map_err(|error| Error::Invalid(format!("artifact record: {error}")))?;
        self.write("artifacts", &fingerprint.to_string(), &json)
    }

    /// Forgets the build with this fingerprint.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub fn forget_artifact(&self, fingerprint: Digest) -> Result<()> {
        let at = self.artifact_path(fingerprint);
        match fs::remove_file(&at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &at)(error))
            }
            _ => Ok(()),
        }
    }

    fn artifact_path(&self, fingerprint: Digest) -> PathBuf {
        self.dir().join(Path::new("artifacts")).join(fingerprint.to_string())
    }
}
