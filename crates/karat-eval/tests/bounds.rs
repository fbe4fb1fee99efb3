//! No expression exhausts the machine: whatever asks for too much ends soon, with an error.

use std::time::{Duration, Instant};

use karat_eval::{Environment, Scope, console_value};
use karat_functions::MemoryWorld;
use karat_hcl::diag::SourceId;
use karat_value::Value;

/// Each asks for gigabytes, or for years.
const BOMBS: &[&str] = &[
    "[for a in range(1024) : [for b in range(1024) : [for c in range(1024) : c]]]",
    "try([for a in range(1024) : [for b in range(1024) : [for c in range(1024) : c]]], 0)",
    "false && [for a in range(1024) : [for b in range(1024) : [for c in range(1024) : c]]] == []",
    "\"%{ for a in range(1024) }%{ for b in range(1024) }${long}%{ endfor }%{ endfor }\"",
    "[for a in range(1024) : [for b in range(1024) : \"${long}${a}${b}\"]]",
    "[for a in range(1024) : [for b in range(1024) : {c = [a], d = {e = b}}]]",
    "join(long, [for a in range(1024) : long])",
    "join(\"\", flatten([for a in range(1024) : [for b in range(1024) : long]]))",
    "format(\"%1000000000d\", 1)",
    "format(\"%.1000000000f\", 1.5)",
    "format(\"%1000000000s\", \"a\")",
    "formatlist(\"%100000000d\", range(1024))",
    "replace(long, \"a\", long)",
    "regex_replace(long, \"a\", long)",
    "indent(1000000000, \"a\\nb\")",
    "setproduct(range(1024), range(1024), range(1024), range(1024))",
    "range(1e300)",
    "chunklist([for a in range(1024) : long], 1)[1e300]",
    "yamldecode(\"{a: &a [x,x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e], g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f], h: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g,*g], i: [*h,*h,*h,*h,*h,*h,*h,*h,*h,*h]}\")",
];

/// These look dangerous, but have plain answers.
const HARMLESS: &[&str] = &[
    "1e999999999",
    "1e-999999999",
    "pow(10, 1e300)",
    "1e70000 * 1e70000",
    "\"${1e78000}\" == \"\"",
    "regex(\"(a*)*b\", \"${long}b\") == null",
    "1 % 1e-70000",
    "length(distinct(flatten([for a in range(200) : [for b in range(200) : a * b]]))) > 0",
    "parseint(\"${long}\", 16) > 0",
];

fn run(text: &str) -> (Result<Value, String>, Duration) {
    let world = MemoryWorld::default();
    let environment = Environment::new(&world, "");
    let mut scope = Scope::new(&environment);
    scope.set("long", Value::string("a".repeat(50_000)));
    let start = Instant::now();
    let result = console_value(text, SourceId(0), &scope);
    let result = result.map_err(|diags| {
        diags.iter().map(|diag| format!("{}: {}", diag.summary, diag.detail)).collect()
    });
    (result, start.elapsed())
}

#[test]
fn what_asks_for_too_much_ends_with_an_error() {
    for text in BOMBS {
        let (result, time) = run(text);
        assert!(result.is_err(), "{text} gave a value");
        // Unoptimised and on a busy machine.
        assert!(time < Duration::from_secs(60), "{text} took {time:?}");
    }
}

#[test]
fn what_only_looks_dangerous_works() {
    for text in HARMLESS {
        let (result, time) = run(text);
        assert!(result.is_ok(), "{text}: {result:?}");
        assert!(time < Duration::from_secs(20), "{text} took {time:?}");
    }
}

#[test]
fn deep_nesting_is_no_danger_to_the_stack() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{a=", "1", "}"),
        ("!", "true", ""),
        ("upper(", "\"\"", ")"),
    ] {
        for depth in [90, 5_000, 200_000] {
            let text = format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            // A value or an error, on a thread with the usual stack.
            let thread = std::thread::Builder::new().stack_size(2 << 20);
            let handle = thread.spawn(move || run(&text).0.is_ok()).unwrap();
            assert!(handle.join().is_ok(), "{open} {depth}");
        }
    }
}
