//! The lock: exactly which package files a layer is made of. A build reads nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::AptSource;
use crate::{Digest, Error, Result};

/// One package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture; `all` where it has none.
    pub architecture: String,
    /// Where its file is.
    pub url: String,
    /// Of the file.
    pub sha256: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Whether the system cannot do without it; such packages are unpacked first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub essential: bool,
    /// Whether it came in only because another package needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// Packages that must be configured before this one is unpacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configure_before: Vec<String>,
}

/// The state of an archive that the packages were chosen from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFile {
    /// Its name in apt's list directory, made from the address.
    pub name: String,
    /// Of the signed file.
    pub sha256: Digest,
    /// When the archive says it was made, in seconds since 1970.
    pub date: i64,
}

/// Packages with their exact files, in the order in which they are unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Version of this format.
    pub format: u32,
    /// What was asked for, so that a change of it is noticed.
    pub request: Digest,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Newest date of the archives; no file in the layer is younger.
    pub epoch: i64,
    /// The archives.
    pub sources: Vec<AptSource>,
    /// Their states.
    pub releases: Vec<ReleaseFile>,
    /// The packages.
    pub packages: Vec<LockedPackage>,
}

/// The format that this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

impl Lock {
    /// Bytes to download when nothing is cached.
    #[must_use]
    pub fn download_size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }

    /// Of what decides the result: the packages and the epoch, not where they came from.
    #[must_use]
    pub fn content_digest(&self) -> Digest {
        let packages: Vec<_> = self
            .packages
            .iter()
            .map(|p| (&p.name, &p.version, &p.architecture, p.sha256))
            .collect();
        let mut text = String::new();
        let value = serde_json::json!([self.epoch, self.architecture, packages]);
        crate::key::canonical(&mut text, &value);
        Digest::of(text)
    }

    /// The versions by package.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<&str, &str> {
        self.packages.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect()
    }

    /// Reads a lock. A missing file is `None`.
    ///
    /// # Errors
    /// When the file is not a lock or of a newer format.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let bad = |line, reason| Error::Format { path: path.to_owned(), line, reason };
        let lock: Self = serde_json::from_slice(&text).map_err(|error| {
            bad(error.line(), format!("not a package lock: {error}; remove it to resolve again"))
        })?;
        if lock.format != FORMAT {
            let reason = format!(
                "package lock of format {}, this version reads {FORMAT}; remove it to resolve again",
                lock.format
            );
            return Err(bad(1, reason));
        }
        Ok(Some(lock))
    }

    /// Writes the lock whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Invalid(format!("package lock: {error}")))?;
        json.push(b'\n');
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let mut temp = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .map_err(Error::io("write", path))?;
        std::io::Write::write_all(&mut temp, &json).map_err(Error::io("write", path))?;
        temp.persist(path).map(drop).map_err(|error| Error::io("write", path)(error.error))
    }
}
