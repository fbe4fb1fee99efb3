//! Functions with regular expressions, in the syntax of RE2.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_value::{Type, Value};

use super::collections::{fixed, sequence, shaped};
use super::lists::MAX_ELEMENTS;
use super::strings::MAX_TEXT;
use crate::args::{Outcome, fail, fail_at, string, text};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};
use crate::regexp::{Groups, Pattern};

const PARAMS: &[Param] = &[Param::new("pattern", Kind::String), Param::new("string", Kind::String)];

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    shaped(
        "regex",
        PARAMS,
        |args, _| Ok(pattern_type(&args[0])?.unwrap_or(Type::Dynamic)),
        "Gives the first match of a pattern: the text itself, or, with groups, a tuple of them, or, with named groups, an object.",
        &[
            ("regex(\"[a-z]+\", \"12abc\")", "abc"),
            ("regex(\"(\\\\d+)-(\\\\d+)\", \"1-2\")", "[\"1\", \"2\"]"),
        ],
        regex,
    ),
    shaped(
        "regexall",
        PARAMS,
        |args, _| Ok(Type::list(pattern_type(&args[0])?.unwrap_or(Type::Dynamic))),
        "Gives all matches of a pattern, each as regex would.",
        &[("regexall(\"[0-9]+\", \"1a22\")", "[\"1\", \"22\"]")],
        regexall,
    ),
    fixed(
        "regex_replace",
        &[
            Param::new("str", Kind::String),
            Param::new("pattern", Kind::String),
            Param::new("replace", Kind::String),
        ],
        Kind::String,
        "Replaces every match of a pattern. $1 and ${name} stand for groups.",
        &[("regex_replace(\"abc\", \"(b)\", \"[$1]\")", "a[b]c")],
        regex_replace,
    ),
];

fn compile(arg: &Value, position: usize) -> Result<Pattern, FunctionError> {
    Pattern::new(text(arg))
        .map_err(|message| FunctionError::argument(position, format!("invalid pattern: {message}")))
}

/// What a match of the pattern is; `None` while the pattern is unknown.
fn pattern_type(arg: &Value) -> Result<Option<Type>, FunctionError> {
    if arg.as_str().is_none() {
        return Ok(None);
    }
    result_type(&compile(arg, 0)?).map(Some)
}

fn result_type(pattern: &Pattern) -> Result<Type, FunctionError> {
    let names = pattern.names();
    let named = names.iter().flatten().count();
    if names.is_empty() {
        Ok(Type::String)
    } else if named == 0 {
        Ok(Type::tuple(vec![Type::String; names.len()]))
    } else if named == names.len() {
        Ok(Type::object(names.iter().flatten().map(|name| (name.as_str(), Type::String))))
    } else {
        fail_at(0, "invalid pattern: named and unnamed groups cannot be mixed")
    }
}

fn result(pattern: &Pattern, text: &str, groups: &Groups) -> Value {
    let piece = |range: &Option<(usize, usize)>| match range {
        Some((start, end)) => Value::string(&text[*start..*end]),
        None => Value::null(Type::String),
    };
    let names = pattern.names();
    if names.is_empty() {
        piece(&groups[0])
    } else if names[0].is_none() {
        Value::tuple(groups[1..].iter().map(piece).collect())
    } else {
        let named = names.iter().zip(&groups[1..]);
        let attributes: BTreeMap<Arc<str>, Value> = named
            .filter_map(|(name, range)| Some((Arc::from(name.as_deref()?), piece(range))))
            .collect();
        Value::object(attributes)
    }
}

fn regex(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let pattern = compile(&args[0], 0)?;
    let text = text(&args[1]);
    match pattern.first(text) {
        Some(groups) => Ok(result(&pattern, text, &groups)),
        None => fail("the pattern matches no part of the text"),
    }
}

fn regexall(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let pattern = compile(&args[0], 0)?;
    let text = text(&args[1]);
    let matches = pattern.all(text).take(MAX_ELEMENTS + 1);
    let found: Vec<Value> = matches.map(|groups| result(&pattern, text, &groups)).collect();
    if found.len() > MAX_ELEMENTS {
        return fail(format!("the pattern matches more than {MAX_ELEMENTS} times"));
    }
    Ok(sequence(ty, found))
}

fn regex_replace(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let pattern = compile(&args[1], 1)?;
    match pattern.replace_all(text(&args[0]), text(&args[2]), MAX_TEXT) {
        Some(replaced) => string(replaced),
        None => fail("the text with its replacements is too long"),
    }
}
