//! `packer { required_version = …, required_plugins { … } }`.

use karat_hcl::ast::{Block, Expr, ExprKind, ObjectKey};
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::schema::Schema;

/// The version of Packer whose templates and behaviour this program answers to.
pub const PACKER_VERSION: &str = "1.16.0";

/// One plugin that a template asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRequirement {
    /// The name by which components are prefixed.
    pub name: String,
    /// `host/namespace/name`.
    pub source: String,
    /// The versions that will do.
    pub version: String,
    /// Where it is asked for.
    pub span: Span,
}

/// Reads a `packer` block.
pub(crate) fn decode(block: &Block, plugins: &mut Vec<PluginRequirement>, diags: &mut Diagnostics) {
    let schema = Schema::new().optional("required_version").block("required_plugins", &[]);
    let content = block.body.content(&schema, diags);
    if let Some(attribute) = content.attributes.get("required_version") {
        check_version(&attribute.expr, diags);
    }
    for block in content.blocks_of("required_plugins") {
        for attribute in block.body.just_attributes(diags).into_values() {
            let name = attribute.name.name.clone();
            if let Some(plugin) = plugin(name, &attribute.expr, attribute.span, diags) {
                if let Some(first) = plugins.iter().find(|p| p.name == plugin.name) {
                    diags.push(
                        Diagnostic::error(format!("Duplicate required plugin \"{}\"", plugin.name))
                            .at(plugin.span)
                            .also(first.span, "first asked for here"),
                    );
                    continue;
                }
                plugins.push(plugin);
            }
        }
    }
}

fn check_version(expr: &Expr, diags: &mut Diagnostics) {
    let Some(text) = expr.as_literal_str() else {
        diags.push(
            Diagnostic::error("Invalid version constraint")
                .at(expr.span)
                .detail("required_version is text without names and functions: it is read before anything else.")
                .hint("Write it like \">= 1.8.0\"."),
        );
        return;
    };
    match meets(PACKER_VERSION, text) {
        Ok(true) => {}
        Ok(false) => diags.push(
            Diagnostic::error("Unsupported Packer version")
                .at(expr.span)
                .detail(format!("The template asks for Packer \"{text}\"; this program does what Packer {PACKER_VERSION} does.")),
        ),
        Err(reason) => diags.push(
            Diagnostic::error("Invalid version constraint")
                .at(expr.span)
                .detail(format!("\"{text}\" is no version constraint: {reason}."))
                .hint("Write it like \">= 1.8.0\" or \"~> 1.9\"."),
        ),
    }
}

