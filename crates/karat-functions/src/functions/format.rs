//! Formatting by verbs.

use karat_value::json::{quote, to_json};
use karat_value::{Facts, Type, Value, convert};

use super::collections::fixed;
use super::lists::MAX_ELEMENTS;
use super::strings::MAX_TEXT;
use crate::args::{Outcome, fail, fail_at, string, text};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};
use crate::text::{cluster_count, clusters};

/// The greatest width and precision.
const MAX_WIDTH: usize = 1_000_000;

const FORMAT: Param = Param::new("format", Kind::String);
const ARGS: Param = Param::new("args", Kind::Any).null().unknown();

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        variadic: Some(ARGS),
        ..fixed(
            "format",
            &[FORMAT],
            Kind::String,
            "Builds a text by verbs: %s text, %d whole number, %f %e %g number, %x %o %b in bases, %t bool, %q quoted, %v by itself, %#v as JSON. Between % and the verb may stand flags (- + 0 # space), a width, .precision and [argument].",
            &[
                ("format(\"%s has %d\", \"Ann\", 3)", "Ann has 3"),
                ("format(\"%05.1f\", 3.14)", "003.1"),
            ],
            format,
        )
    },
    Function {
        variadic: Some(ARGS),
        ..fixed(
            "formatlist",
            &[FORMAT],
            Kind::ListOfString,
            "Formats once for every element of the lists among the arguments, which have one length; other arguments are used every time.",
            &[("formatlist(\"%s-%d\", [\"a\", \"b\"], 1)", "[\"a-1\", \"b-1\"]")],
            formatlist,
        )
    },
];

fn format(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    if args[1..].iter().any(|arg| !arg.is_wholly_known()) {
        // What stands before the first verb is known.
        let literal = text(&args[0]).split_once('%').map_or("", |(literal, _)| literal);
        return Ok(Value::unknown(Type::String).knowing(&Facts::prefix(literal)));
    }
    string(render(text(&args[0]), &args[1..])?)
}

fn formatlist(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let pattern = text(&args[0]);
    let args = &args[1..];
    let is_list = |arg: &Value| arg.ty().is_sequence() && !arg.is_null();
    let mut rows: Option<(usize, usize)> = None;
    let mut open = false;
    for (index, arg) in args.iter().enumerate() {
        if !is_list(arg) {
            continue;
        }
        let length = match arg.ty() {
            Type::Tuple(elements) => elements.len(),
            _ => match arg.element_count() {
                Some(count) => count,
                None => {
                    open = true;
                    continue;
                }
            },
        };
        open |= !arg.is_known();
        match rows {
            None => rows = Some((length, index)),
            Some((first, chooser)) if first != length => {
                let message = format!(
                    "argument {} has {length} elements, argument {} has {first}",
                    index + 1,
                    chooser + 1,
                );
                return fail_at(index + 1, message);
            }
            Some(_) => {}
        }
    }
    if open {
        return Ok(Value::unknown(ty.clone()));
    }
    let count = rows.map_or(1, |(length, _)| length);
    if count > MAX_ELEMENTS {
        return fail(format!("more than {MAX_ELEMENTS} elements"));
    }
    let mut results = Vec::with_capacity(count);
    let mut size = 0;
    for row in 0..count {
        let row_args: Vec<Value> = args
            .iter()
            .map(|arg| match arg.as_slice() {
                Some(items) if is_list(arg) => items[row].clone(),
                _ => arg.clone(),
            })
            .collect();
        if row_args.iter().any(|arg| !arg.is_wholly_known()) {
            results.push(Value::unknown(Type::String));
            continue;
        }
        let shown = render(pattern, &row_args).map_err(|error| FunctionError {
            message: if rows.is_some() {
                format!("in round {row}: {}", error.message)
            } else {
                error.message
            },
            ..error
        })?;
        size += shown.len();
        if size > MAX_TEXT {
            return fail("the results are too long");
        }
        results.push(Value::string(shown));
    }
    Ok(Value::list(Type::String, results))
}

/// One verb with everything between the percent sign and its letter.
#[derive(Debug, Default)]
struct Verb<'f> {
    /// As written, for messages.
    raw: &'f str,
    /// Where in the format it begins.
    offset: usize,
    letter: char,
    /// The argument, from 1.
    argument: usize,
    zero: bool,
    sharp: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

