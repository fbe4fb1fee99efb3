//! What holds for any text. Property tests and fuzzing run the same functions.

use karat_hcl::ast::Body;
use karat_hcl::diag::{Diagnostics, SourceId};
use karat_hcl::json_text::{self, ValueKind};
use karat_hcl::token::{Start, TokenKind, lex};
use karat_hcl::{
    Schema, Strings, expression_in_string, format, parse, parse_expression, parse_json,
    parse_template,
};

use super::dump;

const SOURCE: SourceId = SourceId(0);

fn places_lie_in(text: &str, diagnostics: &Diagnostics) {
    for diagnostic in diagnostics {
        let span = diagnostic.primary.as_ref().expect("every error has a place").span;
        assert!(text.get(span.range()).is_some(), "{diagnostic:?} lies in the text");
        assert!(!diagnostic.summary.ends_with('.'));
    }
}

/// Reading never panics, tokens print what was read, and that gives the same tree again.
pub(crate) fn parser(text: &str) {
    let mut printed = String::new();
    for start in [Start::Normal, Start::Template] {
        printed = lex(text, start).iter().map(|t| &text[t.range()]).collect();
        assert_eq!(printed, text, "tokens print what was read");
    }
    let (parsed, diagnostics) = parse(SOURCE, text);
    assert!(diagnostics.len() <= 51);
    places_lie_in(text, &diagnostics);
    let (again, _) = parse(SOURCE, &printed);
    assert_eq!(dump::body(&parsed.body), dump::body(&again.body), "what is printed is the same");
    for parse in [parse_expression, parse_template] {
        let (expr, diagnostics) = parse(SOURCE, text, 0..text.len());
        places_lie_in(text, &diagnostics);
        let _ = dump::expr(&expr);
    }
}

/// A layout is its own layout, and keeps tokens and meaning: but for an index of a literal number,
/// which is an error wherever it is evaluated. hclwrite lays `1 .5` out as `1.5`, and so do we.
pub(crate) fn formatter(text: &str) {
    let once = format(text);
    let (parsed, diagnostics) = parse(SOURCE, text);
    if diagnostics.has_errors() {
        return;
    }
    assert_eq!(format(&once), once, "a layout is its own layout");
    if indexes_a_literal(text) {
        return;
    }
    assert_eq!(tokens(text), tokens(&once), "a layout keeps the tokens");
    let (parsed_once, _) = parse(SOURCE, &once);
    assert_eq!(dump::body(&parsed.body), dump::body(&parsed_once.body), "the meaning stays");
}

/// Whether a number and a dot stand beside each other that a blank keeps from being one number.
fn indexes_a_literal(text: &str) -> bool {
    use TokenKind::{Dot, Number, Space};
    let kinds: Vec<TokenKind> = lex(text, Start::Normal).iter().map(|token| token.kind).collect();
    kinds.windows(4).any(|k| matches!(k, [Number, Space, Dot, _] | [Number, Dot, Space, Number]))
}

/// All tokens but blanks. Those around a comment or the end of a heredoc belong to these tokens.
fn tokens(text: &str) -> Vec<(TokenKind, &str)> {
    let tokens = lex(text, Start::Normal).into_iter();
    let seen =
        tokens.filter(|token| !matches!(token.kind, TokenKind::Space | TokenKind::ByteOrderMark));
    seen.map(|token| match token.kind {
        TokenKind::Comment | TokenKind::CloseHeredoc => (token.kind, text[token.range()].trim()),
        kind => (kind, &text[token.range()]),
    })
    .collect()
}

/// Neither JSON as such nor a body of it panics, whatever it is asked for.
pub(crate) fn json(text: &str) {
    let (value, diagnostics) = json_text::read(SOURCE, text);
    places_lie_in(text, &diagnostics);
    assert!(!matches!(value.kind, ValueKind::Broken) || diagnostics.has_errors());
    for strings in [Strings::Templates, Strings::Literal] {
        let (body, _) = parse_json(SOURCE, text, strings);
        let mut diagnostics = Diagnostics::new();
        for attribute in body.just_attributes(&mut diagnostics).values() {
            let _ = dump::expr(&attribute.expr);
            let _ = expression_in_string(&attribute.expr);
        }
        blocks(&body, 0, &mut diagnostics);
    }
}

/// Asks a body for blocks, and these for blocks of their own.
fn blocks(body: &Body, depth: usize, diagnostics: &mut Diagnostics) {
    let schema = Schema::new()
        .optional("a")
        .required("b")
        .block("c", &[])
        .block("source", &["type", "name"]);
    let (content, rest) = body.partial_content(&schema, diagnostics);
    let _ = rest.just_attributes(diagnostics);
    for block in content.blocks.iter().filter(|_| depth < 5) {
        blocks(&block.body, depth + 1, diagnostics);
    }
}
