//! The functions of the language, for the terminal and as Markdown.

use std::fmt::Write as _;

use karat_functions::{Function, Kind, Param, Place, Returns};

use super::text::fill;

/// A function as the manual shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) examples: &'static [(&'static str, &'static str)],
    function: Option<&'static Function>,
    signature: &'static str,
}

/// The functions that the evaluator implements itself, since they take unevaluated arguments.
const EVALUATED: [Entry; 2] = [
    Entry {
        name: "can",
        doc: "Tells whether an expression can be evaluated without an error.",
        examples: &[("can(tonumber(\"x\"))", "false"), ("can(1 + 1)", "true")],
        function: None,
        signature: "can(expression: any) → bool",
    },
    Entry {
        name: "try",
        doc: "Gives the first of its arguments that can be evaluated without an error.",
        examples: &[("try(tonumber(\"x\"), 0)", "0")],
        function: None,
        signature: "try(expressions…: any) → any",
    },
];

impl Entry {
    /// `max(numbers…: number) → number`
    pub(crate) fn signature(&self) -> String {
        let Some(function) = self.function else { return self.signature.to_owned() };
        let param = |p: &Param, more: &str| format!("{}{more}: {}", p.name, kind_name(p.kind));
        let mut params: Vec<String> = function.params.iter().map(|p| param(p, "")).collect();
        params.extend(function.variadic.as_ref().map(|p| param(p, "…")));
        let returns = match function.returns {
            Returns::Always(kind) => kind_name(kind),
            Returns::From(_) => "any",
        };
        format!("{}({}) → {returns}", self.name, params.join(", "))
    }

    fn only_in_defaults(&self) -> bool {
        self.function.is_some_and(|f| f.place == Place::VariableDefault)
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Number => "number",
        Kind::Bool => "bool",
        Kind::Any => "any",
        Kind::ListOfString => "list(string)",
        Kind::ListOfBool => "list(bool)",
        Kind::ListOfAny => "list(any)",
        Kind::SetOfString => "set(string)",
        Kind::SetOfAny => "set(any)",
        Kind::ListOfNumber => "list(number)",
    }
}

/// All functions in their groups, each with its heading; in a group by name.
pub(crate) fn groups() -> Vec<(&'static str, Vec<Entry>)> {
    let mut groups: Vec<(&str, Vec<Entry>)> = karat_functions::groups()
        .map(|(heading, functions)| {
            let mut entries: Vec<Entry> = functions.iter().map(entry).collect();
            entries.sort_by_key(|e| e.name);
            (heading, entries)
        })
        .collect();
    groups.push(("Errors", EVALUATED.to_vec()));
    groups
}

fn entry(function: &'static Function) -> Entry {
    Entry {
        name: function.name,
        doc: function.doc,
        examples: function.examples,
        function: Some(function),
        signature: "",
    }
}

/// The function of this name.
pub(crate) fn find(name: &str) -> Option<Entry> {
    groups().into_iter().flat_map(|(_, entries)| entries).find(|e| e.name == name)
}

/// A list of all functions, in `width` columns.
pub(crate) fn list(width: usize) -> String {
    let mut text = String::new();
    for (heading, entries) in groups() {
        let _ = writeln!(text, "{heading}");
        for entry in entries {
            let first = entry.doc.split_inclusive(". ").next().unwrap_or_default().trim_end();
            let lead = format!("  {:21} ", entry.name);
            let pad = " ".repeat(lead.len());
            let filled = fill(first, &pad, width);
            let _ = write!(text, "{lead}{}", filled.trim_start());
        }
        text.push('\n');
    }
    text
}

/// One function, in `width` columns.
pub(crate) fn terminal(entry: &Entry, width: usize) -> String {
    let mut text = format!("function {}\n\n", entry.signature());
    text.push_str(&fill(entry.doc, "", width));
    if entry.only_in_defaults() {
        text.push_str(&fill("Only in the `default` of a variable.", "", width));
    }
    for (call, result) in entry.examples {
        let _ = write!(text, "\n  {call}\n  = {result}\n");
    }
    text.push('\n');
    text
}

/// The chapter of the manual.
pub(crate) fn markdown_of_all() -> String {
    let mut text = String::from(
        "# Functions\n\nEvery function that an expression of a template may call. Arguments are \
         converted where they can be: the text `\"5\"` is taken for a number. A result that is \
         `any` has the type that the arguments give it. `…` marks an argument that may be given \
         any number of times, also as a list: `max([1, 2]...)`.\n",
    );
    for (heading, entries) in groups() {
        let _ = write!(text, "\n## {heading}\n");
        for entry in entries {
            let _ = write!(text, "\n### `{}`\n\n", entry.name);
            let _ = writeln!(text, "```text\n{}\n```\n\n{}", entry.signature(), entry.doc);
            if entry.only_in_defaults() {
                text.push_str("\nOnly in the `default` of a variable.\n");
            }
            if !entry.examples.is_empty() {
                text.push_str("\n```hcl\n");
                for (call, result) in entry.examples {
                    let _ = writeln!(text, "{call}  # {result}");
                }
                text.push_str("```\n");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_name_every_argument() {
        assert_eq!(find("abs").unwrap().signature(), "abs(num: number) → number");
        assert_eq!(find("max").unwrap().signature(), "max(numbers…: number) → number");
        assert!(find("nonesuch").is_none());
    }

    #[test]
    fn every_function_of_the_language_is_there() {
        for name in karat_functions::names() {
            // `convert` is a keyword of type constraints and not to be called in templates.
            if name != "convert" {
                assert!(find(name).is_some(), "{name}");
            }
        }
    }
}
