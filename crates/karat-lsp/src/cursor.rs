//! What stands at a place of a document.

use karat_eval::{Reference, references};
use karat_hcl::ast::{Attribute, Block, Body, Call, Expr, ExprKind, Item, Label, NativeBody};
use karat_hcl::diag::Span;

/// What stands at a place, and in which blocks.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    /// The blocks around it, the outermost first.
    pub(crate) blocks: Vec<&'a Block>,
    /// What it is.
    pub(crate) thing: Thing<'a>,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum Thing<'a> {
    /// The first word of a block, which is the last of the blocks around.
    Keyword,
    /// A label of such a block, and its number.
    Label(&'a Label, usize),
    /// The name of an attribute.
    Name(&'a Attribute),
    /// Something in the value of an attribute.
    Value(&'a Attribute),
    /// Nothing of these.
    Nothing,
}

pub(crate) fn holds(span: Span, offset: usize) -> bool {
    let range = span.range();
    range.start <= offset && offset <= range.end
}

/// What stands at `offset`.
pub(crate) fn at(body: &NativeBody, offset: usize) -> Cursor<'_> {
    let mut cursor = Cursor { blocks: Vec::new(), thing: Thing::Nothing };
    find(body, offset, &mut cursor);
    cursor
}

fn find<'a>(body: &'a NativeBody, offset: usize, cursor: &mut Cursor<'a>) {
    for item in &body.items {
        match item {
            Item::Attribute(attribute) if holds(attribute.span, offset) => {
                cursor.thing = if holds(attribute.name.span, offset) {
                    Thing::Name(attribute)
                } else {
                    Thing::Value(attribute)
                };
                return;
            }
            Item::Block(block) if holds(block.span, offset) => {
                cursor.blocks.push(block);
                if holds(block.kind.span, offset) {
                    cursor.thing = Thing::Keyword;
                    return;
                }
                let labels = block.labels.iter().enumerate();
                if let Some((n, label)) = labels.into_iter().find(|(_, l)| holds(l.span, offset)) {
                    cursor.thing = Thing::Label(label, n);
                    return;
                }
                match &block.body {
                    Body::Native(inner) if holds(inner.span, offset) => {
                        return find(inner, offset, cursor);
                    }
                    _ => return,
                }
            }
            _ => {}
        }
    }
}

impl Cursor<'_> {
    /// The blocks around by names and labels; `dynamic "x" { content { … } }` is `x`.
    pub(crate) fn path(&self) -> Vec<(String, Vec<String>)> {
        let mut path: Vec<(String, Vec<String>)> = Vec::new();
        let mut dynamic = None;
        for block in &self.blocks {
            let labels: Vec<String> = block.labels.iter().map(|l| l.text.clone()).collect();
            match (block.kind.name.as_str(), dynamic.take()) {
                ("dynamic", _) => dynamic = labels.into_iter().next(),
                ("content", Some(name)) => path.push((name, Vec::new())),
                (name, _) => path.push((name.to_owned(), labels)),
            }
        }
        path
    }
}

/// The name that an expression has at `offset`: `var.a.b`.
pub(crate) fn reference_at(expr: &Expr, offset: usize) -> Option<Reference> {
    references(expr).into_iter().find(|reference| holds(reference.span, offset))
}

/// The call whose name stands at `offset`.
pub(crate) fn call_at(expr: &Expr, offset: usize) -> Option<&Call> {
    let mut found = None;
    walk(expr, &mut |expr| {
        if let ExprKind::Call(call) = &expr.kind
            && holds(call.name.span, offset)
        {
            found = Some(call);
        }
    });
    found
}

/// The text in quotes, without holes, that stands at `offset`.
pub(crate) fn text_at(expr: &Expr, offset: usize) -> Option<(&str, Span)> {
    let mut found = None;
    walk(expr, &mut |expr| {
        if let Some(text) = expr.as_literal_str()
            && holds(expr.span, offset)
        {
            found = Some((text, expr.span));
        }
    });
    found
}

/// All texts in quotes, without holes, of an expression.
pub(crate) fn texts(expr: &Expr) -> Vec<(&str, Span)> {
    let mut found = Vec::new();
    walk(expr, &mut |expr| found.extend(expr.as_literal_str().map(|text| (text, expr.span))));
    found
}

fn walk<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    f(expr);
    expr.each_child(&mut |child| walk(child, f));
}
