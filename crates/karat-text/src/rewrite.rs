//! Text for Go's template engine in the words of the library that runs it.
//!
//! The library reads most templates as Go does, but for some numbers, escapes and ends of pipes,
//! and it prints floats otherwise. What differs is put in other words before it sees them.

use crate::go::{Constant, Number, scan_number};
use crate::tokens::{Kind, Part, Token, parts};

/// Prints the value of an action: what is printed is not what the library would print.
pub(crate) const SHOW: &str = "_show";
/// Gives a number that the library cannot read, by its text.
pub(crate) const NUMBER: &str = "_number";

/// The same text as the library reads it.
///
/// # Errors
/// What Go would not read.
pub(crate) fn rewrite(text: &str) -> Result<String, String> {
    let mut out = String::new();
    for part in parts(text) {
        match part {
            Part::Plain(plain) | Part::Unended(plain) => out.push_str(plain),
            Part::Action(_, tokens) => one(&tokens, &mut out)?,
        }
    }
    Ok(out)
}

/// Words that begin an action which prints nothing of its own.
const WORDS: [&str; 10] =
    ["if", "else", "end", "range", "with", "define", "block", "template", "break", "continue"];

fn one(tokens: &[Token<'_>], out: &mut String) -> Result<(), String> {
    let [open, inner @ .., close] = tokens else { return Ok(()) };
    let (before, inner) = match inner {
        [trim, rest @ ..] if trim.text == "-" => ("- ", rest),
        inner => ("", inner),
    };
    let (inner, behind) = match inner {
        [rest @ .., trim] if trim.text == "-" => (rest, " -"),
        inner => (inner, ""),
    };
    let words: Vec<&Token<'_>> = inner.iter().filter(|t| t.kind != Kind::Blank).collect();
    let first = words.first().map_or("", |token| token.text);
    let prints = !first.is_empty()
        && !WORDS.contains(&first)
        && !words.iter().any(|t| t.kind == Kind::Other && t.text == "=");
    // Go takes no offence at a pipe with nothing behind it.
    let end = match words.last() {
        Some(last) if last.text == "|" && words.len() > 1 => {
            inner.iter().rposition(|t| t.text == "|").unwrap_or(inner.len())
        }
        _ => inner.len(),
    };
    let mut body = String::new();
    let mut after_number = false;
    for token in &inner[..end] {
        let is_number = token.kind == Kind::Number;
        if is_number && after_number {
            return Err(format!("unexpected {} in operand", karat_value::print::quote(token.text)));
        }
        after_number = is_number;
        match token.kind {
            Kind::Number => body.push_str(&number(token.text)?),
            Kind::Text(_) if crate::go::quote::unquote(token.text).is_none() => {
                return Err(format!("invalid syntax: {}", token.text));
            }
            _ => body.push_str(token.text),
        }
    }
    out.push_str(open.text);
    out.push_str(before);
    if prints {
        out.push_str(&format!(" {SHOW} ({}) ", body.trim()));
    } else {
        out.push_str(&body);
    }
    out.push_str(behind);
    out.push_str(close.text);
    Ok(())
}

fn number(text: &str) -> Result<String, String> {
    if !text.starts_with('\'') && scan_number(text) != Ok(text.len()) {
        return Err(format!("bad number syntax: {}", karat_value::print::quote(text)));
    }
    match Number::parse(text)?.constant()? {
        Constant::Int(i64::MIN) => Ok(format!("({NUMBER} `{text}`)")),
        Constant::Int(int) => Ok(int.to_string()),
        Constant::Float(float) => Ok(format!("{float:e}")),
        Constant::Complex(..) => Ok(format!("({NUMBER} `{text}`)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(rewrite(text).as_deref(), Ok(want), "{text}");
    }

    #[test]
    fn what_is_printed_goes_through_one_function_and_numbers_are_plain() {
        check("a {{ .Path }} b", "a {{ _show (.Path) }} b");
        check("{{- isotime | upper -}}", "{{-  _show (isotime | upper)  -}}");
        check("{{if eq 0x10 1_0}}x{{ else }}{{end}}", "{{if eq 16 10}}x{{ else }}{{end}}");
        check("{{ $x := 'a' }}{{ $x }}", "{{ $x := 97 }}{{ _show ($x) }}");
        check(
            "{{ print 1e6 -1 `0x1` \"0x1\" x1 .x1 }}",
            "{{ _show (print 1e6 -1 `0x1` \"0x1\" x1 .x1) }}",
        );
        check("{{ \"a\" | }}{{/* 0x1 */}}", "{{ _show (\"a\") }}{{/* 0x1 */}}");
        check(
            "{{ print 1i -9223372036854775808 }}",
            "{{ _show (print (_number `1i`) (_number `-9223372036854775808`)) }}",
        );
        check("{{ x", "{{ x");
    }

    #[test]
    fn what_go_does_not_read_is_told() {
        for (text, want) in [
            ("{{ 08 }}", "integer overflow: \"08\""),
            ("{{ print 1.2.3 }}", "unexpected \".3\" in operand"),
            ("{{ 1a }}", "bad number syntax: \"1a\""),
            ("{{ \"\\q\" }}", "invalid syntax: \"\\q\""),
            ("{{ 'ab' }}", "malformed character constant: 'ab'"),
        ] {
            assert_eq!(rewrite(text).unwrap_err(), want, "{text}");
        }
    }
}
