//! What a build or a post-processor made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::mask::Masker;

/// What a builder or a post-processor made, as data: it is shown, stored in the journal and the
/// registry, and handed to the next in the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Names the kind of artifact for those who consume it, as Packer's `BuilderId` does.
    pub builder_id: String,
    /// The id at its platform (`ap-northeast-1:ami-…`); may be empty.
    pub id: String,
    /// What a person is told: one or more lines.
    pub description: String,
    /// Local files that belong to it.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// What `artifact.BUILD.TYPE.NAME.*` gives to other builds.
    #[serde(default)]
    pub attributes: BTreeMap<String, Json>,
    /// Further facts by name for post-processors and the registry.
    #[serde(default)]
    pub state: BTreeMap<String, Json>,
}

impl Artifact {
    /// The artifact with every secret masked.
    #[must_use]
    pub fn masked(mut self, masker: &Masker) -> Self {
        self.id = masker.mask(&self.id);
        self.description = masker.mask(&self.description);
        for file in &mut self.files {
            let masked = file.to_str().map(|path| masker.mask(path));
            if let Some(masked) = masked.filter(|masked| Some(masked.as_str()) != file.to_str()) {
                *file = masked.into();
            }
        }
        for value in self.attributes.values_mut().chain(self.state.values_mut()) {
            masker.mask_json(value);
        }
        self
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}
