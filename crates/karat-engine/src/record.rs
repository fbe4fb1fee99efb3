//! What each build of each template made last, so that it can be taken again and a difference
//! can be named.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use karat_component::{Artifact, Masker};
use karat_plan::Fingerprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a build made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub version: u32,
    /// What tells the build apart from the template's others.
    #[serde(rename = "target")]
    pub key: String,
    /// The template's real path when it was built.
    pub template: PathBuf,
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

/// The path without links, if there is such a file.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The version of [`Record`] that this program writes and reads.
const VERSION: u32 = 2;

impl Record {
    /// A record in today's form.
    pub(crate) fn new(
        (template, key): (&Path, &str),
        fingerprint: Fingerprint,
        artifact: Artifact,
        chains: String,
        artifacts: Vec<Artifact>,
        run: String,
    ) -> Self {
        let key = key.to_owned();
        let template = real(template);
        Self { version: VERSION, key, template, fingerprint, artifact, chains, artifacts, run }
    }

    /// Whether a secret is in it. Masked, it would name something else than what was made.
    pub(crate) fn holds_secret(&self, masker: &Masker) -> bool {
        std::iter::once(&self.artifact)
            .chain(&self.artifacts)
            .any(|artifact| artifact.clone().masked(masker) != *artifact)
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
    /// and their keys.
    fn path(&self, template: &Path, key: &str) -> PathBuf {
        let template = real(template);
        let digest = Sha256::digest(format!("{}\n{key}", template.display()));
        let name: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        self.dir.join(format!("{name}.json"))
    }

    /// What the build made last. A record that is missing, damaged or of another version is none:
    /// the build is made anew.
    pub fn load(&self, template: &Path, key: &str) -> Option<Record> {
        let text = std::fs::read(self.path(template, key)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        (record.version == VERSION && record.key == key).then_some(record)
    }

    /// All records that can be read.
    pub fn all(&self) -> Vec<Record> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .collect()
    }

    /// Forgets the builds of templates that are gone.
    ///
    /// # Errors
    /// When a record cannot be removed.
    pub fn prune(&self) -> io::Result<()> {
        for record in self.all().iter().filter(|record| !record.template.exists()) {
            std::fs::remove_file(self.path(&record.template, &record.key))?;
        }
        Ok(())
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
        file.persist(self.path(template, &record.key)).map_err(|e| e.error)?;
        Ok(())
    }
}
