//! Regular expressions with the syntax of RE2, run by `regex-automata`.
//!
//! The engine's own syntax differs in details that templates can see: Unicode
//! classes for `\d \w \s \b`, limits of repetition, duplicate group names, which
//! escapes exist. So patterns are read here by the rules of RE2 (with Perl's
//! classes and non-greedy operators) and written out again in a form in which
//! the engine means the same. Both search leftmost-first.

mod classes;

use std::fmt::Write as _;

use regex_automata::meta;
use regex_automata::util::syntax;

/// The largest repeat count, also of nested repeats multiplied.
const MAX_REPEAT: u32 = 1000;
/// The deepest nesting of groups.
const MAX_DEPTH: usize = 1000;
/// The stack that the engine may need for each nested group, in bytes.
const STACK_PER_GROUP: usize = 32 << 10;
/// The largest compiled program, in bytes.
pub(crate) const MAX_PROGRAM: usize = 64 << 20;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    engine: meta::Regex,
    /// The names of the groups, without the whole match; `None` for unnamed ones.
    names: Vec<Option<String>>,
}

/// The byte ranges of one match: the whole, then each group.
pub(crate) type Groups = Vec<Option<(usize, usize)>>;

impl Pattern {
    /// Reads and compiles a pattern.
    ///
    /// # Errors
    /// What is wrong, with the part of the pattern that is.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let mut translator = Translator::new(pattern);
        let translated = translator.translate()?;
        // The engine compiles nested groups by recursion.
        let stack = STACK_PER_GROUP * (translator.depth + 8);
        let engine = stacker::maybe_grow(stack, stack, || {
            meta::Builder::new()
                .configure(meta::Config::new().utf8_empty(true).nfa_size_limit(Some(MAX_PROGRAM)))
                .syntax(syntax::Config::new().utf8(false).nest_limit(16 * MAX_DEPTH as u32))
                .build(&translated)
                .map_err(|error| {
                    if error.size_limit().is_some() {
                        format!("expression too large: `{pattern}`")
                    } else {
                        format!("cannot compile `{pattern}`: {error}")
                    }
                })
        })?;
        Ok(Self { engine, names: translator.names })
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.engine.memory_usage()
    }

    /// The names of the groups, without the whole match.
    pub(crate) fn names(&self) -> &[Option<String>] {
        &self.names
    }

    /// The first match.
    pub(crate) fn first(&self, text: &str) -> Option<Groups> {
        let mut captures = self.engine.create_captures();
        self.engine.captures(text, &mut captures);
        captures.is_match().then(|| groups(&captures))
    }

    /// All matches that do not overlap; an empty one does not touch the end of the one
    /// before it.
    pub(crate) fn all<'p>(&'p self, text: &'p str) -> impl Iterator<Item = Groups> + 'p {
        self.engine.captures_iter(text).map(|captures| groups(&captures))
    }

    /// Replaces all matches by the template, in which `$1`, `$name`, `${name}` are
    /// groups and `$$` is a dollar sign. `None` when the result is longer than the limit.
    pub(crate) fn replace_all(&self, text: &str, template: &str, limit: usize) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for found in self.all(text) {
            let Some((start, stop)) = found[0] else { continue };
            out.push_str(&text[end..start]);
            self.expand(&mut out, text, template, &found);
            end = stop;
            if out.len() > limit {
                return None;
            }
        }
        out.push_str(&text[end..]);
        Some(out)
    }

    fn expand(&self, out: &mut String, text: &str, template: &str, found: &Groups) {
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = reference(rest) else {
                out.push('$');
                continue;
            };
            rest = after;
            let range = match group_number(name) {
                Some(number) => found.get(number).copied().flatten(),
                None => self
                    .names
                    .iter()
                    .zip(&found[1..])
                    .find(|(known, range)| known.as_deref() == Some(name) && range.is_some())
                    .and_then(|(_, range)| *range),
            };
            if let Some((start, stop)) = range {
                out.push_str(&text[start..stop]);
            }
        }
        out.push_str(rest);
    }
}

