//! Template text to items.

use unicode_general_category::{GeneralCategory as G, get_general_category};

use super::quote::{code_point, quote};

/// One item.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    /// Offset of its first byte.
    pub(super) pos: usize,
    /// As written; of an error, its message.
    pub(super) text: String,
    /// From 1.
    pub(super) line: usize,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Error,
    End,
    Text,
    LeftDelimiter,
    RightDelimiter,
    Space,
    Assign,
    Declare,
    Pipe,
    LeftParenthesis,
    RightParenthesis,
    Char,
    CharConstant,
    Complex,
    Number,
    String,
    RawString,
    Field,
    Variable,
    Identifier,
    Bool,
    Keyword(Keyword),
}

/// Words with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Dot,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Nil,
    Template,
    With,
}

impl Keyword {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "block" => Self::Block,
            "break" => Self::Break,
            "continue" => Self::Continue,
            "define" => Self::Define,
            "else" => Self::Else,
            "end" => Self::End,
            "if" => Self::If,
            "range" => Self::Range,
            "nil" => Self::Nil,
            "template" => Self::Template,
            "with" => Self::With,
            _ => return None,
        })
    }
}

impl Item {
    /// As errors show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            ItemKind::End => "EOF".into(),
            ItemKind::Error => self.text.clone(),
            ItemKind::Keyword(_) => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let start: String = self.text.chars().take(10).collect();
                format!("{}...", quote(&start))
            }
            _ => quote(&self.text),
        }
    }
}

/// The reader of items.
pub(super) struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    start: usize,
    inside: bool,
    depth: usize,
    /// What `line` counts up to.
    counted: usize,
    line: usize,
    failed: bool,
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_blank(c: char) -> bool {
    BLANKS.contains(&c)
}

fn is_word(c: char) -> bool {
    c == '_'
        || matches!(
            get_general_category(c),
            G::UppercaseLetter
                | G::LowercaseLetter
                | G::TitlecaseLetter
                | G::ModifierLetter
                | G::OtherLetter
                | G::DecimalNumber
        )
}

/// `- ` behind the opening delimiter.
fn trims_before(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_blank)
}

