//! What the server knows of the language: blocks, components, functions.

use karat_config::{ComponentKind, OptionSchema, Schema};

use crate::language;

/// A component that a template can name.
#[derive(Clone, Debug)]
pub struct Component {
    /// What it is for.
    pub kind: ComponentKind,
    /// Its type.
    pub name: String,
    /// Its options.
    pub schema: Schema,
    /// The values that it has: those of a data source.
    pub outputs: Vec<String>,
}

/// A function that expressions can call.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `max(numbers…: number) → number`
    pub signature: String,
    /// What it does.
    pub doc: String,
}

/// All that can stand in a template.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The components of the program.
    pub components: Vec<Component>,
    /// The functions.
    pub functions: Vec<Function>,
    /// What `communicator` can be.
    pub communicators: Vec<String>,
}

impl Catalog {
    /// A component.
    pub(crate) fn component(&self, kind: ComponentKind, name: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.kind == kind && c.name == name)
    }

    /// The types of a kind.
    pub(crate) fn types(&self, kind: ComponentKind) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(move |c| c.kind == kind)
    }

    /// A function.
    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    /// What can stand in the innermost of nested blocks, each with its labels; the outermost
    /// first, none for the file itself.
    pub(crate) fn schema(&self, path: &[(String, Vec<String>)]) -> Option<Schema> {
        let mut schema = language::file();
        let mut inside = None;
        for (place, (name, labels)) in path.iter().enumerate() {
            let parent = place.checked_sub(1).map(|i| path[i].0.as_str());
            if let Some(block) = language::block(parent, name) {
                schema = block;
                inside = kind_of(parent, name);
                if let Some(kind) = inside {
                    let label = labels.first().map(String::as_str).unwrap_or_default();
                    // `source "source.TYPE.NAME"` in a build.
                    let type_name = match (kind, parent) {
                        (ComponentKind::Source, Some("build")) => {
                            label.strip_prefix("source.").unwrap_or(label).split('.').next()
                        }
                        _ => Some(label),
                    };
                    let component = self.component(kind, type_name.unwrap_or_default());
                    schema.extend(component.map(|c| c.schema.clone()).unwrap_or_default());
                    if let Some(component) = component {
                        schema.doc.clone_from(&component.schema.doc);
                    }
                }
                continue;
            }
            inside?;
            schema = nested(schema.option(name)?)?;
        }
        Some(schema)
    }
}

/// The options of an option that is a block.
fn nested(option: &OptionSchema) -> Option<Schema> {
    use karat_config::OptionType::{Attribute, Block, Blocks};
    match &option.ty {
        Block(schema) | Blocks(schema) => Some(schema.clone()),
        Attribute(_) => None,
    }
}

/// What a block's first label is the type of.
pub(crate) fn kind_of(parent: Option<&str>, name: &str) -> Option<ComponentKind> {
    match (parent, name) {
        (None | Some("build"), "source") => Some(ComponentKind::Source),
        (None, "data") => Some(ComponentKind::DataSource),
        (Some("build"), "provisioner" | "error-cleanup-provisioner") => {
            Some(ComponentKind::Provisioner)
        }
        (Some("build" | "post-processors"), "post-processor") => Some(ComponentKind::PostProcessor),
        _ => None,
    }
}
