//! `karat hcl2_upgrade`

use std::path::Path;

use clap::Args;
use karat_component::Masker;
use karat_hcl::diag::{Diagnostic, Diagnostics, Severity, SourceMap};
use karat_legacy::{Options, upgrade};

use crate::cli::{Global, LegacyArgs};
use crate::components;
use crate::error::Failure;
use crate::report::diagnostics::Renderer;
use crate::report::{machine, out};

/// Turns a packer.json into an HCL2 template.
///
/// What cannot be turned stands in the new file as it was, under a comment that says why. The exit
/// code is 1 if a builder is of a type that is neither built in nor of a known plugin; the file is
/// written all the same.
#[derive(Debug, Args)]
pub(crate) struct Hcl2UpgradeArgs {
    /// The file to write; TEMPLATE.pkr.hcl without this.
    #[arg(long = "output-file", value_name = "FILE")]
    output_file: Option<String>,
    /// Adds comments that say what the blocks are for.
    #[arg(long = "with-annotations", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = crate::goflags::parse_bool)]
    with_annotations: bool,
    /// Writes what can be used where Packer writes something else: names of sources that are
    /// names, "only" and "except" with sources instead of builders, overrides, and every call that
    /// can be upgraded.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = crate::goflags::parse_bool)]
    mend: bool,
    #[command(flatten)]
    legacy: LegacyArgs,
    /// The packer.json, or - for the standard input.
    #[arg(value_name = "TEMPLATE")]
    template: String,
}

pub(crate) fn run(args: &Hcl2UpgradeArgs, global: Global) -> Result<(), Failure> {
    let _ = &args.legacy;
    let text = read(&args.template)?;
    let mut sources = SourceMap::new();
    let id = sources.add(&args.template, text.as_str());
    let (template, diags) = karat_legacy::parse(id, &text);
    let masker = Masker::new();
    let renderer = Renderer { sources: &sources, masker: &masker, colour: out::colour(true) };
    if diags.has_errors() {
        renderer.print(&diags);
        return Err(Failure::new(format!(
            "{} cannot be read as a packer.json, so nothing was written",
            args.template
        ))
        .hint("A template that is HCL2 already has a name that ends in .pkr.hcl or .pkr.json."));
    }
    renderer.print(&warnings(template.check()));
    let builders = components::all();
    let has_builder = |name: &str| builders.builders().contains_key(name);
    let (annotations, mend) = (args.with_annotations, args.mend);
    let options = Options { annotations, mend, has_builder: &has_builder };
    let upgraded = upgrade(&template, &text, options);

    let named = args.output_file.clone().filter(|path| !path.is_empty());
    let path = named.unwrap_or_else(|| format!("{}.pkr.hcl", args.template));
    write(Path::new(&path), &upgraded.text)?;
    let mut remarks = Diagnostics::new();
    remarks.extend(upgraded.remarks.into_iter().map(|remark| {
        Diagnostic::warning(remark).hint("With -mend it is written as it has to be.")
    }));
    renderer.print(&remarks);
    for problem in &upgraded.problems {
        out::stderr_line(&format!("Ignoring following {problem}"));
    }
    let code = u8::from(!upgraded.problems.is_empty());
    let done = format!("Successfully created {path}. Exit {code}");
    if global.machine_readable {
        machine::say(&done);
    } else {
        out::stdout_line(&done);
    }
    if code == 0 { Ok(()) } else { Err(Failure::Exit(code)) }
}

/// The text of a template.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(path: &str) -> Result<String, Failure> {
    let bytes = if path == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// The same, as warnings: the new template is written whatever they say.
fn warnings(diags: Diagnostics) -> Diagnostics {
    let mut out = Diagnostics::new();
    out.extend(diags.into_iter().map(|d| Diagnostic { severity: Severity::Warning, ..d }));
    out
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let context = |e: std::io::Error| Failure::new(format!("cannot write {}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(context)?;
    }
    std::fs::write(path, text).map_err(context)
}
