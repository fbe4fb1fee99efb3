//! Whatever is given, nothing panics.

mod any;

use any::everything;
use proptest::prelude::*;

/// Pieces that templates are made of, and that they break on.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    "\\n",
    "user",
    "`x`",
    "\\\"",
    "'",
    "|",
    "(",
    ")",
    ".",
    ".A",
    "$",
    "$x",
    ":=",
    "=",
    ",",
    "1",
    "-",
    "0x",
    "1e9",
    "i",
    "if",
    "else",
    "end",
    "range",
    "with",
    "define",
    "template",
    "block",
    "break",
    "nil",
    "true",
    "upper",
    "split",
    "replace",
    "timestamp",
    "isotime",
    "env",
    "aws_secretsmanager",
    "printf",
    "é",
    "\\u0000",
    "☃",
    "/*",
    "*/",
    "\\\\",
    "${",
    "%{",
    "}",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-0.5e3".to_owned()),
        text().prop_map(|t| format!("\"{t}\"")),
        Just("\"amazon-ebs\"".to_owned()),
        Just("\"qemu\"".to_owned()),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "type",
            "name",
            "only",
            "override",
            "source_ami_filter",
            "timeout",
            "tags",
            "disk_size",
            "network",
            "storage",
            "tag",
            "a b",
            "ssh_private_ip",
            "environment_vars",
        ])
        .prop_map(str::to_owned),
        text(),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let members = prop::collection::vec((key.clone(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn template() -> impl Strategy<Value = String> {
    let part = || prop::collection::vec(json(), 0..3).prop_map(|v| format!("[{}]", v.join(",")));
    (json(), text(), part(), part(), part()).prop_map(|(variables, default, b, p, pp)| {
        format!(
            "{{\"variables\": {{\"v\": \"{default}\", \"w\": {variables}}}, \"sensitive-variables\": \
             [\"v\"], \"builders\": {b}, \"provisioners\": {p}, \"post-processors\": {pp}}}"
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn templates(text in template()) {
        everything(&text);
    }

    #[test]
    fn texts(text in ".{0,80}") {
        everything(&text);
    }
}

#[test]
fn deep_texts() {
    let nested = |open: &str, close: &str| {
        let text = format!("{}x{}", open.repeat(5000), close.repeat(5000));
        format!(
            "{{\"variables\": {{\"v\": \"{text}\"}}, \"builders\": [{{\"type\": \"{text}\"}}]}}"
        )
    };
    everything(&nested("{{ if .X }}", "{{ end }}"));
    everything(&nested("{{ if .X }}{{ else ", "{{ end }}"));
    everything(&format!("{{\"variables\": {{\"v\": \"{{{{ {}\"}}}}", "(".repeat(5000)));
    everything(&"[".repeat(100_000));
}
