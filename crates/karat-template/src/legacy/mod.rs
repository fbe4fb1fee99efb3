//! Legacy templates, `packer.json`: from the model of `karat-legacy` to the same builds that HCL
//! templates become.
//!
//! | file | what |
//! |---|---|
//! | `variables.rs` | user variables: values given, and defaults that need each other |
//! | `builds.rs` | one [`Build`](crate::Build) per builder |
//! | `options.rs` | a component's JSON to its evaluated [`karat_config::Body`] |
//! | `weak.rs` | JSON values to the types that options have, as leniently as Packer |

mod builds;
mod options;
mod variables;
mod weak;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use karat_functions::World;
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceMap};
use karat_text::UserVariables;

pub(crate) use options::{Context, Machine, Options, body};
pub(crate) use variables::read_file;

use crate::evaluate::Evaluated;
use crate::variables::Given;

/// A legacy template that was read, not evaluated yet.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) template: Arc<karat_legacy::Template>,
    /// What the variable files give.
    pub(crate) given: BTreeMap<String, String>,
}

/// What there is of a legacy template beside its builds.
#[derive(Clone, Debug)]
pub struct Legacy {
    /// The template as it was read.
    pub template: Arc<karat_legacy::Template>,
    /// The user variables with their values, those included that the template does not declare.
    pub variables: UserVariables,
}

/// The folder of a legacy template: absolute, since `{{ template_dir }}` is.
pub(crate) fn folder(path: &Path, world: &dyn World) -> PathBuf {
    let whole = world.working_folder().unwrap_or_default().join(path);
    let mut clean = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean.pop();
    clean
}

/// Gives the user variables their values and lays out the builds.
pub(crate) fn evaluate(
    source: &Source,
    (sources, root): (&SourceMap, &Path),
    given: &Given,
    world: &dyn World,
    diags: &mut Diagnostics,
) -> Evaluated {
    let template = &source.template;
    if !diags.has_errors() {
        diags.append(template.check());
        check_version(template, diags);
    }
    let resolved = variables::resolve(source, root, given, world, diags);
    let legacy = Legacy { template: Arc::clone(template), variables: resolved.values };
    let mut evaluated = Evaluated::of_legacy(sources.clone(), root, resolved.shown, legacy);
    evaluated.set_secrets(resolved.secrets);
    if !diags.has_errors() {
        let (builds, outline) = builds::lay_out(&evaluated, world, diags);
        evaluated.set_builds(builds, vec![outline]);
    }
    evaluated
}

/// `min_packer_version`
fn check_version(template: &karat_legacy::Template, diags: &mut Diagnostics) {
    let Some(wanted) = template.min_packer_version.as_ref().filter(|v| !v.text.is_empty()) else {
        return;
    };
    let version = crate::PACKER_VERSION;
    match crate::packer_block::is_at_least(version, &wanted.text) {
        Ok(true) => {}
        Ok(false) => diags.push(
            Diagnostic::error(format!(
                "This template requires Packer version {} or higher; using {version}",
                wanted.text
            ))
            .at(wanted.span)
            .detail(format!("This program does what Packer {version} does.")),
        ),
        Err(reason) => diags.push(
            Diagnostic::error("min_version is invalid")
                .at(wanted.span)
                .detail(format!("\"min_packer_version\" is a version: {reason}."))
                .hint("Write it like \"1.8.0\"."),
        ),
    }
}
