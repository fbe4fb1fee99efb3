//! JSON.
//!
//! The reader is our own: templates can see how numbers of any size, lone surrogates
//! and repeated keys are read, and there the readers at hand differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_value::json::to_json;
use karat_value::{Facts, Number, Type, Value};

use super::collections::{fixed, shaped};
use crate::args::{Outcome, string, text};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 500;

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        not_null: false,
        ..shaped(
            "jsondecode",
            &[Param::new("str", Kind::String)],
            |args, _| match args[0].as_str() {
                Some(source) => Ok(decode(source)?.ty().clone()),
                None => Ok(Type::Dynamic),
            },
            "Reads a value from JSON. Arrays become tuples, objects become objects.",
            &[("jsondecode(\"[1, true]\")", "[1, true]")],
            |args, _, _| decode(text(&args[0])),
        )
    },
    fixed(
        "jsonencode",
        &[Param::new("val", Kind::Any).unknown().dynamic().null()],
        Kind::String,
        "Writes a value as JSON on one line, keys in byte order, < > & escaped.",
        &[("jsonencode({b = 1, a = null})", "{\"a\":null,\"b\":1}")],
        encode,
    ),
];

fn encode(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    if !args[0].is_wholly_known() {
        let unknown = Value::unknown(Type::String);
        if !args[0].is_certainly_not_null() {
            return Ok(unknown);
        }
        let prefix = match args[0].ty() {
            Type::String => "\"",
            ty if ty.is_mapping() => "{",
            ty if ty.is_sequence() => "[",
            _ => "",
        };
        return Ok(unknown.knowing(&Facts { prefix: prefix.into(), ..Facts::not_null() }));
    }
    string(to_json(&args[0]).map_err(|error| FunctionError::argument(0, error.to_string()))?)
}

fn decode(source: &str) -> Outcome {
    let mut reader = Reader { source, at: 0 };
    let result = reader.document();
    result.map_err(|message| {
        let before = &source[..reader.at.min(source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        FunctionError::argument(
            0,
            format!("invalid JSON at line {line}, column {column}: {message}"),
        )
    })
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Reader<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, String> {
        Err(match self.rest().chars().next() {
            Some(found) => format!("found {found:?} where {wanted} is expected"),
            None => format!("the text ends where {wanted} is expected"),
        })
    }

    fn document(&mut self) -> Result<Value, String> {
        self.blanks();
        let value = self.value(0)?;
        self.blanks();
        // Packer takes a closing bracket too many for the end of the document.
        if matches!(self.peek(), None | Some(b']' | b'}')) {
            Ok(value)
        } else {
            self.unexpected("the end")
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::string(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words = [
                    ("true", Value::bool(true)),
                    ("false", Value::bool(false)),
                    ("null", Value::untyped_null()),
                ];
                for (word, value) in words {
                    if self.rest().starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                self.unexpected("a value")
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut attributes: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::object(attributes));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return self.unexpected("a key in quotes");
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return self.unexpected("\":\"");
            }
            self.at += 1;
            self.blanks();
            let value = self.value(depth + 1)?;
            let Some(key) = Value::string(key).as_str().map(Arc::from) else { continue };
            attributes.insert(key, value);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::object(attributes));
                }
                _ => return self.unexpected("\",\" or \"}\""),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::tuple(items));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::tuple(items));
                }
                _ => return self.unexpected("\",\" or \"]\""),
            }
        }
    }

    fn digits(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        if count == 0 { self.unexpected("a digit") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let shown = &self.source[start..self.at];
        Number::parse(shown).map(Value::number).map_err(|error| error.to_string())
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                return self.unexpected("a closing quote");
            };
            match next {
                '"' => {
                    self.at += 1;
                    return Ok(out);
                }
                '\\' => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                c if (c as u32) < 0x20 => {
                    return self.unexpected("text (control characters are escaped)");
                }
                c => {
                    out.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.code_unit()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                // A high surrogate joins with a low one right after it; alone it stands
                // for nothing.
                let after_high = self.at;
                if self.rest().starts_with("\\u") {
                    self.at += 1;
                    let low = self.code_unit()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = after_high;
                }
                return Ok(char::REPLACEMENT_CHARACTER);
            }
            _ => return self.unexpected("an escape (one of \" \\ / b f n r t u)"),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// Four hexadecimal digits after a `u`.
    fn code_unit(&mut self) -> Result<u32, String> {
        let digits = self.source.as_bytes().get(self.at + 1..self.at + 5).unwrap_or_default();
        let all_hex = digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit);
        let Some(digits) = std::str::from_utf8(digits).ok().filter(|_| all_hex) else {
            self.at += 1;
            return self.unexpected("four hexadecimal digits");
        };
        self.at += 5;
        u32::from_str_radix(digits, 16).map_err(|error| error.to_string())
    }
}
