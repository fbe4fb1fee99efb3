//! The inside of a `build` block.

use karat_hcl::ast::{Attribute, Block, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::schema::Schema;
use karat_value::Value;

use crate::blocks::component;
use crate::build::ComponentBlock;
use crate::registry;

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
    /// `hcp_packer_registry`.
    pub(crate) registry: Option<Block>,
    /// All blocks in it, where some of them are `dynamic`: then what is above is made of these once
    /// values are known.
    pub(crate) blocks: Option<Vec<Block>>,
    /// Whether something in it is wrong.
    pub(crate) failed: bool,
}

/// Names with their values that a block sees beyond the usual ones.
pub(crate) type Bindings = Vec<(String, Value)>;

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

/// What a `build` block may hold.
fn schema() -> Schema {
    Schema::new()
        .optional("name")
        .optional("description")
        .optional("sources")
        .block("source", &["reference"])
        .block("provisioner", &["type"])
        .block("error-cleanup-provisioner", &["type"])
        .block("post-processor", &["type"])
        .block("post-processors", &[])
        .block("hcp_packer_registry", &[])
        .block("dynamic", &["type"])
}

/// The blocks within `post-processors`.
pub(crate) fn chain_blocks(block: &Block, diags: &mut Diagnostics) -> Vec<Block> {
    let schema = Schema::new().block("post-processor", &["type"]).block("dynamic", &["type"]);
    block.body.content(&schema, diags).blocks
}

/// How many labels a block in a build has; nothing where there is no such block.
pub(crate) fn labels_of(kind: &str) -> Option<usize> {
    schema().block_labels(kind)
}

/// Reads a `build` block.
pub(crate) fn decode(block: &Block, diags: &mut Diagnostics) -> BuildBlock {
    let mut found = Diagnostics::new();
    let mut content = block.body.content(&schema(), &mut found);
    let mut build = BuildBlock {
        header: block.header,
        name: content.attributes.shift_remove("name").map(|a| a.expr),
        description: content.attributes.shift_remove("description").map(|a| a.expr),
        sources: content.attributes.shift_remove("sources"),
        nested: Vec::new(),
        provisioners: Vec::new(),
        error_cleanup: None,
        chains: Vec::new(),
        registry: None,
        blocks: None,
        failed: false,
    };
    if content.blocks.iter().any(has_dynamic) {
        build.blocks = Some(content.blocks);
    } else {
        for inner in &content.blocks {
            if inner.kind.name == "post-processors" {
                let chain = chain_blocks(inner, &mut found);
                let chain = chain.iter().map(|one| post_processor(one, Vec::new(), &mut found));
                build.chains.push(chain.collect());
            } else {
                build.add(inner, Vec::new(), &mut found);
            }
        }
    }
    build.failed = found.has_errors();
    diags.append(found);
    build
}

/// Whether it is `dynamic` or a chain with something `dynamic` in it.
fn has_dynamic(block: &Block) -> bool {
    match block.kind.name.as_str() {
        "dynamic" => true,
        // What is wrong in it is told where it is read.
        "post-processors" => {
            chain_blocks(block, &mut Diagnostics::new()).iter().any(|b| b.kind.name == "dynamic")
        }
        _ => false,
    }
}

impl BuildBlock {
    /// Adds a block that is neither `dynamic` nor `post-processors`.
    pub(crate) fn add(&mut self, block: &Block, bindings: Bindings, diags: &mut Diagnostics) {
        match block.kind.name.as_str() {
            "source" => self.nested.push(nested_source(block, bindings, diags)),
            "provisioner" => {
                self.provisioners.push(meta(block, PROVISIONER, bindings, diags));
            }
            "error-cleanup-provisioner" => {
                if let Some(first) = &self.error_cleanup {
                    diags.push(
                        Diagnostic::error("Only one error-cleanup-provisioner is allowed")
                            .at(block.header)
                            .also(first.component.header, "first one here"),
                    );
                    return;
                }
                self.error_cleanup = Some(meta(block, PROVISIONER, bindings, diags));
            }
            "post-processor" => self.chains.push(vec![post_processor(block, bindings, diags)]),
            "hcp_packer_registry" => registry::add(&mut self.registry, block, diags),
            _ => {}
        }
    }
}

/// Reads a `post-processor` block.
pub(crate) fn post_processor(block: &Block, bindings: Bindings, diags: &mut Diagnostics) -> Meta {
    meta(block, POST_PROCESSOR, bindings, diags)
}

fn meta(
    block: &Block,
    taken: &'static [&'static str],
    bindings: Bindings,
    diags: &mut Diagnostics,
) -> Meta {
    let schema = taken.iter().fold(Schema::new(), |schema, name| schema.optional(*name));
    let (content, rest) = block.body.partial_content(&schema, diags);
    let component = ComponentBlock { body: rest, bindings, ..component(block, taken) };
    Meta { component, options: content.attributes }
}

fn nested_source(block: &Block, bindings: Bindings, diags: &mut Diagnostics) -> NestedSource {
    let schema = Schema::new().optional("name");
    let (mut content, rest) = block.body.partial_content(&schema, diags);
    let component = ComponentBlock { body: rest, bindings, ..component(block, &["name"]) };
    NestedSource {
        reference: block.labels[0].text.clone(),
        span: block.labels[0].span,
        name: content.attributes.shift_remove("name").map(|a| a.expr),
        component,
    }
}
