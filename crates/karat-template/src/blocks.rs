//! The blocks of all files of a template.

use std::path::PathBuf;

use indexmap::IndexMap;
use karat_hcl::ast::{Block, Body, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::schema::Schema;

use crate::build::ComponentBlock;
use crate::build_block::{self, BuildBlock};
use crate::legacy;
use crate::packer_block;
use crate::plugin_requirement::PluginRequirement;
use crate::registry;
use crate::variables::{self, VarFile, VariableBlock};

/// A template that was read, not evaluated yet.
#[derive(Clone, Debug)]
pub struct Template {
    /// The template's folder, as the user named it.
    pub root: PathBuf,
    /// Declarations of variables by name.
    pub variables: IndexMap<String, VariableBlock>,
    /// Locals by name.
    pub locals: IndexMap<String, LocalBlock>,
    /// Data sources by type and name.
    pub data: IndexMap<(String, String), ComponentBlock>,
    /// Sources by type and name.
    pub components: IndexMap<(String, String), ComponentBlock>,
    /// Plugins that the template asks for.
    pub plugins: Vec<PluginRequirement>,
    pub(crate) builds: Vec<BuildBlock>,
    /// `hcp_packer_registry` outside of builds.
    pub(crate) registry: Option<Block>,
    pub(crate) var_files: Vec<VarFile>,
    /// A legacy template, which has nothing of the above.
    pub(crate) legacy: Option<legacy::Source>,
}

/// A local.
#[derive(Clone, Debug)]
pub struct LocalBlock {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Its value.
    pub expr: Expr,
    /// Whether it is masked.
    pub sensitive: Option<Expr>,
}

impl Template {
    /// Reads the blocks of all files. What is wrong within sources and builds goes to `late`: it
    /// does not keep variables and locals from being shown.
    pub(crate) fn decode(
        bodies: &[Body],
        root: PathBuf,
        var_files: Vec<VarFile>,
        diags: &mut Diagnostics,
        late: &mut Diagnostics,
    ) -> Self {
        let mut template = Self { var_files, ..Self::new(root) };
        let schema = Schema::new()
            .block("packer", &[])
            .block("variable", &["name"])
            .block("variables", &[])
            .block("locals", &[])
            .block("local", &["name"])
            .block("data", &["type", "name"])
            .block("source", &["type", "name"])
            .block("build", &[])
            .block("hcp_packer_registry", &[])
            .block("communicator", &["type", "name"]);
        for body in bodies {
            for block in body.content(&schema, diags).blocks {
                template.add(&block, diags, late);
            }
        }
        template
    }

    /// A template with nothing in it.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            variables: IndexMap::new(),
            locals: IndexMap::new(),
            data: IndexMap::new(),
            components: IndexMap::new(),
            plugins: Vec::new(),
            builds: Vec::new(),
            registry: None,
            var_files: Vec::new(),
            legacy: None,
        }
    }

    /// Whether there is a `build` block. A legacy template needs none.
    pub fn has_builds(&self) -> bool {
        !self.builds.is_empty() || self.legacy.is_some()
    }

    fn add(&mut self, block: &Block, diags: &mut Diagnostics, late: &mut Diagnostics) {
        match block.kind.name.as_str() {
            "packer" => packer_block::decode(block, &mut self.plugins, diags, late),
            "variable" => self.variable(block, diags),
            "variables" => {
                for attribute in block.body.just_attributes(diags).into_values() {
                    let name = attribute.name.name.clone();
                    let variable = VariableBlock {
                        name,
                        span: attribute.name.span,
                        ty: None,
                        default: Some(attribute.expr),
                        description: None,
                        sensitive: None,
                        rules: Vec::new(),
                    };
                    self.add_variable(variable, diags);
                }
            }
            "locals" => {
                for attribute in block.body.just_attributes(diags).into_values() {
                    let name = attribute.name.name.clone();
                    let (span, expr) = (attribute.name.span, attribute.expr);
                    self.add_local(LocalBlock { name, span, expr, sensitive: None }, diags);
                }
            }
            "local" => self.local(block, diags),
            "data" => add_component(&mut self.data, "data source", block, diags),
            "source" => add_component(&mut self.components, "source", block, late),
            "build" => self.builds.push(build_block::decode(block, late)),
            "hcp_packer_registry" => registry::add(&mut self.registry, block, late),
            // A communicator block has no meaning.
            _ => {}
        }
    }

    fn variable(&mut self, block: &Block, diags: &mut Diagnostics) {
        if named(block, 0, diags) {
            self.add_variable(variables::decode(block, diags), diags);
        }
    }

    fn add_variable(&mut self, variable: VariableBlock, diags: &mut Diagnostics) {
        if let Some(first) = self.variables.get(&variable.name) {
            diags.push(duplicate("variable", &variable.name, variable.span, first.span));
            return;
        }
        self.variables.insert(variable.name.clone(), variable);
    }

    fn add_local(&mut self, local: LocalBlock, diags: &mut Diagnostics) {
        if let Some(first) = self.locals.get(&local.name) {
            diags.push(duplicate("local", &local.name, local.span, first.span));
            return;
        }
        self.locals.insert(local.name.clone(), local);
    }

    fn local(&mut self, block: &Block, diags: &mut Diagnostics) {
        if !named(block, 0, diags) {
            return;
        }
        let schema = Schema::new().required("expression").optional("sensitive");
        let mut content = block.body.content(&schema, diags);
        let Some(expression) = content.attributes.shift_remove("expression") else { return };
        let local = LocalBlock {
            name: block.labels[0].text.clone(),
            span: block.header,
            expr: expression.expr,
            sensitive: content.attributes.shift_remove("sensitive").map(|a| a.expr),
        };
        self.add_local(local, diags);
    }
}

fn add_component(
    all: &mut IndexMap<(String, String), ComponentBlock>,
    what: &str,
    block: &Block,
    diags: &mut Diagnostics,
) {
    if !named(block, 1, diags) {
        return;
    }
    let key = (block.labels[0].text.clone(), block.labels[1].text.clone());
    if let Some(first) = all.get(&key) {
        let name = format!("{}.{}", key.0, key.1);
        diags.push(duplicate(what, &name, block.header, first.header));
        return;
    }
    all.insert(key, component(block, &[]));
}

/// A component's block; `taken` are the names in it that are the engine's own.
pub(crate) fn component(block: &Block, taken: &'static [&'static str]) -> ComponentBlock {
    ComponentBlock {
        type_name: block.labels[0].text.clone(),
        type_span: block.labels[0].span,
        header: block.header,
        body: block.body.clone(),
        taken,
        legacy: None,
        bindings: Vec::new(),
    }
}

/// Whether a label can be referred to by an expression.
fn named(block: &Block, label: usize, diags: &mut Diagnostics) -> bool {
    let label = &block.labels[label];
    if karat_hcl::is_identifier(&label.text) {
        return true;
    }
    diags.push(
        Diagnostic::error(format!("Invalid name for {}", block.kind.name))
            .at(label.span)
            .detail(format!("\"{}\" cannot be referred to by expressions.", label.text))
            .hint("A name begins with a letter or underscore and has letters, digits, underscores and dashes."),
    );
    false
}

pub(crate) fn duplicate(what: &str, name: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::error(format!("Duplicate {what} \"{name}\""))
        .at(span)
        .also(first, "first declared here")
        .detail(format!("The template already has a {what} \"{name}\"."))
}
