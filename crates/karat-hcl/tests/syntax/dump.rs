//! Trees as one line of text, so that tests can compare them.

use std::fmt::Write as _;

use karat_hcl::ast::{
    Body, Expr, ExprKind, ForResult, Item, ObjectKey, Step, TemplatePart, UnaryOp,
};

/// A body: `{(= name value) (block type "label" {…})}`.
pub(crate) fn body(body: &Body) -> String {
    let Body::Native(body) = body else { return "json".to_owned() };
    let items: Vec<String> = body
        .items
        .iter()
        .map(|item| match item {
            Item::Attribute(a) => format!("(= {} {})", a.name.name, expr(&a.expr)),
            Item::Block(b) => {
                let mut out = format!("(block {}", b.kind.name);
                for label in &b.labels {
                    let _ = write!(out, " {}", quote(&label.text));
                }
                format!("{out} {})", self::body(&b.body))
            }
        })
        .collect();
    format!("{{{}}}", items.join(" "))
}

/// An expression.
pub(crate) fn expr(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Null => "null".into(),
        ExprKind::Bool(b) => b.to_string(),
        ExprKind::Number(text) => number(text),
        ExprKind::Template(template) => join("t", template.parts.iter().map(part)),
        ExprKind::Tuple(items) => join("tuple", items.iter().map(expr)),
        ExprKind::Object(items) => join(
            "object",
            items.iter().map(|item| match &item.key {
                ObjectKey::Name(name) => format!("(name {} {})", name.name, expr(&item.value)),
                ObjectKey::Expr(key) => format!("(key {} {})", expr(key), expr(&item.value)),
            }),
        ),
        ExprKind::Call(call) => join(
            &format!("call {}", call.name.name),
            call.args.iter().map(expr).chain(call.expand.map(|_| "...".to_owned())),
        ),
        ExprKind::For(f) => {
            let key = f.key.as_ref().map_or("", |k| k.name.as_str());
            let mut out = format!("(for {key},{} {}", f.value.name, expr(&f.collection));
            match &f.result {
                ForResult::Tuple { item } => {
                    let _ = write!(out, " {}", expr(item));
                }
                ForResult::Object { key, value, group } => {
                    let _ = write!(out, " {} => {}", expr(key), expr(value));
                    out.push_str(if *group { " ..." } else { "" });
                }
            }
            if let Some(condition) = &f.condition {
                let _ = write!(out, " if {}", expr(condition));
            }
            out + ")"
        }
        ExprKind::Conditional(c) => {
            format!("(? {} {} {})", expr(&c.condition), expr(&c.then), expr(&c.otherwise))
        }
        ExprKind::Binary(b) => format!("({} {} {})", b.op.symbol(), expr(&b.left), expr(&b.right)),
        ExprKind::Unary(u) => {
            let op = if u.op == UnaryOp::Negate { "neg" } else { "!" };
            format!("({op} {})", expr(&u.operand))
        }
        ExprKind::Parens(inner) => format!("(paren {})", expr(inner)),
        ExprKind::Variable(name) => format!("(var {})", name.name),
        ExprKind::Traversal(t) => {
            let steps = t.steps.iter().map(|step| match step {
                Step::Attr { name, .. } => format!("(. {})", name.name),
                Step::Index { key, .. } => format!("([] {})", expr(key)),
                Step::LegacyIndex { digits, .. } => format!("([] {})", number(digits)),
            });
            join(&format!("> {}", expr(&t.base)), steps)
        }
        ExprKind::Splat(s) => format!("(splat {} {})", expr(&s.source), expr(&s.each)),
        ExprKind::SplatItem => "@".into(),
        ExprKind::Error => "error".into(),
    }
}

fn part(part: &TemplatePart) -> String {
    match part {
        TemplatePart::Literal { text, .. } => quote(text),
        TemplatePart::Interpolation { expr: inner, .. } => format!("(${{}} {})", expr(inner)),
        TemplatePart::If(p) => {
            format!("(%if {} ({}) ({}))", expr(&p.condition), parts(&p.then), parts(&p.otherwise))
        }
        TemplatePart::For(p) => {
            let key = p.key.as_ref().map_or("", |k| k.name.as_str());
            format!("(%for {key},{} {} ({}))", p.value.name, expr(&p.collection), parts(&p.body))
        }
    }
}

fn parts(parts: &[TemplatePart]) -> String {
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}

fn join(head: &str, items: impl Iterator<Item = String>) -> String {
    let mut out = format!("({head}");
    for item in items {
        out.push(' ');
        out.push_str(&item);
    }
    out + ")"
}

fn number(text: &str) -> String {
    format!("n{text}")
}

fn quote(text: &str) -> String {
    format!("{text:?}")
}
