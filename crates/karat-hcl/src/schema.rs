//! Asking a body for what it should hold, in native and in JSON syntax alike.
//!
//! A [`Schema`] names the arguments and blocks that may stand in a body. [`Body::content`] gives
//! them and reports all else; [`Body::partial_content`] gives them and leaves all else for a later
//! question; [`Body::just_attributes`] takes whatever arguments there are.

use indexmap::IndexMap;

use crate::ast::{Attribute, Block, Body, Item, Label, NativeBody};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::json::{JsonBody, ident};
use crate::json_text::{Member, Value, ValueKind};

/// What may stand in a body.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    attributes: Vec<AttributeSchema>,
    blocks: Vec<BlockSchema>,
}

#[derive(Clone, Debug)]
struct AttributeSchema {
    name: String,
    required: bool,
}

#[derive(Clone, Debug)]
struct BlockSchema {
    kind: String,
    labels: Vec<String>,
}

impl Schema {
    /// Nothing may stand in the body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an argument that may stand there.
    #[must_use]
    pub fn optional(mut self, name: impl Into<String>) -> Self {
        self.attributes.push(AttributeSchema { name: name.into(), required: false });
        self
    }

    /// Adds an argument that must stand there.
    #[must_use]
    pub fn required(mut self, name: impl Into<String>) -> Self {
        self.attributes.push(AttributeSchema { name: name.into(), required: true });
        self
    }

    /// Adds a type of block that may stand there, any number of times. `labels` says what its
    /// labels are, as words for messages; their number is the number it must have.
    #[must_use]
    pub fn block(mut self, kind: impl Into<String>, labels: &[&str]) -> Self {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.blocks.push(BlockSchema { kind: kind.into(), labels });
        self
    }

    /// Whether there is such an argument.
    pub fn has_attribute(&self, name: &str) -> bool {
        self.attributes.iter().any(|a| a.name == name)
    }

    /// Whether there is such a block.
    pub fn has_block(&self, kind: &str) -> bool {
        self.find_block(kind).is_some()
    }

    /// How many labels such a block must have, if there is one.
    pub fn block_labels(&self, kind: &str) -> Option<usize> {
        self.find_block(kind).map(|block| block.labels.len())
    }

    fn find_block(&self, kind: &str) -> Option<&BlockSchema> {
        self.blocks.iter().find(|b| b.kind == kind)
    }

    fn attribute_names(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(|a| a.name.as_str())
    }

    fn block_kinds(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().map(|b| b.kind.as_str())
    }
}

/// What a body holds of what a schema names.
#[derive(Clone, Debug)]
pub struct Content {
    /// By name, in the order of the text.
    pub attributes: IndexMap<String, Attribute>,
    /// In the order of the text, all types mixed.
    pub blocks: Vec<Block>,
    /// Where what is missing is reported: the closing brace.
    pub end: Span,
}

impl Content {
    /// The blocks of one type, in the order of the text.
    pub fn blocks_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.kind.name == kind)
    }
}

impl Body {
    /// The whole of it.
    pub fn span(&self) -> Span {
        match self {
            Self::Native(body) => body.span,
            Self::Json(body) => body.span(),
        }
    }

    /// The closing brace: where what is missing is reported.
    pub fn end(&self) -> Span {
        match self {
            Self::Native(body) => body.end,
            Self::Json(body) => body.end(),
        }
    }

    /// What the schema names. Anything else in the body is an error, and so is a missing required
    /// argument or a wrong number of labels; the block or argument in error is left out.
    pub fn content(&self, schema: &Schema, diagnostics: &mut Diagnostics) -> Content {
        let (content, rest) = self.take(schema, diagnostics);
        match &rest {
            Self::Native(rest) => report_extra(rest, schema, diagnostics),
            Self::Json(rest) => report_extra_properties(rest, schema, diagnostics),
        }
        content
    }

    /// What the schema names, and a body of all else.
    pub fn partial_content(
        &self,
        schema: &Schema,
        diagnostics: &mut Diagnostics,
    ) -> (Content, Self) {
        self.take(schema, diagnostics)
    }

    /// All arguments, whatever their names. A block is an error.
    pub fn just_attributes(&self, diagnostics: &mut Diagnostics) -> IndexMap<String, Attribute> {
        let mut attributes = IndexMap::new();
        match self {
            Self::Native(body) => {
                for item in &body.items {
                    match item {
                        Item::Attribute(attribute) => {
                            attributes.insert(attribute.name.name.clone(), attribute.clone());
                        }
                        Item::Block(block) => diagnostics.push(
                            Diagnostic::error(format!("Unexpected \"{}\" block", block.kind.name))
                                .detail("Only arguments can stand here, no blocks.")
                                .at(block.header)
                                .hint(format!(
                                    "To give an argument an object, write {} = {{",
                                    block.kind.name
                                )),
                        ),
                    }
                }
            }
            Self::Json(body) => {
                for member in visible(body, diagnostics) {
                    add_json_attribute(body, &member, &mut attributes, diagnostics);
                }
            }
        }
        attributes
    }

