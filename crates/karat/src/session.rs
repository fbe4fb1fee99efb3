//! From the command line to a loaded template and an engine.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use karat_component::{Masker, Prompt};
use karat_engine::{Engine, RunOptions, RunRequest};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_plan::{Graph, Selection};
use karat_saga::{Faults, Journal, Services};
use karat_template::{Build, ComponentUse, Evaluated, Given, Load, TemplateKind, load};

use crate::cli::{ConfigType, TemplateArgs};
use crate::data::{Data, Fetch, Known};
use crate::error::Failure;
use crate::report::diagnostics::Renderer;
use crate::report::out;
use crate::world::{Frozen, System};
use crate::{components, env};

/// A template with its values, and what is known of secrets.
pub(crate) struct Session {
    pub(crate) template: Arc<Evaluated>,
    pub(crate) frozen: Arc<Evaluated>,
    pub(crate) diags: Diagnostics,
    pub(crate) masker: Masker,
    pub(crate) path: PathBuf,
    pub(crate) has_builds: bool,
    /// The components that the template names.
    pub(crate) uses: Vec<ComponentUse>,
    /// How many of the problems are of the text itself and of the values given.
    early: usize,
    colour: bool,
}

impl Session {
    /// Reads and evaluates the template. Problems are in [`Session::diags`].
    ///
    /// # Errors
    /// When the standard input cannot be read.
    pub(crate) fn load(
        args: &TemplateArgs,
        fetch: Fetch,
        warn_undeclared: bool,
        colour: bool,
    ) -> Result<Self, Failure> {
        Self::load_in(System::new(), args, fetch, warn_undeclared, colour)
    }

    /// Reads the template to see whether its syntax is right. Reaches no network.
    ///
    /// # Errors
    /// When the standard input cannot be read.
    pub(crate) fn load_text(
        args: &TemplateArgs,
        warn_undeclared: bool,
        colour: bool,
    ) -> Result<Self, Failure> {
        Self::load_in(System::offline(), args, Fetch::Nothing, warn_undeclared, colour)
    }

