//! Which components a template uses, and where.

use karat_config::ComponentKind;
use karat_hcl::diag::Span;

use crate::blocks::Template;
use crate::build::ComponentBlock;
use crate::plugin_requirement::PluginRequirement;

/// A component that a template uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentUse {
    /// What it is for.
    pub kind: ComponentKind,
    /// Its type, as the template names it.
    pub type_name: String,
    /// The name of a source or data source.
    pub name: Option<String>,
    /// Where its type stands.
    pub span: Span,
}

impl ComponentUse {
    fn new(kind: ComponentKind, name: Option<&str>, block: &ComponentBlock) -> Self {
        let (type_name, name) = (block.type_name.clone(), name.map(str::to_owned));
        Self { kind, type_name, name, span: block.type_span }
    }
}

impl Template {
    /// The components that the template uses: its sources, data sources, provisioners and
    /// post-processors, each kind in the order of the text.
    pub fn uses(&self) -> Vec<ComponentUse> {
        use ComponentKind as Kind;
        let named = |kind, ((_, name), block): (&(String, String), &ComponentBlock)| {
            ComponentUse::new(kind, Some(name), block)
        };
        let sources = self.components.iter().map(|entry| named(Kind::Source, entry));
        let data = self.data.iter().map(|entry| named(Kind::DataSource, entry));
        let provisioners = self
            .builds
            .iter()
            .flat_map(|build| build.provisioners.iter().chain(&build.error_cleanup))
            .map(|meta| ComponentUse::new(Kind::Provisioner, None, &meta.component));
        let post_processors = self
            .builds
            .iter()
            .flat_map(|build| build.chains.iter().flatten())
            .map(|meta| ComponentUse::new(Kind::PostProcessor, None, &meta.component));
        sources.chain(data).chain(provisioners).chain(post_processors).collect()
    }
}

impl PluginRequirement {
    /// Whether a component's type belongs to the plugin by its name in the template.
    pub fn brings(&self, type_name: &str) -> bool {
        type_name
            .strip_prefix(self.name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}
