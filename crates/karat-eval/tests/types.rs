//! Types of variables: optional attributes and their defaults.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use karat_eval::{Environment, Functions, Scope, TypeConstraint, evaluate, type_constraint};
use karat_functions::MemoryWorld;
use karat_hcl::diag::SourceId;
use karat_hcl::parse_expression;
use karat_value::Value;

fn constraint(text: &str) -> TypeConstraint {
    let (expr, diags) = parse_expression(SourceId(0), text, 0..text.len());
    assert!(!diags.has_errors(), "{text}: {diags:?}");
    let (constraint, diags) = type_constraint(&expr);
    assert!(!diags.has_errors(), "{text}: {diags:?}");
    constraint
}

fn value(text: &str) -> Value {
    let world = MemoryWorld::default();
    let environment = Environment::new(&world, "").with_functions(Functions::Template);
    let (expr, _) = parse_expression(SourceId(0), text, 0..text.len());
    let (value, diags) = evaluate(&expr, &Scope::new(&environment));
    assert!(!diags.has_errors(), "{text}: {diags:?}");
    value
}

#[track_caller]
fn check(ty: &str, given: &str, expected: &str) {
    assert_eq!(constraint(ty).convert(&value(given)).unwrap(), value(expected));
}

#[test]
fn missing_and_null_attributes_take_the_default() {
    let ty = "object({a = string, b = optional(number, 5), c = optional(bool)})";
    check(ty, "{a = 1}", "{a = \"1\", b = 5, c = convert(null, bool)}");
    check(ty, "{a = 1, b = null, c = true, d = 1}", "{a = \"1\", b = 5, c = true}");
    assert!(constraint(ty).convert(&value("{b = 1}")).is_err());
}

#[test]
fn defaults_reach_into_collections() {
    let ty = "list(object({a = optional(string, \"x\")}))";
    check(ty, "[{}, {a = 1}]", "convert([{a = \"x\"}, {a = \"1\"}], list(object({a = string})))");
    let ty = "map(object({a = optional(string, \"x\")}))";
    check(ty, "{k = {}}", "convert({k = {a = \"x\"}}, map(object({a = string})))");
    check("tuple([object({a = optional(string, \"x\")}), number])", "[{}, 1]", "[{a = \"x\"}, 1]");
}

#[test]
fn defaults_within_defaults() {
    let inner = "object({b = optional(string, \"x\")})";
    let with_parent = format!("object({{a = optional({inner}, {{}})}})");
    check(&with_parent, "{}", "{a = {b = \"x\"}}");
    let without = format!("object({{a = optional({inner})}})");
    check(&without, "{}", "{a = convert(null, object({b = string}))}");
    check(&without, "{a = {}}", "{a = {b = \"x\"}}");
}

#[test]
fn types_are_shown_as_they_are_written() {
    for ty in [
        "any",
        "list(string)",
        "set(map(number))",
        "tuple([bool, any])",
        "object({a = string, b = optional(list(any))})",
    ] {
        assert_eq!(constraint(ty).ty.to_string(), ty);
    }
}

#[test]
fn defaults_must_fit() {
    for text in [
        "object({a = optional(number, \"x\")})",
        "object({a = optional(number, upper(\"x\"))})",
        "object({a = optional(number, var.x)})",
        "optional(string)",
        "list(optional(string))",
        "object({a = optional()})",
        "string(1)",
        "list(string, number)",
        "tuple(string)",
        "object([string])",
        "lst(string)",
        "a.b",
        "[string]",
        "\"string\"",
        "object({(\"a\") = string})",
    ] {
        let (expr, diags) = parse_expression(SourceId(0), text, 0..text.len());
        assert!(!diags.has_errors(), "{text}");
        let (_, diags) = type_constraint(&expr);
        assert!(diags.has_errors(), "{text}");
        assert!(diags.iter().all(|diag| diag.primary.is_some()), "{text}");
    }
}