    fn load_in(
        world: System,
        args: &TemplateArgs,
        fetch: Fetch,
        warn_undeclared: bool,
        colour: bool,
    ) -> Result<Self, Failure> {
        let stdin = if args.template == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|e| {
                Failure::new(format!("cannot read the template from the standard input: {e}"))
            })?;
            Some(bytes)
        } else {
            None
        };
        let path = PathBuf::from(&args.template);
        let request = Load {
            path: path.clone(),
            stdin,
            kind: args.config_type.map(|told| match told {
                ConfigType::Hcl2 => TemplateKind::Hcl,
                ConfigType::Json => TemplateKind::Legacy,
            }),
            var_files: args.var_file.iter().map(PathBuf::from).collect(),
        };
        let given = Given { flags: args.var.clone(), warn_undeclared };
        let world = Arc::new(world);
        let mut loaded = load(&request, world.as_ref());
        let plugins = loaded.template.plugins.clone();
        let data = Data::new(components::all(), plugins, fetch);
        let template = loaded.evaluate(&given, world.as_ref(), &data);
        // The second evaluation finds the same problems; those of the first are shown. Data sources
        // are fetched once: it takes what the first was given.
        let mut again = load(&request, world.as_ref());
        let frozen = again.evaluate(&given, &Frozen(Arc::clone(&world)), &Known(&data));
        let masker = out::masker().clone();
        masker.add_all(template.secrets().iter().map(String::as_str));
        Ok(Self {
            template: Arc::new(template),
            frozen: Arc::new(frozen),
            diags: loaded.diags,
            masker,
            path,
            has_builds: loaded.template.has_builds(),
            uses: loaded.template.uses(),
            early: loaded.early,
            colour,
        })
    }

    /// Prints what was found, and fails if an error is among it.
    pub(crate) fn report(&self, diags: &Diagnostics) -> Result<(), Failure> {
        let renderer = Renderer {
            sources: self.template.sources(),
            masker: &self.masker,
            colour: self.colour,
        };
        renderer.print(diags);
        if diags.has_errors() { Err(Failure::Reported) } else { Ok(()) }
    }

    /// Prints the problems found so far, and fails if an error is among them.
    pub(crate) fn checked(&self) -> Result<(), Failure> {
        self.readable()?;
        self.report(&self.diags)
    }

    /// Prints what is wrong in the text itself and in the values given, and fails if an error is
    /// among it. Behind such errors there is little to be said of the rest.
    pub(crate) fn early_checked(&self) -> Result<(), Failure> {
        self.report(&self.early())
    }

    /// Fails if the text itself or a value given is wrong; prints nothing otherwise.
    pub(crate) fn readable(&self) -> Result<(), Failure> {
        let early = self.early();
        if early.has_errors() { self.report(&early) } else { Ok(()) }
    }

    fn early(&self) -> Diagnostics {
        let mut diags = Diagnostics::new();
        diags.extend(self.diags.iter().take(self.early).cloned());
        diags
    }

    /// Fails if the template is a legacy one, which has no place to ask for plugins.
    pub(crate) fn can_ask_for_plugins(&self) -> Result<(), Failure> {
        if self.template.legacy().is_none() {
            return Ok(());
        }
        Err(Failure::new("legacy templates cannot ask for plugins")
            .hint("`karat hcl2_upgrade` turns one into HCL; validate and build need no init"))
    }

    /// Fails if the template has no build.
    pub(crate) fn need_builds(&self) -> Result<(), Failure> {
        if self.has_builds {
            return Ok(());
        }
        Err(Failure::new(
            "the template has no build block: a build { } block with sources is what is built",
        )
        .hint("write: build { sources = [\"source.TYPE.NAME\"] }"))
    }

    /// The selected builds, and those they need.
    pub(crate) fn select(&self, only: &[String], except: &[String]) -> Result<Selected, Failure> {
        let selection = match self.template.legacy() {
            Some(_) => Selection::by_name(only, except),
            None => Selection::new(only, except)?,
        };
        let all = self.template.builds();
        let mut diags = Diagnostics::new();
        if self.template.legacy().is_none() {
            let names: Vec<&str> = all.iter().map(|b| b.target.as_str()).collect();
            for (flag, pattern) in selection.idle(all) {
                diags.push(
                    Diagnostic::warning(format!("-{flag}: \"{pattern}\" matches no build"))
                        .detail(format!("The builds are: {}.", names.join(", "))),
                );
            }
        }
        let graph = Graph::new(all, &mut diags);
        self.report(&diags)?;
        let chosen = (0..all.len()).filter(|i| selection.selects(&all[*i]));
        let builds: Vec<Build> =
            graph.with_needs(chosen).into_iter().map(|i| selection.trim(all[i].clone())).collect();
        let graph = Graph::new(&builds, &mut diags);
        Ok(Selected { builds, graph })
    }

    /// What is to be run.
    pub(crate) fn request(&self, selected: Selected, options: RunOptions) -> RunRequest {
        let command = std::env::args().map(|a| self.masker.mask(&a)).collect();
        RunRequest {
            template: Arc::clone(&self.template),
            frozen: Arc::clone(&self.frozen),
            builds: selected.builds,
            graph: selected.graph,
            template_path: self.path.clone(),
            template_dir: self.template.root().to_owned(),
            options,
            command,
        }
    }
}

/// Builds and who needs whom among them.
pub(crate) struct Selected {
    pub(crate) builds: Vec<Build>,
    pub(crate) graph: Graph,
}

/// The engine over the user's state and cache folders.
///
/// # Errors
/// When the journal cannot be opened, or `KARAT_FAULT` is not understood.
pub(crate) fn engine(prompt: Arc<dyn Prompt>) -> Result<Engine, Failure> {
    let journal = Journal::open(&env::state_dir())?;
    let faults = match env::fault() {
        Some(text) => Faults::parse(&text)?,
        None => Faults::none(),
    };
    Ok(Engine { journal: Some(journal), faults, ..planner(prompt) })
}

/// The engine for what makes nothing: without a journal, so that it needs no state folder.
pub(crate) fn planner(prompt: Arc<dyn Prompt>) -> Engine {
    let world = Arc::new(System::new());
    Engine {
        components: Arc::new(components::all()),
        journal: None,
        state_dir: env::state_dir(),
        cache_dir: env::cache_dir(),
        services: karat_provisioners::late::offer_world(
            Services::new().with::<dyn Prompt>(prompt),
            Arc::clone(&world) as Arc<karat_provisioners::late::WorldService>,
        ),
        frozen_world: Arc::new(Frozen(Arc::clone(&world))),
        world,
        faults: Faults::none(),
    }
}
