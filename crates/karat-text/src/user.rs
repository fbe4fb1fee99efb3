//! `{{ user }}` in texts that are rendered later, by those who know no user variables.

use std::collections::BTreeMap;

use crate::tokens::{Kind, Part, Token, parts};

/// Puts the values of user variables in place of the calls of `user` in a text that is rendered
/// later, and leaves all else as it stands.
///
/// A call that is all of its braces is replaced by the value itself, so that what stands in braces
/// in the value is rendered as well (`{{ .Path }}` in a variable that holds a command); one among
/// others, by the value in quotes.
pub fn insert_user_variables(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for part in parts(text) {
        let (action, tokens) = match part {
            Part::Plain(plain) | Part::Unended(plain) => {
                out.push_str(plain);
                continue;
            }
            Part::Action(action, tokens) => (action, tokens),
        };
        let inner: Vec<&Token<'_>> = tokens.iter().filter(|t| t.kind != Kind::Blank).collect();
        match inner.as_slice() {
            [open, call, name, close]
                if open.text == "{{" && close.text == "}}" && call.text == "user" =>
            {
                match &name.kind {
                    Kind::Text(name) => out.push_str(value(variables, name)),
                    _ => out.push_str(action),
                }
            }
            _ => write_quoted(&mut out, &tokens, variables),
        }
    }
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
    for part in parts(text) {
        let tokens = match part {
            Part::Plain(_) => continue,
            Part::Unended(action) => return check_parentheses(action.chars()),
            Part::Action(_, tokens) => tokens,
        };
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
