//! JSON to HCL: which keys are arguments, and which are blocks.

use std::collections::BTreeMap;

use karat_hcl::is_identifier;
use karat_hcl::json_text::{Member, Value, ValueKind};
use karat_value::print::is_printable;
use unicode_normalization::UnicodeNormalization;

/// Keys and values of a block.
pub(super) type Config = BTreeMap<String, Value>;

/// Objects that are blocks even though they hold only plain values.
const BLOCKS: &[&str] = &["linux_options", "network_interface", "shared_image_gallery"];

/// The keys and values of an object.
pub(super) fn config(members: &[Member]) -> Config {
    members.iter().map(|m| (m.name.text.clone(), m.value.clone())).collect()
}

/// Writes what a block holds, keys in order of the alphabet. Mended, keys that are no names are
/// no arguments.
pub(super) fn write(out: &mut String, config: &Config, mend: bool) {
    for (key, value) in config {
        if mend && !is_identifier(key) {
            out.push_str("# left out, since it is no name: ");
            text(out, key);
            out.push('\n');
            continue;
        }
        match &value.kind {
            ValueKind::Object(members) if mend && has_other_keys(members) => {
                argument(out, key, value);
            }
            ValueKind::Object(members) if is_block(key, members) => block(out, key, members, mend),
            ValueKind::Array(items) if items.is_empty() => {}
            ValueKind::Array(items) if items.iter().all(|i| i.members().is_some()) => {
                for item in items.iter() {
                    block(out, key, item.members().unwrap_or_default(), mend);
                }
            }
            _ => argument(out, key, value),
        }
    }
}

/// An object is a block unless it holds plain values, and those alone.
///
/// Packer looks at the members in random order, and a `null` among them decides as chance has it;
/// here it does not count.
fn is_block(key: &str, members: &[Member]) -> bool {
    if BLOCKS.contains(&key) {
        return true;
    }
    let kinds = || members.iter().map(|m| &m.value.kind);
    let nested = |k: &ValueKind| matches!(k, ValueKind::Array(_) | ValueKind::Object(_));
    kinds().any(nested) || kinds().all(|k| matches!(k, ValueKind::Null))
}

fn has_other_keys(members: &[Member]) -> bool {
    members.iter().any(|m| !is_identifier(&m.name.text))
}

fn block(out: &mut String, key: &str, members: &[Member], mend: bool) {
    open(out, key, &[]);
    write(out, &config(members), mend);
    out.push_str("}\n");
}

/// Opens a block, which `}` and a line end close.
pub(super) fn open(out: &mut String, key: &str, labels: &[&str]) {
    out.push_str(key);
    for label in labels {
        out.push(' ');
        text(out, label);
    }
    out.push_str(" {\n");
}

/// Writes an argument.
pub(super) fn argument(out: &mut String, key: &str, value: &Value) {
    out.push_str(key);
    out.push('=');
    expression(out, value);
    out.push('\n');
}

/// Writes an argument that is text.
pub(super) fn text_argument(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push('=');
    text(out, value);
    out.push('\n');
}

fn expression(out: &mut String, value: &Value) {
    match &value.kind {
        ValueKind::Null | ValueKind::Broken => out.push_str("null"),
        ValueKind::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        ValueKind::Number(digits) => out.push_str(&number(digits)),
        ValueKind::String(string) => text(out, &string.text),
        ValueKind::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                expression(out, item);
            }
            out.push(']');
        }
        ValueKind::Object(members) => {
            out.push('{');
            if !members.is_empty() {
                out.push('\n');
            }
            for (key, value) in &config(members) {
                if is_identifier(key) {
                    out.push_str(key);
                } else {
                    text(out, key);
                }
                out.push('=');
                expression(out, value);
                out.push('\n');
            }
            out.push('}');
        }
    }
}

/// A number as a float of 64 bits prints, without an exponent.
fn number(digits: &str) -> String {
    digits.parse::<f64>().map_or_else(|_| digits.to_owned(), |n| n.to_string())
}

/// Writes a text in quotes.
pub(super) fn text(out: &mut String, text: &str) {
    out.push('"');
    let mut chars = text.nfc().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' => out.extend(['\\', c]),
            '$' | '%' => {
                out.push(c);
                if chars.peek() == Some(&'{') {
                    out.push(c);
                }
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let escape = if code < 0x1_0000 {
                    format!("\\u{code:04x}")
                } else {
                    format!("\\U{code:08x}")
                };
                out.push_str(&escape);
            }
        }
    }
    out.push('"');
}
