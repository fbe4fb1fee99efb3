//! Reading and evaluating any text ends, and without a panic.

mod any;

use std::time::{Duration, Instant};

use any::whole;
use proptest::prelude::*;

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-1",
        "null",
        "true",
        "\"x\"",
        "[]",
        "{}",
        "var.a",
        "var.b",
        "local.a",
        "local.b",
        "local.c",
        "local",
        "data.t.a",
        "data.t.a.x",
        "data",
        "path.root",
        "packer.version",
        "source.name",
        "build.ID",
        "build",
        "artifact.b.t.s.id",
        "each.value",
        "\"${local.b}!\"",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{ a = {a}, b = {b} }}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} == {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("try({a}, {b})")),
            inner.clone().prop_map(|a| format!("upper({a})")),
            inner.clone().prop_map(|a| format!("[for x in {a} : x]")),
            inner.clone().prop_map(|a| format!("({a}).a")),
            inner.prop_map(|a| format!("\"-${{{a}}}-\"")),
        ]
    })
}

fn item() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let e = expression;
    prop_oneof![
        (name(), e()).prop_map(|(n, e)| format!("locals {{\n {n} = {e}\n}}\n")),
        (name(), e(), e()).prop_map(|(n, e, s)| {
            format!("local \"{n}\" {{\n expression = {e}\n sensitive = {s}\n}}\n")
        }),
        (name(), e()).prop_map(|(n, e)| format!("variable \"{n}\" {{\n default = {e}\n}}\n")),
        (name(), e(), e()).prop_map(|(n, c, m)| format!(
            "variable \"{n}\" {{\n type = list(string)\n validation {{\n condition = {c}\n error_message = {m}\n}}\n}}\n"
        )),
        (name(), e()).prop_map(|(n, e)| format!("data \"t\" \"{n}\" {{\n x = {e}\n}}\n")),
        (name(), e(), e()).prop_map(|(n, e, f)| format!(
            "source \"t\" \"{n}\" {{\n x = {e}\n dynamic \"each\" {{\n for_each = {f}\n content {{\n y = {e}\n}}\n}}\n}}\n"
        )),
        (name(), e(), e(), e()).prop_map(|(n, e, f, g)| format!(
            "build {{\n name = {g}\n sources = [\"source.t.{n}\"]\n provisioner \"p\" {{\n x = {e}\n only = {f}\n override = {g}\n timeout = {e}\n}}\n post-processor \"q\" {{\n y = {e}\n keep_input_artifact = {f}\n}}\n}}\n"
        )),
        (name(), e()).prop_map(|(n, e)| format!(
            "build {{\n sources = {e}\n source \"t.{n}\" {{\n name = {e}\n x = 1\n}}\n}}\n"
        )),
        e().prop_map(|e| format!(
            "packer {{\n required_version = {e}\n required_plugins {{\n p = {e}\n}}\n}}\n"
        )),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read(text in any::<String>(), json in any::<bool>()) {
        whole(if json { "a.pkr.json" } else { "a.pkr.hcl" }, &text, &[]);
    }

    #[test]
    fn any_values_are_read(values in prop::collection::vec(any::<String>(), 0..4)) {
        let template = "variable \"a\" {\n type = list(string)\n}\nvariable \"b\" {}\n";
        let flags: Vec<String> = values
            .iter()
            .flat_map(|v| [format!("a={v}"), format!("b={v}"), v.clone()])
            .collect();
        whole("a.pkr.hcl", template, &flags);
    }

    #[test]
    fn any_template_is_evaluated(items in prop::collection::vec(item(), 1..10)) {
        whole("a.pkr.hcl", &items.concat(), &[]);
    }

    #[test]
    fn a_template_without_its_end_is_read(
        items in prop::collection::vec(item(), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = items.concat();
        let mut at = cut.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        whole("a.pkr.hcl", &text[..at], &[]);
    }
}

/// A chain of locals, the last first, so that each needs the next.
fn chain(length: usize) -> String {
    let mut text = String::from("locals {\n");
    for i in 0..length {
        text.push_str(&format!("  l{i} = local.l{} + 1\n", i + 1));
    }
    text.push_str(&format!("  l{length} = 0\n}}\n"));
    text
}

#[test]
fn a_long_chain_of_locals_is_evaluated() {
    let loaded = whole("a.pkr.hcl", &chain(5_000), &[]);
    let diags: Vec<_> = loaded.diags.iter().collect();
    assert!(diags.is_empty(), "{diags:?}");
}

#[test]
fn cost_grows_with_the_size_of_a_template_and_not_faster() {
    let time = |length| {
        let text = chain(length);
        let start = Instant::now();
        whole("a.pkr.hcl", &text, &[]);
        start.elapsed()
    };
    time(500);
    let (small, large) = (time(1_000), time(4_000));
    // Linear is 4 times; quadratic would be 16. Machines under load are uneven.
    assert!(large < small * 10 + Duration::from_millis(200), "{small:?}, then {large:?}");
}

#[test]
fn blocks_and_sources_do_not_multiply_without_end() {
    let told = |build: &str, summary: &str| {
        let text = format!("source \"t\" \"a\" {{}}\nbuild {{\n{build}\n}}\n");
        let loaded = whole("a.pkr.hcl", &text, &[]);
        loaded.diags.iter().filter(|diag| diag.summary == summary).count()
    };
    let blocks = "sources = [\"source.t.a\"]\n dynamic \"post-processors\" {\n for_each = range(1000)\n \
                  content {\n dynamic \"post-processor\" {\n for_each = range(1000)\n \
                  labels = [\"q\"]\n content {}\n}\n}\n}";
    assert_eq!(told(blocks, "Too many dynamic blocks"), 1);
    assert_eq!(told(&blocks.replace("1000", "3"), "Too many dynamic blocks"), 0);
    let lists = |count: usize| {
        let text = format!(
            "source \"t\" \"a\" {{\n dynamic \"p\" {{\n for_each = range(1000)\n content {{\n \
             dynamic \"q\" {{\n for_each = range(5)\n content {{\n e = range({count})\n\
             }}\n}}\n}}\n}}\n}}\nbuild {{\n sources = [\"source.t.a\"]\n}}\n"
        );
        let loaded = whole("a.pkr.hcl", &text, &[]);
        loaded.diags.iter().filter(|diag| diag.summary == "Too much data").count()
    };
    assert_eq!(lists(1000), 1);
    assert_eq!(lists(20), 0);
    let locals = |count: usize| {
        let locals: String =
            (0..count).map(|n| format!(" l{n} = [for i in range(900) : range(1000)]\n")).collect();
        let text = format!("locals {{\n{locals}}}\n");
        let loaded = whole("a.pkr.hcl", &text, &[]);
        loaded.diags.iter().filter(|diag| diag.summary == "Too much data").count()
    };
    assert_eq!((locals(2), locals(4)), (0, 1));
    let sources =
        "sources = flatten([for i in range(300) : [for j in range(300) : \"source.t.a\"]])";
    assert_eq!(told(sources, "Too many sources"), 1);
}
