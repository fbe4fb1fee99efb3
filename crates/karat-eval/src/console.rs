//! What a console prints.

use karat_hcl::diag::{Diagnostics, SourceId};
use karat_hcl::parse_expression;
use karat_value::{Value, print};

use crate::evaluator::evaluate;
use crate::scope::Scope;

/// Reads and evaluates a line, and gives what a console prints for it. Spans in the diagnostics
/// are those of `source`.
///
/// # Errors
/// What is wrong with the line.
pub fn console_eval(
    text: &str,
    source: SourceId,
    scope: &Scope<'_>,
) -> Result<String, Diagnostics> {
    console_value(text, source, scope).map(|value| print::console(&value))
}

/// Reads and evaluates a line.
///
/// # Errors
/// What is wrong with the line.
pub fn console_value(
    text: &str,
    source: SourceId,
    scope: &Scope<'_>,
) -> Result<Value, Diagnostics> {
    let (expr, diags) = parse_expression(source, text, 0..text.len());
    if diags.has_errors() {
        return Err(diags);
    }
    let (value, diags) = evaluate(&expr, scope);
    if diags.has_errors() { Err(diags) } else { Ok(value) }
}
