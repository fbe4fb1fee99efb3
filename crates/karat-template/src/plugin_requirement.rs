//! One entry of `required_plugins { NAME = { version = …, source = … } }`.

use karat_eval::{Environment, Scope, evaluate, references};
use karat_functions::MemoryWorld;
use karat_hcl::ast::{Expr, ExprKind, ObjectItem, ObjectKey};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};

use crate::version::Constraint;

/// One plugin that a template asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRequirement {
    /// The name by which components are prefixed.
    pub name: String,
    /// `host/namespace/name`.
    pub source: String,
    /// The versions that will do, as they are written.
    pub version: String,
    /// Where it is asked for.
    pub span: Span,
}

/// A source has at most this many parts.
const MOST_PARTS: usize = 16;

/// Reads an entry, or says what is wrong with it.
pub(crate) fn decode(
    name: String,
    expr: &Expr,
    span: Span,
    diags: &mut Diagnostics,
) -> Option<PluginRequirement> {
    if let Err(reason) = check_part(&name) {
        diags.push(
            Diagnostic::error("Invalid plugin local name")
                .at(span)
                .detail(format!("\"{name}\" cannot be the name of a plugin: {reason}.")),
        );
    } else if name.to_lowercase() != name {
        diags.push(
            Diagnostic::error("Invalid plugin local name")
                .at(span)
                .detail(format!("\"{name}\" has capital letters, which names of plugins have not."))
                .hint(format!("Write \"{}\".", name.to_lowercase())),
        );
    }
    let ExprKind::Object(items) = &expr.kind else {
        diags.push(
            Diagnostic::error("Invalid plugin requirement")
                .at(expr.span)
                .detail(format!("\"{name}\" needs an object with \"version\" and \"source\"."))
                .hint(format!(
                    "Write {name} = {{ version = \">= 1.0.0\", source = \"github.com/hashicorp/{name}\" }}"
                )),
        );
        return None;
    };
    let entry = Entry { name: &name, expr, items };
    let version = entry.version(diags)?;
    let source = entry.source(diags)?;
    entry.nothing_else(diags)?;
    Some(PluginRequirement { name, source, version, span })
}

struct Entry<'a> {
    name: &'a str,
    expr: &'a Expr,
    items: &'a [ObjectItem],
}

impl Entry<'_> {
    /// The value of an attribute; of several the last, as everywhere in objects.
    fn get(&self, wanted: &str) -> Option<&Expr> {
        self.items.iter().rev().find(|item| key(item) == Some(wanted)).map(|item| &item.value)
    }

    fn version(&self, diags: &mut Diagnostics) -> Option<String> {
        let Some(expr) = self.get("version") else {
            diags.push(
                Diagnostic::error("No version constraint was set")
                    .at(self.expr.span)
                    .detail(format!("\"{}\" needs both \"version\" and \"source\".", self.name))
                    .hint("Write version = \">= 1.2.0, < 2.0.0\"."),
            );
            return None;
        };
        let invalid = |detail: String| {
            Diagnostic::error("Invalid version constraint").at(expr.span).detail(detail)
        };
        let Some(text) = constant(expr) else {
            diags.push(invalid("A version is text without names and functions.".into()));
            return None;
        };
        match Constraint::parse(&text) {
            Err(reason) => {
                diags.push(
                    invalid(format!("\"{text}\" is no version constraint: {reason}."))
                        .hint("Write it like \">= 1.2.0\" or \"~> 1.9\"."),
                );
                None
            }
            Ok(constraint) if constraint.has_prerelease() => {
                diags.push(invalid(format!(
                    "\"{text}\" names a prerelease, which a constraint on plugins cannot do."
                )));
                None
            }
            Ok(_) => Some(text),
        }
    }

    fn source(&self, diags: &mut Diagnostics) -> Option<String> {
        let Some(expr) = self.get("source") else {
            diags.push(
                Diagnostic::error("No source was set")
                    .at(self.expr.span)
                    .detail(format!("\"{}\" needs both \"version\" and \"source\".", self.name))
                    .hint(format!("Write source = \"github.com/hashicorp/{}\".", self.name)),
            );
            return None;
        };
        let Some(text) = constant(expr) else {
            diags.push(
                Diagnostic::error("Invalid source")
                    .at(expr.span)
                    .detail("A source is text without names and functions."),
            );
            return None;
        };
        match check_source(&text) {
            Ok(()) => Some(text),
            Err((reason, hint)) => {
                diags.push(
                    Diagnostic::error("Failed to parse source")
                        .at(expr.span)
                        .detail(format!("\"{text}\" names no plugin: {reason}."))
                        .hint(hint),
                );
                None
            }
        }
    }

    fn nothing_else(&self, diags: &mut Diagnostics) -> Option<()> {
        let known = ["version", "source"];
        let is_other = |item: &&ObjectItem| !key(item).is_some_and(|k| known.contains(&k));
        let Some(other) = self.items.iter().find(is_other) else { return Some(()) };
        let name = key(other).unwrap_or("…");
        diags.push(
            Diagnostic::error("Invalid required_plugins object")
                .at(other.key.span())
                .detail(format!(
                    "\"{name}\" is not expected: a plugin has \"version\" and \"source\" only."
                ))
                .did_you_mean(name, known),
        );
        None
    }
}

