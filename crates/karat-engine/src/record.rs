//! What each build of each template made last, so that it can be taken again and a difference
//! can be named.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use karat_component::Artifact;
use karat_plan::Fingerprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a build made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub version: u32,
    /// The build, as the user sees it.
    pub target: String,
    /// What went into it.
    pub fingerprint: Fingerprint,
    /// What the builder made.
    pub artifact: Artifact,
    /// The digest of the post-processors' configurations and inputs.
    pub chains: String,
    /// What was there in the end, after the post-processors.
    pub artifacts: Vec<Artifact>,
    /// The run that made it.
    pub run: String,
}

/// The version of [`Record`] that this program writes and reads.
const VERSION: u32 = 1;

impl Record {
    /// A record in today's form.
    pub(crate) fn new(
        target: &str,
        fingerprint: Fingerprint,
        artifact: Artifact,
        chains: String,
        artifacts: Vec<Artifact>,
        run: String,
    ) -> Self {
        let target = target.to_owned();
        Self { version: VERSION, target, fingerprint, artifact, chains, artifacts, run }
    }
}

/// The records in a state folder.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records of `state_dir`.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("builds") }
    }

    /// The file that holds a build's record: builds are told apart by the template's real path
    /// and their target.
    fn path(&self, template: &Path, target: &str) -> PathBuf {
        let template = std::fs::canonicalize(template).unwrap_or_else(|_| template.to_owned());
        let digest = Sha256::digest(format!("{}\n{target}", template.display()));
        let name: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        self.dir.join(format!("{name}.json"))
    }

    /// What the build made last. A record that is missing, damaged or of another version is none:
    /// the build is made anew.
    pub fn load(&self, template: &Path, target: &str) -> Option<Record> {
        let text = std::fs::read(self.path(template, target)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        (record.version == VERSION && record.target == target).then_some(record)
    }

    /// Writes down what the build made.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(crate) fn store(&self, template: &Path, record: &Record) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
        file.persist(self.path(template, &record.target)).map_err(|e| e.error)?;
        Ok(())
    }
}
