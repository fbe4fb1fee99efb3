//! Whatever the expression, evaluation ends, panics never, and says why when there is no value.

#[path = "common/any.rs"]
mod any;
mod common;

use any::{check, names};
use karat_eval::{Environment, Functions, Scope, evaluate};
use karat_functions::MemoryWorld;
use karat_hcl::diag::SourceId;
use karat_hcl::parse_expression;
use karat_value::{Mark, Value};
use proptest::prelude::*;

const LEAVES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "0.1",
    "1e400",
    "1e-400",
    "9223372036854775807",
    "1e21",
    "\"\"",
    "\"a\"",
    "\"1\"",
    "\"true\"",
    "\"é\"",
    "[]",
    "{}",
    "var",
    "local",
    "source.name",
    "packer",
    "build",
    "u",
    "secret",
    "list",
    "set",
    "map",
    "object",
    "nosuch",
    "x",
];

const FUNCTIONS: &[&str] = &[
    "upper",
    "length",
    "join",
    "format",
    "formatlist",
    "concat",
    "merge",
    "flatten",
    "keys",
    "values",
    "lookup",
    "element",
    "slice",
    "range",
    "max",
    "min",
    "pow",
    "log",
    "jsonencode",
    "jsondecode",
    "yamlencode",
    "yamldecode",
    "csvdecode",
    "regex",
    "regexall",
    "replace",
    "substr",
    "split",
    "sort",
    "reverse",
    "distinct",
    "compact",
    "coalesce",
    "coalescelist",
    "chunklist",
    "setproduct",
    "setunion",
    "zipmap",
    "contains",
    "index",
    "sum",
    "parseint",
    "signum",
    "abs",
    "ceil",
    "floor",
    "trim",
    "title",
    "indent",
    "cidrhost",
    "cidrsubnet",
    "cidrsubnets",
    "formatdate",
    "timeadd",
    "base64decode",
    "base64encode",
    "base64gzip",
    "urlencode",
    "strrev",
    "try",
    "can",
    "md5",
    "alltrue",
    "anytrue",
    "textencodebase64",
    "textdecodebase64",
    "uuidv5",
    "regex_replace",
    "rfc3339_parse",
    "unix_timestamp_parse",
    "templatefile",
    "file",
    "fileset",
];

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(5, 60, 4, |inner| {
        let operator =
            prop::sample::select(&["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||"][..]);
        let name = prop::sample::select(FUNCTIONS);
        let ty = prop::sample::select(
            &[
                "string",
                "number",
                "bool",
                "any",
                "list(any)",
                "set(string)",
                "map(any)",
                "object({a = number, b = optional(string)})",
                "tuple([any, any])",
                "set(any)",
                "list(object({a = any}))",
            ][..],
        );
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(({a}) ? ({b}) : ({c}))")),
            two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            two.clone().prop_map(|(a, b)| format!("{{a = {a}, (\"b\") = {b}}}")),
            two.clone().prop_map(|(a, b)| format!("{{({a}) = {b}}}")),
            two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            inner.clone().prop_map(|a| format!("({a}).a")),
            inner.clone().prop_map(|a| format!("({a})[*].a")),
            inner.clone().prop_map(|a| format!("({a}).*.a[0]")),
            two.clone().prop_map(|(a, b)| format!("[for x in {a} : {b}]")),
            two.clone().prop_map(|(a, b)| format!("[for k, x in {a} : k if {b}]")),
            two.clone().prop_map(|(a, b)| format!("{{for k, x in {a} : k => {b}}}")),
            two.clone().prop_map(|(a, b)| format!("{{for k, x in {a} : {b} => k...}}")),
            two.clone().prop_map(|(a, b)| format!("\"<${{{a}}}-${{{b}}}>\"")),
            two.clone().prop_map(|(a, b)| {
                format!("\"%{{ if {a} }}${{{b}}}%{{ else }}z%{{ endif }}\"")
            }),
            two.prop_map(|(a, b)| format!("\"%{{ for x in {a} }}${{{b}}}%{{ endfor }}\"")),
            (name, prop::collection::vec(inner.clone(), 0..4), any::<bool>()).prop_map(
                |(name, args, expand)| {
                    let dots = if expand && !args.is_empty() { "..." } else { "" };
                    format!("{name}({}{dots})", args.join(", "))
                }
            ),
            (inner, ty).prop_map(|(a, ty)| format!("convert({a}, {ty})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn evaluation_never_panics(text in expression()) {
        check(&text, false, Functions::Template);
    }

    #[test]
    fn nor_does_it_on_anything_else(text in "[-a-z0-9\"${}()\\[\\].,*?: =<>!&|+/%~\n]{0,40}") {
        check(&text, false, Functions::None);
        check(&text, true, Functions::TemplateFile);
    }
}

/// Secrets and what is not known: marks only ever grow, known parts never change.
mod monotone {
    use super::*;

    fn leaves_a_mark(text: &str) -> Result<(), TestCaseError> {
        let run = |secret: Value| {
            let world = MemoryWorld::default();
            let environment = Environment::new(&world, "");
            let mut scope = Scope::new(&environment);
            names(&mut scope);
            scope.set("secret", secret);
            let (expr, _) = parse_expression(SourceId(0), text, 0..text.len());
            evaluate(&expr, &scope)
        };
        let marked = |text: &str| Value::string(text).marked(Mark::Sensitive);
        let (a, a_diags) = run(marked("5"));
        let (b, b_diags) = run(marked("true"));
        // What failed and what asks whether something fails may differ without a mark.
        if a_diags.has_errors()
            || b_diags.has_errors()
            || text.contains("can(")
            || text.contains("try(")
        {
            return Ok(());
        }
        // A different result of a different secret must be marked.
        if a.clone().unmark_deep().0 != b.clone().unmark_deep().0 {
            prop_assert!(a.is_sensitive() && b.is_sensitive(), "{text}: {a:?} {b:?}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6000) })]

        #[test]
        fn secrets_leave_a_mark(text in expression()) {
            leaves_a_mark(&text)?;
        }
    }

    /// Found by the test above.
    #[test]
    fn a_branch_that_fails_in_silence_leaves_a_mark() {
        for text in ["source.name ? -secret : -0", "source.name ? 0 : {a = secret}.b"] {
            leaves_a_mark(text).unwrap();
        }
    }
}
