//! `karat inspect`

use std::fmt::Write as _;

use clap::Args;
use karat_component::Masker;
use karat_config::ComponentKind;
use karat_template::{BuildOutline, Evaluated, TemplateKind};
use karat_value::{Value, print};
use serde_json::json;

use super::console::bare;
use crate::cli::{
    ColourArgs, ConfigType, Global, IgnoredArgs, MachineArgs, TemplateArgs, assignment, runtime,
};
use crate::data::Fetch;
use crate::error::Failure;
use crate::legacy;
use crate::report::{machine, out};
use crate::session::Session;
use crate::world::System;

/// Shows what is in a template: variables, locals and builds.
///
/// What is wrong in locals, rules and builds does not stop it: a value that cannot be found is
/// unknown, or not there. Reads nothing but files: of data sources only those that read nothing
/// outside are fetched. Without a template it shows what one with nothing in it has.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    colour: ColourArgs,
    /// Prints it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    _machine: MachineArgs,
    #[command(flatten)]
    _ignored: IgnoredArgs,
    /// Sets a variable: NAME=VALUE. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    var: Vec<String>,
    /// Reads variables from a file (.hcl or .json). May be given several times.
    #[arg(long = "var-file", value_name = "FILE")]
    var_file: Vec<String>,
    /// What the template is written in, where its name does not say.
    #[arg(long = "config-type", value_name = "TYPE", ignore_case = true)]
    config_type: Option<ConfigType>,
    /// A file, a folder, or - for the standard input.
    #[arg(value_name = "TEMPLATE")]
    template: Option<String>,
}

/// The legacy template that Packer takes where none is named.
const NOTHING: &str = r#"{"builders":[{"type":"null"}]}"#;

pub(crate) fn run(mut args: InspectArgs, global: Global) -> Result<(), Failure> {
    let colour = args.colour.on() && !global.machine_readable;
    let Some(template) = args.template.take() else { return nothing(&args, global) };
    let given = TemplateArgs {
        var: args.var,
        var_file: args.var_file,
        config_type: args.config_type,
        template,
    };
    let session =
        runtime()?.block_on(async { Session::load(&given, Fetch::Offline, false, colour) })?;
    session.early_checked()?;
    if let Some(shown) = session.template.legacy().filter(|_| !args.json) {
        let mask = |text: &str| session.masker.mask(text);
        legacy::inspect(&shown.template, global.machine_readable, mask);
        return Ok(());
    }
    if args.json {
        out::masked_line(&serde_json::to_string_pretty(&as_json(&session))?);
        return Ok(());
    }
    show(&session.template, &session.masker, global);
    Ok(())
}

/// Shows what there is without a template.
fn nothing(args: &InspectArgs, global: Global) -> Result<(), Failure> {
    if args.json {
        return Err(Failure::new("there is no template to be shown as JSON")
            .hint("name a file, a folder, or - for the standard input"));
    }
    let (kind, text) = match args.config_type {
        Some(ConfigType::Hcl2) => (TemplateKind::Hcl, ""),
        _ => (TemplateKind::Legacy, NOTHING),
    };
    let template = bare(kind, text, &args.var, &args.var_file, &System::new())?;
    let masker = out::masker();
    match template.legacy() {
        Some(shown) => {
            legacy::inspect(&shown.template, global.machine_readable, |text| masker.mask(text));
        }
        None => show(&template, masker, global),
    }
    Ok(())
}

fn show(template: &Evaluated, masker: &Masker, global: Global) {
    let say = |text: &str| {
        let text = masker.mask(text);
        if global.machine_readable { machine::say(&text) } else { out::stdout_line(&text) }
    };
    // Three texts, each with an empty line behind it: as many records for machines.
    say("Packer Inspect: HCL2 mode\n");
    say(&values(template, masker));
    say(&builds(template.outlines()));
}

/// Variables and locals with their values, by name.
pub(crate) fn values(template: &Evaluated, masker: &Masker) -> String {
    let mut text = String::from("> input-variables:\n\n");
    let mut variables: Vec<_> =
        template.variables().iter().map(|(name, v)| (name, &v.value)).collect();
    variables.sort_by_key(|(name, _)| *name);
    for (name, value) in variables {
        let _ = writeln!(text, "var.{name}: {}", shown(value, masker));
    }
    text.push_str("\n> local-variables:\n\n");
    let mut locals: Vec<_> = template.locals().iter().collect();
    locals.sort_by_key(|(name, _)| *name);
    for (name, value) in locals {
        let _ = writeln!(text, "local.{name}: {}", shown(value, masker));
    }
    text
}

