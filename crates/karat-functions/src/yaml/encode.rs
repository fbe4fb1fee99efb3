//! From a value to a document, in the block style of libyaml's emitter: texts quoted or
//! as literal blocks, long quoted texts folded at 80 columns, sequences in mappings not
//! indented.

use std::fmt::Write as _;

use karat_value::{Data, Value};

/// Quoted texts go on in the next line after this column.
const WIDTH: usize = 80;
/// The longest key, in bytes, that stands before its colon without a question mark.
const SIMPLE_KEY: usize = 128;
const INDENT: usize = 2;

/// Writes a wholly known value.
pub(crate) fn encode(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), column: 0, whitespace: true, indention: true };
    writer.node(value, None, Place::Root);
    writer.line(0);
    if is_plain(value) {
        // A plain scalar might go on in the next line.
        writer.out.push_str("...\n");
    }
    writer.out
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Sequence,
    Key,
    SimpleKey,
    MappingValue,
}

struct Writer {
    out: String,
    column: usize,
    /// The last character was a space or nothing.
    whitespace: bool,
    /// Nothing but indentation and indicators stand in this line yet.
    indention: bool,
}

fn is_plain(value: &Value) -> bool {
    matches!(value.data(), Data::Null | Data::Unknown | Data::Bool(_) | Data::Number(_))
}

impl Writer {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_str(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// Begins a line with some indentation, unless this one is no longer than that.
    fn line(&mut self, indent: usize) {
        let here =
            self.indention && (self.column < indent || (self.column == indent && self.whitespace));
        if !here {
            self.line_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, spaced: bool, indention: bool) {
        if spaced && !self.whitespace {
            self.put(' ');
        }
        self.put_str(text);
        self.whitespace = false;
        self.indention &= indention;
    }

    /// Writes a node inside a collection of some indentation.
    fn node(&mut self, value: &Value, indent: Option<usize>, place: Place) {
        // Scalars that go over several lines are indented deeper than what they are in.
        let deeper = indent.map_or(INDENT, |indent| indent + INDENT);
        match value.data() {
            Data::Null | Data::Unknown => self.plain("null"),
            Data::Bool(value) => self.plain(if *value { "true" } else { "false" }),
            Data::Number(number) => self.plain(&number.to_text()),
            Data::String(text) => self.text(text, deeper, place),
            Data::Seq(items) if items.is_empty() => self.indicator("[]", true, false),
            Data::Map(items) if items.is_empty() => self.indicator("{}", true, false),
            Data::Seq(items) => {
                let indent = match indent {
                    None => 0,
                    Some(indent) if place == Place::MappingValue && !self.indention => indent,
                    Some(indent) => indent + INDENT,
                };
                for item in items.iter() {
                    self.line(indent);
                    self.indicator("-", true, true);
                    self.node(item, Some(indent), Place::Sequence);
                }
            }
            Data::Map(items) => {
                let indent = indent.map_or(0, |indent| indent + INDENT);
                for (key, value) in items.iter() {
                    self.line(indent);
                    let simple = key.len() <= SIMPLE_KEY && !key.chars().any(is_break);
                    if simple {
                        self.text(key, indent + INDENT, Place::SimpleKey);
                        self.indicator(":", false, false);
                    } else {
                        self.indicator("?", true, true);
                        self.text(key, indent + INDENT, Place::Key);
                        self.line(indent);
                        self.indicator(":", true, true);
                    }
                    self.node(value, Some(indent), Place::MappingValue);
                }
            }
        }
    }

    fn plain(&mut self, text: &str) {
        if !self.whitespace {
            self.put(' ');
        }
        self.put_str(text);
        self.whitespace = false;
        self.indention = false;
    }

    fn text(&mut self, text: &str, indent: usize, place: Place) {
        let literal = text.contains('\n') && place != Place::SimpleKey && may_be_literal(text);
        if literal { self.literal(text, indent) } else { self.quoted(text, indent, place) }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.indicator("|", true, false);
        if text.starts_with(|c| c == ' ' || is_break(c)) {
            self.put_str(&INDENT.to_string());
        }
        let mut backwards = text.chars().rev();
        match (backwards.next(), backwards.next()) {
            (Some(last), _) if !is_break(last) => self.put('-'),
            (Some(_), Some(before)) if !is_break(before) => {}
            (Some(_), _) => self.put('+'),
            (None, _) => self.put('-'),
        }
        self.line_break();
        self.indention = true;
        self.whitespace = true;
        let mut at_start = true;
        for c in text.chars() {
            if c == '\n' {
                self.line_break();
            } else if is_break(c) {
                self.out.push(c);
                self.column = 0;
            } else {
                if at_start {
                    self.line(indent);
                }
                self.put(c);
            }
            at_start = is_break(c);
            self.indention = at_start;
        }
    }

    fn quoted(&mut self, text: &str, indent: usize, place: Place) {
        self.indicator("\"", true, false);
        // A byte-order mark in front makes the original escape everything.
        let escape_all = text.starts_with('\u{feff}');
        let mut after_space = false;
        let mut rest = text.chars();
        let mut first = true;
        while let Some(c) = rest.next() {
            let following = rest.clone().next();
            if escape_all || !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                self.escape(c);
                after_space = false;
            } else if c == ' ' {
                let fold = place != Place::SimpleKey
                    && !after_space
                    && self.column > WIDTH
                    && !first
                    && following.is_some();
                if fold {
                    self.line(indent);
                    if following == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else {
                self.put(c);
                after_space = false;
            }
            first = false;
        }
        self.put('"');
        self.whitespace = false;
        self.indention = false;
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{a0}' => "\\_",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            c => {
                let code = c as u32;
                let start = self.out.len();
                let _ = match code {
                    0..=0xff => write!(self.out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(self.out, "\\u{code:04X}"),
                    _ => write!(self.out, "\\U{code:08X}"),
                };
                self.column += self.out.len() - start;
                return;
            }
        };
        self.put_str(short);
    }
}

/// The line breaks of YAML 1.1.
fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What stands in a document as it is. The astral planes do not, for libyaml.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}

/// A literal block shows a text only if nothing in it has to be escaped and no line of
/// it ends in a space.
fn may_be_literal(text: &str) -> bool {
    let mut previous = None;
    for c in text.chars() {
        if !is_printable(c) || (is_break(c) && previous == Some(' ')) {
            return false;
        }
        previous = Some(c);
    }
    previous != Some(' ')
}
