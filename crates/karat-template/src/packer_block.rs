//! `packer { required_version = …, required_plugins { … } }`.

use karat_hcl::ast::{Block, Expr};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_hcl::schema::Schema;

use crate::plugin_requirement::{self, PluginRequirement};
use crate::version::{Constraint, Version};

/// The version of Packer whose templates and behaviour this program answers to.
pub const PACKER_VERSION: &str = "1.16.0";

/// Reads a `packer` block. A name that is given to two plugins goes to `late`: it is wrong only
/// where the plugins are needed.
pub(crate) fn decode(
    block: &Block,
    plugins: &mut Vec<PluginRequirement>,
    diags: &mut Diagnostics,
    late: &mut Diagnostics,
) {
    let schema = Schema::new().optional("required_version").block("required_plugins", &[]);
    let content = block.body.content(&schema, diags);
    if let Some(attribute) = content.attributes.get("required_version") {
        check_version(&attribute.expr, diags);
    }
    for block in content.blocks_of("required_plugins") {
        for attribute in block.body.just_attributes(diags).into_values() {
            let name = attribute.name.name.clone();
            if let Some(plugin) =
                plugin_requirement::decode(name, &attribute.expr, attribute.span, diags)
            {
                if let Some(first) = plugins.iter().find(|p| p.name == plugin.name) {
                    late.push(
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
    let own = Version::parse(PACKER_VERSION).expect("it is one");
    match Constraint::parse(text) {
        Ok(constraint) if constraint.is_met(&own) => {}
        Ok(_) => diags.push(
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

/// Whether a version is another or newer.
pub(crate) fn is_at_least(version: &str, wanted: &str) -> Result<bool, String> {
    Ok(Version::parse(version)? >= Version::parse(wanted)?)
}
