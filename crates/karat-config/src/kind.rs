//! The kinds of components that a template can name.

use std::fmt;

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComponentKind {
    /// Makes an image: `source "TYPE" "name"`.
    Source,
    /// Changes a machine: `provisioner "TYPE"`.
    Provisioner,
    /// Makes something of what came out: `post-processor "TYPE"`.
    PostProcessor,
    /// Looks something up: `data "TYPE" "name"`.
    DataSource,
}

impl ComponentKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 4] =
        [Self::Source, Self::Provisioner, Self::PostProcessor, Self::DataSource];

    /// The word for one.
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Provisioner => "provisioner",
            Self::PostProcessor => "post-processor",
            Self::DataSource => "data source",
        }
    }
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
