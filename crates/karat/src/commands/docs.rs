//! `karat docs`

use std::fmt::Write as _;

use clap::Args;
use karat_config::{OptionKind, OptionType, Schema};

use crate::components;
use crate::error::Failure;
use crate::report::out;

/// Shows the options of a component.
#[derive(Debug, Args)]
pub(crate) struct DocsArgs {
    /// Prints the schema as JSON.
    #[arg(long)]
    json: bool,
    /// Prints Markdown.
    #[arg(long)]
    markdown: bool,
    /// A component's type, such as machine or shell; all names without one. Where a provisioner
    /// and a post-processor share a name, both are shown.
    #[arg(value_name = "COMPONENT")]
    component: Option<String>,
}

/// A component to be documented.
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) schema: Schema,
}

/// All components, in the order of the list.
pub(crate) fn entries() -> Vec<Entry> {
    let all = components::all();
    let mut entries = Vec::new();
    let mut add = |kind, name: &str, schema| {
        entries.push(Entry { kind, name: name.to_owned(), schema });
    };
    all.builders().iter().for_each(|(n, c)| add("source", n, c.schema()));
    all.provisioners().iter().for_each(|(n, c)| add("provisioner", n, c.schema()));
    all.post_processors().iter().for_each(|(n, c)| add("post-processor", n, c.schema()));
    all.data_sources().iter().for_each(|(n, c)| add("data", n, c.schema()));
    entries
}

pub(crate) fn run(args: DocsArgs) -> Result<(), Failure> {
    let entries = entries();
    let Some(wanted) = &args.component else {
        for entry in &entries {
            let first = entry.schema.doc.lines().next().unwrap_or_default();
            out::stdout_line(&format!("{:15} {:15} {first}", entry.kind, entry.name));
        }
        return Ok(());
    };
    let found: Vec<&Entry> = entries.iter().filter(|e| e.name == *wanted).collect();
    if found.is_empty() {
        let names = entries.iter().map(|e| e.name.as_str());
        let hint = karat_hcl::diag::closest(wanted, names)
            .map_or("`karat docs` lists them".to_owned(), |best| format!("did you mean \"{best}\"?"));
        return Err(Failure::new(format!("there is no component \"{wanted}\"")).hint(hint));
    }
    for entry in found {
        if args.json {
            out::stdout_line(&serde_json::to_string_pretty(&entry.schema)?);
        } else if args.markdown {
            out::stdout(&markdown(entry));
        } else {
            out::stdout(&terminal(entry));
        }
    }
    Ok(())
}

fn terminal(entry: &Entry) -> String {
    let mut text = format!("{} \"{}\"\n\n{}\n", entry.kind, entry.name, entry.schema.doc);
    options_text(&entry.schema, 0, &mut text);
    text.push('\n');
    text
}

fn options_text(schema: &Schema, depth: usize, text: &mut String) {
    let pad = "  ".repeat(depth + 1);
    for option in &schema.options {
        let mut facts = vec![option.type_name()];
        facts.extend(option.required.then(|| "required".to_owned()));
        facts.extend(option.default.as_ref().map(|d| format!("default {d}")));
        facts.extend((option.kind == OptionKind::Secret).then(|| "secret".to_owned()));
        let _ = writeln!(text, "\n{pad}{} ({})", option.name, facts.join(", "));
        for line in option.doc.lines() {
            let _ = writeln!(text, "{pad}  {line}");
        }
        if !option.aliases.is_empty() {
            let _ = writeln!(text, "{pad}  Also: {}.", option.aliases.join(", "));
        }
        if let OptionType::Block(inner) | OptionType::Blocks(inner) = &option.ty {
            options_text(inner, depth + 1, text);
        }
    }
}

/// A component's page of the manual.
pub(crate) fn markdown(entry: &Entry) -> String {
    let mut text = format!("# {} `{}`\n\n{}\n", entry.kind, entry.name, entry.schema.doc);
    options_markdown(&entry.schema, 2, &mut text);
    text
}

fn options_markdown(schema: &Schema, level: usize, text: &mut String) {
    for option in &schema.options {
        let _ = writeln!(text, "\n{} `{}`\n", "#".repeat(level), option.name);
        let mut facts = vec![option.type_name()];
        facts.push(if option.required { "required".into() } else { "optional".into() });
        facts.extend(option.default.as_ref().map(|d| format!("default `{d}`")));
        let _ = writeln!(text, "*{}*\n\n{}", facts.join(", "), option.doc);
        if !option.aliases.is_empty() {
            let aliases: Vec<String> = option.aliases.iter().map(|a| format!("`{a}`")).collect();
            let _ = writeln!(text, "\nAlso: {}.", aliases.join(", "));
        }
        if let OptionType::Block(inner) | OptionType::Blocks(inner) = &option.ty {
            options_markdown(inner, (level + 1).min(6), text);
        }
    }
}
