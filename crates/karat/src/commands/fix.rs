//! `karat fix`

use std::path::Path;

use clap::Args;
use karat_component::Masker;
use karat_hcl::diag::SourceMap;
use karat_hcl::json_text;
use karat_legacy::fix::FIXERS;

use super::hcl2_upgrade::read;
use crate::cli::{Global, LegacyArgs};
use crate::error::Failure;
use crate::report::diagnostics::Renderer;
use crate::report::{machine, out};

/// Mends options that older versions of Packer knew under other names.
///
/// Prints the mended packer.json; the file stays as it is.
#[derive(Debug, Args)]
#[command(after_long_help = fixers())]
pub(crate) struct FixArgs {
    /// Validates what comes out.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = crate::goflags::parse_bool)]
    validate: bool,
    #[command(flatten)]
    legacy: LegacyArgs,
    /// The packer.json, or - for the standard input.
    #[arg(value_name = "TEMPLATE")]
    template: String,
}

fn fixers() -> String {
    let mut text = String::from("What is mended, in this order:\n");
    for fixer in FIXERS {
        text.push_str(&format!("\n  {:<27}{}", fixer.name, fixer.about));
    }
    text
}

pub(crate) fn run(args: &FixArgs, global: Global) -> Result<(), Failure> {
    let _ = &args.legacy;
    let path = args.template.as_str();
    if path.ends_with(".pkr.hcl") || path.ends_with(".pkr.json") || Path::new(path).is_dir() {
        return Err(Failure::new("fix works with packer.json files only")
            .hint("For HCL2 templates there is \"fmt\"."));
    }
    let text = read(path)?;
    let mut sources = SourceMap::new();
    let id = sources.add(path, text.as_str());
    let (value, diags) = json_text::read(id, &text);
    let fixed = if diags.has_errors() { None } else { Some(karat_legacy::fix::fix(&value)) };
    let fixed = fixed.transpose().map_err(|e| Failure::new(format!("cannot mend {path}: {e}")))?;
    let mut found = diags;
    if let Some(fixed) = &fixed {
        if global.machine_readable {
            machine::say(fixed);
        } else {
            out::stdout_line(fixed);
        }
        if args.validate {
            let id = sources.add(format!("{path}, mended"), fixed.as_str());
            let (template, diags) = karat_legacy::parse(id, fixed);
            found.append(diags);
            if !found.has_errors() {
                found.append(template.check());
            }
        }
    }
    let masker = Masker::new();
    let renderer = Renderer { sources: &sources, masker: &masker, colour: out::colour(true) };
    renderer.print(&found);
    if found.has_errors() { Err(Failure::Reported) } else { Ok(()) }
}