    fn take(&self, schema: &Schema, diagnostics: &mut Diagnostics) -> (Content, Self) {
        let (content, rest) = match self {
            Self::Native(body) => {
                let (content, rest) = take_native(body, schema, diagnostics);
                (content, Self::Native(rest))
            }
            Self::Json(body) => {
                let (content, rest) = take_json(body, schema, diagnostics);
                (content, Self::Json(rest))
            }
        };
        for attribute in schema.attributes.iter().filter(|a| a.required) {
            if !content.attributes.contains_key(&attribute.name) {
                diagnostics.push(
                    Diagnostic::error("Missing required argument")
                        .detail(format!(
                            "The argument \"{}\" is required, but it is not set.",
                            attribute.name
                        ))
                        .at(content.end),
                );
            }
        }
        (content, rest)
    }
}

fn take_native(
    body: &NativeBody,
    schema: &Schema,
    diagnostics: &mut Diagnostics,
) -> (Content, NativeBody) {
    let mut content = Content { attributes: IndexMap::new(), blocks: Vec::new(), end: body.end };
    let mut rest = Vec::new();
    for item in &body.items {
        match item {
            Item::Attribute(attribute) if schema.has_attribute(&attribute.name.name) => {
                content.attributes.insert(attribute.name.name.clone(), attribute.clone());
            }
            Item::Block(block) => match schema.find_block(&block.kind.name) {
                Some(wanted) if labels_fit(block, wanted, diagnostics) => {
                    content.blocks.push(block.clone());
                }
                Some(_) => {}
                None => rest.push(item.clone()),
            },
            Item::Attribute(_) => rest.push(item.clone()),
        }
    }
    (content, NativeBody { items: rest, span: body.span, end: body.end })
}

fn labels_fit(block: &Block, schema: &BlockSchema, diagnostics: &mut Diagnostics) -> bool {
    let kind = &block.kind.name;
    let (given, wanted) = (block.labels.len(), schema.labels.len());
    let example: String =
        schema.labels.iter().map(|label| format!(" \"{label}\"")).collect::<String>();
    if let Some(extra) = block.labels.get(wanted) {
        let detail = match wanted {
            0 => format!("A block \"{kind}\" has no labels."),
            1 => format!("A block \"{kind}\" has one label: its {}.", schema.labels[0]),
            n => format!("A block \"{kind}\" has {n} labels: {}.", schema.labels.join(", ")),
        };
        diagnostics.push(
            Diagnostic::error(format!("Extraneous label for {kind}"))
                .detail(detail)
                .at(extra.span)
                .hint(format!("Write: {kind}{example} {{")),
        );
        return false;
    }
    if given < wanted {
        diagnostics.push(
            Diagnostic::error(format!("Missing {} for {kind}", schema.labels[given]))
                .detail(match wanted {
                    1 => format!("A block \"{kind}\" has one label: its {}.", schema.labels[0]),
                    n => {
                        format!("A block \"{kind}\" has {n} labels: {}.", schema.labels.join(", "))
                    }
                })
                .at(block.header)
                .hint(format!("Write: {kind}{example} {{")),
        );
        return false;
    }
    true
}

fn report_extra(rest: &NativeBody, schema: &Schema, diagnostics: &mut Diagnostics) {
    for item in &rest.items {
        match item {
            Item::Attribute(attribute) => {
                let name = &attribute.name.name;
                let diagnostic = Diagnostic::error("Unsupported argument")
                    .detail(format!("An argument named \"{name}\" is not expected here."))
                    .at(attribute.name.span);
                diagnostics.push(if schema.has_block(name) {
                    diagnostic.hint(format!("For a block of type \"{name}\" leave the \"=\" out."))
                } else {
                    diagnostic.did_you_mean(name, schema.attribute_names())
                });
            }
            Item::Block(block) => {
                let kind = &block.kind.name;
                let diagnostic = Diagnostic::error("Unsupported block type")
                    .detail(format!("Blocks of type \"{kind}\" are not expected here."))
                    .at(block.header);
                diagnostics.push(if schema.has_attribute(kind) {
                    diagnostic
                        .hint(format!("\"{kind}\" is an argument: write \"=\" before its value."))
                } else {
                    diagnostic.did_you_mean(kind, schema.block_kinds())
                });
            }
        }
    }
}

