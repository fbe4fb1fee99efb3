//! A block of a template after its expressions were evaluated.

use indexmap::IndexMap;
use karat_hcl::diag::Span;
use karat_value::Value;

/// The inside of a block: attributes with their values, nested blocks, and where each stands.
///
/// A value may be unknown while a template is only validated or planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The block's header or, where there is none, its whole text.
    pub span: Span,
    /// Attributes in the order in which they stand.
    pub attributes: IndexMap<String, Attribute>,
    /// Nested blocks in the order in which they stand, `dynamic` ones expanded.
    pub blocks: Vec<Block>,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Where the name stands.
    pub name_span: Span,
    /// Where the expression stands.
    pub value_span: Span,
    /// The value.
    pub value: Value,
}

/// One nested block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The block's type.
    pub name: String,
    /// Where the type stands.
    pub name_span: Span,
    /// The block's labels.
    pub labels: Vec<String>,
    /// The inside.
    pub body: Body,
}

impl Body {
    /// An empty body.
    pub fn new(span: Span) -> Self {
        Self { span, attributes: IndexMap::new(), blocks: Vec::new() }
    }

    /// Sets an attribute whose name and value stand at `span`.
    pub fn set(&mut self, name: impl Into<String>, span: Span, value: Value) {
        self.attributes.insert(name.into(), Attribute { name_span: span, value_span: span, value });
    }

    /// The value of an attribute.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name).map(|a| &a.value)
    }

    /// The nested blocks of one type.
    pub fn blocks_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Block> + 'a {
        self.blocks.iter().filter(move |b| b.name == name)
    }
}
