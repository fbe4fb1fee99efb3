//! `karat docs`

use std::fmt::Write as _;

use clap::Args;
use karat_component::{PACKER, plugins};
use karat_config::ComponentKind;
use serde_json::json;

use crate::error::Failure;
use crate::manual::components::{self, Entry};
use crate::manual::functions;
use crate::manual::text::{fill, width};
use crate::report::out;

/// Shows the options of a component, or what a function does.
///
/// Without a name it lists the components; `karat docs functions` lists the functions.
#[derive(Debug, Args)]
pub(crate) struct DocsArgs {
    /// Prints the schema as JSON.
    #[arg(long)]
    json: bool,
    /// Prints Markdown.
    #[arg(long)]
    markdown: bool,
    /// A component's type, such as machine or shell, or a function, such as jsonencode. Where
    /// several share a name, all are shown.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(crate) fn run(args: DocsArgs) -> Result<(), Failure> {
    let entries = components::entries();
    match args.name.as_deref() {
        None => {
            out::stdout(&list(&entries, width()));
            Ok(())
        }
        Some("functions") if args.markdown => {
            out::stdout(&functions::markdown_of_all());
            Ok(())
        }
        Some("functions") if !args.json => {
            out::stdout(&functions::list(width()));
            Ok(())
        }
        Some("functions") => {
            let all = functions::groups().into_iter().flat_map(|(_, entries)| entries);
            let all: Vec<_> = all.map(|f| function_json(&f)).collect();
            out::stdout_line(&serde_json::to_string_pretty(&all)?);
            Ok(())
        }
        Some(name) => show(&args, name, &entries),
    }
}

fn show(args: &DocsArgs, name: &str, entries: &[Entry]) -> Result<(), Failure> {
    let found: Vec<&Entry> = entries.iter().filter(|e| e.name == name).collect();
    let function = functions::find(name);
    if found.is_empty() && function.is_none() {
        return Err(unknown(name, entries));
    }
    for entry in found {
        if args.json {
            out::stdout_line(&serde_json::to_string_pretty(&entry.schema)?);
        } else if args.markdown {
            out::stdout(&components::markdown(entry));
        } else {
            out::stdout(&components::terminal(entry, width(), out::colour(true)));
        }
    }
    if let Some(function) = function {
        if args.json {
            out::stdout_line(&serde_json::to_string_pretty(&function_json(&function))?);
        } else {
            out::stdout(&functions::terminal(&function, width()));
        }
    }
    Ok(())
}

fn unknown(name: &str, entries: &[Entry]) -> Failure {
    let failure = Failure::new(format!("there is no component and no function \"{name}\""));
    let plugin = ComponentKind::ALL.into_iter().find_map(|kind| plugins::plugin_of(kind, name));
    if let Some(plugin) = plugin.filter(|plugin| plugin.source != PACKER) {
        let text = format!("\"{name}\" belongs to the plugin {}", plugin.source);
        return Failure::new(format!("{text}, which is not built in"));
    }
    let groups = functions::groups();
    let functions = groups.iter().flat_map(|(_, functions)| functions.iter().map(|f| f.name));
    let names = entries.iter().map(|e| e.name.as_str()).chain(functions);
    if let Some(best) = karat_hcl::diag::closest(name, names) {
        return failure.hint(format!("did you mean \"{best}\"?"));
    }
    let mut names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    failure
        .hint(format!("there are {}; `karat docs functions` lists the functions", names.join(", ")))
}

fn list(entries: &[Entry], width: usize) -> String {
    let mut text = String::new();
    let mut kind = None;
    for entry in entries {
        if kind != Some(entry.kind) {
            let lead = if kind.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{lead}{}", entry.kind.heading());
            kind = Some(entry.kind);
        }
        let first = entry.schema.doc.split("\n\n").next().unwrap_or_default();
        let first = first.split_inclusive(". ").next().unwrap_or_default().trim_end();
        let lead = format!("  {:15} ", entry.name);
        let pad = " ".repeat(lead.len());
        let _ = write!(text, "{lead}{}", fill(first, &pad, width).trim_start());
    }
    text.push_str("\nkarat docs NAME shows the options, karat docs functions the functions.\n");
    text
}

fn function_json(function: &functions::Entry) -> serde_json::Value {
    let examples: Vec<_> = function
        .examples
        .iter()
        .map(|(call, result)| json!({"call": call, "result": result}))
        .collect();
    json!({
        "name": function.name,
        "signature": function.signature(),
        "doc": function.doc,
        "examples": examples,
    })
}
