//! Values to and from JSON.

use std::fmt;

use crate::{Data, Number, Type, Value};

/// Why a value has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// Something in it is not known yet.
    Unknown,
    /// JSON has no infinities.
    Infinite,
    /// The text is no JSON, and why.
    Syntax(String),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("value is not known"),
            Self::Infinite => f.write_str("cannot serialize infinity as JSON"),
            Self::Syntax(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for JsonError {}

/// Compact JSON: keys in byte order; `<`, `>`, `&` and the two Unicode line separators escaped.
/// Numbers have all their digits. Marks are not looked at.
///
/// # Errors
/// Unknown values and infinities have no JSON form.
pub fn to_json(value: &Value) -> Result<String, JsonError> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), JsonError> {
    match value.data() {
        Data::Null => out.push_str("null"),
        Data::Unknown => return Err(JsonError::Unknown),
        Data::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Data::Number(number) if number.is_infinite() => return Err(JsonError::Infinite),
        Data::Number(number) => out.push_str(&number.to_text()),
        Data::String(text) => write_string(text, out),
        Data::Seq(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Data::Map(items) => {
            out.push('{');
            for (i, (key, item)) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// A JSON string with its quotes, as [`to_json`] writes it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(text, &mut out);
    out
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The value of a parsed JSON document: arrays are tuples, objects are objects, null is untyped.
/// Numbers keep what serde kept of them; [`from_number`] takes their text.
pub fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::untyped_null(),
        serde_json::Value::Bool(value) => Value::bool(*value),
        serde_json::Value::Number(number) => from_number(&number.to_string()),
        serde_json::Value::String(text) => Value::string(text.as_str()),
        serde_json::Value::Array(items) => Value::tuple(items.iter().map(from_json).collect()),
        serde_json::Value::Object(items) => {
            Value::object_of(items.iter().map(|(key, item)| (key.as_str(), from_json(item))))
        }
    }
}

/// The number in a JSON text.
pub fn from_number(text: &str) -> Value {
    Number::parse(text).map_or_else(|_| Value::unknown(Type::Number), Value::number)
}

/// A known, not null value as serde's JSON, for consumers that want a tree; numbers become doubles
/// unless they are 64-bit integers.
///
/// # Errors
/// As [`to_json`].
pub fn to_serde(value: &Value) -> Result<serde_json::Value, JsonError> {
    Ok(match value.data() {
        Data::Null => serde_json::Value::Null,
        Data::Unknown => return Err(JsonError::Unknown),
        Data::Bool(value) => serde_json::Value::Bool(*value),
        Data::Number(number) => match number.to_i64() {
            Some(number) => number.into(),
            None => serde_json::Number::from_f64(number.to_f64())
                .map(serde_json::Value::Number)
                .ok_or(JsonError::Infinite)?,
        },
        Data::String(text) => serde_json::Value::String(text.to_string()),
        Data::Seq(items) => {
            serde_json::Value::Array(items.iter().map(to_serde).collect::<Result<_, _>>()?)
        }
        Data::Map(items) => {
            let mut map = serde_json::Map::new();
            for (key, item) in items.iter() {
                map.insert(key.to_string(), to_serde(item)?);
            }
            serde_json::Value::Object(map)
        }
    })
}
