//! The table of events of `--json`, from the doc comments of the type that is printed.

use std::fmt::Write as _;

/// Where the type stands, from the repository's folder.
pub(crate) const SOURCE: &str = "crates/karat-component/src/event.rs";

const INTRODUCTION: &str = "# Events\n\nWhat `karat build -json`, `karat resume -json` and \
`karat logs -json` print: one JSON object a line, in the order in which things happen. New types \
and new fields may come; a reader should pass over those that it does not know.\n\nEvery event has\n\n\
| field | what |\n|---|---|\n\
| `seq` | Counts up from 1 within a run. |\n\
| `time` | Milliseconds since 1970, UTC. |\n\
| `build` | The build that it belongs to, such as `base.machine.debian`; absent for the run itself. |\n\
| `place` | The place of that build in `builds` of `run_started`, from 0: several builds may have one name. |\n\
| `type` | What happened: one of the types below. |\n";

/// A variant of an enum, or a field of one: its name in Rust, its type if it is a field, its text.
#[derive(Debug, Default)]
struct Item {
    name: String,
    ty: String,
    doc: String,
    fields: Vec<Item>,
}

/// The chapter, from the text of [`SOURCE`].
pub(crate) fn markdown(source: &str) -> String {
    let mut text = String::from(INTRODUCTION);
    for event in items(source, "EventKind") {
        let _ = writeln!(text, "\n## `{}`\n\n{}", snake(&event.name), event.doc);
        if event.fields.is_empty() {
            continue;
        }
        text.push_str("\n| field | type | what |\n|---|---|---|\n");
        for field in &event.fields {
            let mut doc = field.doc.clone();
            for (name, values) in [("Stream", "Stream"), ("Outcome", "Outcome")] {
                if field.ty == name {
                    let values: Vec<String> = items(source, values)
                        .iter()
                        .map(|v| format!("`{}`: {}", v.name.to_lowercase(), v.doc))
                        .collect();
                    doc = format!("{doc} {}", values.join(" "));
                }
            }
            let _ = writeln!(
                text,
                "| `{}` | {} | {} |",
                field.name,
                json_type(&field.ty),
                doc.replace('|', "\\|")
            );
        }
    }
    text.push_str(
        "\n## Artifacts\n\nAn artifact in `build_finished` is an object:\n\n| field | what |\n|---|---|\n\
         | `builder_id` | Names the kind of artifact, as Packer's `BuilderId` does. |\n\
         | `id` | The id at its platform; a layer's digest for the source `machine`. |\n\
         | `description` | What a person is told. |\n\
         | `files` | Local files that belong to it. |\n\
         | `attributes` | What `artifact.BUILD.TYPE.NAME.*` gives to other builds. |\n\
         | `state` | Further facts by name. |\n",
    );
    text
}

/// The variants of an enum in a source text that is formatted as rustfmt does.
fn items(source: &str, name: &str) -> Vec<Item> {
    let head = format!("pub enum {name} {{");
    let body = source.lines().skip_while(|l| *l != head).skip(1).take_while(|l| *l != "}");
    let mut found: Vec<Item> = Vec::new();
    let mut doc = String::new();
    for line in body {
        let field = line.starts_with("        ");
        let line = line.trim();
        if let Some(more) = line.strip_prefix("///") {
            if !doc.is_empty() {
                doc.push(' ');
            }
            doc.push_str(more.trim());
            continue;
        }
        let word: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if word.is_empty() {
            continue;
        }
        let ty = line.split_once(':').map(|(_, ty)| ty.trim().trim_end_matches(',').to_owned());
        let item = Item {
            name: word,
            ty: ty.unwrap_or_default(),
            doc: std::mem::take(&mut doc),
            fields: Vec::new(),
        };
        match found.last_mut() {
            Some(last) if field => last.fields.push(item),
            _ => found.push(item),
        }
    }
    found
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for (place, c) in name.char_indices() {
        if c.is_uppercase() && place > 0 {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn json_type(ty: &str) -> String {
    if let Some(inner) = ty.strip_prefix("Option<").and_then(|t| t.strip_suffix('>')) {
        return format!("{} or null", json_type(inner));
    }
    if let Some(inner) = ty.strip_prefix("Vec<").and_then(|t| t.strip_suffix('>')) {
        return format!("list of {}", json_type(inner));
    }
    match ty {
        "String" | "Stream" | "Outcome" => "text",
        "Artifact" => "artifact",
        _ => "number",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_and_fields_are_found() {
        let source = "pub enum EventKind {\n    /// It\n    /// begins.\n    RunStarted {\n        /// The id.\n        run: String,\n        /// All.\n        #[serde(x)]\n        builds: Vec<String>,\n    },\n    /// Next.\n    Said {},\n}\n";
        let text = markdown(source);
        assert!(text.contains("## `run_started`\n\nIt begins.\n"));
        assert!(text.contains("| `builds` | list of text | All. |"));
        assert!(text.contains("## `said`\n\nNext.\n"));
    }

    #[test]
    fn every_type_that_the_program_prints_is_told() {
        let text = markdown(include_str!("../../crates/karat-component/src/event.rs"));
        for name in ["run_started", "output", "progress", "component_finished", "run_finished"] {
            assert!(text.contains(&format!("## `{name}`")), "{name}");
        }
        assert!(text.contains("`reused`: Nothing had changed"));
    }
}
