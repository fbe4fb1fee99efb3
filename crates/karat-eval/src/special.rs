//! `try`, `can` and `convert`: functions that are given expressions, not values.

use karat_hcl::ast::{Call, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_value::{Type, Value, convert};

use crate::call::{Argument, invalid_argument, too_many};
use crate::evaluator::Evaluator;
use crate::scope::Scope;
use crate::type_expr::type_constraint;

/// Their names.
pub(crate) const NAMES: [&str; 3] = ["can", "convert", "try"];

impl Evaluator {
    pub(crate) fn special_form(
        &self,
        name: &str,
        call: &Call,
        args: &[Argument<'_>],
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        match name {
            "try" => self.try_form(call, args, scope, diags),
            "can" => match args {
                [] => missing(name, 1, "expression", call, diags),
                [argument] => self.can_form(argument, scope),
                [_, extra, ..] => {
                    diags.push(too_many(name, 1, extra.span()));
                    Value::dynamic()
                }
            },
            _ => match args {
                [] => missing(name, 2, "value", call, diags),
                [_] => missing(name, 2, "type", call, diags),
                [value, ty] => self.convert_form(value, ty, scope, diags),
                [_, _, extra, ..] => {
                    diags.push(too_many(name, 2, extra.span()));
                    Value::dynamic()
                }
            },
        }
    }

    fn try_form(
        &self,
        call: &Call,
        args: &[Argument<'_>],
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut failures = Vec::new();
        for argument in args {
            let mut own = Diagnostics::new();
            let value = self.argument(argument, scope, &mut own);
            match own.iter().find(|diag| diag.is_error()) {
                // As long as something is not known, another argument may be the first to succeed.
                None if !value.is_wholly_known() => {
                    return Value::dynamic().with_marks(&value.deep_marks());
                }
                None => return value,
                Some(first) => failures.push((argument.span(), first.clone())),
            }
        }
        let problem = if failures.is_empty() {
            "at least one argument is required".to_owned()
        } else {
            let lines: Vec<String> = failures
                .iter()
                .map(|(_, failure)| format!("\n- {}: {}", failure.summary, failure.detail))
                .collect();
            format!("no expression succeeded:{}", lines.concat())
        };
        let mut diag = Diagnostic::error("Error in function call")
            .detail(format!("Call to function \"try\" failed: {problem}"))
            .at(call.name.span)
            .hint("At least one expression must produce a successful result.");
        for (span, failure) in failures {
            let place = failure.primary.map_or(span, |label| label.span);
            diag = diag.also(place, failure.summary);
        }
        diags.push(diag);
        Value::dynamic()
    }

    fn can_form(&self, argument: &Argument<'_>, scope: &Scope<'_>) -> Value {
        let mut own = Diagnostics::new();
        let value = self.argument(argument, scope, &mut own);
        if own.has_errors() {
            return Value::bool(false);
        }
        let known = value.is_wholly_known();
        let result = if known { Value::bool(true) } else { Value::unknown(Type::Bool) };
        result.with_marks(&value.deep_marks())
    }

    fn convert_form(
        &self,
        value: &Argument<'_>,
        ty: &Argument<'_>,
        scope: &Scope<'_>,
        diags: &mut Diagnostics,
    ) -> Value {
        let mut own = Diagnostics::new();
        let place = value.span();
        let value = self.argument(value, scope, &mut own);
        let want = match ty {
            Argument::Expr(expr) => wanted(expr, &mut own),
            Argument::Value(_, span) => {
                own.push(
                    Diagnostic::error("Invalid type specification")
                        .detail("A type is written as an expression; a value is not one.")
                        .at(*span),
                );
                None
            }
        };
        let failed = own.has_errors();
        diags.append(own);
        let Some(want) = want.filter(|_| !failed) else { return Value::dynamic() };
        // The type is found with optional attributes, but the value must then have them all: that
        // is how Packer does it.
        match convert(&value, &want).and_then(|found| convert(&value, found.ty())) {
            // Of a value that is not known only the type stays.
            Ok(converted) if !value.is_known() => {
                Value::unknown(converted.ty().clone()).with_marks(converted.marks())
            }
            Ok(converted) => converted,
            Err(error) => {
                diags.push(invalid_argument("value", &error.to_string(), place));
                Value::dynamic()
            }
        }
    }
}

/// Defaults of optional attributes have no place here.
fn wanted(expr: &Expr, diags: &mut Diagnostics) -> Option<Type> {
    let (constraint, found) = type_constraint(expr);
    let failed = found.has_errors();
    diags.append(found);
    if !failed && !constraint.defaults.is_empty() {
        diags.push(
            Diagnostic::error("Invalid type specification")
                .detail(
                    "Optional attribute modifier expects only one argument: the attribute type.",
                )
                .at(expr.span)
                .hint("Defaults are for the types of variables only."),
        );
        return None;
    }
    (!failed).then_some(constraint.ty)
}

fn missing(
    name: &str,
    expected: usize,
    param: &str,
    call: &Call,
    diags: &mut Diagnostics,
) -> Value {
    diags.push(
        Diagnostic::error("Not enough function arguments")
            .detail(format!(
                "Function \"{name}\" expects {expected} argument(s). Missing value for \"{param}\"."
            ))
            .at(call.parens),
    );
    Value::dynamic()
}
