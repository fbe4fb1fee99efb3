//! Functions on text.

use std::sync::Arc;

use karat_value::{Type, Value};

use super::lists::MAX_ELEMENTS;
use crate::args::{Outcome, fail, fail_at, string, text, whole};
use crate::function::{CallContext, Function, Kind, Param, Place, Returns};
use crate::text::{cluster_count, clusters, is_space, lower, title, upper};

/// The longest text that a function makes out of shorter ones, in bytes.
pub(crate) const MAX_TEXT: usize = 64 << 20;

const STR: Param = Param::new("str", Kind::String);

/// A function of texts to a text or a bool.
const fn plain(
    name: &'static str,
    params: &'static [Param],
    returns: Kind,
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: crate::function::BodyFn,
) -> Function {
    Function {
        name,
        place: Place::Everywhere,
        doc,
        examples,
        params,
        variadic: None,
        returns: Returns::Always(returns),
        not_null: true,
        body,
    }
}

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    plain(
        "chomp",
        &[STR],
        Kind::String,
        "Removes all line ends from the end of a text.",
        &[("chomp(\"a\\r\\n\\n\")", "a")],
        |args, _, _| string(text(&args[0]).trim_end_matches(['\r', '\n'])),
    ),
    plain(
        "endswith",
        &[STR, Param::new("suffix", Kind::String)],
        Kind::Bool,
        "Tells whether a text ends with another.",
        &[("endswith(\"hello\", \"lo\")", "true")],
        |args, _, _| Ok(Value::bool(text(&args[0]).ends_with(text(&args[1])))),
    ),
    plain(
        "indent",
        &[Param::new("spaces", Kind::Number), STR],
        Kind::String,
        "Puts spaces in front of every line of a text but the first.",
        &[("indent(2, \"a\\nb\")", "a\\n  b")],
        indent,
    ),
    Function {
        variadic: Some(Param::new("lists", Kind::ListOfString)),
        ..plain(
            "join",
            &[Param::new("separator", Kind::String)],
            Kind::String,
            "Joins the elements of one or more lists of texts.",
            &[("join(\", \", [\"a\"], [\"b\", \"c\"])", "a, b, c")],
            join,
        )
    },
    plain(
        "lower",
        &[STR.dynamic()],
        Kind::String,
        "Changes all letters to lower case, each by itself.",
        &[("lower(\"ΟΔΟΣ\")", "οδοσ")],
        |args, _, _| string(lower(text(&args[0]))),
    ),
    plain(
        "replace",
        &[STR, Param::new("substr", Kind::String), Param::new("replace", Kind::String)],
        Kind::String,
        "Replaces every occurrence of a text. Slashes mean nothing; for patterns there is regex_replace.",
        &[("replace(\"hello\", \"l\", \"L\")", "heLLo")],
        replace,
    ),
    Function {
        returns: Returns::Always(Kind::ListOfString),
        ..plain(
            "split",
            &[Param::new("separator", Kind::String), STR],
            Kind::ListOfString,
            "Cuts a text at every separator. An empty separator cuts between code points.",
            &[("split(\",\", \"a,b\")", "[\"a\", \"b\"]")],
            split,
        )
    },
    plain(
        "startswith",
        &[STR, Param::new("prefix", Kind::String)],
        Kind::Bool,
        "Tells whether a text begins with another.",
        &[("startswith(\"hello\", \"he\")", "true")],
        |args, _, _| Ok(Value::bool(text(&args[0]).starts_with(text(&args[1])))),
    ),
    Function {
        not_null: false,
        ..plain(
            "strcontains",
            &[STR, Param::new("substr", Kind::String)],
            Kind::Bool,
            "Tells whether a text contains another.",
            &[("strcontains(\"hello\", \"ell\")", "true")],
            |args, _, _| Ok(Value::bool(text(&args[0]).contains(text(&args[1])))),
        )
    },
    plain(
        "strrev",
        &[STR.dynamic()],
        Kind::String,
        "Reverses a text by grapheme clusters.",
        &[("strrev(\"abc\")", "cba")],
        |args, _, _| {
            let pieces: Vec<&str> = clusters(text(&args[0])).collect();
            string(pieces.into_iter().rev().collect::<String>())
        },
    ),
    plain(
        "substr",
        &[
            STR.dynamic(),
            Param::new("offset", Kind::Number).dynamic(),
            Param::new("length", Kind::Number).dynamic(),
        ],
        Kind::String,
        "Takes a piece of a text, counted in grapheme clusters. A negative offset counts from the end; a negative length means the rest.",
        &[("substr(\"hello\", 1, 3)", "ell"), ("substr(\"hello\", -3, -1)", "llo")],
        substr,
    ),
    plain(
        "title",
        &[STR],
        Kind::String,
        "Changes the first letter of every word to title case.",
        &[("title(\"hello world\")", "Hello World")],
        |args, _, _| string(title(text(&args[0]))),
    ),
    plain(
        "trim",
        &[STR, Param::new("cutset", Kind::String)],
        Kind::String,
        "Removes the given characters from both ends of a text.",
        &[("trim(\"?!hello?!\", \"!?\")", "hello")],
        |args, _, _| {
            let cutset: Vec<char> = text(&args[1]).chars().collect();
            string(text(&args[0]).trim_matches(cutset.as_slice()))
        },
    ),
    plain(
        "trimprefix",
        &[STR, Param::new("prefix", Kind::String)],
        Kind::String,
        "Removes a text once from the beginning of another.",
        &[("trimprefix(\"hello\", \"he\")", "llo")],
        |args, _, _| {
            let whole = text(&args[0]);
            string(whole.strip_prefix(text(&args[1])).unwrap_or(whole))
        },
    ),
    plain(
        "trimspace",
        &[STR],
        Kind::String,
        "Removes white space from both ends of a text.",
        &[("trimspace(\" a b\\n\")", "a b")],
        |args, _, _| string(text(&args[0]).trim_matches(is_space)),
    ),
    plain(
        "trimsuffix",
        &[STR, Param::new("suffix", Kind::String)],
        Kind::String,
        "Removes a text once from the end of another.",
        &[("trimsuffix(\"a.tar.gz\", \".gz\")", "a.tar")],
        |args, _, _| {
            let whole = text(&args[0]);
            string(whole.strip_suffix(text(&args[1])).unwrap_or(whole))
        },
    ),
    plain(
        "upper",
        &[STR.dynamic()],
        Kind::String,
        "Changes all letters to upper case, each by itself: ß stays.",
        &[("upper(\"straße\")", "STRAßE")],
        |args, _, _| string(upper(text(&args[0]))),
    ),
];

