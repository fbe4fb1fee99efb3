//! `karat plugins`

use clap::{Args, Subcommand};
use karat_component::PACKER;
use karat_component::plugins::{InstalledPlugin, PluginStore as _, known_plugin};
use karat_config::ComponentKind;
use karat_template::{Constraint, check_source};
use serde_json::json;

use super::init::{place, uses_of};
use crate::cli::{ColourArgs, Global, TemplateArgs};
use crate::components;
use crate::data::Fetch;
use crate::error::Failure;
use crate::report::{machine, out};
use crate::session::Session;

/// Shows plugins: those that are built in, and those that a template asks for.
///
/// Components that are built in take the place of the plugins that have them. Plugins cannot be
/// installed yet.
#[derive(Debug, Args)]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    command: PluginsCommand,
}

#[derive(Debug, Subcommand)]
enum PluginsCommand {
    Installed(InstalledArgs),
    Required(RequiredArgs),
    Install(InstallArgs),
    Remove(RemoveArgs),
}

/// Lists the plugins whose components are built in, wholly or in part.
#[derive(Debug, Args)]
struct InstalledArgs {
    /// Prints it as JSON.
    #[arg(long)]
    json: bool,
}

/// Lists the plugins that a template asks for, and what in it uses them.
#[derive(Debug, Args)]
struct RequiredArgs {
    #[command(flatten)]
    colour: ColourArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

/// Says of a plugin whether it is built in; what is not cannot be installed yet.
#[derive(Debug, Args)]
struct InstallArgs {
    /// The plugin's program, as Packer has it. Cannot be installed yet.
    #[arg(long, value_name = "FILE")]
    path: Option<String>,
    /// Accepted for Packer's sake.
    #[arg(long)]
    force: bool,
    /// Where the plugin is published: HOST/NAMESPACE/NAME.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The versions that will do, such as ">= 1.2.0".
    #[arg(value_name = "VERSION")]
    version: Option<String>,
}

/// Removes a plugin. What is built in cannot be removed, and nothing else is installed.
#[derive(Debug, Args)]
struct RemoveArgs {
    /// Where the plugin is published, or the path of its program.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The versions that are to be removed.
    #[arg(value_name = "VERSION")]
    version: Option<String>,
}

pub(crate) fn run(args: PluginsArgs, global: Global) -> Result<(), Failure> {
    match args.command {
        PluginsCommand::Installed(args) => installed(&args, global),
        PluginsCommand::Required(args) => required(&args, global),
        PluginsCommand::Install(args) => install(&args, global),
        PluginsCommand::Remove(args) => remove(&args),
    }
}

fn say(global: Global, text: &str) {
    if global.machine_readable {
        machine::say(text);
    } else {
        out::stdout_line(text);
    }
}

/// The plugins that are built in. Packer's own components are no plugin.
fn built_in() -> Vec<InstalledPlugin> {
    let mut all = components::all().installed();
    all.retain(|plugin| plugin.source != PACKER);
    all
}

fn names(components: &[(ComponentKind, String)]) -> String {
    let names: Vec<String> =
        components.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    names.join(", ")
}

fn installed(args: &InstalledArgs, global: Global) -> Result<(), Failure> {
    let plugins = built_in();
    if args.json {
        let json: Vec<_> = plugins
            .iter()
            .map(|plugin| {
                let list = |all: &[(ComponentKind, String)]| -> Vec<serde_json::Value> {
                    all.iter().map(|(kind, t)| json!({ "kind": kind.word(), "type": t })).collect()
                };
                json!({
                    "source": plugin.source,
                    "built_in": true,
                    "components": list(&plugin.components),
                    "missing": list(&plugin.missing),
                })
            })
            .collect();
        out::stdout_line(&serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    for plugin in plugins {
        let mut text = format!("{} (built in): {}", plugin.source, names(&plugin.components));
        if !plugin.missing.is_empty() {
            text = format!("{text}; without {}", names(&plugin.missing));
        }
        say(global, &text);
    }
    Ok(())
}

fn required(args: &RequiredArgs, global: Global) -> Result<(), Failure> {
    let colour = args.colour.on() && !global.machine_readable;
    let session = Session::load(&args.template, Fetch::Nothing, false, colour)?;
    session.early_checked()?;
    session.can_ask_for_plugins()?;
    let required = session.template.plugins();
    let sources = session.template.sources();
    let all = components::all();
    for plugin in required {
        let state = if all.find(&plugin.source).is_some() { "built in" } else { "not built in" };
        let text = format!("{} {} \"{}\": {state}", plugin.name, plugin.source, plugin.version);
        say(global, &session.masker.mask(&text));
        for one in uses_of(plugin, required, &session.uses) {
            let name = one.name.as_ref().map(|n| format!(".{n}")).unwrap_or_default();
            let text =
                format!("  {} {}{name} ({})", one.kind, one.type_name, place(sources, one.span));
            say(global, &session.masker.mask(&text));
        }
    }
    Ok(())
}

fn install(args: &InstallArgs, global: Global) -> Result<(), Failure> {
    check(&args.source, args.version.as_deref())?;
    if args.path.is_some() && args.version.is_some() {
        return Err(Failure::new(
            "a version cannot be given together with -path: the file is of the version that it is",
        ));
    }
    if let Some(path) = &args.path {
        return Err(Failure::new(format!(
            "cannot install \"{path}\": plugins that are not built in cannot be run yet"
        )));
    }
    match built_in().into_iter().find(|p| same(&p.source, &args.source)) {
        Some(plugin) => {
            let text = format!(
                "{} is built in: {}. There is nothing to be installed.",
                plugin.source,
                names(&plugin.components)
            );
            say(global, &text);
            Ok(())
        }
        None => Err(not_there(&args.source)),
    }
}

fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    if std::path::Path::new(&args.source).is_file() {
        return Err(Failure::new(format!(
            "\"{}\" was not installed by this program, and is left alone",
            args.source
        )));
    }
    check(&args.source, args.version.as_deref())?;
    if built_in().iter().any(|p| same(&p.source, &args.source)) {
        return Err(Failure::new(format!("{} is built in and cannot be removed", args.source)));
    }
    Err(Failure::new(format!("{} is not installed", args.source))
        .hint("`karat plugins installed` lists what is"))
}

fn same(a: &str, b: &str) -> bool {
    known_plugin(a).is_some() && known_plugin(a) == known_plugin(b)
}

fn check(source: &str, version: Option<&str>) -> Result<(), Failure> {
    check_source(source).map_err(|(reason, hint)| {
        Failure::new(format!("\"{source}\" names no plugin: {reason}")).hint(hint)
    })?;
    let Some(version) = version else { return Ok(()) };
    match Constraint::parse(version) {
        Err(reason) => {
            Err(Failure::new(format!("\"{version}\" is no version constraint: {reason}"))
                .hint("write it like \">= 1.2.0\" or \"~> 1.9\""))
        }
        Ok(constraint) if constraint.has_prerelease() => Err(Failure::new(format!(
            "\"{version}\" names a prerelease, which cannot be asked for"
        ))),
        Ok(_) => Ok(()),
    }
}

fn not_there(source: &str) -> Failure {
    let text = format!("{source} is not built in, and plugins cannot be installed yet");
    match known_plugin(source) {
        Some(plugin) => {
            let all: Vec<_> = plugin.components().map(|(k, n)| (k, n.to_owned())).collect();
            Failure::new(text).hint(format!("it has: {}", names(&all)))
        }
        None => Failure::new(text).hint("`karat plugins installed` lists what is built in"),
    }
}
