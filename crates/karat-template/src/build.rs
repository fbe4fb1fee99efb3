//! Builds as the engine runs them: one per source of a build block.

use std::time::Duration;

use karat_hcl::ast;
use karat_hcl::diag::Span;
use karat_value::Value;

use crate::legacy::Options;

/// What `artifact.BUILD.TYPE.NAME` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactKey {
    /// The `name` of the build block.
    pub build: String,
    /// The builder's type.
    pub source_type: String,
    /// The source's local name.
    pub source_name: String,
}

/// A place in a build that uses the artifact of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRef {
    /// Which artifact.
    pub key: ArtifactKey,
    /// Where it is named.
    pub span: Span,
}

/// One source of one build block, with the provisioners and post-processors that `only` and
/// `except` leave for it.
#[derive(Clone, Debug)]
pub struct Build {
    /// As the user sees it: `TYPE.NAME` or `BUILD.TYPE.NAME`. Several builds may share one.
    pub target: String,
    /// What tells it apart from all others of the template: the target, with a number behind it
    /// for every further build of that target. Journal and records know it by this.
    pub key: String,
    /// The `name` of the build block; empty without one.
    pub build_name: String,
    /// The builder's type.
    pub source_type: String,
    /// The name that the source is declared by.
    pub source_name: String,
    /// The name that a nested `source` block gives; else the declared one.
    pub local_name: String,
    /// Where the build block refers to the source.
    pub span: Span,
    /// The source's block.
    pub source: ComponentBlock,
    /// What the nested `source` block adds, if there is one.
    pub overlay: Option<ComponentBlock>,
    /// In the order of the text.
    pub provisioners: Vec<ProvisionerBlock>,
    /// Runs when a provisioner fails.
    pub error_cleanup: Option<ProvisionerBlock>,
    /// Each chain starts at the builder's artifact.
    pub chains: Vec<Vec<PostProcessorBlock>>,
    /// Artifacts of other builds that it uses.
    pub artifacts: Vec<ArtifactRef>,
}

impl Build {
    /// What other builds name this one's artifact by.
    pub fn artifact_key(&self) -> ArtifactKey {
        ArtifactKey {
            build: self.build_name.clone(),
            source_type: self.source_type.clone(),
            source_name: self.local_name.clone(),
        }
    }
}

/// What a build block holds, for a person to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOutline {
    /// Its name; empty without one.
    pub name: String,
    /// What is told of it; empty without.
    pub description: String,
    /// Its sources as `TYPE.NAME`, by their local names.
    pub sources: Vec<String>,
    /// Type and name of each provisioner.
    pub provisioners: Vec<(String, Option<String>)>,
    /// Type and name of the provisioner that runs after a failure.
    pub error_cleanup: Option<(String, Option<String>)>,
    /// Type and name of each post-processor, by chains.
    pub chains: Vec<Vec<(String, Option<String>)>>,
}

/// A component's block before its expressions are evaluated.
#[derive(Clone, Debug)]
pub struct ComponentBlock {
    /// The component's type.
    pub type_name: String,
    /// Where the type stands.
    pub type_span: Span,
    /// The block's header.
    pub header: Span,
    /// What stands in it, less the options that are the engine's own.
    pub body: ast::Body,
    /// Names of attributes in `body` that are the engine's own and not the component's.
    pub taken: &'static [&'static str],
    /// The options in a legacy template; `body` is empty there.
    pub(crate) legacy: Option<Options>,
    /// What the block sees beyond what all of its kind see: the iterators of the `dynamic` blocks
    /// that it came out of, the innermost last.
    pub bindings: Vec<(String, Value)>,
}

/// A provisioner of a build.
#[derive(Clone, Debug)]
pub struct ProvisionerBlock {
    /// The component.
    pub component: ComponentBlock,
    /// The block's `name`.
    pub name: Option<String>,
    /// How long to wait before it.
    pub pause_before: Option<Duration>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How often to try again after a failure.
    pub max_retries: u32,
    /// Whether the build goes on when it fails.
    pub continue_on_error: bool,
    /// What `override` sets for this source.
    pub overrides: Option<ast::Expr>,
}

/// A post-processor of a build.
#[derive(Clone, Debug)]
pub struct PostProcessorBlock {
    /// The component.
    pub component: ComponentBlock,
    /// The block's `name`.
    pub name: Option<String>,
    /// Whether what it is given is kept; the component decides without it.
    pub keep_input_artifact: Option<bool>,
}