/// ` -}}`
fn trims_behind(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(is_blank) && chars.as_str().starts_with("-}}")
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, pos: 0, start: 0, inside: false, depth: 0, counted: 0, line: 1, failed: false }
    }

    pub(super) fn next_item(&mut self) -> Item {
        if self.failed {
            return Item { kind: ItemKind::End, pos: 0, text: String::new(), line: self.line };
        }
        if self.inside { self.inside_action() } else { self.outside() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.pos += c.map_or(0, char::len_utf8);
        c
    }

    fn start_line(&mut self) -> usize {
        self.line += self.text[self.counted..self.start].matches('\n').count();
        self.counted = self.start;
        self.line
    }

    fn item(&mut self, kind: ItemKind) -> Item {
        let line = self.start_line();
        let item =
            Item { kind, pos: self.start, text: self.text[self.start..self.pos].into(), line };
        self.start = self.pos;
        item
    }

    fn error(&mut self, message: impl Into<String>) -> Item {
        let line = self.start_line();
        self.failed = true;
        Item { kind: ItemKind::Error, pos: self.start, text: message.into(), line }
    }

    fn outside(&mut self) -> Item {
        loop {
            let Some(found) = self.rest().find("{{") else {
                self.pos = self.text.len();
                let kind = if self.pos > self.start { ItemKind::Text } else { ItemKind::End };
                return self.item(kind);
            };
            if found > 0 {
                let delimiter = self.pos + found;
                let mut text = &self.text[self.start..delimiter];
                if trims_before(&self.text[delimiter + 2..]) {
                    text = text.trim_end_matches(BLANKS);
                }
                self.pos = self.start + text.len();
                let item = (!text.is_empty()).then(|| self.item(ItemKind::Text));
                self.pos = delimiter;
                self.start = delimiter;
                if let Some(item) = item {
                    return item;
                }
            }
            self.pos += 2;
            let marker = if trims_before(self.rest()) { 2 } else { 0 };
            if self.text[self.pos + marker..].starts_with("/*") {
                self.pos += marker;
                self.start = self.pos;
                if let Some(error) = self.comment() {
                    return error;
                }
                continue;
            }
            let item = self.item(ItemKind::LeftDelimiter);
            self.inside = true;
            self.depth = 0;
            self.pos += marker;
            self.start = self.pos;
            return item;
        }
    }

    /// Skips a comment, unless it is wrong.
    fn comment(&mut self) -> Option<Item> {
        self.pos += 2;
        let Some(end) = self.rest().find("*/") else { return Some(self.error("unclosed comment")) };
        self.pos += end + 2;
        let trims = trims_behind(self.rest());
        if !trims && !self.rest().starts_with("}}") {
            return Some(self.error("comment ends before closing delimiter"));
        }
        self.pos += if trims { 4 } else { 2 };
        if trims {
            self.pos = self.text.len() - self.rest().trim_start_matches(BLANKS).len();
        }
        self.start = self.pos;
        None
    }

    fn right_delimiter(&mut self) -> Item {
        let trims = trims_behind(self.rest());
        if trims {
            self.pos += 2;
            self.start = self.pos;
        }
        self.pos += 2;
        let item = self.item(ItemKind::RightDelimiter);
        if trims {
            self.pos = self.text.len() - self.rest().trim_start_matches(BLANKS).len();
            self.start = self.pos;
        }
        self.inside = false;
        item
    }

    fn inside_action(&mut self) -> Item {
        if trims_behind(self.rest()) || self.rest().starts_with("}}") {
            if self.depth == 0 {
                return self.right_delimiter();
            }
            return self.error("unclosed left paren");
        }
        let Some(c) = self.next() else { return self.error("unclosed action") };
        match c {
            c if is_blank(c) => self.blanks(),
            '=' => self.item(ItemKind::Assign),
            ':' => {
                if self.next() == Some('=') {
                    self.item(ItemKind::Declare)
                } else {
                    self.error("expected :=")
                }
            }
            '|' => self.item(ItemKind::Pipe),
            '"' => self.quoted('"', ItemKind::String, "unterminated quoted string"),
            '\'' => self.quoted('\'', ItemKind::CharConstant, "unterminated character constant"),
            '`' => match self.rest().find('`') {
                Some(end) => {
                    self.pos += end + 1;
                    self.item(ItemKind::RawString)
                }
                None => self.error("unterminated raw quoted string"),
            },
            '$' => self.field(ItemKind::Variable),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) && self.peek().is_some() => {
                self.field(ItemKind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos = self.start;
                self.number()
            }
            c if is_word(c) => self.word(),
            '(' => {
                self.depth += 1;
                self.item(ItemKind::LeftParenthesis)
            }
            ')' => {
                if self.depth == 0 {
                    return self.error("unexpected right paren");
                }
                self.depth -= 1;
                self.item(ItemKind::RightParenthesis)
            }
            '!'..='~' => self.item(ItemKind::Char),
            c => self.error(format!("unrecognized character in action: {}", code_point(c))),
        }
    }

    fn blanks(&mut self) -> Item {
        let rest = &self.text[self.start..];
        let blanks = rest.len() - rest.trim_start_matches(BLANKS).len();
        self.pos = self.start + blanks;
        if trims_behind(&self.text[self.pos - 1..]) {
            self.pos -= 1;
            if blanks == 1 {
                return self.right_delimiter();
            }
        }
        self.item(ItemKind::Space)
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_blank(c) || self.rest().starts_with("}}"),
        }
    }

    fn skip_word(&mut self) -> Option<Item> {
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        if self.at_terminator() {
            return None;
        }
        // Not at the end, which is a terminator.
        let c = self.peek().unwrap_or('\0');
        Some(self.error(format!("bad character {}", code_point(c))))
    }

    fn word(&mut self) -> Item {
        if let Some(error) = self.skip_word() {
            return error;
        }
        let word = &self.text[self.start..self.pos];
        let kind = match Keyword::of(word) {
            Some(keyword) => ItemKind::Keyword(keyword),
            None if word == "true" || word == "false" => ItemKind::Bool,
            None => ItemKind::Identifier,
        };
        self.item(kind)
    }

    fn field(&mut self, kind: ItemKind) -> Item {
        if self.at_terminator() {
            let dot = ItemKind::Keyword(Keyword::Dot);
            return self.item(if kind == ItemKind::Field { dot } else { kind });
        }
        match self.skip_word() {
            Some(error) => error,
            None => self.item(kind),
        }
    }

    fn quoted(&mut self, end: char, kind: ItemKind, message: &str) -> Item {
        loop {
            match self.next() {
                Some('\\') => {
                    if matches!(self.next(), None | Some('\n')) {
                        return self.error(message);
                    }
                }
                None | Some('\n') => return self.error(message),
                Some(c) if c == end => return self.item(kind),
                Some(_) => {}
            }
        }
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.next();
        }
        found
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn number(&mut self) -> Item {
        let fine = self.scan_number();
        if fine && !self.peek().is_some_and(|c| c == '+' || c == '-') {
            return self.item(ItemKind::Number);
        }
        if fine && self.scan_number() && self.text[..self.pos].ends_with('i') {
            return self.item(ItemKind::Complex);
        }
        let shown = quote(&self.text[self.start..self.pos]);
        self.error(format!("bad number syntax: {shown}"))
    }

    fn scan_number(&mut self) -> bool {
        let mut digits = "0123456789_";
        self.accept("+-");
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            self.next();
            return false;
        }
        true
    }
}
