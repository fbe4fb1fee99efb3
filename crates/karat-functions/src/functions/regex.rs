//! Functions with regular expressions, in the syntax of RE2.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use karat_value::{Type, Value};

use super::collections::{fixed, sequence, shaped};
use super::lists::MAX_ELEMENTS;
use super::strings::MAX_TEXT;
use crate::args::{Outcome, fail, fail_at, string, text};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};
use crate::regexp::{Groups, MAX_PROGRAM, Pattern};

const PARAMS: &[Param] = &[Param::new("pattern", Kind::String), Param::new("string", Kind::String)];

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    shaped(
        "regex",
        PARAMS,
        |args, cx| Ok(pattern_type(&args[0], cx)?.unwrap_or(Type::Dynamic)),
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
        |args, cx| Ok(Type::list(pattern_type(&args[0], cx)?.unwrap_or(Type::Dynamic))),
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

/// The bytes of a compiled pattern that take as long as one step of an evaluation.
const BYTES_PER_STEP: usize = 16;
/// The bytes and the number of compiled patterns that are kept besides the last.
const MAX_KEPT: usize = 16 << 20;
const MAX_COUNT: usize = 64;

thread_local! {
    /// What was compiled last, as each call needs its pattern twice and a loop all the time.
    static KEPT: RefCell<Vec<(String, Pattern)>> = const { RefCell::new(Vec::new()) };
}

fn compile(arg: &Value, position: usize, cx: &dyn CallContext) -> Result<Pattern, FunctionError> {
    let text = text(arg);
    if let Some(pattern) = kept(text) {
        return Ok(pattern);
    }
    let pattern = Pattern::new(text);
    // One that is too large was compiled until that was seen.
    let bytes = pattern.as_ref().map_or_else(|_| text.len() << 10, Pattern::bytes);
    if !cx.spend(bytes.min(MAX_PROGRAM) / BYTES_PER_STEP) {
        return fail_at(position, "too large patterns were compiled already");
    }
    let pattern = pattern.map_err(|message| {
        FunctionError::argument(position, format!("invalid pattern: {message}"))
    })?;
    keep(text, &pattern);
    Ok(pattern)
}

fn kept(text: &str) -> Option<Pattern> {
    KEPT.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(known, _)| known == text)?;
        kept[..=at].rotate_right(1);
        Some(kept[0].1.clone())
    })
}

fn keep(text: &str, pattern: &Pattern) {
    KEPT.with_borrow_mut(|kept| {
        let mut bytes = 0;
        kept.retain(|(_, pattern)| {
            bytes += pattern.bytes();
            bytes <= MAX_KEPT
        });
        kept.truncate(MAX_COUNT);
        kept.insert(0, (text.to_owned(), pattern.clone()));
    });
}

/// What a match of the pattern is; `None` while the pattern is unknown.
fn pattern_type(arg: &Value, cx: &dyn CallContext) -> Result<Option<Type>, FunctionError> {
    if arg.as_str().is_none() {
        return Ok(None);
    }
    result_type(&compile(arg, 0, cx)?).map(Some)
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

fn regex(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    let pattern = compile(&args[0], 0, cx)?;
    let text = text(&args[1]);
    match pattern.first(text) {
        Some(groups) => Ok(result(&pattern, text, &groups)),
        None => fail("the pattern matches no part of the text"),
    }
}

fn regexall(args: &[Value], ty: &Type, cx: &dyn CallContext) -> Outcome {
    let pattern = compile(&args[0], 0, cx)?;
    let text = text(&args[1]);
    let matches = pattern.all(text).take(MAX_ELEMENTS + 1);
    let found: Vec<Value> = matches.map(|groups| result(&pattern, text, &groups)).collect();
    if found.len() > MAX_ELEMENTS {
        return fail(format!("the pattern matches more than {MAX_ELEMENTS} times"));
    }
    Ok(sequence(ty, found))
}

fn regex_replace(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    let pattern = compile(&args[1], 1, cx)?;
    match pattern.replace_all(text(&args[0]), text(&args[2]), MAX_TEXT) {
        Some(replaced) => string(replaced),
        None => fail("the text with its replacements is too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use crate::{MemoryWorld, World};

    /// Has so many steps left.
    struct Steps(MemoryWorld, Cell<usize>);

    impl CallContext for Steps {
        fn world(&self) -> &dyn World {
            &self.0
        }

        fn root(&self) -> &Path {
            Path::new("")
        }

        fn spend(&self, steps: usize) -> bool {
            let left = self.1.get().checked_sub(steps);
            self.1.set(left.unwrap_or(0));
            left.is_some()
        }
    }

    #[test]
    fn a_pattern_costs_once_and_a_large_one_much() {
        let pattern = Value::string(r"\pL{20}x");
        let steps = Steps(MemoryWorld::default(), Cell::new(1_000_000));
        assert!(compile(&pattern, 0, &steps).is_ok());
        let left = steps.1.get();
        assert!(left < 1_000_000);
        assert!(compile(&pattern, 0, &steps).is_ok());
        assert_eq!(steps.1.get(), left, "it was kept");
        assert!(compile(&Value::string("x"), 0, &steps).is_ok());
        assert!(1_000_000 - left > 5 * (left - steps.1.get()), "a small one costs little");
    }

    #[test]
    fn patterns_cannot_be_compiled_without_end() {
        let steps = Steps(MemoryWorld::default(), Cell::new(10));
        let error = compile(&Value::string(r"\pL{20}y"), 1, &steps).unwrap_err();
        assert_eq!(error.argument, Some(1));
        assert!(error.message.contains("too large"));
    }
}
