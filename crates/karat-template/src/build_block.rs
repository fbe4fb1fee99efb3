//! The inside of a `build` block.

use karat_hcl::ast::{Attribute, Block, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::schema::Schema;

use crate::blocks::component;
use crate::build::ComponentBlock;

/// A `build` block, not evaluated yet.
#[derive(Clone, Debug)]
pub(crate) struct BuildBlock {
    pub(crate) header: Span,
    pub(crate) name: Option<Expr>,
    pub(crate) description: Option<Expr>,
    pub(crate) sources: Option<Attribute>,
    pub(crate) nested: Vec<NestedSource>,
    pub(crate) provisioners: Vec<Meta>,
    pub(crate) error_cleanup: Option<Meta>,
    pub(crate) chains: Vec<Vec<Meta>>,
}

/// `source "source.T.N" { name = …, … }` in a build.
#[derive(Clone, Debug)]
pub(crate) struct NestedSource {
    pub(crate) reference: String,
    pub(crate) span: Span,
    pub(crate) name: Option<Expr>,
    pub(crate) component: ComponentBlock,
}

/// A provisioner or post-processor, with the engine's own options apart.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) component: ComponentBlock,
    pub(crate) options: indexmap::IndexMap<String, Attribute>,
}

/// The engine's own options of a provisioner.
pub const PROVISIONER: &[&str] = &[
    "name",
    "only",
    "except",
    "override",
    "pause_before",
    "max_retries",
    "timeout",
    "continue_on_error",
];
/// The engine's own options of a post-processor.
pub const POST_PROCESSOR: &[&str] = &["name", "only", "except", "keep_input_artifact"];

/// Reads a `build` block.
pub(crate) fn decode(block: &Block, diags: &mut Diagnostics) -> BuildBlock {
    let schema = Schema::new()
        .optional("name")
        .optional("description")
        .optional("sources")
        .block("source", &["reference"])
        .block("provisioner", &["type"])
        .block("error-cleanup-provisioner", &["type"])
        .block("post-processor", &["type"])
        .block("post-processors", &[])
        .block("hcp_packer_registry", &[]);
    let mut content = block.body.content(&schema, diags);
    let mut build = BuildBlock {
        header: block.header,
        name: content.attributes.shift_remove("name").map(|a| a.expr),
        description: content.attributes.shift_remove("description").map(|a| a.expr),
        sources: content.attributes.shift_remove("sources"),
        nested: Vec::new(),
        provisioners: Vec::new(),
        error_cleanup: None,
        chains: Vec::new(),
    };
    for inner in content.blocks {
        match inner.kind.name.as_str() {
            "source" => build.nested.push(nested_source(&inner, diags)),
            "provisioner" => build.provisioners.push(meta(&inner, PROVISIONER, diags)),
            "error-cleanup-provisioner" => {
                if let Some(first) = &build.error_cleanup {
                    diags.push(
                        Diagnostic::error("Only one error-cleanup-provisioner is allowed")
                            .at(inner.header)
                            .also(first.component.header, "first one here"),
                    );
                    continue;
                }
                build.error_cleanup = Some(meta(&inner, PROVISIONER, diags));
            }
            "post-processor" => {
                build.chains.push(vec![meta(&inner, POST_PROCESSOR, diags)]);
            }
            "post-processors" => build.chains.push(chain(&inner, diags)),
            _ => {}
        }
    }
    build
}

fn chain(block: &Block, diags: &mut Diagnostics) -> Vec<Meta> {
    let schema = Schema::new().block("post-processor", &["type"]);
    let content = block.body.content(&schema, diags);
    content.blocks.iter().map(|inner| meta(inner, POST_PROCESSOR, diags)).collect()
}

fn meta(block: &Block, taken: &'static [&'static str], diags: &mut Diagnostics) -> Meta {
    let schema = taken.iter().fold(Schema::new(), |schema, name| schema.optional(*name));
    let (content, rest) = block.body.partial_content(&schema, diags);
    let mut component = component(block, taken);
    component.body = rest;
    Meta { component, options: content.attributes }
}

fn nested_source(block: &Block, diags: &mut Diagnostics) -> NestedSource {
    let schema = Schema::new().optional("name");
    let (mut content, rest) = block.body.partial_content(&schema, diags);
    let mut component = component(block, &["name"]);
    component.body = rest;
    NestedSource {
        reference: block.labels[0].text.clone(),
        span: block.labels[0].span,
        name: content.attributes.shift_remove("name").map(|a| a.expr),
        component,
    }
}
