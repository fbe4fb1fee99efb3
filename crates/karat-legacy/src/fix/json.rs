//! JSON to be changed, and printed as Go prints it.

use std::collections::BTreeMap;
use std::fmt::Write;

use karat_hcl::json_text::{Value, ValueKind};

/// Properties in order of the alphabet.
pub type Object = BTreeMap<String, Json>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A float of 64 bits, as all numbers are in Go.
    Number(f64),
    /// Text.
    Text(String),
    /// `[…]`
    Array(Vec<Self>),
    /// `{…}`
    Object(Object),
}

impl Json {
    /// What was read, without places. Of properties that stand twice, the last.
    pub(super) fn from_value(value: &Value) -> Result<Self, String> {
        Ok(match &value.kind {
            ValueKind::Null | ValueKind::Broken => Self::Null,
            ValueKind::Bool(b) => Self::Bool(*b),
            ValueKind::Number(digits) => match digits.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::Number(number),
                _ => return Err(format!("{digits} does not fit into a number of 64 bits")),
            },
            ValueKind::String(text) => Self::Text(text.text.clone()),
            ValueKind::Array(items) => {
                Self::Array(items.iter().map(Self::from_value).collect::<Result<_, _>>()?)
            }
            ValueKind::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|m| Ok((m.name.text.clone(), Self::from_value(&m.value)?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, in words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The text of a file: two blanks for each level, `&` escaped as in web pages, `<` and `>` not.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, 0);
        out.push('\n');
        out
    }

    fn print(&self, out: &mut String, level: usize) {
        let line = |out: &mut String, level: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", level));
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&print_number(*number)),
            Self::Text(text) => print_text(out, text),
            Self::Array(items) if items.is_empty() => out.push_str("[]"),
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    line(out, level + 1);
                    item.print(out, level + 1);
                }
                line(out, level);
                out.push(']');
            }
            Self::Object(members) if members.is_empty() => out.push_str("{}"),
            Self::Object(members) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    line(out, level + 1);
                    print_text(out, name);
                    out.push_str(": ");
                    value.print(out, level + 1);
                }
                line(out, level);
                out.push('}');
            }
        }
    }
}

fn print_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '&' | '\u{2028}' | '\u{2029}' | '\0'..' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Without an exponent from 1e-6 up to 1e21.
fn print_number(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}
