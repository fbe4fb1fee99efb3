//! What holds for every text.

use karat_hcl::diag::SourceId;
use karat_hcl::{Strings, format, parse, parse_expression, parse_json, parse_template};
use proptest::prelude::*;

use crate::any;

const SOURCE: SourceId = SourceId(0);

fn check_any(text: &str) {
    any::parser(text);
    any::formatter(text);
    any::json(text);
}

/// Pieces that mean something, in any order: most texts made of them are wrong.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "foo",
        "in",
        "for",
        "if",
        "true",
        "null",
        "1",
        "2.5",
        "1e3",
        "\"x\"",
        "\"a${b}c\"",
        "\"%{ if a }x%{ endif }\"",
        "\"$${x}\"",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "?",
        ":",
        "::",
        ",",
        ".",
        "...",
        "=>",
        "=",
        "\n",
        " ",
        "\t",
        "\r\n",
        "\r",
        ".*",
        "[*]",
        ".0",
        "# c\n",
        "/* c */",
        "/*",
        "// d\n",
        "<<EOT\nhello ${a}\n  x\nEOT\n",
        "<<-EOT\n    a\n   ${~ b ~}\n    c\n  EOT\n",
        "<<E\n",
        "é",
        "e\u{301}",
        "\"",
        "${",
        "%{",
        "~}",
        "'",
        ";",
        "$",
        "\\",
        "\u{feff}",
        "\u{0}",
        "😀",
        "a {\n",
        "}\n",
        "x = 1\n",
        "b \"l\" {\n",
        "%{ for x in y }",
        "%{ else }",
        "%{ endfor }",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Valid expressions.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "1",
        "2.50",
        "\"x\"",
        "true",
        "null",
        "foo.bar",
        "\"a ${b} c\"",
        "var.x[0]",
        "a.*.b",
        "a[*].b.c[0]",
        "\"\\u00e9\\t$${x}\"",
        "\"\"",
        "\"%{ for k, v in m ~} ${k} %{~ endfor }\"",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (two.clone(), prop::sample::select(vec!["+", "-", "*", "==", "<", "&&", "||"]))
                .prop_map(|((a, b), op)| std::format!("{a}  {op} {b}")),
            inner.clone().prop_map(|a| std::format!("(\n{a}  # note\n)")),
            two.clone().prop_map(|(a, b)| std::format!("[{a},\n      {b} ,]")),
            two.clone().prop_map(|(a, b)| std::format!("{{\n x={a}, \"y z\" :{b}\n}}")),
            two.clone().prop_map(|(a, b)| std::format!("f( {a},{b}... )")),
            two.clone().prop_map(|(a, b)| std::format!("a?{a} : {b}")),
            inner.clone().prop_map(|a| std::format!("! {a}")),
            two.clone().prop_map(|(a, b)| std::format!("[ for x in {a}:{b} if x ]")),
            two.prop_map(|(a, b)| std::format!("{{for k,v in {a} : k=>{b}...}}")),
            inner.clone().prop_map(|a| std::format!("\" ${{ {a} }} y\"")),
            inner.prop_map(|a| std::format!("[<<-EOT\n    x\n  ${{ {a} }}\n  EOT\n]")),
        ]
    })
}

