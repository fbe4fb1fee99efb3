//! Bodies asked by schema, in both syntaxes.

use karat_hcl::ast::Body;
use karat_hcl::diag::{Diagnostics, SourceMap};
use karat_hcl::{Schema, Strings, expression_in_string, parse, parse_expression, parse_json};

use crate::dump;

fn native(text: &str) -> Body {
    let (parsed, diagnostics) = parse(SourceMap::new().add("t.pkr.hcl", text), text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    parsed.body
}

fn json(text: &str) -> Body {
    let source = SourceMap::new().add("t.pkr.json", text);
    let (body, diagnostics) = parse_json(source, text, Strings::Templates);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    body
}

fn schema() -> Schema {
    Schema::new()
        .required("name")
        .optional("size")
        .block("source", &["type", "name"])
        .block("build", &[])
}

/// What a body holds, and what is reported.
fn ask(body: &Body) -> (String, Vec<String>) {
    let mut diagnostics = Diagnostics::new();
    let content = body.content(&schema(), &mut diagnostics);
    let mut out = Vec::new();
    for (name, attribute) in &content.attributes {
        out.push(std::format!("{name}={}", dump::expr(&attribute.expr)));
    }
    for block in &content.blocks {
        let labels: Vec<&str> = block.labels.iter().map(|l| l.text.as_str()).collect();
        let inner = block.body.just_attributes(&mut diagnostics);
        let names: Vec<&str> = inner.keys().map(String::as_str).collect();
        out.push(std::format!("{}{labels:?}{names:?}", block.kind.name));
    }
    let messages = diagnostics
        .iter()
        .map(|d| {
            let at = d.primary.as_ref().map_or(0, |label| label.span.start);
            std::format!("{at} {} {}", d.summary, d.hints.join(" ")).trim_end().to_owned()
        })
        .collect();
    (out.join(" "), messages)
}

#[test]
fn both_syntaxes_hold_the_same() {
    let wanted =
        "name=(t \"x\") size=n1 source[\"null\", \"a\"][\"b\"] source[\"null\", \"c\"][] build[][]";
    let text = "name = \"x\"\nsource \"null\" \"a\" {\n  b = 1\n}\nsize = 1\nsource \"null\" \"c\" {}\nbuild {}\n";
    assert_eq!(ask(&native(text)), (wanted.to_owned(), Vec::new()));
    let text = r#"{"name": "x", "//": 1, "source": {"null": {"a": {"b": 1}, "c": [{}]}}, "size": 1, "build": [{}]}"#;
    assert_eq!(ask(&json(text)), (wanted.to_owned(), Vec::new()));
}

#[test]
fn json_blocks_come_in_several_shapes() {
    let text = r#"{"name": "x", "source": [{"null": {"a": {}}}, {"null": [{"a": {}}, {"b": [{}, {}]}]}], "build": null}"#;
    let (content, messages) = ask(&json(text));
    let one = |name| std::format!("source[\"null\", \"{name}\"][]");
    let wanted = std::format!("name=(t \"x\") {} {} {} {}", one("a"), one("a"), one("b"), one("b"));
    assert_eq!(content, wanted);
    assert!(messages.is_empty(), "{messages:?}");
}

#[test]
fn what_does_not_fit_is_reported() {
    let (_, messages) = ask(&native(
        "nmae = 1\nbuild = 2\nsize {\n}\nsorce \"a\" \"b\" {\n}\nsource \"a\" {\n}\nbuild \"x\" {\n}\n",
    ));
    assert_eq!(
        messages,
        [
            "46 Missing name for source Write: source \"type\" \"name\" {",
            "67 Extraneous label for build Write: build {",
            "75 Missing required argument",
            "0 Unsupported argument Did you mean \"name\"?",
            "9 Unsupported argument For a block of type \"build\" leave the \"=\" out.",
            "19 Unsupported block type \"size\" is an argument: write \"=\" before its value.",
            "28 Unsupported block type Did you mean \"source\"?",
        ]
    );
    let (_, messages) =
        ask(&json(r#"{"nmae": 1, "source": {"a": 1}, "build": 2, "name": 1, "name": 2}"#));
    assert_eq!(
        messages,
        [
            "28 Incorrect JSON value type",
            "41 Incorrect JSON value type",
            "55 Duplicate argument",
            "1 Extraneous JSON object property Did you mean \"name\"?",
        ]
    );
}

#[test]
fn a_body_can_be_asked_twice() {
    for body in [native("a = 1\nb = 2\n"), json(r#"{"a": 1, "b": 2}"#)] {
        let mut diagnostics = Diagnostics::new();
        let first = Schema::new().required("a");
        let (content, rest) = body.partial_content(&first, &mut diagnostics);
        assert_eq!(content.attributes.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(rest.just_attributes(&mut diagnostics).keys().collect::<Vec<_>>(), ["b"]);
        let content = rest.content(&Schema::new().optional("b"), &mut diagnostics);
        assert_eq!(content.attributes.len(), 1);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
    }
}

#[test]
fn just_attributes_takes_no_blocks() {
    let mut diagnostics = Diagnostics::new();
    let attributes = native("a = 1\nb {\n}\n").just_attributes(&mut diagnostics);
    assert_eq!(attributes.len(), 1);
    assert_eq!(
        diagnostics.iter().next().map(|d| d.summary.as_str()),
        Some("Unexpected \"b\" block")
    );
}

#[test]
fn a_json_string_can_hold_an_expression() {
    let body = json(r#"{"type": "list(string)", "other": 1}"#);
    let attributes = body.just_attributes(&mut Diagnostics::new());
    let (expr, diagnostics) =
        expression_in_string(&attributes["type"].expr).expect("it is a string");
    assert!(diagnostics.is_empty());
    assert_eq!(dump::expr(&expr), "(call list (var string))");
    assert_eq!(expr.span.start, 10);
    assert!(expression_in_string(&attributes["other"].expr).is_none());
}

#[test]
fn a_part_of_a_text_is_read_in_place() {
    let text = "ignored ${ = a.b + 1";
    let source = SourceMap::new().add("t", text);
    let (expr, diagnostics) = parse_expression(source, text, 13..text.len());
    assert!(diagnostics.is_empty());
    assert_eq!(&text[expr.span.range()], "a.b + 1");
    let (_, diagnostics) = parse_expression(source, text, 11..12);
    assert_eq!(
        diagnostics.iter().next().and_then(|d| d.primary.as_ref()).map(|l| l.span.start),
        Some(11)
    );
}
