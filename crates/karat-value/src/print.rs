//! How values are shown on a console, and how text is quoted there.

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::{Data, Value};

/// What a console shows for a value: a top-level text as it is; everything else as an expression
/// over several lines. Nulls vanish from objects and maps. One unknown value anywhere makes it
/// `<unknown>` as a whole. Marks are not looked at.
pub fn console(value: &Value) -> String {
    if !value.is_wholly_known() {
        return "<unknown>".to_owned();
    }
    match value.data() {
        Data::String(text) => text.to_string(),
        _ => {
            let mut out = String::new();
            write(value, 0, &mut out);
            out
        }
    }
}

fn write(value: &Value, indent: usize, out: &mut String) {
    match value.data() {
        Data::Null => out.push_str("null"),
        Data::Unknown => out.push_str("<unknown>"),
        Data::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Data::Number(number) => out.push_str(&number.console()),
        Data::String(text) => out.push_str(&quote(text)),
        Data::Seq(items) if items.is_empty() => out.push_str("[]"),
        Data::Seq(items) => {
            out.push_str("[\n");
            for item in items.iter() {
                pad(indent + 2, out);
                write(item, indent + 2, out);
                out.push_str(",\n");
            }
            pad(indent, out);
            out.push(']');
        }
        Data::Map(items) => {
            let mut items = items.iter().filter(|(_, item)| !item.is_null()).peekable();
            if items.peek().is_none() {
                out.push_str("{}");
                return;
            }
            out.push_str("{\n");
            for (key, item) in items {
                pad(indent + 2, out);
                out.push_str(&quote(key));
                out.push_str(" = ");
                write(item, indent + 2, out);
                out.push('\n');
            }
            pad(indent, out);
            out.push('}');
        }
    }
}

fn pad(n: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', n));
}

/// The text in quotes, as Go's `%q` writes it: what cannot be seen is escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Whether Go's `%q` leaves a character as it is: letters, marks, numbers, punctuation, symbols
/// and the plain blank.
pub fn is_printable(c: char) -> bool {
    use GeneralCategory as G;
    match c {
        ' '..='~' => true,
        c if c.is_ascii() => false,
        c => !matches!(
            get_general_category(c),
            G::Control
                | G::Format
                | G::Surrogate
                | G::PrivateUse
                | G::Unassigned
                | G::LineSeparator
                | G::ParagraphSeparator
                | G::SpaceSeparator
        ),
    }
}