/// What [`values`] gives where there is no template.
pub(crate) fn no_values() -> String {
    "> input-variables:\n\n\n> local-variables:\n\n".to_owned()
}

/// Masked before it is quoted: quotes within quotes would hide a secret from the masker.
fn shown(value: &Value, masker: &Masker) -> String {
    print::quote(&masker.mask(&print::console(value)))
}

fn builds(outlines: &[BuildOutline]) -> String {
    let mut text = String::from("> builds:\n");
    for (index, build) in outlines.iter().enumerate() {
        let name = match build.name.as_str() {
            "" => format!("<unnamed build {index}>"),
            name => name.to_owned(),
        };
        let _ = writeln!(text, "\n  > {name}:");
        if !build.description.is_empty() {
            let _ = writeln!(text, "\n  > Description: {}", build.description);
        }
        text.push_str("\n    sources:\n");
        for source in or_none(build.sources.clone(), "source") {
            let _ = writeln!(text, "\n      {source}");
        }
        text.push_str("\n    provisioners:\n\n");
        for line in or_none(build.provisioners.iter().map(named).collect(), "provisioner") {
            let _ = writeln!(text, "      {line}");
        }
        text.push_str("\n    post-processors:\n");
        if build.chains.is_empty() {
            text.push_str("\n      <no post-processor>\n");
        }
        for (place, chain) in build.chains.iter().enumerate() {
            let _ = writeln!(text, "\n      {place}:");
            for one in chain {
                let _ = writeln!(text, "        {}", named(one));
            }
        }
    }
    text
}

fn or_none(lines: Vec<String>, what: &str) -> Vec<String> {
    if lines.is_empty() { vec![format!("<no {what}>")] } else { lines }
}

fn named((type_name, name): &(String, Option<String>)) -> String {
    match name {
        Some(name) => format!("{type_name}.{name}"),
        None => type_name.clone(),
    }
}

fn as_json(session: &Session) -> serde_json::Value {
    let template = &session.template;
    let shown = |mut json: serde_json::Value| {
        session.masker.mask_json(&mut json);
        json
    };
    let variables = template.variables().values().map(|v| {
        json!({
            "name": v.name,
            "description": shown(json!(v.description)),
            "type": v.value.ty().to_string(),
            "sensitive": v.sensitive,
            "set": v.is_set,
            "value": shown(masked(&v.value)),
            "default": v.default.as_ref().map(|d| if v.sensitive { json!(MASK) } else { shown(masked(d)) }),
        })
    });
    let locals = template
        .locals()
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": shown(masked(value)) }));
    let component = |(type_name, name): &(String, Option<String>)| json!({ "type": type_name, "name": shown(json!(name)) });
    let builds = template.outlines().iter().map(|build| {
        json!({
            "name": shown(json!(build.name)),
            "description": shown(json!(build.description)),
            "sources": shown(json!(build.sources)),
            "provisioners": build.provisioners.iter().map(component).collect::<Vec<_>>(),
            "error_cleanup_provisioner": build.error_cleanup.as_ref().map(component),
            "post_processors": build.chains.iter()
                .map(|chain| chain.iter().map(component).collect::<Vec<_>>())
                .collect::<Vec<_>>(),
        })
    });
    json!({
        "template": session.path,
        "variables": variables.collect::<Vec<_>>(),
        "locals": locals.collect::<Vec<_>>(),
        "plugins": template.plugins().iter().map(|plugin| json!({
            "name": plugin.name,
            "source": plugin.source,
            "version": plugin.version,
        })).collect::<Vec<_>>(),
        "data_sources": session.uses.iter()
            .filter(|one| one.kind == ComponentKind::DataSource)
            .map(|one| json!({ "type": one.type_name, "name": one.name }))
            .collect::<Vec<_>>(),
        "builds": builds.collect::<Vec<_>>(),
    })
}

const MASK: &str = karat_component::MASK;

/// The value as JSON; null where it is not known, and a mask where it is secret.
fn masked(value: &Value) -> serde_json::Value {
    if value.is_sensitive() {
        return json!(MASK);
    }
    if !value.is_wholly_known() {
        return serde_json::Value::Null;
    }
    let text = karat_value::json::to_json(&value.clone().unmark_deep().0).ok();
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}