/// The text that an expression gives without names and functions.
fn constant(expr: &Expr) -> Option<String> {
    if let Some(text) = expr.as_literal_str() {
        return Some(text.to_owned());
    }
    if !references(expr).is_empty() || calls(expr) {
        return None;
    }
    let nothing = MemoryWorld::default();
    let environment = Environment::new(&nothing, "");
    let (value, found) = evaluate(expr, &Scope::new(&environment));
    if found.has_errors() { None } else { value.as_str().map(str::to_owned) }
}

fn calls(expr: &Expr) -> bool {
    let mut found = matches!(expr.kind, ExprKind::Call(_));
    expr.each_child(&mut |child| found |= calls(child));
    found
}

fn key(item: &ObjectItem) -> Option<&str> {
    match &item.key {
        ObjectKey::Name(ident) => Some(&ident.name),
        ObjectKey::Expr(expr) => expr.as_literal_str(),
    }
}

/// Checks the source of a plugin: `host/namespace/name`.
///
/// # Errors
/// What is wrong with it, without a full stop, and what to do.
pub fn check_source(source: &str) -> Result<(), (String, String)> {
    let like = || "Write it like \"github.com/hashicorp/amazon\".".to_owned();
    if source.contains("://") {
        let rest = source.split_once("://").map_or(source, |(_, rest)| rest);
        return Err(("it has a scheme".into(), format!("Leave it out: \"{rest}\".")));
    }
    if source.starts_with('/') || source.ends_with('/') {
        return Err(("it begins or ends with a slash".into(), like()));
    }
    if source.contains(['?', '#']) {
        return Err(("it has a query or a fragment".into(), like()));
    }
    let parts: Vec<&str> = source.split('/').collect();
    if parts[0].contains(':') {
        return Err(("its host has a port".into(), like()));
    }
    if parts.len() < 3 {
        return Err(("it is not of the form host/namespace/name".into(), like()));
    }
    if parts.len() > MOST_PARTS {
        let reason = format!("it has {} parts, and {MOST_PARTS} are the most", parts.len());
        return Err((reason, like()));
    }
    let name = parts[parts.len() - 1];
    check_part(name).map_err(|reason| (format!("its last part is wrong: {reason}"), like()))?;
    for prefix in ["packer-plugin-", "packer-"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let reason = format!("its last part begins with \"{prefix}\"");
            return Err((reason, format!("Leave the prefix out: end it in \"{rest}\".")));
        }
    }
    Ok(())
}

/// A part of a source is written as in a host name.
fn check_part(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("it is empty".into());
    }
    if part.contains("--") {
        return Err("it has two dashes in a row".into());
    }
    let letter = |c: char| c.is_alphanumeric() || c == '-';
    if part.starts_with('-') || part.ends_with('-') || !part.chars().all(letter) {
        return Err("it has letters, digits and dashes only, and no dash at its ends".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        for source in ["github.com/hashicorp/amazon", "example.com/a/b/c/d-e", "github.com//amazon"]
        {
            assert_eq!(check_source(source), Ok(()), "{source}");
        }
        for source in [
            "amazon",
            "hashicorp/amazon",
            "https://github.com/hashicorp/amazon",
            "/github.com/hashicorp/amazon",
            "github.com/hashicorp/amazon/",
            "example.com:8443/hashicorp/amazon",
            "github.com/hashicorp/packer-plugin-amazon",
            "github.com/hashicorp/packer-amazon",
            "github.com/hashicorp/ama--zon",
            "github.com/hashicorp/amazon?v=1",
            "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q",
        ] {
            assert!(check_source(source).is_err(), "{source}");
        }
    }
}
