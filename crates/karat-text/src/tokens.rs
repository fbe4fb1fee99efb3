//! Texts cut into what is plain and actions, and actions into tokens.

use crate::go::scan_number;

/// A piece of a text.
pub(crate) enum Part<'a> {
    /// What stands outside of braces.
    Plain(&'a str),
    /// The rest from braces on that have no end. Who renders the text tells that.
    Unended(&'a str),
    /// An action, from its opening braces to its closing ones.
    Action(&'a str, Vec<Token<'a>>),
}

/// The pieces of a text. Together they are the text.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find("{{").unwrap_or(rest.len());
        if start > 0 {
            let (plain, behind) = rest.split_at(start);
            rest = behind;
            return Some(Part::Plain(plain));
        }
        if rest.is_empty() {
            return None;
        }
        let Some(tokens) = tokens(rest) else {
            return Some(Part::Unended(std::mem::take(&mut rest)));
        };
        let (action, behind) = rest.split_at(tokens.iter().map(|t| t.text.len()).sum());
        rest = behind;
        Some(Part::Action(action, tokens))
    })
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blank,
    /// A name, such as that of a function.
    Word,
    /// A number or a character constant, right or wrong.
    Number,
    /// A text in quotes, and what it says.
    Text(String),
    Other,
}

#[derive(Debug)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind,
}

/// The tokens of an action, from its opening braces to its closing ones. `None` if it has no end.
fn tokens(action: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = vec![Token { text: &action[..2], kind: Kind::Other }];
    let mut rest = &action[2..];
    loop {
        let first = rest.chars().next()?;
        let (length, kind) = match first {
            '}' if rest.starts_with("}}") => {
                tokens.push(Token { text: &rest[..2], kind: Kind::Other });
                return Some(tokens);
            }
            ' ' | '\t' | '\r' | '\n' => (rest.len() - rest.trim_start().len(), Kind::Blank),
            '`' => {
                let end = rest[1..].find('`')? + 2;
                (end, Kind::Text(rest[1..end - 1].replace('\r', "")))
            }
            '"' => quoted(rest)?,
            '\'' => (character(rest)?, Kind::Number),
            '-' if rest.starts_with("-}}") || tokens.len() == 1 && trims(rest) => (1, Kind::Other),
            c if begins_number(c, rest) => {
                let (Ok(length) | Err(length)) = scan_number(rest);
                (length, Kind::Number)
            }
            '/' if rest.starts_with("/*") => (rest.find("*/")? + 2, Kind::Blank),
            c if is_word(c) => {
                let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                (end, Kind::Word)
            }
            c => (c.len_utf8(), Kind::Other),
        };
        // `.user` and `$user` are no calls.
        let joined = tokens.last().is_some_and(|t| t.text.ends_with(['.', '$']));
        let kind = if joined && kind == Kind::Word { Kind::Other } else { kind };
        tokens.push(Token { text: &rest[..length], kind });
        rest = &rest[length..];
    }
}

/// `- ` behind opening braces
fn trims(rest: &str) -> bool {
    rest[1..].starts_with([' ', '\t', '\r', '\n'])
}

fn begins_number(c: char, rest: &str) -> bool {
    match c {
        '.' => rest[1..].starts_with(|c: char| c.is_ascii_digit()),
        c => c.is_ascii_digit() || matches!(c, '+' | '-'),
    }
}

/// The length of a character constant.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    loop {
        match chars.next()? {
            (at, '\'') => return Some(at + 1),
            (_, '\\') => {
                chars.next()?;
            }
            (_, '\n') => return None,
            _ => {}
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A text in double quotes: its length, and what it says.
fn quoted(rest: &str) -> Option<(usize, Kind)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((at + 1, Kind::Text(text))),
            '\n' => return None,
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                c @ ('"' | '\\') => text.push(c),
                other => text.extend(['\\', other]),
            },
            c => text.push(c),
        }
    }
    None
}
