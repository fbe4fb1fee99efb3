//! No argument makes a function panic, hang or fill the memory.

use std::path::Path;

use karat_functions::{CallContext, MemoryWorld, World, call, table};
use karat_value::{Mark, Number, Type, Value};
use proptest::prelude::*;

struct Context(MemoryWorld);

impl CallContext for Context {
    fn world(&self) -> &dyn World {
        &self.0
    }

    fn root(&self) -> &Path {
        Path::new("")
    }
}

/// Texts in which functions see more than letters.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "",
        "a",
        "B",
        "é",
        "e\u{301}",
        "👨\u{200d}👩\u{200d}👧",
        "क्ष",
        "\r\n",
        "\n",
        " ",
        "\t",
        "\0",
        "%",
        "%s",
        "%d",
        "%v",
        "%5.3[1]f",
        "%999999999d",
        "%.99999999f",
        "[",
        "]",
        "(",
        ")",
        "(?i",
        "(?P<n>",
        "{",
        "}",
        "{1,1000}",
        "*",
        "+?",
        "\\",
        "\\d",
        "\\p{L}",
        "\\Q",
        "|",
        "^",
        "$",
        "${",
        "$1",
        "-",
        "--- ",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "'",
        "\"",
        "#",
        "|\n  ",
        ">-\n",
        "? ",
        "~",
        "0x1f",
        "0b",
        "2001-01-01",
        "2018-01-02T03:04:05Z",
        "1h",
        "YYYY",
        "MMM",
        "1",
        "-1",
        "1e400",
        "0.1",
        ",",
        ".",
        "..",
        "/",
        "~/",
        "**",
        "{a,b}",
        "[^a]",
        "10.0.0.0/8",
        "fd00::/8",
        "::ffff:1.2.3.4/96",
        "YWJj",
        "=",
        "UTF-16",
        "Shift_JIS",
        "HZ-GB-2312",
        "null",
        "true",
        "[1,2]",
        "{\"a\":1}",
        "\\ud800",
        "dns",
        "-----BEGIN X-----\n",
        "-----END X-----",
        "\u{feff}",
        "\u{2028}",
        "\u{fffd}",
    ]);
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop::sample::select(vec![
        "0",
        "1",
        "-1",
        "2",
        "3.5",
        "-0",
        "1e21",
        "1e400",
        "-1e400",
        "Inf",
        "-Inf",
        "1e-300",
        "9223372036854775807",
        "-9223372036854775808",
        "255",
        "1024",
        "100000000",
    ]);
    let leaf = prop_oneof![
        4 => text().prop_map(Value::string),
        2 => number.prop_map(|text| Value::number(Number::parse(text).expect("these are all numbers"))),
        1 => any::<bool>().prop_map(Value::bool),
        1 => prop::sample::select(vec![
            Value::untyped_null(),
            Value::null(Type::String),
            Value::null(Type::list(Type::String)),
            Value::unknown(Type::String),
            Value::unknown(Type::Number),
            Value::unknown(Type::list(Type::String)),
            Value::dynamic(),
            Value::string("s3cret").marked(Mark::Sensitive),
        ]),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::tuple),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                let items = items.into_iter().map(|item| Value::tuple(vec![item]));
                Value::set(Type::Dynamic, items.collect())
            }),
            prop::collection::vec(text(), 0..4).prop_map(Value::string_list),
            prop::collection::vec((text(), inner), 0..4).prop_map(Value::object_of),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(
        function in 0..table().len(),
        args in prop::collection::vec(value(), 0..4),
    ) {
        let function = &table()[function];
        // Hashing passwords takes its time by design.
        prop_assume!(function.name != "bcrypt");
        let context = Context(MemoryWorld::default().with_file("a", "x").with_file("b/a", "x"));
        let missing = function.params.len().saturating_sub(args.len());
        let args: Vec<Value> =
            args.into_iter().chain(std::iter::repeat_n(Value::string("a"), missing)).collect();
        let sensitive = args.iter().any(Value::is_sensitive);
        if let Ok(result) = call(function, &args, &context) {
            // What comes of a secret is one, but for what tells nothing of the elements.
            let tells_nothing = ["length", "keys", "lookup", "element", "slice", "coalesce"];
            prop_assert!(
                !sensitive || result.is_sensitive() || tells_nothing.contains(&function.name)
                    || args.iter().any(|arg| !arg.marks().is_sensitive() && arg.is_sensitive()),
                "{} lost a mark of {args:?}: {result:?}", function.name
            );
        }
    }
}
