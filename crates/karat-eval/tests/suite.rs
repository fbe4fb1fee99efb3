//! Runs the documents in `tests/suite/expressions`. Their README says how they are written.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

mod common;

use std::fs;
use std::path::Path;

use karat_eval::{Environment, Scope, evaluate};
use karat_functions::MemoryWorld;
use karat_hcl::diag::{Diagnostics, SourceId, SourceMap};
use karat_hcl::parse_expression;
use karat_value::{Mark, Type, Value, print};

#[derive(Default)]
struct Case {
    line: usize,
    text: String,
    value: Option<String>,
    shown: Vec<String>,
    errors: Vec<String>,
    hints: Vec<String>,
    unknown: Option<String>,
    sensitive: bool,
}

#[test]
fn documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite/expressions");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut problems = Vec::new();
    let mut count = 0;
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" || !name.ends_with(".md") {
            continue;
        }
        for case in cases(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            if let Err(problem) = check(&case) {
                problems.push(format!("{name}:{}: {}\n    {problem}", case.line, case.text));
            }
        }
    }
    assert!(count > 100, "only {count} cases were found");
    assert!(problems.is_empty(), "{}\n{} of {count} cases", problems.join("\n"), problems.len());
}

fn cases(document: &str) -> Vec<Case> {
    let mut result: Vec<Case> = Vec::new();
    let mut inside = false;
    let mut done = true;
    for (i, line) in document.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```karat";
            done = true;
            continue;
        }
        if !inside {
            continue;
        }
        let Some(expected) = line.strip_prefix("# ") else {
            if done {
                result.push(Case { line: i + 1, ..Case::default() });
                done = false;
            }
            let case = result.last_mut().unwrap();
            if !case.text.is_empty() {
                case.text.push('\n');
            }
            case.text.push_str(line);
            continue;
        };
        done = true;
        let case = result.last_mut().expect("an expectation follows an expression");
        match expected.split_once(' ') {
            Some(("=", text)) => case.value = Some(text.to_owned()),
            Some((">", text)) => case.shown.push(text.to_owned()),
            Some(("!", text)) => case.errors.push(text.to_owned()),
            Some(("?", text)) => case.hints.push(text.to_owned()),
            Some(("unknown", text)) => case.unknown = Some(text.to_owned()),
            None if expected == "sensitive" => case.sensitive = true,
            _ => panic!("line {}: what is {line:?}?", i + 1),
        }
    }
    result
}

fn run(text: &str) -> (Value, Diagnostics) {
    let world = MemoryWorld::default();
    let environment = Environment::new(&world, "");
    let mut scope = Scope::new(&environment);
    common::console_names(&mut scope);
    let unknowns = [
        ("string", Value::unknown(Type::String)),
        ("number", Value::unknown(Type::Number)),
        ("bool", Value::unknown(Type::Bool)),
        ("list", Value::unknown(Type::list(Type::String))),
        ("any", Value::dynamic()),
    ];
    scope.set("unknown", Value::object_of(unknowns));
    scope.set("secret", Value::string("s3cret").marked(Mark::Sensitive));
    let secrets = vec![Value::string("open"), Value::string("closed").marked(Mark::Sensitive)];
    scope.set("secrets", Value::list(Type::String, secrets));
    let (expr, diags) = parse_expression(SourceId(0), text, 0..text.len());
    if diags.has_errors() { (Value::dynamic(), diags) } else { evaluate(&expr, &scope) }
}

fn check(case: &Case) -> Result<(), String> {
    let (value, diags) = run(&case.text);
    let mut map = SourceMap::new();
    let source = map.add("case", case.text.as_str());
    let errors: Vec<String> = diags
        .iter()
        .filter(|diag| diag.is_error())
        .map(|diag| {
            let start = diag.primary.as_ref().unwrap().span.range().start;
            let place = map.get(source).unwrap().position(start);
            format!("{}:{} {}", place.line, place.column, diag.summary)
        })
        .collect();
    if errors != case.errors {
        let details: Vec<&str> = diags.iter().map(|diag| diag.detail.as_str()).collect();
        return Err(format!("errors {errors:?} {details:?}, expected {:?}", case.errors));
    }
    for hint in &case.hints {
        if !diags.iter().any(|diag| diag.hints.contains(hint)) {
            return Err(format!("no hint {hint:?} in {diags:?}"));
        }
    }
    if !errors.is_empty() {
        return Ok(());
    }
    if value.is_sensitive() != case.sensitive {
        return Err(format!("sensitive is {}", value.is_sensitive()));
    }
    let (value, _) = value.unmark_deep();
    if let Some(expected) = &case.value {
        let (expected, diags) = run(expected);
        if diags.has_errors() || value != expected {
            return Err(format!("is {value:?}, expected {expected:?} {diags:?}"));
        }
    }
    if !case.shown.is_empty() && print::console(&value) != case.shown.join("\n") {
        return Err(format!("shows {:?}", print::console(&value)));
    }
    if let Some(ty) = &case.unknown
        && (value.is_known() || value.ty().to_string() != *ty)
    {
        return Err(format!("is {value:?}, expected unknown {ty}"));
    }
    Ok(())
}
