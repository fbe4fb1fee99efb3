//! JSON text to values, with the place of everything and every key kept.

use std::sync::Arc;

use crate::diag::{Diagnostic, Diagnostics, SourceId, Span};

/// Arrays and objects may lie this deep in each other.
const MAX_NESTING: u32 = 100;

/// A JSON value and its place.
#[derive(Clone, Debug)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Its place, with quotes or brackets.
    pub span: Span,
}

/// A JSON value. Arrays and objects are cheap to clone.
#[derive(Clone, Debug)]
pub enum ValueKind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// As written.
    Number(String),
    /// Text in quotes.
    String(Text),
    /// `[…]`
    Array(Arc<[Value]>),
    /// `{…}`, with every property as often as it was written.
    Object(Arc<[Member]>),
    /// Could not be read; an error was reported.
    Broken,
}

/// A property of an object.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: Text,
    /// What is behind the colon.
    pub value: Value,
}

/// A string with its escapes resolved.
#[derive(Clone, Debug)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// With the quotes.
    pub span: Span,
    /// Offsets in `text` and in the source that belong together: at the start and behind each
    /// escape.
    pub(crate) steps: Vec<(usize, usize)>,
}

impl Text {
    /// A text that stands nowhere as it is, made of what stands at `span`.
    pub fn made(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span, steps: vec![(0, span.start as usize)] }
    }
}

impl Value {
    /// The properties, if this is an object.
    pub fn members(&self) -> Option<&[Member]> {
        match &self.kind {
            ValueKind::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    pub fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            ValueKind::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(&text.text),
            _ => None,
        }
    }

    /// The property of this name, the last if there are several.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let found = self.members()?.iter().rev().find(|m| m.name.text == name);
        found.map(|m| &m.value)
    }

    /// What it is, in words: "a string", "an array", …
    pub fn describe(&self) -> &'static str {
        match self.kind {
            ValueKind::Null => "null",
            ValueKind::Bool(_) => "a bool",
            ValueKind::Number(_) => "a number",
            ValueKind::String(_) => "a string",
            ValueKind::Array(_) => "an array",
            ValueKind::Object(_) => "an object",
            ValueKind::Broken => "unreadable",
        }
    }
}

/// Reads a JSON text. What cannot be read is broken, with an error.
pub fn read(source: SourceId, text: &str) -> (Value, Diagnostics) {
    let mut reader = Reader { source, text, pos: 0, depth: 0, diagnostics: Diagnostics::new() };
    if text.starts_with('\u{feff}') {
        reader.pos = 3;
    }
    let value = match reader.value() {
        Some(value) => {
            reader.blanks();
            if reader.pos < text.len() {
                let span = reader.here();
                reader.diagnostics.push(
                    Diagnostic::error("Extraneous data after value")
                        .detail("The text is complete before this.")
                        .at(span),
                );
            }
            value
        }
        None => Value { kind: ValueKind::Broken, span: Span::new(source, 0..text.len()) },
    };
    (value, reader.diagnostics)
}

