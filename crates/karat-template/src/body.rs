//! A component's block to its evaluated [`karat_config::Body`], `dynamic` blocks expanded.

use std::cell::Cell;

use karat_config::{self as config, OptionType, Schema};
use karat_eval::{MAX_WEIGHT, Scope, evaluate};
use karat_hcl::ast::{self, Item};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::schema::Schema as Syntax;
use karat_value::{Type, Value, convert};

use crate::names::object;

/// How many blocks all `dynamic` blocks of a body may stand for: nested ones multiply.
const MAX_ROUNDS: usize = 10_000;

/// What the `dynamic` blocks of a body may still stand for, and what its arguments may still hold.
pub(crate) struct Rounds {
    left: Cell<usize>,
    weight: Cell<usize>,
    told: Cell<bool>,
}

impl Rounds {
    pub(crate) fn new() -> Self {
        Self { left: Cell::new(MAX_ROUNDS), weight: Cell::new(MAX_WEIGHT), told: Cell::new(false) }
    }

    /// The value of an argument; nothing known once all of them hold too much, which is told once.
    fn hold(&self, value: Value, span: Span, diags: &mut Diagnostics) -> Value {
        if let Some(left) = self.weight.get().checked_sub(value.weight()) {
            self.weight.set(left);
            return value;
        }
        self.weight.set(0);
        if !self.told.replace(true) {
            diags.push(too_much("arguments of one block", span));
        }
        Value::dynamic()
    }

    /// Takes off some rounds; tells once where it were too many, and false.
    fn take(&self, rounds: usize, span: Span, diags: &mut Diagnostics) -> bool {
        if let Some(left) = self.left.get().checked_sub(rounds) {
            self.left.set(left);
            return true;
        }
        if !self.told.replace(true) {
            diags.push(
                Diagnostic::error("Too many dynamic blocks")
                    .detail(format!(
                        "The \"dynamic\" blocks of one block may stand for {MAX_ROUNDS} blocks, \
                         those in each other multiplied."
                    ))
                    .at(span),
            );
        }
        false
    }
}

/// What stays in memory holds too much. `what` names all of it together.
pub(crate) fn too_much(what: &str, span: Span) -> Diagnostic {
    Diagnostic::error("Too much data")
        .at(span)
        .detail(format!("With this value the {what} hold more than 2 million elements."))
        .hint(
            "A text counts as one element for each 64 bytes. Read large files where they are used.",
        )
}

/// Evaluates all of a body. `schema` says which names are blocks where the syntax (JSON) does not.
pub(crate) fn evaluate_body(
    body: &ast::Body,
    header: Span,
    schema: &Schema,
    scope: &Scope<'_>,
    diags: &mut Diagnostics,
) -> config::Body {
    evaluate_part(body, header, schema, scope, &Rounds::new(), diags)
}

fn evaluate_part(
    body: &ast::Body,
    header: Span,
    schema: &Schema,
    scope: &Scope<'_>,
    rounds: &Rounds,
    diags: &mut Diagnostics,
) -> config::Body {
    let mut out = config::Body::new(header);
    match body {
        ast::Body::Native(native) => {
            for item in &native.items {
                match item {
                    Item::Attribute(attribute) => {
                        add_attribute(&mut out, attribute, scope, rounds, diags);
                    }
                    Item::Block(block) => add_block(&mut out, block, schema, scope, rounds, diags),
                }
            }
        }
        ast::Body::Json(_) => {
            let content = body.content(&syntax(schema), diags);
            for attribute in content.attributes.values() {
                add_attribute(&mut out, attribute, scope, rounds, diags);
            }
            for block in &content.blocks {
                add_block(&mut out, block, schema, scope, rounds, diags);
            }
        }
    }
    out
}

/// What JSON syntax has to be told: which names are blocks.
fn syntax(schema: &Schema) -> Syntax {
    let mut syntax = Syntax::new().block("dynamic", &["type"]);
    for option in &schema.options {
        let names = std::iter::once(&option.name).chain(&option.aliases);
        for name in names {
            syntax = match option.ty {
                OptionType::Attribute(_) => syntax.optional(name),
                OptionType::Block(_) | OptionType::Blocks(_) => syntax.block(name, &[]),
            };
        }
    }
    syntax
}

fn add_attribute(
    out: &mut config::Body,
    attribute: &ast::Attribute,
    scope: &Scope<'_>,
    rounds: &Rounds,
    diags: &mut Diagnostics,
) {
    let (value, found) = evaluate(&attribute.expr, scope);
    diags.append(found);
    let value = rounds.hold(value, attribute.expr.span, diags);
    out.attributes.insert(
        attribute.name.name.clone(),
        config::Attribute {
            name_span: attribute.name.span,
            value_span: attribute.expr.span,
            value,
        },
    );
}

fn add_block(
    out: &mut config::Body,
    block: &ast::Block,
    schema: &Schema,
    scope: &Scope<'_>,
    rounds: &Rounds,
    diags: &mut Diagnostics,
) {
    if block.kind.name == "dynamic" {
        expand(out, block, schema, scope, rounds, diags);
        return;
    }
    let labels = block.labels.iter().map(|l| l.text.clone()).collect();
    out.blocks.push(config::Block {
        name: block.kind.name.clone(),
        name_span: block.kind.span,
        labels,
        body: evaluate_part(
            &block.body,
            block.header,
            &inner_schema(schema, &block.kind.name),
            scope,
            rounds,
            diags,
        ),
    });
}