/// The properties that are not comments and not yet taken.
fn visible(body: &JsonBody, diagnostics: &mut Diagnostics) -> Vec<Member> {
    body.members(&body.value, None, diagnostics)
        .into_iter()
        .filter(|member| member.name.text != "//" && !body.hidden.contains(&member.name.text))
        .cloned()
        .collect()
}

fn add_json_attribute(
    body: &JsonBody,
    member: &Member,
    attributes: &mut IndexMap<String, Attribute>,
    diagnostics: &mut Diagnostics,
) {
    if let Some(first) = attributes.get(&member.name.text) {
        diagnostics.push(
            Diagnostic::error("Duplicate argument")
                .detail(format!(
                    "The argument \"{}\" is already set. Each may be set only once.",
                    member.name.text
                ))
                .at(member.name.span)
                .also(first.name.span, "first set here"),
        );
        return;
    }
    let attribute = body.attribute(member, diagnostics);
    attributes.insert(member.name.text.clone(), attribute);
}

fn take_json(
    body: &JsonBody,
    schema: &Schema,
    diagnostics: &mut Diagnostics,
) -> (Content, JsonBody) {
    let mut content = Content { attributes: IndexMap::new(), blocks: Vec::new(), end: body.end() };
    for member in visible(body, diagnostics) {
        let name = &member.name.text;
        if schema.has_attribute(name) {
            add_json_attribute(body, &member, &mut content.attributes, diagnostics);
        } else if let Some(wanted) = schema.find_block(name) {
            let mut unpacking = Unpacking { body, kind: &member, wanted, diagnostics };
            unpacking.labels(&member.value, &mut Vec::new(), &mut content.blocks);
        }
    }
    let mut rest = body.clone();
    rest.hidden.extend(schema.attribute_names().chain(schema.block_kinds()).map(str::to_owned));
    (content, rest)
}

/// Blocks out of a JSON value: an object per label, then one object or an array of them.
struct Unpacking<'a> {
    body: &'a JsonBody,
    kind: &'a Member,
    wanted: &'a BlockSchema,
    diagnostics: &'a mut Diagnostics,
}

impl Unpacking<'_> {
    fn labels(&mut self, value: &Value, used: &mut Vec<Label>, blocks: &mut Vec<Block>) {
        let Some(label) = self.wanted.labels.get(used.len()) else {
            return self.bodies(value, used, blocks);
        };
        let members = self.body.members(value, Some(label), self.diagnostics);
        if members.is_empty() && matches!(value.kind, ValueKind::Object(_) | ValueKind::Array(_)) {
            self.diagnostics.push(
                Diagnostic::error("Missing block label")
                    .detail(format!(
                        "A property is expected here whose name is the {label} of the block \"{}\".",
                        self.wanted.kind
                    ))
                    .at(value.span),
            );
        }
        for member in members {
            let text = ident(&member.name).name;
            used.push(Label { text, span: member.name.span, quoted: true });
            self.labels(&member.value, used, blocks);
            used.pop();
        }
    }

    fn bodies(&mut self, value: &Value, used: &[Label], blocks: &mut Vec<Block>) {
        match &value.kind {
            ValueKind::Null | ValueKind::Broken => {}
            ValueKind::Object(_) => blocks.push(self.block(value, used)),
            ValueKind::Array(items) => {
                for item in items.iter() {
                    blocks.push(self.block(item, used));
                }
            }
            _ => self.diagnostics.push(
                Diagnostic::error("Incorrect JSON value type")
                    .detail(format!(
                        "The contents of one or more \"{}\" blocks are expected here, an object or an array of objects; this is {}.",
                        self.wanted.kind,
                        value.describe()
                    ))
                    .at(value.span),
            ),
        }
    }

    fn block(&self, value: &Value, used: &[Label]) -> Block {
        let kind = ident(&self.kind.name);
        let last = used.last().map_or(kind.span, |label| label.span);
        Block {
            header: last,
            span: last.to(value.span),
            labels: used.to_vec(),
            body: Body::Json(self.body.with_value(value.clone())),
            kind,
        }
    }
}

fn report_extra_properties(rest: &JsonBody, schema: &Schema, diagnostics: &mut Diagnostics) {
    // Errors about the shape were reported when the content was taken.
    for member in visible(rest, &mut Diagnostics::new()) {
        let name = &member.name.text;
        diagnostics.push(
            Diagnostic::error("Extraneous JSON object property")
                .detail(format!("No argument or block type is named \"{name}\" here."))
                .at(member.name.span)
                .did_you_mean(name, schema.attribute_names().chain(schema.block_kinds())),
        );
    }
}
