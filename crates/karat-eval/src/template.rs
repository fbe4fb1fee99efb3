//! Texts with holes.

use karat_hcl::ast::{Expr, Template, TemplateFor, TemplateIf, TemplatePart};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{Facts, Marks, Type, Value, convert};

use crate::evaluator::{Evaluator, is_enough};
use crate::iterate::bind;
use crate::scope::Scope;

/// How much of the beginning of a text is kept in mind while the rest is unknown.
const MAX_PREFIX: usize = 128;

/// A text that is being put together.
struct Text {
    buffer: String,
    known: bool,
    marks: Marks,
}

impl Evaluator {
    /// A template: the value of its only interpolation, or a string.
    pub(crate) fn template(
        &self,
        template: &Template,
        span: Span,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        if let Some(expr) = template.wrapped() {
            return self.eval(expr, scope, diags);
        }
        if let Some(text) = template.as_literal() {
            return Value::string(text);
        }
        let mut text = Text { buffer: String::new(), known: true, marks: Marks::NONE };
        let mut own = Diagnostics::new();
        self.parts(&template.parts, span, &mut text, scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        let value = if text.known && !failed {
            Value::string(text.buffer)
        } else if failed {
            Value::unknown(Type::String)
        } else {
            // What stands before the first unknown piece is known.
            let end = text.buffer.floor_char_boundary(MAX_PREFIX);
            let facts = Facts { not_null: true, ..Facts::prefix(&text.buffer[..end]) };
            Value::unknown(Type::String).knowing(&facts)
        };
        value.with_marks(&text.marks)
    }

    fn parts(
        &self,
        parts: &[TemplatePart],
        span: Span,
        text: &mut Text,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) {
        for part in parts {
            if self.budget.is_exhausted() {
                text.known = false;
                return;
            }
            match part {
                TemplatePart::Literal { text: literal, .. } => self.push(literal, span, text),
                TemplatePart::Interpolation { expr, .. } => {
                    self.interpolation(expr, text, scope, diags);
                }
                TemplatePart::If(part) => self.template_if(part, text, scope, diags),
                TemplatePart::For(part) => self.template_for(part, text, scope, diags),
            }
        }
    }

    fn push(&self, piece: &str, span: Span, text: &mut Text) {
        if !text.known {
            return;
        }
        let length = text.buffer.len() + piece.len();
        if length > crate::budget::MAX_TEXT || !self.budget.take_text(piece.len()) {
            self.give_up(span);
            text.known = false;
            return;
        }
        text.buffer.push_str(piece);
    }

    fn interpolation(
        &self,
        expr: &Expr,
        text: &mut Text,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) {
        let mut own = Diagnostics::new();
        let value = self.eval(expr, scope, &mut own);
        let failed = own.has_errors();
        diags.append(own);
        let (value, marks) = value.unmark();
        text.marks.merge(&marks);
        if failed || !value.is_known() {
            text.known = false;
            return;
        }
        let invalid = |detail: String| {
            Diagnostic::error("Invalid template interpolation value")
                .detail(detail)
                .label(expr.span, value.ty().friendly())
        };
        if value.is_null() {
            diags.push(invalid(
                "The expression result is null. Cannot include a null value in a string template."
                    .to_owned(),
            ));
            return;
        }
        match convert(&value, &Type::String) {
            Ok(piece) => self.push(piece.as_str().unwrap_or_default(), expr.span, text),
            Err(error) => diags.push(invalid(format!(
                "Cannot include the given value in a string template: {error}."
            ))),
        }
    }

    fn template_if(
        &self,
        part: &TemplateIf,
        text: &mut Text,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) {
        match self.condition(&part.condition, &mut text.marks, scope, diags) {
            Some(Some(true)) => self.parts(&part.then, part.span, text, scope, diags),
            Some(Some(false)) => self.parts(&part.otherwise, part.span, text, scope, diags),
            Some(None) | None => {
                text.known = false;
                // Either may come, so the marks of both count; errors do not yet.
                let mut ignored = Diagnostics::new();
                self.parts(&part.then, part.span, text, scope, &mut ignored);
                self.parts(&part.otherwise, part.span, text, scope, &mut ignored);
            }
        }
    }

    fn template_for(
        &self,
        part: &TemplateFor,
        text: &mut Text,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) {
        let (collection, marks) = match self.iterated(&part.collection, scope, diags) {
            Ok(found) => found,
            Err(value) => {
                text.marks.merge(value.marks());
                text.known = false;
                return;
            }
        };
        text.marks.merge(&marks);
        let Some(elements) = collection.elements() else {
            text.known = false;
            return;
        };
        let before = diags.len();
        for (key, value) in elements {
            if is_enough(diags, before) {
                text.known = false;
                return;
            }
            let scope = bind(scope, part.key.as_ref(), &part.value, key, value.clone());
            self.parts(&part.body, part.span, text, &scope, diags);
            if self.budget.is_exhausted() || !self.budget.take(1) {
                self.give_up(part.span);
                text.known = false;
                return;
            }
        }
    }
}