fn file() -> impl Strategy<Value = String> {
    let item = (expression(), 0..6u8, "[a-z]{1,8}").prop_map(|(e, shape, name)| match shape {
        0 => std::format!("{name} {{\n  x={e}\n}}\n"),
        1 => std::format!("{name} \"l\" m {{}}\n"),
        2 => std::format!("    # {name}\n\n"),
        3 => std::format!("{name} = {e} # {name}\n"),
        _ => std::format!("\t{name}   =   {e}\n"),
    });
    prop::collection::vec(item, 0..8).prop_map(|items| {
        // Names must not stand twice.
        let mut out = String::new();
        for (index, item) in items.iter().enumerate() {
            let trimmed = item.trim_start();
            let comment = trimmed.starts_with('#');
            out.push_str(&if comment { item.clone() } else { std::format!("n{index}_{trimmed}") });
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC*") {
        check_any(&text);
    }

    #[test]
    fn any_pieces(text in soup()) {
        check_any(&text);
    }

    #[test]
    fn valid_expressions(text in expression()) {
        let (_, diagnostics) = parse_expression(SOURCE, &text, 0..text.len());
        prop_assert!(diagnostics.is_empty(), "{diagnostics:?}");
    }

    #[test]
    fn valid_files(text in file()) {
        let (_, diagnostics) = parse(SOURCE, &text);
        prop_assert!(diagnostics.is_empty(), "{diagnostics:?}");
        check_any(&text);
        check_any(&text.replace('\n', "\r\n"));
        check_any(&std::format!("\u{feff}{text}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_generated_files(
        text in file(),
        outer in any::<bool>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize), 1..6),
        insert in prop::sample::select(vec!["", "{", "}", "[", "]", "(", ")", "\"", "${", "\n", ","]),
    ) {
        let text = if outer { std::format!("outer {{\n{text}}}\n") } else { text };
        let mut chars: Vec<char> = text.chars().collect();
        for (index, len) in cuts {
            if !chars.is_empty() {
                let at = index.index(chars.len());
                let end = (at + len).min(chars.len());
                chars.splice(at..end, insert.chars());
            }
        }
        check_any(&chars.into_iter().collect::<String>());
    }
}

/// Cutting a valid file anywhere, or taking a byte out of it, gives errors but never a panic.
#[test]
fn damaged_files() {
    let text = "source \"null\" \"a\" {\n  x = \"${f(\"a\", [1, {b = 2}])}\" # c\n  y = <<-EOT\n    a ${~ b ~} %{ if c }d%{ endif }\n  EOT\n}\n\nbuild {\n  z = a[*].b.*.c[0] ? -1 : !true\n}\n";
    for (at, c) in text.char_indices() {
        check_any(&text[..at]);
        check_any(&text[at..]);
        check_any(&(text[..at].to_owned() + &text[at + c.len_utf8()..]));
    }
}

#[test]
fn depth_is_bounded() {
    for open in ["(", "[", "{a=", "f(", "-", "!", "\"${", "a[", "a ? b : ", "[for x in ", "x {\n"] {
        let text = std::format!("a = {}", open.repeat(100_000));
        let (_, diagnostics) = parse(SOURCE, &text);
        assert!(diagnostics.has_errors(), "{open}");
        let (_, diagnostics) = parse(SOURCE, &open.repeat(100_000));
        assert!(diagnostics.has_errors(), "{open}");
    }
    for chain in [" + a", "[0]", ".b", "[*]", ".*", " || a", "[*].b", ".*.b[0]"] {
        let text = std::format!("a{}", chain.repeat(100_000));
        let _ = parse_expression(SOURCE, &text, 0..text.len());
    }
    for part in ["%{ if a }", "%{ for a in b }", "${", "${\"", "%{ else }", "<<E\n${"] {
        let text = part.repeat(50_000);
        let (_, diagnostics) = parse_template(SOURCE, &text, 0..text.len());
        assert!(diagnostics.has_errors() || part == "<<E\n${", "{part}");
    }
    let (_, diagnostics) = parse_json(SOURCE, &"[".repeat(100_000), Strings::Templates);
    assert!(diagnostics.has_errors());
}

#[test]
fn time_is_linear() {
    let pieces = [
        "a = 1\n",
        "a {\n",
        "}\n",
        "\"",
        "\"${",
        "${",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "a ",
        "= ",
        "# c\n",
        "/*",
        "<<E\n",
        "<<-E\n",
        "\n",
        "a b c {",
        "\"a\" ",
        "'",
        "a,",
        "}{",
        "])",
        "~}",
        "a = [\n",
        "x \"y\" \"z\" = {\n",
        "\\",
        "$",
        "%{",
        "\r",
    ];
    for piece in pieces {
        let time = |n: usize| {
            let text = piece.repeat(n / piece.len());
            let start = std::time::Instant::now();
            let _ = parse(SOURCE, &text);
            let _ = parse_template(SOURCE, &text, 0..text.len());
            let _ = format(&text);
            let _ = parse_json(SOURCE, &text, Strings::Templates);
            start.elapsed().as_secs_f64()
        };
        let _ = time(10_000);
        let large = time(200_000);
        assert!(large < 20.0, "{piece:?} takes {large} s for 200 kB");
    }
}
