//! Runs the documents in `tests/suite/functions` through the evaluator, and sees to it
//! that every function has its section there. `tests/suite/expressions/README.md` tells
//! how cases are written.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use karat_eval::{Environment, Scope, evaluate};
use karat_functions::{MemoryWorld, Place, table};
use karat_hcl::diag::{SourceId, SourceMap};
use karat_hcl::parse_expression;
use karat_value::{Mark, Type, Value, print};

/// The world that the documents tell of.
fn world() -> MemoryWorld {
    let mut world = MemoryWorld::default()
        .with_file("hello.txt", "Hello!\n")
        .with_file("greeting.pkrtpl.hcl", "Hello, ${name}!")
        .with_file("list.pkrtpl.hcl", "${items}")
        .with_file("scripts/a.sh", "#!/bin/sh\n")
        .with_file("scripts/.hidden", "")
        .with_file("scripts/deep/b.sh", "")
        .with_file("icon.png", vec![0x89, 0x50, 0x4e, 0x47, 0xff]);
    world.clock = "2026-03-04T05:06:07.089Z".parse().unwrap();
    world
}

/// What an expression gives, in the form of the documents.
fn outcome(text: &str) -> String {
    let world = world();
    let environment = Environment::new(&world, "");
    let mut scope = Scope::new(&environment);
    let unknowns = [
        ("string", Value::unknown(Type::String)),
        ("number", Value::unknown(Type::Number)),
        ("any", Value::dynamic()),
    ];
    scope.set("unknown", Value::object_of(unknowns));
    scope.set("secret", Value::string("s3cret").marked(Mark::Sensitive));
    let (expr, diags) = parse_expression(SourceId(0), text, 0..text.len());
    let (value, diags) =
        if diags.has_errors() { (Value::dynamic(), diags) } else { evaluate(&expr, &scope) };
    let mut map = SourceMap::new();
    let source = map.add("case", text);
    let mut out = String::new();
    for diag in diags.iter().filter(|diag| diag.is_error()) {
        let start = diag.primary.as_ref().unwrap().span.range().start;
        let place = map.get(source).unwrap().position(start);
        writeln!(out, "# ! {}:{} {}", place.line, place.column, diag.summary).unwrap();
    }
    if !out.is_empty() {
        return out;
    }
    if value.is_sensitive() {
        out.push_str("# sensitive\n");
    }
    let (value, _) = value.unmark_deep();
    if !value.is_known() {
        writeln!(out, "# unknown {}", value.ty()).unwrap();
        return out;
    }
    for line in print::console(&value).split('\n') {
        writeln!(out, "# > {line}").unwrap();
    }
    out
}

#[test]
fn documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite/functions");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut problems = String::new();
    let mut sections = Vec::new();
    let mut count = 0;
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let document = fs::read_to_string(&path).unwrap();
        let headings = document.lines().filter_map(|line| line.strip_prefix("## "));
        sections.extend(headings.map(str::to_owned));
        let mut lines = document.lines().enumerate().peekable();
        let mut inside = false;
        while let Some((number, line)) = lines.next() {
            if line.starts_with("```") {
                inside = line == "```karat";
                continue;
            }
            if !inside || line.starts_with('#') {
                continue;
            }
            let mut expected = String::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("# ")) {
                expected.push_str(line);
                expected.push('\n');
            }
            count += 1;
            let found = outcome(line);
            if found != expected {
                let at = number + 1;
                writeln!(problems, "{name}:{at}: {line}\n{found}instead of\n{expected}").unwrap();
            }
        }
    }
    for function in table().iter().filter(|function| function.place == Place::Everywhere) {
        if !sections.iter().any(|section| section == function.name) {
            writeln!(problems, "{} has no section", function.name).unwrap();
        }
    }
    assert!(count > 300, "only {count} cases were found");
    assert!(problems.is_empty(), "{problems}");
}
