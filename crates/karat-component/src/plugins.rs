//! Which plugin of Packer's brings which component, and what of that is built in.
//!
//! Templates ask for plugins by `required_plugins`. Components that are built in satisfy the
//! plugins that they replace; what is not built in is named together with what needs it. This is
//! the one place that knows plugins: [`PluginStore`] is where external plugins join in.

use karat_config::ComponentKind;

use crate::Components;
use crate::known_plugins::KNOWN;

/// A plugin that the field knows, and its components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPlugin {
    /// Where it is published: `host/namespace/name`.
    pub source: &'static str,
    /// Types of its sources.
    pub sources: &'static [&'static str],
    /// Types of its provisioners.
    pub provisioners: &'static [&'static str],
    /// Types of its post-processors.
    pub post_processors: &'static [&'static str],
    /// Types of its data sources.
    pub data_sources: &'static [&'static str],
}

impl KnownPlugin {
    /// The name by which its components are prefixed: the last part of its source.
    pub fn name(&self) -> &'static str {
        name_of(self.source)
    }

    /// The types of its components of one kind.
    pub fn types(&self, kind: ComponentKind) -> &'static [&'static str] {
        match kind {
            ComponentKind::Source => self.sources,
            ComponentKind::Provisioner => self.provisioners,
            ComponentKind::PostProcessor => self.post_processors,
            ComponentKind::DataSource => self.data_sources,
        }
    }

    /// All its components: kind and type.
    pub fn components(&self) -> impl Iterator<Item = (ComponentKind, &'static str)> + use<> {
        let plugin = *self;
        ComponentKind::ALL
            .into_iter()
            .flat_map(move |kind| plugin.types(kind).iter().map(move |name| (kind, *name)))
    }
}

/// The last part of a plugin's source.
pub fn name_of(source: &str) -> &str {
    source.rsplit('/').next().unwrap_or(source)
}

/// The plugin that brings a component.
pub fn plugin_of(kind: ComponentKind, type_name: &str) -> Option<&'static KnownPlugin> {
    KNOWN.iter().find(|plugin| plugin.types(kind).contains(&type_name))
}

/// The plugin published at `source`; a copy of it elsewhere goes by its last part.
pub fn known_plugin(source: &str) -> Option<&'static KnownPlugin> {
    let exact = KNOWN.iter().find(|plugin| plugin.source.eq_ignore_ascii_case(source));
    exact
        .or_else(|| KNOWN.iter().find(|plugin| plugin.name().eq_ignore_ascii_case(name_of(source))))
}

/// All types of a kind that a known plugin brings.
pub fn known_types(kind: ComponentKind) -> impl Iterator<Item = &'static str> {
    KNOWN.iter().flat_map(move |plugin| plugin.types(kind).iter().copied())
}

/// A component's type as its plugin names it, where a template calls the plugin by another name:
/// with `aws = { source = "github.com/hashicorp/amazon" }`, `aws-ebs` is `amazon-ebs`.
pub fn own_type(accessor: &str, source: &str, type_name: &str) -> Option<String> {
    let rest = type_name.strip_prefix(accessor)?;
    if !(rest.is_empty() || rest.starts_with('-')) {
        return None;
    }
    Some(format!("{}{rest}", name_of(source)))
}

/// A plugin whose components can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledPlugin {
    /// Where it is published.
    pub source: String,
    /// Which version it is; none for what is built in, which meets every constraint.
    pub version: Option<String>,
    /// What can be used of it: kind and type.
    pub components: Vec<(ComponentKind, String)>,
    /// What it has beyond that: kind and type.
    pub missing: Vec<(ComponentKind, String)>,
}

/// Knows plugins whose components can be used.
///
/// What is built in is one store; a folder of external plugins would be another, which also adds
/// what it finds to the program's [`Components`].
pub trait PluginStore {
    /// The plugins, ordered by their sources.
    fn installed(&self) -> Vec<InstalledPlugin>;

    /// The plugin published at `source`.
    fn find(&self, source: &str) -> Option<InstalledPlugin> {
        let all = self.installed();
        let exact = all.iter().find(|plugin| plugin.source.eq_ignore_ascii_case(source));
        exact.or_else(|| all.iter().find(|p| name_of(&p.source) == name_of(source))).cloned()
    }
}

/// The plugins that the components of the program replace, wholly or in part.
impl PluginStore for Components {
    fn installed(&self) -> Vec<InstalledPlugin> {
        let mut plugins: Vec<InstalledPlugin> = KNOWN
            .iter()
            .filter_map(|plugin| {
                let all = plugin.components().map(|(kind, name)| (kind, name.to_owned()));
                let (components, missing): (Vec<_>, Vec<_>) =
                    all.partition(|(kind, name)| self.has(*kind, name));
                let source = plugin.source.to_owned();
                (!components.is_empty()).then_some(InstalledPlugin {
                    source,
                    version: None,
                    components,
                    missing,
                })
            })
            .collect();
        plugins.sort_by(|a, b| a.source.cmp(&b.source));
        plugins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_one_plugin() {
        let mut all: Vec<(ComponentKind, &str)> =
            KNOWN.iter().flat_map(KnownPlugin::components).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a type stands with two plugins");
        assert!(count > 100, "only {count} components are known");
    }

    #[test]
    fn plugins_are_found_by_what_they_bring_and_where_they_are() {
        let amazon = plugin_of(ComponentKind::Source, "amazon-ebs").unwrap();
        assert_eq!(amazon.source, "github.com/hashicorp/amazon");
        assert_eq!(plugin_of(ComponentKind::Provisioner, "amazon-ebs"), None);
        assert_eq!(known_plugin("example.com/mirror/Amazon"), Some(amazon));
        assert_eq!(known_plugin("example.com/mirror/none-such"), None);
    }

    #[test]
    fn components_stand_with_the_plugins_that_register_them() {
        use ComponentKind::{DataSource, PostProcessor, Provisioner, Source};
        for (kind, type_name, source) in [
            (PostProcessor, "veertu-anka-registry-push", "github.com/veertuinc/veertu-anka"),
            (DataSource, "googlecompute-image", "github.com/hashicorp/googlecompute"),
            (PostProcessor, "ibmcloud-export-image", "github.com/IBM/ibmcloud"),
            (DataSource, "outscale-omi", "github.com/outscale/outscale"),
            (Source, "arm-image", "github.com/solo-io/arm-image"),
            (PostProcessor, "arm-image", "github.com/solo-io/arm-image"),
            (Provisioner, "cnspec", "github.com/mondoohq/cnspec"),
            (PostProcessor, "ucloud-import", "github.com/ucloud/ucloud"),
        ] {
            let plugin = plugin_of(kind, type_name).map(|plugin| plugin.source);
            assert_eq!(plugin, Some(source), "{type_name}");
        }
        assert_eq!(plugin_of(DataSource, "hcloud-image"), None);
        assert_eq!(plugin_of(Source, "veertu-anka-registry-push"), None);
    }

    #[test]
    fn a_plugin_may_be_called_otherwise() {
        let source = "github.com/hashicorp/amazon";
        assert_eq!(own_type("aws", source, "aws-ebs").as_deref(), Some("amazon-ebs"));
        assert_eq!(own_type("aws", source, "aws").as_deref(), Some("amazon"));
        assert_eq!(own_type("aws", source, "awsome"), None);
        assert_eq!(own_type("aws", source, "docker"), None);
    }
}
