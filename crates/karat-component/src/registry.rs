//! The components of a program, by type.

use std::sync::Arc;

use indexmap::IndexMap;
use karat_config::{ComponentKind, Schema};
use karat_saga::StepRegistry;

use crate::{DynBuilder, DynDataSource, DynPostProcessor, DynProvisioner};

/// The components of a program, by type. The program has one list where it fills this by hand.
#[derive(Clone, Debug, Default)]
pub struct Components {
    builders: IndexMap<String, Arc<dyn DynBuilder>>,
    provisioners: IndexMap<String, Arc<dyn DynProvisioner>>,
    post_processors: IndexMap<String, Arc<dyn DynPostProcessor>>,
    data_sources: IndexMap<String, Arc<dyn DynDataSource>>,
}

impl Components {
    /// Without any component.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a builder. A later one of the same type replaces it.
    #[must_use]
    pub fn builder(mut self, component: impl DynBuilder + 'static) -> Self {
        self.builders.insert(component.type_name().to_owned(), Arc::new(component));
        self
    }

    /// Adds a provisioner. A later one of the same type replaces it.
    #[must_use]
    pub fn provisioner(mut self, component: impl DynProvisioner + 'static) -> Self {
        self.provisioners.insert(component.type_name().to_owned(), Arc::new(component));
        self
    }

    /// Adds a post-processor. A later one of the same type replaces it.
    #[must_use]
    pub fn post_processor(mut self, component: impl DynPostProcessor + 'static) -> Self {
        self.post_processors.insert(component.type_name().to_owned(), Arc::new(component));
        self
    }

    /// Adds a data source. A later one of the same type replaces it.
    #[must_use]
    pub fn data_source(mut self, component: impl DynDataSource + 'static) -> Self {
        self.data_sources.insert(component.type_name().to_owned(), Arc::new(component));
        self
    }

    /// The builders, in the order in which they were added.
    pub fn builders(&self) -> &IndexMap<String, Arc<dyn DynBuilder>> {
        &self.builders
    }

    /// The provisioners, in the order in which they were added.
    pub fn provisioners(&self) -> &IndexMap<String, Arc<dyn DynProvisioner>> {
        &self.provisioners
    }

    /// The post-processors, in the order in which they were added.
    pub fn post_processors(&self) -> &IndexMap<String, Arc<dyn DynPostProcessor>> {
        &self.post_processors
    }

    /// The data sources, in the order in which they were added.
    pub fn data_sources(&self) -> &IndexMap<String, Arc<dyn DynDataSource>> {
        &self.data_sources
    }

    /// Whether there is a component of this kind and type.
    pub fn has(&self, kind: ComponentKind, type_name: &str) -> bool {
        self.types(kind).contains(&type_name)
    }

    /// The types of a kind, in the order in which they were added.
    pub fn types(&self, kind: ComponentKind) -> Vec<&str> {
        match kind {
            ComponentKind::Source => self.builders.keys().map(String::as_str).collect(),
            ComponentKind::Provisioner => self.provisioners.keys().map(String::as_str).collect(),
            ComponentKind::PostProcessor => {
                self.post_processors.keys().map(String::as_str).collect()
            }
            ComponentKind::DataSource => self.data_sources.keys().map(String::as_str).collect(),
        }
    }

    /// The options of a component.
    pub fn schema(&self, kind: ComponentKind, type_name: &str) -> Option<Schema> {
        match kind {
            ComponentKind::Source => self.builders.get(type_name).map(|c| c.schema()),
            ComponentKind::Provisioner => self.provisioners.get(type_name).map(|c| c.schema()),
            ComponentKind::PostProcessor => self.post_processors.get(type_name).map(|c| c.schema()),
            ComponentKind::DataSource => self.data_sources.get(type_name).map(|c| c.schema()),
        }
    }

    /// The steps of all builders and post-processors.
    pub fn steps(&self) -> StepRegistry {
        let mut registry = StepRegistry::new();
        for builder in self.builders.values() {
            builder.register_steps(&mut registry);
        }
        for post_processor in self.post_processors.values() {
            post_processor.register_steps(&mut registry);
        }
        registry
    }
}
