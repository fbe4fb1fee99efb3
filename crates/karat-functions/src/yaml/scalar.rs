//! What a scalar means.

use karat_value::{Number, Type, Value};
use libyaml_safer::ScalarStyle;

use crate::clock::parse_yaml_timestamp;
use crate::functions::encoding::decode_base64;

const PREFIX: &str = "tag:yaml.org,2002:";

/// A scalar with its meaning.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    Value(Value),
    /// The key `<<`, which merges another mapping.
    Merge,
}

/// Finds out what a scalar with this tag, text and style means.
///
/// # Errors
/// A tag that is unknown or does not go with the text.
pub(super) fn resolve(
    tag: Option<&str>,
    text: &str,
    style: ScalarStyle,
) -> Result<Meaning, String> {
    let short = match tag {
        None | Some("") => None,
        Some(tag) => match tag.strip_prefix(PREFIX) {
            Some(name @ ("str" | "bool" | "int" | "float" | "null" | "timestamp" | "binary")) => {
                Some(name)
            }
            _ => return Err(format!("unsupported tag {tag:?}")),
        },
    };
    let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
    let mut short = short;
    if may_mean_more(text) && !matches!(short, Some("str" | "binary")) {
        if quoted {
            return Ok(Meaning::Value(Value::string(text)));
        }
        if let Some(value) = word(text) {
            return Ok(Meaning::Value(value));
        }
        if short.is_none() && matches!(text, ".nan" | ".NaN" | ".NAN") {
            return Err("a number that is not a number (.nan) has no value".to_owned());
        }
        match text.as_bytes()[0] {
            b'.' => {
                if let Ok(number) = Number::parse(text) {
                    return Ok(Meaning::Value(Value::number(number)));
                }
            }
            b'+' | b'-' | b'0'..=b'9' => {
                if matches!(short, None | Some("timestamp"))
                    && let Some(moment) = parse_yaml_timestamp(text)
                {
                    return Ok(Meaning::Value(Value::string(moment.rfc3339())));
                }
                let plain = text.replace('_', "");
                if let Ok(number) = Number::parse(&plain) {
                    return Ok(Meaning::Value(Value::number(number)));
                }
                if plain.starts_with("0b") || plain.starts_with("-0b") {
                    short = Some("int");
                }
            }
            _ => {}
        }
    }
    if short.is_none() && text == "<<" {
        return Ok(Meaning::Merge);
    }
    tagged(short, text).map(Meaning::Value)
}

/// Can a text that begins like this mean anything but itself?
fn may_mean_more(text: &str) -> bool {
    text.is_empty()
        || text.starts_with(['+', '-', '.', 'y', 'Y', 'n', 'N', 't', 'T', 'f', 'F', 'o', 'O', '~'])
        || text.starts_with(|c: char| c.is_ascii_digit())
}

fn word(text: &str) -> Option<Value> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::bool(false)
        }
        "" | "~" | "null" | "Null" | "NULL" => Value::untyped_null(),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => infinity("Inf"),
        "-.inf" | "-.Inf" | "-.INF" => infinity("-Inf"),
        _ => return None,
    })
}

fn infinity(text: &str) -> Value {
    Number::parse(text).map_or_else(|_| Value::unknown(Type::Number), Value::number)
}

/// What a text means under a tag.
fn tagged(tag: Option<&str>, text: &str) -> Result<Value, String> {
    let unfit = |tag: &str| Err(format!("{text:?} is no {tag}"));
    match tag {
        None | Some("str") => Ok(Value::string(text)),
        Some("binary") => match decode_base64(text) {
            Ok(_) => Ok(Value::string(text)),
            Err(_) => unfit("Base64"),
        },
        Some("bool") => match word(text) {
            Some(value) if *value.ty() == Type::Bool => Ok(value),
            _ => unfit("bool"),
        },
        Some(tag @ ("int" | "float")) => {
            let plain = text.replace('_', "");
            match Number::parse(&plain).ok().or_else(|| prefixed(&plain)) {
                Some(number) => Ok(Value::number(number)),
                None => unfit(tag),
            }
        }
        Some("timestamp") => match parse_yaml_timestamp(text) {
            Some(moment) => Ok(Value::string(moment.rfc3339())),
            None => unfit("timestamp"),
        },
        Some("null") => Ok(Value::untyped_null()),
        Some(tag) => Err(format!("unsupported tag {tag:?}")),
    }
}

/// A whole number of 64 bits in another base.
fn prefixed(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else {
        (lower.strip_prefix("0b")?, 2)
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if text.starts_with('-') {
        let value = -i128::from(magnitude);
        i64::try_from(value).ok().map(Number::from)
    } else if text.starts_with('+') {
        i64::try_from(magnitude).ok().map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}
