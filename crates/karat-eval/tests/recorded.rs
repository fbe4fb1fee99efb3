//! Every recorded answer of Packer 1.16's console, against ours.
//!
//! Columns of `expressions.tsv`: group, expression, `ok` or `error`, result, pattern (a regular
//! expression in place of a result), JSON. Of an error only that there is one matters.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use karat_eval::{Environment, Scope, console_value};
use karat_functions::MemoryWorld;
use karat_hcl::diag::{Diagnostics, SourceId};
use karat_value::{Value, json, print};

/// Rows that differ on purpose; each stands in `docs/differences.md`, section "Expressions".
const DELIBERATE: &[&str] = &[];

/// Words of the console itself, which no evaluator sees.
const WORDS: &[&str] = &["exit", "help", "variables"];

#[test]
fn all_recorded_expressions_agree() {
    let data = include_str!("../../../tests/data/packer-1.16/expressions.tsv");
    let world = MemoryWorld::default();
    let environment = Environment::new(&world, "");
    let mut scope = Scope::new(&environment);
    common::console_names(&mut scope);
    let mut report = String::new();
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows = 0;
    for line in data.lines().skip(1) {
        let columns: Vec<String> = line
            .split('\t')
            .map(|column| unescape(column).replace("@WORK@", "/templates"))
            .collect();
        let [group, expression, rc, result, pattern, json] = columns.as_slice() else {
            panic!("not six columns: {line}");
        };
        rows += 1;
        if DELIBERATE.contains(&expression.as_str()) || WORDS.contains(&expression.as_str()) {
            continue;
        }
        let ours = console_value(expression, SourceId(0), &scope);
        if let Err(problem) = compare(ours, rc, result, pattern, json) {
            *wrong.entry(group.clone()).or_default() += 1;
            // Writing to a String cannot fail.
            let _ = writeln!(report, "[{group}] {expression}\n    {problem}");
        }
    }
    assert!(rows > 1700, "only {rows} rows were read");
    let count: usize = wrong.values().sum();
    assert!(count == 0, "{report}\n{count} of {rows} rows differ: {wrong:?}");
}

fn compare(
    ours: Result<Value, Diagnostics>,
    rc: &str,
    result: &str,
    pattern: &str,
    expected_json: &str,
) -> Result<(), String> {
    let value = match (ours, rc) {
        (Err(_), "error") => return Ok(()),
        (Ok(value), "ok") => value,
        (Ok(value), _) => {
            return Err(format!("gave {:?}, wants error {result:?}", print::console(&value)));
        }
        (Err(diags), _) => {
            let first =
                diags.iter().next().map(|diag| format!("{} | {}", diag.summary, diag.detail));
            return Err(format!("failed with {first:?}, wants {result:?}{pattern}"));
        }
    };
    let shown = print::console(&value);
    let fits = if pattern.is_empty() {
        shown == result
    } else {
        let pattern = format!("^(?:{pattern})$");
        regex::Regex::new(&pattern).map_err(|error| error.to_string())?.is_match(&shown)
    };
    if !fits {
        return Err(format!("gave {shown:?}, wants {result:?}{pattern}"));
    }
    if expected_json.is_empty() {
        return Ok(());
    }
    let json = json::to_json(&value).map_err(|error| error.to_string())?;
    if json == expected_json {
        Ok(())
    } else {
        Err(format!("as JSON gave {json:?}, wants {expected_json:?}"))
    }
}

/// `\\ \n \t \r \u{hex} \xNN` in the recording. Bytes that are no UTF-8 become U+FFFD.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let tail = &rest[at + 1..];
        let (piece, used): (Vec<u8>, usize) = match tail.as_bytes().first() {
            Some(b'n') => (b"\n".to_vec(), 1),
            Some(b't') => (b"\t".to_vec(), 1),
            Some(b'r') => (b"\r".to_vec(), 1),
            Some(b'\\') => (b"\\".to_vec(), 1),
            Some(b'x') => (vec![u8::from_str_radix(&tail[1..3], 16).unwrap()], 3),
            Some(b'u') => {
                let end = tail.find('}').unwrap();
                let code = u32::from_str_radix(&tail[2..end], 16).unwrap();
                (char::from_u32(code).unwrap().to_string().into_bytes(), end + 1)
            }
            other => panic!("unknown escape {other:?} in {text}"),
        };
        bytes.extend_from_slice(&piece);
        rest = &tail[used..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
