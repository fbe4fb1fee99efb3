//! `{{ user }}` in texts that are rendered later, by those who know no user variables.

use std::collections::BTreeMap;

use crate::go::scan_number;

/// Puts the values of user variables in place of the calls of `user` in a text that is rendered
/// later, and leaves all else as it stands.
///
/// A call that is all of its braces is replaced by the value itself, so that what stands in braces
/// in the value is rendered as well (`{{ .Path }}` in a variable that holds a command); one among
/// others, by the value in quotes.
pub fn insert_user_variables(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        out.push_str(before);
        let Some(tokens) = tokens(action) else {
            // It has no end; who renders it tells that.
            out.push_str(action);
            return out;
        };
        let length = tokens.iter().map(|t| t.text.len()).sum();
        let inner: Vec<&Token<'_>> = tokens.iter().filter(|t| t.kind != Kind::Blank).collect();
        match inner.as_slice() {
            [open, call, name, close]
                if open.text == "{{" && close.text == "}}" && call.text == "user" =>
            {
                match &name.kind {
                    Kind::Text(name) => out.push_str(value(variables, name)),
                    _ => out.push_str(&action[..length]),
                }
            }
            _ => write_quoted(&mut out, &tokens, variables),
        }
        rest = &action[length..];
    }
    out.push_str(rest);
    out
}

fn value<'a>(variables: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    variables.get(name).map(String::as_str).unwrap_or_default()
}

fn write_quoted(out: &mut String, tokens: &[Token<'_>], variables: &BTreeMap<String, String>) {
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        if token.text != "user" || token.kind != Kind::Word {
            out.push_str(token.text);
            continue;
        }
        let mut ahead = tokens.clone();
        let blank = ahead.next_if(|t| t.kind == Kind::Blank);
        match ahead.next().map(|t| &t.kind) {
            Some(Kind::Text(name)) => {
                out.push_str(&quote(value(variables, name)));
                if blank.is_some() {
                    tokens.next();
                }
                tokens.next();
            }
            _ => out.push_str(token.text),
        }
    }
}

/// How deep blocks may be nested, an alternative being in what it is the alternative of, and
/// likewise parentheses: who reads them goes down by recursion.
const DEEPEST: usize = 100;

/// Sees to it that every block has its end, and every end its block.
///
/// # Errors
/// What is there without the other, or nested too deep.
pub(crate) fn check_blocks(text: &str) -> Result<(), String> {
    // With how many blocks the `end` closes: one for the word, one for each `else if`.
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut depth = 0;
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let action = &rest[start..];
        // One without an end is told by who reads it.
        let Some(tokens) = tokens(action) else { return check_parentheses(action.chars()) };
        check_parentheses(tokens.iter().filter_map(|token| token.text.chars().next()))?;
        let words = tokens.iter().skip(1).filter(|t| t.kind != Kind::Blank && t.text != "-");
        let mut words = words.map(|token| token.text);
        match words.next().unwrap_or_default() {
            word @ ("if" | "with" | "range" | "block" | "define") => {
                open.push((word, 1));
                depth += 1;
            }
            "end" => match open.pop() {
                Some((_, blocks)) => depth -= blocks,
                None => return Err("{{end}}: there is nothing to end".into()),
            },
            "else" => match open.last_mut() {
                Some((_, blocks)) if matches!(words.next(), Some("if" | "with")) => {
                    *blocks += 1;
                    depth += 1;
                }
                Some(_) => {}
                None => {
                    return Err("{{else}}: there is nothing it is the alternative of".into());
                }
            },
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("blocks are nested more than {DEEPEST} deep"));
        }
        rest = &action[tokens.iter().map(|t| t.text.len()).sum()..];
    }
    match open.last() {
        Some((word, _)) => Err(format!("{{{{{word}}}}}: there is no {{{{end}}}} to it")),
        None => Ok(()),
    }
}

/// `chars`: the first of each token is enough.
fn check_parentheses(chars: impl Iterator<Item = char>) -> Result<(), String> {
    let mut open = 0_usize;
    for c in chars {
        match c {
            '(' => open += 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > DEEPEST {
            return Err(format!("parentheses are nested more than {DEEPEST} deep"));
        }
    }
    Ok(())
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
pub(crate) fn tokens(action: &str) -> Option<Vec<Token<'_>>> {
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

fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let variables = [("a", "x"), ("run", "sh {{ .Path }}"), ("q", "say \"hi\"\n")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(insert_user_variables(text, &variables.into()), want, "{text}");
    }

    #[test]
    fn calls_are_replaced_and_all_else_stays() {
        check("sudo {{user `a`}} {{ .Vars }}", "sudo x {{ .Vars }}");
        check("{{ user `run` }}", "sh {{ .Path }}");
        check("{{user \"none\"}}|", "|");
        check("{{ user `a` | upper }}", "{{ \"x\" | upper }}");
        check("{{ upper (user `q`) }}", "{{ upper (\"say \\\"hi\\\"\\n\") }}");
        check("{{- user `a` -}}", "{{- \"x\" -}}");
    }

    #[test]
    fn what_looks_like_a_call_and_is_none_stays() {
        for text in
            ["{{ .user }}", "{{ print \"user `a`\" }}", "{{ $user }}", "user `a`", "{{ user"]
        {
            check(text, text);
        }
    }
}
