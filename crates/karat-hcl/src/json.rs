//! HCL's JSON syntax (`.pkr.json`, `.pkrvars.json`).
//!
//! A JSON text does not say what is an argument and what a block: `{"a": {"b": 1}}` may be either.
//! So a body keeps its JSON until a [schema](crate::schema) asks, and only then are values turned
//! into expressions. Strings are templates, except in variable files, where they are plain.

use crate::ast::{
    Attribute, Body, Expr, ExprKind, Ident, MAX_HEIGHT, ObjectItem, ObjectKey, Template,
    TemplateForm, TemplatePart, Unary, UnaryOp,
};
use crate::diag::{Diagnostic, Diagnostics, SourceId, Span};
use crate::json_text::{Member, Text, Value, ValueKind, read};
use crate::parser::{Place, expression_at, normal, template_at};

/// What strings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// Templates: `${ … }` and `%{ … }` work.
    Templates,
    /// Plain text.
    Literal,
}

/// A JSON object, or several, that stand where a body does.
#[derive(Clone, Debug)]
pub struct JsonBody {
    pub(crate) value: Value,
    strings: Strings,
    /// Properties that an earlier question has taken.
    pub(crate) hidden: Vec<String>,
}

/// Reads a file in JSON syntax.
///
/// The file holds an object, or an array of objects that count as one.
pub fn parse_json(source: SourceId, text: &str, strings: Strings) -> (Body, Diagnostics) {
    let (mut value, mut diagnostics) = read(source, text);
    if !matches!(value.kind, ValueKind::Object(_) | ValueKind::Array(_) | ValueKind::Broken) {
        diagnostics.push(
            Diagnostic::error("Root value must be object")
                .detail("A configuration in JSON syntax is an object: {\"name\": value}.")
                .at(value.span),
        );
        value.kind = ValueKind::Broken;
    }
    (Body::Json(JsonBody { value, strings, hidden: Vec::new() }), diagnostics)
}

/// Reads a string of JSON syntax as an expression, for the places where native syntax has a bare
/// one (`"type": "list(string)"`). Nothing if the expression is no such string.
pub fn expression_in_string(expr: &Expr) -> Option<(Expr, Diagnostics)> {
    let ExprKind::Template(template) = &expr.kind else { return None };
    if template.form != TemplateForm::Json {
        return None;
    }
    let text = template.as_literal()?;
    Some(expression_at(text, Place::offset(expr.span.source, expr.span.start as usize + 1)))
}

impl JsonBody {
    /// The whole of it.
    pub fn span(&self) -> Span {
        self.value.span
    }

    /// Whether it is one object, and not several in an array.
    pub fn is_object(&self) -> bool {
        matches!(self.value.kind, ValueKind::Object(_))
    }

    /// The closing bracket: where what is missing is reported.
    pub fn end(&self) -> Span {
        let span = self.value.span;
        Span { start: span.end.saturating_sub(1).max(span.start), ..span }
    }

    pub(crate) fn with_value(&self, value: Value) -> Self {
        Self { value, strings: self.strings, hidden: Vec::new() }
    }

    /// The properties of an object, or of all objects in an array. `label` says what they name.
    pub(crate) fn members<'a>(
        &self,
        value: &'a Value,
        label: Option<&str>,
        diagnostics: &mut Diagnostics,
    ) -> Vec<&'a Member> {
        match &value.kind {
            ValueKind::Object(members) => members.iter().collect(),
            ValueKind::Array(items) => {
                let mut found = Vec::new();
                for item in items.iter() {
                    match &item.kind {
                        ValueKind::Object(members) => found.extend(members.iter()),
                        ValueKind::Broken => {}
                        _ => diagnostics.push(wrong_type(item, label)),
                    }
                }
                found
            }
            ValueKind::Null | ValueKind::Broken => Vec::new(),
            _ => {
                diagnostics.push(wrong_type(value, label));
                Vec::new()
            }
        }
    }

    pub(crate) fn attribute(&self, member: &Member, diagnostics: &mut Diagnostics) -> Attribute {
        let expr = self.expr(&member.value, diagnostics);
        Attribute { name: ident(&member.name), span: member.name.span.to(expr.span), expr }
    }

    fn expr(&self, value: &Value, diagnostics: &mut Diagnostics) -> Expr {
        let span = value.span;
        let kind = match &value.kind {
            ValueKind::Null => ExprKind::Null,
            ValueKind::Bool(b) => ExprKind::Bool(*b),
            ValueKind::Number(text) => return number(text, span),
            ValueKind::String(text) => return self.string(text, diagnostics),
            ValueKind::Array(items) => {
                ExprKind::Tuple(items.iter().map(|item| self.expr(item, diagnostics)).collect())
            }
            ValueKind::Object(members) => self.object(members, diagnostics),
            ValueKind::Broken => ExprKind::Error,
        };
        let expr = Expr::new(kind, span);
        if expr.height() > MAX_HEIGHT {
            diagnostics.push(Diagnostic::error("Nested too deeply").at(span));
            return Expr::new(ExprKind::Error, span);
        }
        expr
    }

    fn object(&self, members: &[Member], diagnostics: &mut Diagnostics) -> ExprKind {
        let mut seen = std::collections::HashMap::new();
        let mut items = Vec::with_capacity(members.len());
        for member in members {
            if let Some(first) = seen.insert(member.name.text.as_str(), member.name.span) {
                diagnostics.push(
                    Diagnostic::error("Duplicate object attribute")
                        .detail(format!("The key {:?} stands here twice.", member.name.text))
                        .at(member.name.span)
                        .also(first, "first set here"),
                );
            }
            items.push(ObjectItem {
                key: ObjectKey::Expr(self.string(&member.name, diagnostics)),
                value: self.expr(&member.value, diagnostics),
            });
        }
        ExprKind::Object(items)
    }

    fn string(&self, text: &Text, diagnostics: &mut Diagnostics) -> Expr {
        if self.strings == Strings::Templates && text.text.contains("{") {
            let place = Place::mapped(text.span.source, text.steps.clone());
            let (mut expr, found) = template_at(&text.text, place, TemplateForm::Json);
            diagnostics.append(found);
            expr.span = text.span;
            return expr;
        }
        let parts = if text.text.is_empty() {
            Vec::new()
        } else {
            vec![TemplatePart::Literal { text: normal(&text.text), span: text.span }]
        };
        let template = Template { form: TemplateForm::Json, parts };
        Expr::new(ExprKind::Template(template), text.span)
    }
}

pub(crate) fn ident(text: &Text) -> Ident {
    Ident::new(normal(&text.text), text.span)
}

fn number(text: &str, span: Span) -> Expr {
    let Some(digits) = text.strip_prefix('-') else {
        return Expr::new(ExprKind::Number(text.to_owned()), span);
    };
    let op_span = Span { end: span.start + 1, ..span };
    let operand =
        Expr::new(ExprKind::Number(digits.to_owned()), Span { start: op_span.end, ..span });
    Expr::new(ExprKind::Unary(Box::new(Unary { op: UnaryOp::Negate, op_span, operand })), span)
}

fn wrong_type(value: &Value, label: Option<&str>) -> Diagnostic {
    let detail = match label {
        Some(label) => format!(
            "An object is expected here, or an array of objects, whose property names are the {label}; this is {}.",
            value.describe()
        ),
        None => format!(
            "An object is expected here, or an array of objects; this is {}.",
            value.describe()
        ),
    };
    Diagnostic::error("Incorrect JSON value type").detail(detail).at(value.span)
}
