//! `karat lsp`

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use karat_config::ComponentKind;
use karat_engine::{Engine, RunOptions, RunRequest};
use karat_functions::{FileKind, World};
use karat_hcl::diag::{Diagnostics, Severity, SourceMap};
use karat_lsp::{Catalog, Checker, Component, Function};
use karat_plan::Graph;
use karat_template::{Given, Load, load};
use karat_value::Type;

use crate::cli::runtime;
use crate::components;
use crate::data::{Data, Fetch, Known};
use crate::error::Failure;
use crate::manual::functions;
use crate::prompt::Nobody;
use crate::session;
use crate::world::System;

/// Serves editors: what is wrong while a template is written, what stands where, what can come
/// next.
///
/// Speaks the language server protocol over its standard input and output. Runs nothing and
/// fetches nothing. Editors start it for .pkr.hcl and .pkrvars.hcl files.
#[derive(Debug, Args)]
pub(crate) struct LspArgs {
    /// Accepted for editors that ask for it; there is no other way.
    #[arg(long, hide = true)]
    stdio: bool,
}

pub(crate) fn run(_: &LspArgs) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    runtime.block_on(karat_lsp::serve(input, output, catalog(), Arc::new(Check)));
    // A read from the standard input cannot be taken back.
    runtime.shutdown_background();
    Ok(())
}

/// What can stand in a template.
pub(crate) fn catalog() -> Catalog {
    let all = components::all();
    let components = ComponentKind::ALL.into_iter().flat_map(|kind| {
        let all = &all;
        all.types(kind).into_iter().map(move |name| Component {
            kind,
            name: name.to_owned(),
            schema: all.schema(kind, name).unwrap_or_default(),
            outputs: match all.data_sources().get(name).map(|source| source.output()) {
                Some(Type::Object(object)) if kind == ComponentKind::DataSource => {
                    object.attrs.keys().map(|name| name.to_string()).collect()
                }
                _ => Vec::new(),
            },
        })
    });
    let functions = functions::groups().into_iter().flat_map(|(_, entries)| entries);
    Catalog {
        components: components.collect(),
        functions: functions
            .map(|entry| Function {
                name: entry.name.to_owned(),
                signature: entry.signature(),
                doc: entry.doc.to_owned(),
            })
            .collect(),
        communicators: ["machine", "none", "ssh", "winrm"].map(str::to_owned).to_vec(),
    }
}

/// Checks as `karat validate` does.
struct Check;

impl Checker for Check {
    fn check(&self, path: &Path, open: &BTreeMap<PathBuf, String>) -> (SourceMap, Diagnostics) {
        let world = Arc::new(Overlay { system: System::new(), open: open.clone() });
        let request = Load { path: path.to_owned(), ..Load::default() };
        let given = Given::default();
        let mut loaded = load(&request, world.as_ref());
        let data = Data::new(components::all(), loaded.template.plugins.clone(), Fetch::Nothing);
        let template = Arc::new(loaded.evaluate(&given, world.as_ref(), &data));
        let frozen = load(&request, world.as_ref()).evaluate(&given, world.as_ref(), &Known(&data));
        let mut diags = loaded.diags;
        if !diags.has_errors() || only_unset(&diags) {
            let builds = template.builds().to_vec();
            let graph = Graph::new(&builds, &mut diags);
            let engine = Engine {
                world: Arc::clone(&world) as Arc<dyn World + Send + Sync>,
                frozen_world: world,
                ..session::planner(Arc::new(Nobody))
            };
            diags.append(engine.validate(&RunRequest {
                template_dir: template.root().to_owned(),
                frozen: Arc::new(frozen),
                template: Arc::clone(&template),
                builds,
                graph,
                template_path: path.to_owned(),
                options: RunOptions::default(),
                command: Vec::new(),
            }));
        }
        (template.sources().clone(), for_editors(diags))
    }
}

/// Values of variables come with the command.
const UNSET: &str = "Unset variable";
/// Relative paths start where the command is run, which an editor does not know.
const NOT_FOUND: &str = "File not found";

fn only_unset(diags: &Diagnostics) -> bool {
    diags.iter().filter(|d| d.is_error()).all(|d| d.summary.starts_with(UNSET))
}

fn for_editors(diags: Diagnostics) -> Diagnostics {
    let mut shown = Diagnostics::new();
    for mut problem in diags {
        if problem.summary.starts_with(UNSET) {
            continue;
        }
        if problem.summary == NOT_FOUND {
            problem.severity = Severity::Warning;
        }
        shown.push(problem);
    }
    shown
}

/// The machine that the program runs on, with texts that an editor has not saved yet.
#[derive(Debug)]
struct Overlay {
    system: System,
    open: BTreeMap<PathBuf, String>,
}

impl World for Overlay {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.open.get(path) {
            Some(text) => Ok(text.clone().into_bytes()),
            None => self.system.read_file(path),
        }
    }

    fn file_kind(&self, path: &Path) -> io::Result<FileKind> {
        if self.open.contains_key(path) {
            return Ok(FileKind::Regular);
        }
        match self.system.file_kind(path) {
            Err(_) if self.open.keys().any(|open| open.parent() == Some(path)) => {
                Ok(FileKind::Directory)
            }
            other => other,
        }
    }

    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>> {
        let own = self.open.keys().filter(|open| open.parent() == Some(path));
        let own: Vec<String> =
            own.filter_map(|open| Some(open.file_name()?.to_string_lossy().into_owned())).collect();
        let mut names = match self.system.list_folder(path) {
            Ok(names) => names,
            Err(error) if own.is_empty() => return Err(error),
            Err(_) => Vec::new(),
        };
        names.extend(own);
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn env_var(&self, name: &str) -> Option<String> {
        self.system.env_var(name)
    }

    fn working_folder(&self) -> io::Result<PathBuf> {
        self.system.working_folder()
    }

    fn home_folder(&self) -> Option<PathBuf> {
        self.system.home_folder()
    }

    fn now(&self) -> Timestamp {
        self.system.now()
    }

    fn started(&self) -> Timestamp {
        self.system.started()
    }

    fn random(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.system.random(buffer)
    }
}
