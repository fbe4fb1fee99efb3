//! Runs the documents of `tests/suite/syntax`.
//!
//! In a document, a fenced block `hcl`, `expr`, `template`, `json` or `vars.json` is a text to be
//! read, and the block behind it says what comes of it: `errors` (each with its place, what it says
//! and its hints), `tree` (the meaning, as one line), or `formatted` (the canonical layout). With
//! `KARAT_UPDATE_SUITE=1` these are written anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use karat_hcl::ast::Body;
use karat_hcl::diag::{Diagnostics, SourceMap};
use karat_hcl::{Strings, format, parse, parse_expression, parse_json, parse_template};

use crate::dump;

#[test]
fn documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite/syntax");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut failures = String::new();
    let mut cases = 0;
    for path in paths {
        cases += run(&path, &mut failures);
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(cases >= 100, "only {cases} cases were found");
}

/// Runs one document; gives the number of its cases.
fn run(path: &Path, failures: &mut String) -> usize {
    let document = std::fs::read_to_string(path).expect("a document is text");
    let mut updated = String::new();
    let mut input: Option<(String, String)> = None;
    let mut cases = 0;
    let mut lines = document.split_inclusive('\n').enumerate();
    while let Some((number, line)) = lines.next() {
        updated.push_str(line);
        let Some(kind) = line.trim_end().strip_prefix("```").filter(|kind| !kind.is_empty()) else {
            continue;
        };
        let mut text = String::new();
        for (_, line) in lines.by_ref() {
            if line.trim_end() == "```" {
                break;
            }
            text.push_str(line);
        }
        match kind {
            "errors" | "tree" | "formatted" => {
                let (language, source) =
                    input.clone().unwrap_or_else(|| panic!("{}: no input", path.display()));
                let found = outcome(kind, &language, &source);
                cases += 1;
                if found != text {
                    let place = format_args!("{}:{}", path.display(), number + 1);
                    let _ = writeln!(failures, "{place}: {kind}\nwanted:\n{text}found:\n{found}");
                }
                text = found;
            }
            _ => input = Some((kind.to_owned(), text.clone())),
        }
        updated.push_str(&text);
        updated.push_str("```\n");
    }
    if std::env::var_os("KARAT_UPDATE_SUITE").is_some() {
        std::fs::write(path, updated).expect("the document can be written");
        failures.clear();
    }
    cases
}

fn outcome(kind: &str, language: &str, text: &str) -> String {
    if kind == "formatted" {
        return format(text);
    }
    let mut map = SourceMap::new();
    let id = map.add("test", text);
    // An expression is one line; a template has no line end at its end.
    let inner = text.strip_suffix('\n').unwrap_or(text);
    let (tree, diagnostics) = match language {
        "hcl" => {
            let (parsed, diagnostics) = parse(id, text);
            (dump::body(&parsed.body), diagnostics)
        }
        "expr" => {
            let (expr, diagnostics) = parse_expression(id, inner, 0..inner.len());
            (dump::expr(&expr), diagnostics)
        }
        "template" => {
            let (expr, diagnostics) = parse_template(id, inner, 0..inner.len());
            (dump::expr(&expr), diagnostics)
        }
        "json" => json(&parse_json(id, text, Strings::Templates)),
        "vars.json" => json(&parse_json(id, text, Strings::Literal)),
        other => panic!("no such language: {other}"),
    };
    match kind {
        "tree" if diagnostics.has_errors() => render(&map, &diagnostics),
        "tree" => tree + "\n",
        _ => render(&map, &diagnostics),
    }
}

/// All properties as arguments.
fn json((body, diagnostics): &(Body, Diagnostics)) -> (String, Diagnostics) {
    let mut diagnostics = diagnostics.clone();
    let attributes = body.just_attributes(&mut diagnostics);
    let items: Vec<String> = attributes
        .values()
        .map(|a| std::format!("(= {} {})", a.name.name, dump::expr(&a.expr)))
        .collect();
    (std::format!("{{{}}}", items.join(" ")), diagnostics)
}

fn render(map: &SourceMap, diagnostics: &Diagnostics) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let place = |span: karat_hcl::diag::Span| {
            let position =
                map.get(span.source).expect("there is one source").position(span.start as usize);
            std::format!("{}:{}", position.line, position.column)
        };
        let primary = diagnostic.primary.as_ref().expect("every error has a place");
        let _ = writeln!(out, "{} {}", place(primary.span), diagnostic.summary);
        if !diagnostic.detail.is_empty() {
            let _ = writeln!(out, "  {}", diagnostic.detail);
        }
        for label in &diagnostic.secondary {
            let _ = writeln!(out, "  {} {}", place(label.span), label.text);
        }
        for hint in &diagnostic.hints {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
    out
}
