//! `karat init`

use std::fmt::Write as _;

use clap::Args;
use karat_component::plugins::{self, PluginStore as _};
use karat_hcl::diag::{Diagnostic, Diagnostics, SourceMap, Span};
use karat_template::{ComponentUse, PluginRequirement};

use crate::cli::{ColourArgs, Global, TemplateArgs};
use crate::components;
use crate::data::Fetch;
use crate::error::Failure;
use crate::report::{machine, out};
use crate::session::Session;

/// Says which of the plugins that a template asks for are there.
///
/// There is nothing to be installed: components that are built in take the place of the plugins
/// that have them. A plugin that is not built in is named with what in the template uses it; the
/// exit code is 1 then.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Accepted for Packer's sake: what is built in is of one version.
    #[arg(long)]
    upgrade: bool,
    /// Accepted for Packer's sake.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    colour: ColourArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

pub(crate) fn run(args: InitArgs, global: Global) -> Result<(), Failure> {
    let colour = args.colour.on() && !global.machine_readable;
    let session = Session::load(&args.template, Fetch::Nothing, false, colour)?;
    session.early_checked()?;
    session.can_ask_for_plugins()?;
    let required = session.template.plugins();
    if required.is_empty() {
        say(global, "The template asks for no plugins: it has no required_plugins block.");
        return Ok(());
    }
    let mut missing = Diagnostics::new();
    for plugin in required {
        match judge(plugin, required, &session.uses) {
            Verdict::Satisfied(text) => say(global, &session.masker.mask(&text)),
            Verdict::Missing(diagnostic) => missing.push(diagnostic),
        }
    }
    session.report(&missing)
}

fn say(global: Global, text: &str) {
    if global.machine_readable {
        machine::say(text);
    } else {
        out::stdout_line(text);
    }
}

/// What there is to say of a plugin that is asked for.
enum Verdict {
    Satisfied(String),
    Missing(Diagnostic),
}

/// The components that a template uses of a plugin: those that begin with the name it gives the
/// plugin, and those that are the plugin's by its own names.
pub(crate) fn uses_of<'a>(
    plugin: &PluginRequirement,
    required: &[PluginRequirement],
    uses: &'a [ComponentUse],
) -> Vec<&'a ComponentUse> {
    let known = plugins::known_plugin(&plugin.source);
    let all = components::all();
    uses.iter()
        .filter(|one| {
            // The longest name wins: `amazon-extra` against `amazon`.
            let longest =
                required.iter().filter(|p| p.brings(&one.type_name)).max_by_key(|p| p.name.len());
            match longest {
                Some(longest) => {
                    let foreign = plugins::plugin_of(one.kind, &one.type_name);
                    longest.name == plugin.name
                        && (known == foreign
                            || foreign.is_none()
                            || !all.has(one.kind, &one.type_name))
                }
                None => known.is_some_and(|k| k.types(one.kind).contains(&&*one.type_name)),
            }
        })
        .collect()
}

fn judge(
    plugin: &PluginRequirement,
    required: &[PluginRequirement],
    uses: &[ComponentUse],
) -> Verdict {
    let all = components::all();
    let used = uses_of(plugin, required, uses);
    let is_there = |one: &&ComponentUse| {
        let own = karat_engine::own_type(&all, one.kind, &one.type_name, required);
        all.has(one.kind, &own)
    };
    let (there, gone): (Vec<&ComponentUse>, Vec<&ComponentUse>) =
        used.into_iter().partition(is_there);
    let title = format!("{} {}", plugin.source, plugin.version);
    if !gone.is_empty() {
        return Verdict::Missing(missing(plugin, &title, &gone));
    }
    let mut text = match (all.find(&plugin.source), there.is_empty()) {
        (Some(_), _) => format!("{title}: built in"),
        (None, true) => format!("{title}: not built in, and nothing in the template uses it"),
        (None, false) => format!("{title}: not needed, all that is used of it is built in"),
    };
    let mut names: Vec<String> =
        there.iter().map(|one| format!("{} {}", one.kind, one.type_name)).collect();
    names.sort();
    names.dedup();
    if !names.is_empty() {
        let _ = write!(text, " ({})", names.join(", "));
    }
    Verdict::Satisfied(text)
}

fn missing(plugin: &PluginRequirement, title: &str, gone: &[&ComponentUse]) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("Plugin \"{}\" is not built in", plugin.name))
        .label(plugin.span, "asked for here")
        .detail(format!("{title} cannot be had: plugins that are not built in cannot be run yet."));
    let diagnostic = gone.iter().fold(diagnostic, |diagnostic, one| {
        diagnostic.also(one.span, format!("this {} needs it", one.kind))
    });
    diagnostic.hint("`karat plugins installed` lists what is built in.")
}

/// Where something stands: `main.pkr.hcl:3`.
pub(crate) fn place(sources: &SourceMap, span: Span) -> String {
    let Some(source) = sources.get(span.source) else { return String::new() };
    format!("{}:{}", source.name, source.position(span.range().start).line)
}