fn render(pattern: &str, args: &[Value]) -> Result<String, FunctionError> {
    let mut out = String::with_capacity(pattern.len());
    let mut at = 0;
    let mut next = 1;
    let mut highest = 0;
    while let Some(found) = pattern[at..].find('%') {
        out.push_str(&pattern[at..at + found]);
        at += found;
        if pattern[at..].starts_with("%%") {
            out.push('%');
            at += 2;
            continue;
        }
        let verb = read_verb(pattern, at, next)?;
        at += verb.raw.len();
        highest = highest.max(verb.argument);
        next = verb.argument + 1;
        let Some(arg) = args.get(verb.argument - 1) else {
            return fail(format!(
                "{:?} at offset {} needs argument {}, but {} given",
                verb.raw,
                verb.offset,
                verb.argument,
                args.len()
            ));
        };
        put(&mut out, &verb, arg).map_err(|message| {
            let message = format!("{:?} at offset {}: {message}", verb.raw, verb.offset);
            FunctionError::new(message)
        })?;
        if out.len() > MAX_TEXT {
            return fail("the formatted text is too long");
        }
    }
    out.push_str(&pattern[at..]);
    if highest < args.len() {
        let used = match highest {
            0 => "the format uses none".to_owned(),
            used => format!("the format uses only {used}"),
        };
        return fail_at(highest + 1, format!("too many arguments; {used}"));
    }
    Ok(out)
}

fn read_verb(pattern: &str, start: usize, next: usize) -> Result<Verb<'_>, FunctionError> {
    let bytes = pattern.as_bytes();
    let mut at = start + 1;
    let mut verb = Verb { offset: start, argument: next, ..Verb::default() };
    while let Some(flag) = bytes.get(at) {
        match flag {
            b'0' => verb.zero = true,
            b'#' => verb.sharp = true,
            b'-' => verb.minus = true,
            b'+' => verb.plus = true,
            b' ' => verb.space = true,
            _ => break,
        }
        at += 1;
    }
    if matches!(bytes.get(at), Some(b'1'..=b'9')) {
        verb.width = Some(read_number(pattern, &mut at)?);
    }
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        verb.precision = Some(read_number(pattern, &mut at)?);
    }
    if bytes.get(at) == Some(&b'[') && matches!(bytes.get(at + 1), Some(b'1'..=b'9')) {
        at += 1;
        verb.argument = read_number(pattern, &mut at)?;
        if bytes.get(at) != Some(&b']') {
            return bad_character(pattern, at);
        }
        at += 1;
    } else if bytes.get(at) == Some(&b'[') {
        return bad_character(pattern, at + 1);
    }
    match bytes.get(at) {
        Some(letter) if letter.is_ascii_alphabetic() => {
            verb.letter = char::from(*letter);
            verb.raw = &pattern[start..=at];
            Ok(verb)
        }
        _ => bad_character(pattern, at),
    }
}

fn bad_character<T>(pattern: &str, at: usize) -> Result<T, FunctionError> {
    match pattern.get(at..).and_then(|rest| rest.chars().next()) {
        Some(found) => fail_at(
            0,
            format!("unexpected {found:?} at offset {at}; a percent sign itself is written %%"),
        ),
        None => fail_at(0, format!("the format ends in the middle of a verb at offset {at}")),
    }
}

fn read_number(pattern: &str, at: &mut usize) -> Result<usize, FunctionError> {
    let digits = pattern[*at..].bytes().take_while(u8::is_ascii_digit).count();
    let text = &pattern[*at..*at + digits];
    *at += digits;
    let number = text.parse::<usize>().unwrap_or(if text.is_empty() { 0 } else { usize::MAX });
    if number > MAX_WIDTH {
        return fail_at(0, format!("the number {text} in the format is above {MAX_WIDTH}"));
    }
    Ok(number)
}

/// Why a verb cannot show its argument, without the verb.
type Shown = Result<(), String>;

fn put(out: &mut String, verb: &Verb<'_>, arg: &Value) -> Shown {
    match verb.letter {
        'v' => put_as_it_is(out, verb, arg),
        _ if arg.is_null() && "tbdoxXeEfgGsq".contains(verb.letter) => {
            Err("null cannot be formatted".to_owned())
        }
        't' => {
            let arg = convert(arg, &Type::Bool).map_err(|error| error.to_string())?;
            out.push_str(if arg.as_bool() == Some(true) { "true" } else { "false" });
            Ok(())
        }
        'b' | 'd' | 'o' | 'x' | 'X' => put_integer(out, verb, arg),
        'e' | 'E' | 'f' | 'g' | 'G' => put_float(out, verb, arg),
        's' | 'q' => put_text(out, verb, arg),
        other => {
            Err(format!("there is no verb {other:?}; the verbs are b d e E f g G o q s t v x X"))
        }
    }
}