fn groups(captures: &regex_automata::util::captures::Captures) -> Groups {
    captures.iter().map(|span| span.map(|span| (span.start, span.end))).collect()
}

/// A group reference after its dollar sign: the name and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = inner.find(|c: char| !is_name(c)).unwrap_or(inner.len());
    if end == 0 {
        return None;
    }
    let (name, rest) = inner.split_at(end);
    if braced { rest.strip_prefix('}').map(|rest| (name, rest)) } else { Some((name, rest)) }
}

/// May the character stand in the name of a group that a replacement refers to?
fn is_name(c: char) -> bool {
    use unicode_general_category::{GeneralCategory as Category, get_general_category};
    c == '_'
        || matches!(
            get_general_category(c),
            Category::UppercaseLetter
                | Category::LowercaseLetter
                | Category::TitlecaseLetter
                | Category::ModifierLetter
                | Category::OtherLetter
                | Category::DecimalNumber
        )
}

/// A name that is a plain number.
fn group_number(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = name.len() > 1 && name.starts_with('0');
    if !plain || leading_zero { None } else { name.parse().ok() }
}

/// The switches that `(?imsU)` sets.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_all: bool,
    swap_greed: bool,
}

/// One element of a sequence, written for the engine.
#[derive(Debug)]
struct Item {
    text: String,
    /// The largest product of nested repeat counts inside.
    repeats: u32,
}

/// A group that is still open.
#[derive(Debug)]
struct Open {
    /// Branches before the last `|`.
    branches: Vec<Item>,
    /// The sequence being read.
    sequence: Vec<Item>,
    /// The flags to return to.
    flags: Flags,
    capturing: bool,
}

struct Translator<'p> {
    pattern: &'p str,
    at: usize,
    flags: Flags,
    names: Vec<Option<String>>,
    /// The deepest nesting of groups so far.
    depth: usize,
}

impl<'p> Translator<'p> {
    fn new(pattern: &'p str) -> Self {
        Self { pattern, at: 0, flags: Flags::default(), names: Vec::new(), depth: 0 }
    }

    fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    fn translate(&mut self) -> Result<String, String> {
        let mut open: Vec<Open> = Vec::new();
        let mut branches: Vec<Item> = Vec::new();
        let mut sequence: Vec<Item> = Vec::new();
        // Where the last repeat operator began, when nothing stands after it.
        let mut last_repeat: Option<usize> = None;

        while let Some(next) = self.peek() {
            let start = self.at;
            let mut repeat: Option<usize> = None;
            match next {
                '(' => {
                    if self.rest().starts_with("(?") {
                        if let Some(capturing) = self.perl_group()? {
                            open.push(Open {
                                branches: std::mem::take(&mut branches),
                                sequence: std::mem::take(&mut sequence),
                                flags: capturing.1,
                                capturing: capturing.0,
                            });
                        }
                    } else {
                        self.at += 1;
                        self.names.push(None);
                        open.push(Open {
                            branches: std::mem::take(&mut branches),
                            sequence: std::mem::take(&mut sequence),
                            flags: self.flags,
                            capturing: true,
                        });
                    }
                    self.depth = self.depth.max(open.len());
                    if open.len() > MAX_DEPTH {
                        return Err(format!("expression nests too deeply: `{}`", self.pattern));
                    }
                }
                '|' => {
                    self.at += 1;
                    branches.push(concat(std::mem::take(&mut sequence)));
                }
                ')' => {
                    self.at += 1;
                    let Some(outer) = open.pop() else {
                        return Err(format!("unexpected ): `{}`", self.pattern));
                    };
                    branches.push(concat(std::mem::take(&mut sequence)));
                    let inner = alternate(std::mem::take(&mut branches));
                    let opener = if outer.capturing { "(" } else { "(?:" };
                    branches = outer.branches;
                    sequence = outer.sequence;
                    self.flags = outer.flags;
                    sequence.push(Item {
                        text: format!("{opener}{})", inner.text),
                        repeats: inner.repeats,
                    });
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    let (min, max) = match next {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(&mut sequence, start, last_repeat, min, max)?;
                    repeat = Some(last_repeat.unwrap_or(start));
                }
                '{' => match self.counts()? {
                    None => {
                        self.at = start + 1;
                        sequence.push(self.literal('{'));
                    }
                    Some((min, max)) => {
                        self.repeat(&mut sequence, start, last_repeat, min, max)?;
                        repeat = Some(last_repeat.unwrap_or(start));
                    }
                },
                '[' => {
                    let class = self.class()?;
                    sequence.push(self.folded(class));
                }
                '.' => {
                    self.at += 1;
                    let text = if self.flags.dot_all { "(?s:.)" } else { "[^\\n]" };
                    sequence.push(Item::new(text));
                }
                '^' => {
                    self.at += 1;
                    let text = if self.flags.multi_line { "(?m:^)" } else { "\\A" };
                    sequence.push(Item::new(text));
                }
                '$' => {
                    self.at += 1;
                    let text = if self.flags.multi_line { "(?m:$)" } else { "\\z" };
                    sequence.push(Item::new(text));
                }
                '\\' => self.backslash(&mut sequence)?,
                literal => {
                    self.bump();
                    sequence.push(self.literal(literal));
                }
            }
            last_repeat = repeat;
        }
        if !open.is_empty() {
            return Err(format!("missing closing ): `{}`", self.pattern));
        }
        branches.push(concat(sequence));
        Ok(alternate(branches).text)
    }

    /// Reads `(?`: a flag group gives `None`, a group its kind and the flags to return
    /// to at its end.
    fn perl_group(&mut self) -> Result<Option<(bool, Flags)>, String> {
        let rest = self.rest();
        for (prefix, name_at) in [("(?P<", 4), ("(?<", 3)] {
            if !rest.starts_with(prefix) {
                continue;
            }
            let Some(end) = rest.find('>') else {
                return Err(format!("invalid named capture: `{rest}`"));
            };
            let name = &rest[name_at..end];
            let valid = !name.is_empty()
                && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
            if !valid {
                return Err(format!("invalid named capture: `{}`", &rest[..=end]));
            }
            self.names.push(Some(name.to_owned()));
            self.at += end + 1;
            return Ok(Some((true, self.flags)));
        }
        let start = self.at;
        self.at += 2;
        let before = self.flags;
        let mut flags = self.flags;
        let mut on = true;
        let mut seen = false;
        while let Some(next) = self.bump() {
            match next {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_all = on,
                'U' => flags.swap_greed = on,
                '-' if on => {
                    on = false;
                    seen = false;
                    continue;
                }
                ':' | ')' if on || seen => {
                    self.flags = flags;
                    return Ok((next == ':').then_some((false, before)));
                }
                _ => break,
            }
            seen = true;
        }
        if self.at == self.pattern.len() && !self.pattern.ends_with([':', ')']) {
            return Err(format!("missing argument or closing ): `{}`", &self.pattern[start..]));
        }
        Err(format!("invalid or unsupported Perl syntax: `{}`", &self.pattern[start..self.at]))
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`; anything else is not a repeat.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let rest = self.rest();
        let Some((min, after)) = number(&rest[1..]) else { return Ok(None) };
        let (max, after) = match after.strip_prefix(',') {
            None => (Some(min), after),
            Some(after) if after.starts_with('}') => (None, after),
            Some(after) => match number(after) {
                Some((max, after)) => (Some(max), after),
                None => return Ok(None),
            },
        };
        let Some(after) = after.strip_prefix('}') else { return Ok(None) };
        let length = rest.len() - after.len();
        let bad = min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min);
        if bad {
            return Err(format!("invalid repeat count: `{}`", &rest[..length]));
        }
        self.at += length;
        Ok(Some((min, max)))
    }

    fn repeat(
        &mut self,
        sequence: &mut [Item],
        start: usize,
        last_repeat: Option<usize>,
        min: u32,
        max: Option<u32>,
    ) -> Result<(), String> {
        let mut greedy = !self.flags.swap_greed;
        if self.eat("?") {
            greedy = !greedy;
        }
        if let Some(before) = last_repeat {
            let operators = &self.pattern[before..self.at];
            return Err(format!("invalid nested repetition operator: `{operators}`"));
        }
        let operator = &self.pattern[start..self.at];
        let Some(item) = sequence.last_mut() else {
            return Err(format!("missing argument to repetition operator: `{operator}`"));
        };
        let times = match max {
            Some(0) => 0,
            Some(max) => max,
            None => min,
        };
        item.repeats = if max == Some(0) { 1 } else { item.repeats.saturating_mul(times.max(1)) };
        if item.repeats > MAX_REPEAT {
            return Err(format!("invalid repeat count: `{operator}`"));
        }
        let mut text = format!("(?:{})", item.text);
        match (min, max) {
            // The engine forgets the groups of what is never repeated, so this is what
            // may be there once, but matches nothing.
            (0, Some(0)) => text = format!("(?:[a&&b]{text})?"),
            (0, None) => text.push('*'),
            (1, None) => text.push('+'),
            (0, Some(1)) => text.push('?'),
            (min, None) => _ = write!(text, "{{{min},}}"),
            (min, Some(max)) => _ = write!(text, "{{{min},{max}}}"),
        }
        if !greedy {
            text.push('?');
        }
        item.text = text;
        Ok(())
    }

    /// A backslash outside of a class.
    fn backslash(&mut self, sequence: &mut Vec<Item>) -> Result<(), String> {
        for (escape, text) in
            [("\\A", "\\A"), ("\\z", "\\z"), ("\\b", "(?-u:\\b)"), ("\\B", "(?-u:\\B)")]
        {
            if self.eat(escape) {
                sequence.push(Item::new(text));
                return Ok(());
            }
        }
        if self.eat("\\Q") {
            let rest = self.rest();
            let (quoted, length) = match rest.find("\\E") {
                Some(end) => (&rest[..end], end + 2),
                None => (rest, rest.len()),
            };
            self.at += length;
            for literal in quoted.chars() {
                sequence.push(self.literal(literal));
            }
            return Ok(());
        }
        if let Some(class) = self.class_escape()? {
            sequence.push(self.folded(class));
            return Ok(());
        }
        let literal = self.escape()?;
        sequence.push(self.literal(literal));
        Ok(())
    }

    /// `\d`, `\pL` and their kin, as a bracketed class.
    fn class_escape(&mut self) -> Result<Option<String>, String> {
        for (escape, class) in [
            ("\\d", "[0-9]"),
            ("\\D", "[^0-9]"),
            ("\\s", "[\\t\\n\\x0C\\r ]"),
            ("\\S", "[^\\t\\n\\x0C\\r ]"),
            ("\\w", "[0-9A-Za-z_]"),
            ("\\W", "[^0-9A-Za-z_]"),
        ] {
            if self.eat(escape) {
                return Ok(Some(class.to_owned()));
            }
        }
        let rest = self.rest();
        let negative = if rest.starts_with("\\p") {
            false
        } else if rest.starts_with("\\P") {
            true
        } else {
            return Ok(None);
        };
        let body = &rest[2..];
        let (name, length) = if let Some(inner) = body.strip_prefix('{') {
            let Some(end) = inner.find('}') else {
                return Err(format!("invalid character class range: `{rest}`"));
            };
            (&inner[..end], end + 4)
        } else {
            let Some(letter) = body.chars().next() else {
                return Err(format!("invalid character class range: `{rest}`"));
            };
            (&body[..letter.len_utf8()], 2 + letter.len_utf8())
        };
        let (name, negative) = match name.strip_prefix('^') {
            Some(name) => (name, !negative),
            None => (name, negative),
        };
        let Some(class) = classes::unicode_class(name) else {
            return Err(format!("invalid character class range: `{}`", &rest[..length]));
        };
        self.at += length;
        let sign = if negative { "^" } else { "" };
        Ok(Some(format!("[{sign}{class}]")))
    }

    /// A backslash that stands for one character.
    fn escape(&mut self) -> Result<char, String> {
        let start = self.at;
        self.at += 1;
        let invalid = |this: &Self| {
            Err(format!("invalid escape sequence: `{}`", &this.pattern[start..this.at]))
        };
        let Some(letter) = self.bump() else {
            return Err("trailing backslash at end of expression".to_owned());
        };
        match letter {
            '0'..='7' => {
                let octal = |c: Option<char>| c.and_then(|c| c.to_digit(8));
                if letter != '0' && octal(self.peek()).is_none() {
                    return invalid(self);
                }
                let mut value = letter as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = octal(self.peek()) else { break };
                    value = value * 8 + digit;
                    self.at += 1;
                }
                char::from_u32(value).map_or_else(|| invalid(self), Ok)
            }
            'x' => {
                let mut value: u32 = 0;
                if self.eat("{") {
                    let mut digits = 0;
                    loop {
                        match self.bump() {
                            Some('}') if digits > 0 => break,
                            Some(c) if c.is_ascii_hexdigit() => {
                                value = value * 16 + c.to_digit(16).unwrap_or(0);
                                digits += 1;
                                if value > 0x0010_FFFF {
                                    return invalid(self);
                                }
                            }
                            _ => return invalid(self),
                        }
                    }
                } else {
                    for _ in 0..2 {
                        match self.bump().and_then(|c| c.to_digit(16)) {
                            Some(digit) => value = value * 16 + digit,
                            None => return invalid(self),
                        }
                    }
                }
                char::from_u32(value).map_or_else(|| invalid(self), Ok)
            }
            'a' => Ok('\u{7}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\u{b}'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => invalid(self),
        }
    }

    /// A bracketed class, as a class of the engine.
    fn class(&mut self) -> Result<String, String> {
        let start = self.at;
        let missing = |this: &Self| Err(format!("missing closing ]: `{}`", &this.pattern[start..]));
        self.at += 1;
        let mut out = String::from("[");
        if self.eat("^") {
            out.push('^');
        }
        let mut first = true;
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return missing(self);
            }
            if rest.starts_with(']') && !first {
                self.at += 1;
                break;
            }
            first = false;
            if rest.starts_with("[:")
                && let Some((name, _)) = rest[2..].split_once(":]")
            {
                let whole = name.len() + 4;
                let Some(class) = posix_class(name) else {
                    let text = &rest[..whole];
                    return Err(format!("invalid character class range: `{text}`"));
                };
                out.push_str(&class);
                self.at += whole;
                continue;
            }
            if let Some(class) = self.class_escape()? {
                out.push_str(&class);
                continue;
            }
            let range_start = self.at;
            let Some(low) = self.class_char()? else { return missing(self) };
            let mut high = low;
            let rest = self.rest();
            if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
                self.at += 1;
                let Some(end) = self.class_char()? else { return missing(self) };
                high = end;
                if high < low {
                    let text = &self.pattern[range_start..self.at];
                    return Err(format!("invalid character class range: `{text}`"));
                }
            }
            _ = write!(out, "\\x{{{:x}}}", low as u32);
            if high != low {
                _ = write!(out, "-\\x{{{:x}}}", high as u32);
            }
        }
        out.push(']');
        Ok(out)
    }

    fn class_char(&mut self) -> Result<Option<char>, String> {
        if self.rest().starts_with('\\') { self.escape().map(Some) } else { Ok(self.bump()) }
    }

    fn literal(&self, literal: char) -> Item {
        let text = if literal.is_alphanumeric() {
            literal.to_string()
        } else {
            format!("\\x{{{:x}}}", literal as u32)
        };
        if self.flags.fold && literal.is_alphabetic() {
            self.folded(text)
        } else {
            Item { text, repeats: 1 }
        }
    }

    fn folded(&self, text: String) -> Item {
        let text = if self.flags.fold { format!("(?i:{text})") } else { text };
        Item { text, repeats: 1 }
    }
}

impl Item {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), repeats: 1 }
    }
}

fn concat(items: Vec<Item>) -> Item {
    let repeats = items.iter().map(|item| item.repeats).max().unwrap_or(1);
    let text = items.into_iter().map(|item| item.text).collect();
    Item { text, repeats }
}

fn alternate(branches: Vec<Item>) -> Item {
    let repeats = branches.iter().map(|item| item.repeats).max().unwrap_or(1);
    let texts: Vec<String> = branches.into_iter().map(|item| item.text).collect();
    Item { text: texts.join("|"), repeats }
}

/// Digits without a leading zero, capped far above every limit.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..end];
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), &text[end..]))
}

fn posix_class(name: &str) -> Option<String> {
    let (name, sign) = match name.strip_prefix('^') {
        Some(name) => (name, "^"),
        None => (name, ""),
    };
    let ranges = match name {
        "alnum" => "0-9A-Za-z",
        "alpha" => "A-Za-z",
        "ascii" => "\\x00-\\x7F",
        "blank" => "\\t ",
        "cntrl" => "\\x00-\\x1F\\x7F",
        "digit" => "0-9",
        "graph" => "!-\\x7E",
        "lower" => "a-z",
        "print" => " -\\x7E",
        "punct" => "\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E",
        "space" => "\\t\\n\\x0B\\x0C\\r ",
        "upper" => "A-Z",
        "word" => "0-9A-Za-z_",
        "xdigit" => "0-9A-Fa-f",
        _ => return None,
    };
    Some(format!("[{sign}{ranges}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups of the first match, as texts.
    fn first<'t>(pattern: &str, text: &'t str) -> Option<Vec<Option<&'t str>>> {
        let found = Pattern::new(pattern).unwrap().first(text)?;
        Some(found.iter().map(|range| range.map(|(start, end)| &text[start..end])).collect())
    }

    #[test]
    fn what_matches() {
        assert_eq!(first("a|ab", "ab"), Some(vec![Some("a")]));
        assert_eq!(first(r"\w+\b", "é a_1é"), Some(vec![Some("a_1")]));
        assert_eq!(first("(?P<n>a)|(?P<n>b)", "b"), Some(vec![Some("b"), None, Some("b")]));
        assert_eq!(first("(a){0}b", "ab"), Some(vec![Some("b"), None]));
        assert_eq!(first(r"\Q.*\E+", "x.**"), Some(vec![Some(".**")]));
        assert_eq!(first(r"(?U)a+", "aaa"), Some(vec![Some("a")]));
        assert_eq!(first(r"\x{1F600}|\123", "S"), Some(vec![Some("S")]));
        assert_eq!(first(r"(?i)\W", "ſK"), None);
        assert_eq!(first(r"\B", "é"), Some(vec![Some("")]));
    }

    #[test]
    fn empty_matches_stand_between_characters() {
        let pattern = Pattern::new(r"\B").unwrap();
        assert_eq!(pattern.all("éa").count(), 1);
        let pattern = Pattern::new("x*").unwrap();
        assert_eq!(pattern.replace_all("é日", "-", 100).as_deref(), Some("-é-日-"));
        assert_eq!(pattern.replace_all("é日", "-----", 10), None);
    }

    #[test]
    fn what_is_refused() {
        for pattern in [
            "(",
            ")",
            "[",
            "a**",
            "*",
            "a{1001}",
            "(a{100}){11}",
            r"\Z",
            r"\8",
            r"\C",
            "(?=a)",
            "(?<!a)",
            "(?>a)",
            "(?P<1-2>a)",
            "(?P<n",
            "[z-a]",
            "[[:foo:]]",
            r"\p{foo}",
            r"\x{110000}",
            "\\",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(first(&nested(900), "a").unwrap().len(), 901);
        assert!(Pattern::new(&nested(1001)).is_err());
        assert!(Pattern::new(r"(\pL{100}){3}").is_ok());
        assert!(Pattern::new(&r"\pL{1000}".repeat(40)).is_err());
    }
}
