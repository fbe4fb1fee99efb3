//! Which names an expression uses.

use karat_eval::{ReferenceStep, references, static_reference};
use karat_hcl::diag::SourceId;
use karat_hcl::parse_expression;

fn shown(text: &str) -> Vec<String> {
    let (expr, diags) = parse_expression(SourceId(0), text, 0..text.len());
    assert!(!diags.has_errors(), "{text}: {diags:?}");
    references(&expr)
        .iter()
        .map(|reference| {
            let mut shown = reference.root.name.clone();
            for step in &reference.steps {
                match step {
                    ReferenceStep::Name(name) => shown = format!("{shown}.{}", name.name),
                    ReferenceStep::Index(index, _) => shown = format!("{shown}[{index}]"),
                }
            }
            shown
        })
        .collect()
}

#[test]
fn all_names_with_their_constant_steps() {
    assert_eq!(shown("var.a + local.b[\"c\"].d[0]"), ["var.a", "local.b.c.d[0]"]);
    assert_eq!(shown("var.a[local.i].b"), ["var.a", "local.i"]);
    assert_eq!(shown("data.t.n.*.x"), ["data.t.n"]);
    assert_eq!(shown("\"${a}%{ if b }${c}%{ endif }\""), ["a", "b", "c"]);
    assert_eq!(shown("{(k) = v, n = f(w...)}"), ["k", "v", "w"]);
    assert_eq!(shown("convert(a, string)"), ["a"]);
}

#[test]
fn names_of_loops_are_their_own() {
    assert_eq!(shown("[for x in xs : x.a if y]"), ["xs", "y"]);
    assert_eq!(shown("{for k, v in v : k => [for w in v : w]}"), ["v"]);
    assert_eq!(shown("\"%{ for x in xs }${x}${y}%{ endfor }${x}\""), ["xs", "y", "x"]);
}

#[test]
fn an_expression_that_is_only_a_reference() {
    let reference = |text: &str| {
        let (expr, _) = parse_expression(SourceId(0), text, 0..text.len());
        static_reference(&expr).map(|found| (found.root.name, found.steps.len()))
    };
    assert_eq!(reference("source.null.a"), Some(("source".to_owned(), 2)));
    assert_eq!(reference("a"), Some(("a".to_owned(), 0)));
    assert_eq!(reference("a[b]"), None);
    assert_eq!(reference("a + b"), None);
}