fn put_as_it_is(out: &mut String, verb: &Verb<'_>, arg: &Value) -> Shown {
    if !verb.sharp {
        if let Some(text) = arg.as_str() {
            pad(out, verb, text);
            return Ok(());
        }
        if let Some(number) = arg.as_number() {
            pad(out, verb, &number.format('g', None));
            return Ok(());
        }
    }
    let json = to_json(arg).map_err(|error| error.to_string())?;
    pad(out, verb, &json);
    Ok(())
}

fn put_text(out: &mut String, verb: &Verb<'_>, arg: &Value) -> Shown {
    let arg = convert(arg, &Type::String).map_err(|error| error.to_string())?;
    let text = arg.as_str().unwrap_or_default();
    // A precision of 0 does not cut.
    let cut: String;
    let text = match verb.precision {
        Some(count) if count > 0 => {
            cut = clusters(text).take(count).collect();
            &cut
        }
        _ => text,
    };
    if verb.letter == 'q' {
        pad(out, verb, &quote(text));
    } else {
        pad(out, verb, text);
    }
    Ok(())
}

/// Fills up to the width, with zeros even on the right when asked for.
fn pad(out: &mut String, verb: &Verb<'_>, text: &str) {
    let missing = verb.width.map_or(0, |width| width.saturating_sub(cluster_count(text)));
    let filling = if verb.zero { "0" } else { " " }.repeat(missing);
    if verb.minus {
        out.push_str(text);
        out.push_str(&filling);
    } else {
        out.push_str(&filling);
        out.push_str(text);
    }
}

fn sign(verb: &Verb<'_>, negative: bool) -> &'static str {
    match (negative, verb.plus, verb.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn put_integer(out: &mut String, verb: &Verb<'_>, arg: &Value) -> Shown {
    let arg = convert(arg, &Type::Number).map_err(|error| error.to_string())?;
    let whole = arg.as_number().and_then(karat_value::Number::to_bigint);
    let Some(whole) = whole else { return Err("a whole number is required".to_owned()) };
    let (radix, prefix) = match verb.letter {
        'b' => (2, "0b"),
        'o' => (8, "0"),
        'x' => (16, "0x"),
        'X' => (16, "0X"),
        _ => (10, ""),
    };
    let shown = whole.in_radix(radix).to_string();
    let (negative, digits) = match shown.strip_prefix('-') {
        Some(digits) => (true, digits.to_owned()),
        None => (false, shown),
    };
    let digits = if verb.letter == 'X' { digits.to_uppercase() } else { digits };
    if verb.precision == Some(0) && digits == "0" {
        return Ok(());
    }
    let sign = sign(verb, negative);
    let prefix = if verb.sharp { prefix } else { "" };
    let mut zeros = verb.precision.map_or(0, |least| least.saturating_sub(digits.len()));
    let length = sign.len() + prefix.len() + zeros + digits.len();
    let missing = verb.width.map_or(0, |width| width.saturating_sub(length));
    let (mut left, mut right) = (0, 0);
    if verb.minus {
        right = missing;
    } else if verb.zero && verb.precision.is_none() {
        zeros += missing;
    } else {
        left = missing;
    }
    out.push_str(&" ".repeat(left));
    out.push_str(sign);
    out.push_str(prefix);
    out.push_str(&"0".repeat(zeros));
    out.push_str(&digits);
    out.push_str(&" ".repeat(right));
    Ok(())
}

fn put_float(out: &mut String, verb: &Verb<'_>, arg: &Value) -> Shown {
    let arg = convert(arg, &Type::Number).map_err(|error| error.to_string())?;
    let Some(number) = arg.as_number() else { return Err("a number is required".to_owned()) };
    let places = match (verb.letter, verb.precision) {
        (_, Some(places)) => Some(places),
        ('g' | 'G', None) => None,
        _ => Some(6),
    };
    let shown = number.format(verb.letter, places);
    let (sign, digits) = if let Some(digits) = shown.strip_prefix('-') {
        ("-", digits)
    } else if let Some(digits) = shown.strip_prefix('+') {
        // Only infinity carries a plus of its own.
        (if verb.space { " " } else { "+" }, digits)
    } else {
        (sign(verb, false), shown.as_str())
    };
    let missing = verb.width.map_or(0, |width| width.saturating_sub(sign.len() + digits.len()));
    let filling = " ".repeat(missing);
    if verb.zero && !number.is_infinite() {
        out.push_str(sign);
        out.push_str(&"0".repeat(missing));
        out.push_str(digits);
    } else if verb.minus {
        out.push_str(sign);
        out.push_str(digits);
        out.push_str(&filling);
    } else {
        out.push_str(&filling);
        out.push_str(sign);
        out.push_str(digits);
    }
    Ok(())
}