struct Reader<'a> {
    source: SourceId,
    text: &'a str,
    pos: usize,
    depth: u32,
    diagnostics: Diagnostics,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn span(&self, start: usize) -> Span {
        Span::new(self.source, start..self.pos)
    }

    /// The character that comes next.
    fn here(&self) -> Span {
        let len = self.peek().map_or(0, char::len_utf8);
        Span::new(self.source, self.pos..self.pos + len)
    }

    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.diagnostics.push(diagnostic);
        None
    }

    fn found(&self) -> String {
        self.peek().map_or("the end of the text".to_owned(), |c| format!("{c:?}"))
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.pos += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, c: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(c);
        if found {
            self.pos += c.len_utf8();
        }
        found
    }

    fn value(&mut self) -> Option<Value> {
        self.blanks();
        let start = self.pos;
        let kind = match self.peek() {
            Some('{') => return self.nested(Self::object),
            Some('[') => return self.nested(Self::array),
            Some('"') => ValueKind::String(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some(c) if c.is_alphabetic() || c == '_' => self.word()?,
            Some('/' | '#') => {
                let span = self.here();
                return self.fail(
                    Diagnostic::error("Invalid JSON value")
                        .detail("There are no comments in JSON.")
                        .at(span)
                        .hint("A property named \"//\" holds a comment."),
                );
            }
            Some('\'') => {
                let span = self.here();
                return self.fail(
                    Diagnostic::error("Invalid JSON value")
                        .detail("Text stands in double quotes.")
                        .at(span)
                        .hint("Use \" instead of '."),
                );
            }
            _ => {
                let (span, found) = (self.here(), self.found());
                return self.fail(
                    Diagnostic::error("Invalid JSON value")
                        .detail(format!("A value is expected here, not {found}."))
                        .at(span),
                );
            }
        };
        Some(Value { kind, span: self.span(start) })
    }

    fn nested(&mut self, f: fn(&mut Self) -> Option<Value>) -> Option<Value> {
        if self.depth == MAX_NESTING {
            let span = self.here();
            return self.fail(
                Diagnostic::error("Nested too deeply")
                    .detail(format!(
                        "Arrays and objects may lie at most {MAX_NESTING} deep in each other."
                    ))
                    .at(span),
            );
        }
        self.depth += 1;
        let value = f(self);
        self.depth -= 1;
        value
    }

    fn word(&mut self) -> Option<ValueKind> {
        let start = self.pos;
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.pos += len;
        match &rest[..len] {
            "true" => Some(ValueKind::Bool(true)),
            "false" => Some(ValueKind::Bool(false)),
            "null" => Some(ValueKind::Null),
            word => {
                let span = self.span(start);
                self.fail(
                    Diagnostic::error("Invalid JSON keyword")
                        .detail(format!("{word:?} is not a JSON value."))
                        .at(span)
                        .hint(match word.to_lowercase().as_str() {
                            "true" => "Write true.",
                            "false" => "Write false.",
                            "null" | "none" | "nil" => "Write null.",
                            _ => "Text stands in double quotes.",
                        }),
                )
            }
        }
    }

    fn number(&mut self) -> Option<ValueKind> {
        let start = self.pos;
        let rest = self.rest();
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '+' | '-'))
            .unwrap_or(rest.len());
        self.pos += len;
        let text = &rest[..len];
        if is_number(text) {
            return Some(ValueKind::Number(text.to_owned()));
        }
        let span = self.span(start);
        let mut diagnostic = Diagnostic::error("Invalid JSON number")
            .detail(format!("{text} is not a number in JSON."))
            .at(span);
        if text.trim_start_matches('-').starts_with('0') {
            diagnostic = diagnostic.hint("A number has no leading zeros and no prefix.");
        }
        self.fail(diagnostic)
    }

    fn array(&mut self) -> Option<Value> {
        let start = self.pos;
        self.pos += 1;
        let mut items = Vec::new();
        if !self.eat(']') {
            loop {
                items.push(self.value()?);
                if self.eat(']') {
                    break;
                }
                self.comma(start, ']', "array")?;
            }
        }
        Some(Value { kind: ValueKind::Array(items.into()), span: self.span(start) })
    }

    /// A comma that another item follows.
    fn comma(&mut self, start: usize, close: char, what: &str) -> Option<()> {
        self.blanks();
        let at = self.here();
        if !self.eat(',') {
            let found = self.found();
            let opener = Span::new(self.source, start..start + 1);
            let diagnostic = match self.peek() {
                None => Diagnostic::error(format!("Unclosed {what}"))
                    .detail(format!("This {what} has no \"{close}\"."))
                    .at(opener),
                Some('=') => Diagnostic::error("Missing comma")
                    .detail(format!("After an item comes \",\" or \"{close}\", not \"=\"."))
                    .at(at)
                    .hint("In JSON a name and its value are separated by \":\"."),
                Some(_) => Diagnostic::error("Missing comma")
                    .detail(format!("After an item comes \",\" or \"{close}\", not {found}."))
                    .at(at)
                    .also(opener, format!("the {what}")),
            };
            return self.fail(diagnostic);
        }
        self.blanks();
        if self.peek() == Some(close) {
            return self.fail(
                Diagnostic::error("Trailing comma")
                    .detail(format!("In JSON no comma stands behind the last item of an {what}."))
                    .at(at)
                    .hint("Remove the comma."),
            );
        }
        Some(())
    }

    fn object(&mut self) -> Option<Value> {
        let start = self.pos;
        self.pos += 1;
        let mut members = Vec::new();
        if !self.eat('}') {
            loop {
                members.push(self.member()?);
                if self.eat('}') {
                    break;
                }
                self.comma(start, '}', "object")?;
            }
        }
        Some(Value { kind: ValueKind::Object(members.into()), span: self.span(start) })
    }

    fn member(&mut self) -> Option<Member> {
        self.blanks();
        if self.peek() != Some('"') {
            let (span, found) = (self.here(), self.found());
            return self.fail(
                Diagnostic::error("Invalid object property name")
                    .detail(format!("A name in double quotes is expected here, not {found}."))
                    .at(span),
            );
        }
        let name = self.string()?;
        if !self.eat(':') {
            let (span, found) = (self.here(), self.found());
            return self.fail(
                Diagnostic::error("Missing property value colon")
                    .detail(format!("After the name {:?} comes \":\", not {found}.", name.text))
                    .at(span),
            );
        }
        let value = self.value()?;
        Some(Member { name, value })
    }

    fn string(&mut self) -> Option<Text> {
        let start = self.pos;
        self.pos += 1;
        let mut text = String::new();
        let mut steps = vec![(0, self.pos)];
        loop {
            let rest = self.rest();
            let plain =
                rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ').unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            self.pos += plain;
            match self.peek() {
                Some('"') => {
                    self.pos += 1;
                    return Some(Text { text, span: self.span(start), steps });
                }
                Some('\\') => {
                    self.escape(&mut text)?;
                    steps.push((text.len(), self.pos));
                }
                Some('\n' | '\r') | None => {
                    let span = Span::new(self.source, start..start + 1);
                    return self.fail(
                        Diagnostic::error("Unterminated string")
                            .detail("The text that begins here has no closing quote on its line.")
                            .at(span),
                    );
                }
                Some(c) => {
                    let span = self.here();
                    return self.fail(
                        Diagnostic::error("Invalid JSON string")
                            .detail(format!("The control character {c:?} must be escaped."))
                            .at(span)
                            .hint(format!("Write \\u{:04x}.", u32::from(c))),
                    );
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let start = self.pos;
        self.pos += 1;
        let selector = self.peek();
        self.pos += selector.map_or(0, char::len_utf8);
        let c = match selector {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(start, out),
            _ => {
                let span = self.span(start);
                return self.fail(
                    Diagnostic::error("Invalid escape sequence")
                        .detail(r#"Only \" \\ \/ \b \f \n \r \t \uXXXX can be written in JSON."#)
                        .at(span)
                        .hint("For a backslash itself write \\\\."),
                );
            }
        };
        out.push(c);
        Some(())
    }

    fn unicode(&mut self, start: usize, out: &mut String) -> Option<()> {
        let Some(first) = self.hex() else {
            let span = self.span(start);
            return self.fail(
                Diagnostic::error("Invalid escape sequence")
                    .detail("After \\u come four hexadecimal digits.")
                    .at(span),
            );
        };
        let mut unit = first;
        if (0xD800..0xDC00).contains(&first) && self.rest().starts_with("\\u") {
            let behind = self.pos;
            self.pos += 2;
            match self.hex().filter(|low| (0xDC00..0xE000).contains(low)) {
                Some(low) => unit = 0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00),
                None => self.pos = behind,
            }
        }
        out.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        Some(())
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.pos += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}
