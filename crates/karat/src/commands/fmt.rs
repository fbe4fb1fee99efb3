//! `karat fmt`

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use karat_hcl::diag::{Diagnostics, SourceMap};
use similar::TextDiff;

use crate::cli::ColourArgs;
use crate::error::{Failure, exit};
use crate::report::diagnostics::Renderer;
use crate::report::out;

/// Brings HCL2 files into the canonical form.
///
/// Touches only .pkr.hcl and .pkrvars.hcl files. Prints the names of those it changes.
#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Changes nothing; exit code 3 if something would be changed.
    #[arg(long)]
    check: bool,
    /// Prints the changes.
    #[arg(long)]
    diff: bool,
    /// Writes the files.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true",
        action = clap::ArgAction::Set, value_parser = crate::goflags::parse_bool)]
    write: bool,
    /// Goes into folders below.
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    colour: ColourArgs,
    /// Files and folders, or - for the standard input; the current folder without any.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

struct Formatter {
    args: FmtArgs,
    changed: bool,
    failed: bool,
}

pub(crate) fn run(args: FmtArgs) -> Result<(), Failure> {
    let paths = if args.paths.is_empty() { vec![".".to_owned()] } else { args.paths.clone() };
    let check = args.check;
    let mut formatter = Formatter { args, changed: false, failed: false };
    for path in &paths {
        if path == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            formatter.one("<standard input>", bytes, None)?;
        } else {
            // What is wrong with one of them does not keep the others from their form.
            if let Err(failure) = formatter.path(Path::new(path), true) {
                failure.report();
                formatter.failed = true;
            }
        }
    }
    match formatter {
        Formatter { failed: true, .. } => Err(Failure::Reported),
        Formatter { changed: true, .. } if check => Err(Failure::Exit(exit::WOULD_CHANGE)),
        _ => Ok(()),
    }
}

impl Formatter {
    fn path(&mut self, path: &Path, named: bool) -> Result<(), Failure> {
        let context =
            |e: std::io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
        if path.is_dir() {
            if !named && !self.args.recursive {
                return Ok(());
            }
            let entries = std::fs::read_dir(path).map_err(context)?;
            let base = clean(path);
            let mut paths: Vec<PathBuf> =
                entries.filter_map(|e| Some(base.join(e.ok()?.file_name()))).collect();
            paths.sort();
            for path in paths {
                self.path(&path, false)?;
            }
            return Ok(());
        }
        if !is_ours(path) {
            if named {
                return Err(Failure::new(format!(
                    "{} is neither a .pkr.hcl nor a .pkrvars.hcl file",
                    path.display()
                )));
            }
            return Ok(());
        }
        let bytes = std::fs::read(path).map_err(context)?;
        self.one(&path.to_string_lossy(), bytes, Some(path))
    }

    fn one(&mut self, name: &str, bytes: Vec<u8>, path: Option<&Path>) -> Result<(), Failure> {
        let mut sources = SourceMap::new();
        let text = match sources.decode(name, bytes) {
            Ok(text) => text,
            Err(diagnostic) => {
                self.complain(&sources, &(*diagnostic).into());
                return Ok(());
            }
        };
        let text = text.as_str();
        let id = sources.add(name, text);
        let (_, diags) = karat_hcl::parse(id, text);
        if diags.has_errors() {
            self.complain(&sources, &diags);
            return Ok(());
        }
        let formatted = karat_hcl::format(text);
        let Some(path) = path else {
            let changed = formatted != text;
            self.changed |= changed;
            if !changed || (self.args.write && !self.args.check) {
                out::stdout(&formatted);
            }
            return Ok(());
        };
        if formatted == text {
            return Ok(());
        }
        self.changed = true;
        out::stdout_line(name);
        if self.args.diff {
            let (old, new) = (format!("old/{name}"), format!("new/{name}"));
            let diff = TextDiff::from_lines(text, &formatted);
            out::stdout(&diff.unified_diff().header(&old, &new).to_string());
        }
        if self.args.write && !self.args.check {
            replace(path, &formatted)?;
        }
        Ok(())
    }

    fn complain(&mut self, sources: &SourceMap, diags: &Diagnostics) {
        let masker = karat_component::Masker::new();
        Renderer { sources, masker: &masker, colour: self.args.colour.on() }.print(diags);
        self.failed = true;
    }
}

/// The path without `.` and `NAME/..`, as names of files in a folder are shown.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Writes beside the file and renames, so that it is never half there.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let context = |e: std::io::Error| Failure::new(format!("cannot write {}: {e}", path.display()));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(context)?;
    std::fs::write(file.path(), text).map_err(context)?;
    let permissions = std::fs::metadata(path).map_err(context)?.permissions();
    std::fs::set_permissions(file.path(), permissions).map_err(context)?;
    file.persist(path).map_err(|e| context(e.error))?;
    Ok(())
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".pkr.hcl") || name.ends_with(".pkrvars.hcl")
}