fn indent(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let spaces = whole(&args[0])?;
    let text = text(&args[1]);
    let Ok(spaces) = usize::try_from(spaces) else {
        return fail_at(0, "the number of spaces must not be negative");
    };
    let lines = text.matches('\n').count();
    let too_long = lines.max(1).checked_mul(spaces).is_none_or(|added| added > MAX_TEXT);
    if too_long {
        return fail_at(0, format!("{spaces} spaces make the text too long"));
    }
    string(text.replace('\n', &format!("\n{}", " ".repeat(spaces))))
}

fn join(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let (separator, lists) = (text(&args[0]), &args[1..]);
    if lists.is_empty() {
        return fail("at least one list is required");
    }
    if lists.iter().any(|list| !list.is_wholly_known()) {
        return Ok(Value::unknown(Type::String));
    }
    let mut items = Vec::new();
    for (position, list) in lists.iter().enumerate() {
        for (index, item) in list.as_slice().unwrap_or_default().iter().enumerate() {
            let Some(item) = item.as_str() else {
                let of = if lists.len() > 1 {
                    format!(" of list {}", position + 1)
                } else {
                    String::new()
                };
                let message = format!("element {index}{of} is null; null cannot be joined");
                return fail_at(position + 1, message);
            };
            items.push(item);
        }
    }
    let length = items.iter().map(|item| item.len()).sum::<usize>();
    let separators = separator.len().saturating_mul(items.len());
    if length.saturating_add(separators) > MAX_TEXT {
        return fail("the joined text is too long");
    }
    string(items.join(separator))
}

fn replace(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let (whole, from, to) = (text(&args[0]), text(&args[1]), text(&args[2]));
    let count = whole.matches(from).count();
    if count.saturating_mul(to.len()) > MAX_TEXT {
        return fail("the text with its replacements is too long");
    }
    string(whole.replace(from, to))
}

fn split(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let (separator, whole) = (text(&args[0]), text(&args[1]));
    let pieces: Vec<Arc<str>> = if separator.is_empty() {
        whole.chars().map(|c| Arc::from(c.encode_utf8(&mut [0; 4]) as &str)).collect()
    } else {
        whole.split(separator).map(Arc::from).collect()
    };
    if pieces.len() > MAX_ELEMENTS {
        return fail_at(1, format!("gives more than {MAX_ELEMENTS} pieces"));
    }
    Ok(Value::string_list(pieces))
}

fn substr(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let whole_text = text(&args[0]);
    let mut offset = whole(&args[1])?;
    let length = whole(&args[2])?;
    if offset < 0 {
        offset = offset.saturating_add(cluster_count(whole_text) as i64);
    } else if length == 0 {
        return string("");
    }
    // What is left of a negative offset past the beginning counts from the beginning,
    // and a length of 0 is only honoured with an offset that was not negative.
    let skip = usize::try_from(offset).unwrap_or(0);
    let take = match length {
        ..=0 => usize::MAX,
        length => usize::try_from(length).unwrap_or(usize::MAX),
    };
    let piece: String = clusters(whole_text).skip(skip).take(take).collect();
    string(piece)
}