fn plugin(
    name: String,
    expr: &Expr,
    span: Span,
    diags: &mut Diagnostics,
) -> Option<PluginRequirement> {
    let ExprKind::Object(items) = &expr.kind else {
        diags.push(
            Diagnostic::error("Inconsistent plugin requirement")
                .at(expr.span)
                .detail(format!("\"{name}\" needs an object with \"version\" and \"source\"."))
                .hint(format!("Write {name} = {{ version = \">= 1.0.0\", source = \"github.com/hashicorp/{name}\" }}")),
        );
        return None;
    };
    let (mut source, mut version) = (None, None);
    for item in items {
        let key = match &item.key {
            ObjectKey::Name(ident) => ident.name.as_str(),
            ObjectKey::Expr(expr) => expr.as_literal_str().unwrap_or_default(),
        };
        let Some(text) = item.value.as_literal_str() else {
            diags.push(
                Diagnostic::error("Invalid plugin requirement")
                    .at(item.value.span)
                    .detail(format!("\"{key}\" is text without names and functions.")),
            );
            return None;
        };
        match key {
            "source" => source = Some((text.to_owned(), item.value.span)),
            "version" => version = Some((text.to_owned(), item.value.span)),
            other => {
                diags.push(
                    Diagnostic::error("Invalid required_plugins object")
                        .at(item.key.span())
                        .detail(format!("\"{other}\" is not expected: a plugin has \"version\" and \"source\" only."))
                        .did_you_mean(other, ["version", "source"]),
                );
                return None;
            }
        }
    }
    let (Some((source, source_span)), Some((version, version_span))) = (source, version) else {
        diags.push(
            Diagnostic::error("Incomplete plugin requirement")
                .at(expr.span)
                .detail(format!("\"{name}\" needs both \"version\" and \"source\".")),
        );
        return None;
    };
    if let Err(reason) = meets("0.0.0", &version) {
        diags.push(
            Diagnostic::error("Invalid version constraint")
                .at(version_span)
                .detail(format!("\"{version}\" is no version constraint: {reason}.")),
        );
        return None;
    }
    let parts: Vec<&str> = source.split('/').collect();
    if source.contains("://") || !(3..=16).contains(&parts.len()) || parts.contains(&"") {
        diags.push(
            Diagnostic::error("Invalid plugin source")
                .at(source_span)
                .detail(format!("\"{source}\" is not of the form host/namespace/name."))
                .hint(format!("Write it like \"github.com/hashicorp/{name}\".")),
        );
        return None;
    }
    if let Some(rest) = parts.last().and_then(|last| last.strip_prefix("packer-plugin-")) {
        diags.push(
            Diagnostic::error("Invalid plugin source")
                .at(source_span)
                .detail(format!("The last part of \"{source}\" begins with \"packer-plugin-\"."))
                .hint(format!("Leave the prefix out: end it in \"{rest}\".")),
        );
        return None;
    }
    Some(PluginRequirement { name, source, version, span })
}

/// Whether a version is another or newer.
pub(crate) fn is_at_least(version: &str, wanted: &str) -> Result<bool, String> {
    Ok(parts(version)?.0 >= parts(wanted)?.0)
}

/// Whether a version meets a constraint, by the rules of HashiCorp's go-version: parts after `,`
/// all hold; operators `= != > >= < <= ~>`; missing parts are 0.
fn meets(version: &str, constraint: &str) -> Result<bool, String> {
    let version = parts(version)?.0;
    let mut all = true;
    for one in constraint.split(',') {
        let one = one.trim();
        let end = one.find(|c: char| !"=!<>~".contains(c)).unwrap_or(one.len());
        let (operator, wanted) = one.split_at(end);
        let (wanted, given) = parts(wanted.trim())?;
        all &= match operator {
            "" | "=" => version == wanted,
            "!=" => version != wanted,
            ">" => version > wanted,
            ">=" => version >= wanted,
            "<" => version < wanted,
            "<=" => version <= wanted,
            // All but the last part that is written stay the same.
            "~>" => {
                let fixed = given.saturating_sub(1).max(1);
                version >= wanted && version[..fixed] == wanted[..fixed]
            }
            other => return Err(format!("\"{other}\" is no operator")),
        };
    }
    Ok(all)
}

/// The three numbers of a version, and how many of them are written.
fn parts(text: &str) -> Result<([u64; 3], usize), String> {
    let core = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut numbers = [0; 3];
    let mut count = 0;
    for (place, part) in core.split('.').enumerate() {
        let number = part.parse().map_err(|_| format!("\"{text}\" is no version"))?;
        if let Some(slot) = numbers.get_mut(place) {
            *slot = number;
        }
        count = place + 1;
    }
    Ok((numbers, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints() {
        for (constraint, met) in [
            (">= 1.8.0", true),
            ("~> 1.9", true),
            ("~> 1.15.0", false),
            (">= 1.7, < 1.16", false),
            ("1.16.0", true),
            ("!= 1.16.0", false),
            ("> 2", false),
        ] {
            assert_eq!(meets(PACKER_VERSION, constraint), Ok(met), "{constraint}");
        }
        assert!(meets(PACKER_VERSION, "=> 1").is_err());
        assert!(meets(PACKER_VERSION, ">= x").is_err());
    }
}