fn inner_schema(schema: &Schema, name: &str) -> Schema {
    match schema.option(name).map(|o| &o.ty) {
        Some(OptionType::Block(inner) | OptionType::Blocks(inner)) => inner.clone(),
        _ => Schema::default(),
    }
}

/// `dynamic "TYPE" { for_each = …, iterator = …, labels = […], content { … } }`
fn expand(
    out: &mut config::Body,
    block: &ast::Block,
    schema: &Schema,
    scope: &Scope<'_>,
    rounds: &Rounds,
    diags: &mut Diagnostics,
) {
    let Some(dynamic) = unroll(block, scope, rounds, diags) else { return };
    let inner_shape = inner_schema(schema, &dynamic.label.text);
    for round in dynamic.rounds {
        let mut each = scope.child();
        each.set(round.binding.0.as_str(), round.binding.1);
        let content = &dynamic.content.body;
        let body = evaluate_part(content, block.header, &inner_shape, &each, rounds, diags);
        let (name, name_span) = (dynamic.label.text.clone(), dynamic.label.span);
        out.blocks.push(config::Block { name, name_span, labels: round.labels, body });
    }
}

/// A `dynamic` block and what it is repeated for.
pub(crate) struct Dynamic {
    /// The type of the blocks that it stands for.
    pub(crate) label: ast::Label,
    /// What each of them holds.
    pub(crate) content: ast::Block,
    /// One for each of them.
    pub(crate) rounds: Vec<Round>,
}

/// One block of those that a `dynamic` block stands for.
pub(crate) struct Round {
    /// Its labels.
    pub(crate) labels: Vec<String>,
    /// The name that it sees beyond those around it, and its value.
    pub(crate) binding: (String, Value),
}

/// Reads a `dynamic` block.
pub(crate) fn unroll(
    block: &ast::Block,
    scope: &Scope<'_>,
    allowed: &Rounds,
    diags: &mut Diagnostics,
) -> Option<Dynamic> {
    let [label] = block.labels.as_slice() else {
        diags.push(
            Diagnostic::error("Missing type of a dynamic block")
                .at(block.header)
                .hint("Write: dynamic \"TYPE\" { for_each = …"),
        );
        return None;
    };
    let shape = Syntax::new()
        .required("for_each")
        .optional("iterator")
        .optional("labels")
        .block("content", &[]);
    let mut content = block.body.content(&shape, diags);
    let for_each = content.attributes.get("for_each")?;
    if let Some(second) = content.blocks.get(1) {
        diags.push(
            Diagnostic::error("Extraneous dynamic content block")
                .at(second.header)
                .also(content.blocks[0].header, "first given here"),
        );
    }
    if content.blocks.is_empty() {
        diags.push(
            Diagnostic::error("Missing content of a dynamic block")
                .at(content.end)
                .detail(format!("A dynamic \"{}\" block needs a \"content\" block.", label.text)),
        );
        return None;
    }
    let iterator = match content.attributes.get("iterator") {
        None => label.text.clone(),
        Some(attribute) => match attribute.expr.as_keyword() {
            Some(word) => word.to_owned(),
            None => {
                diags.push(
                    Diagnostic::error("Invalid iterator of a dynamic block")
                        .at(attribute.expr.span)
                        .detail("The iterator is a single name without quotes."),
                );
                return None;
            }
        },
    };
    let (collection, found) = evaluate(&for_each.expr, scope);
    diags.append(found);
    let elements = elements(&collection, for_each.expr.span, diags);
    if !allowed.take(elements.len(), for_each.expr.span, diags) {
        return None;
    }
    let mut rounds = Vec::new();
    for (key, value) in elements {
        let value = object([("key", key), ("value", value)]);
        let mut each = scope.child();
        each.set(iterator.as_str(), value.clone());
        let labels = labels(content.attributes.get("labels"), &each, diags);
        rounds.push(Round { labels, binding: (iterator.clone(), value) });
    }
    Some(Dynamic { label: label.clone(), content: content.blocks.swap_remove(0), rounds })
}

/// What a dynamic block is repeated for. Of a collection that is not known yet, one element that
/// is not known, so that its content is checked.
fn elements(collection: &Value, span: Span, diags: &mut Diagnostics) -> Vec<(Value, Value)> {
    let marks = collection.marks().clone();
    let (plain, _) = collection.clone().unmark();
    if !plain.is_known() {
        return vec![(Value::dynamic(), Value::dynamic())];
    }
    let all: Option<Vec<(Value, Value)>> = match plain.ty() {
        _ if plain.is_null() => None,
        Type::String | Type::Number | Type::Bool => None,
        _ => plain.elements().map(|elements| elements.map(|(k, v)| (k, v.clone())).collect()),
    };
    let Some(all) = all else {
        diags.push(Diagnostic::error("Invalid dynamic for_each value").at(span).detail(format!(
            "for_each needs a list, set, map or object, not {}.",
            if plain.is_null() { "null".to_owned() } else { plain.ty().friendly() }
        )));
        return Vec::new();
    };
    all.into_iter().map(|(k, v)| (k, v.with_marks(&marks))).collect()
}

fn labels(
    attribute: Option<&ast::Attribute>,
    scope: &Scope<'_>,
    diags: &mut Diagnostics,
) -> Vec<String> {
    let Some(attribute) = attribute else { return Vec::new() };
    let (value, found) = evaluate(&attribute.expr, scope);
    diags.append(found);
    let list = convert(&value.unmark_deep().0, &Type::list(Type::String));
    let texts = list.ok().and_then(|v| {
        v.as_slice().map(|items| {
            items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>()
        })
    });
    texts.unwrap_or_default()
}
