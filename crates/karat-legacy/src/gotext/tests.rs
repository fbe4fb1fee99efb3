//! Texts with braces, taken apart and put together.

use super::*;

const TEXT: Signature = Signature { takes: &[Kind::Text], repeats: false };

/// `user`, `now` and `split`, which say what they were given.
struct Some3;

impl Functions for Some3 {
    fn signature(&self, name: &str) -> Option<Signature> {
        match name {
            "user" => Some(TEXT),
            "now" => Some(Signature { takes: &[Kind::Text], repeats: true }),
            "split" => {
                Some(Signature { takes: &[Kind::Text, Kind::Text, Kind::Int], repeats: false })
            }
            _ => None,
        }
    }

    fn call(&mut self, name: &str, args: &[Value]) -> Result<String, String> {
        match args {
            [Value::Text(text)] if text == "fail" => Err("no".into()),
            _ => Ok(format!("<{name}{args:?}>")),
        }
    }
}

fn render(text: &str) -> Result<String, String> {
    let nodes = parse(text, &|name| Some3.signature(name).is_some()).map_err(|e| e.0)?;
    run(text, &nodes, &mut Some3).map_err(|e| e.0)
}

#[track_caller]
fn gives(text: &str, wanted: &str) {
    assert_eq!(render(text).as_deref(), Ok(wanted), "{text}");
}

#[track_caller]
fn fails(text: &str, wanted: &str) {
    assert_eq!(render(text), Err(format!("template: hcl2_upgrade:{wanted}")), "{text}");
}

/// How the first action of a text is printed back.
fn printed(text: &str) -> String {
    let nodes = parse(text, &|_| true).unwrap();
    match &nodes[..] {
        [Node::Action(pipe)] => pipe.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_and_calls() {
    gives("", "");
    gives("a{{/* b */}}c", "ac");
    gives("a {{- user `x` -}} \n b", "a<user[Text(\"x\")]>b");
    gives("{{ `x` | user }}{{ now }}", "<user[Text(\"x\")]><now[]>");
    gives("{{ split `a-b` \"-\" 0 }}", "<split[Text(\"a-b\"), Text(\"-\"), Int(0)]>");
    gives("{{ user (user `a`) }}", "<user[Text(\"<user[Text(\\\"a\\\")]>\")]>");
    gives("{{ .X }}{{ \"{{\" }}{{ 1.5 }}{{ true }}", "<no value>{{1.5true");
    gives("{{ if .X }}a{{ else }}b{{ end }}{{ range .X }}c{{ end }}", "b");
    gives("{{ $x := `v` }}{{ $x }}{{ printf \"%s-%d\" $x 3 }}", "vv-3");
}

#[test]
fn actions_are_printed_as_go_does() {
    assert_eq!(
        printed("{{-  user    `x`  |  f \"y\" 'c' 0x1 nil . .A.B $ (a.b) -}}"),
        "user `x` | f \"y\" 'c' 0x1 nil . .A.B $ (a.b)"
    );
    assert_eq!(printed("{{ $x:=user `y` }}"), "$x := user `y`");
    assert_eq!(printed("{{ (f).A.B }}"), "(f).A.B");
}

#[test]
fn what_is_no_template() {
    fails("a\n{{ nosuch }}", "2: function \"nosuch\" not defined");
    fails("{{ user \\\"x\\\" }}", "1: unexpected \"\\\\\" in operand");
    fails("{{ user 'xy' }}", "1: malformed character constant: 'xy'");
    fails("{{ a-b }}", "1: bad character U+002D '-'");
    fails("{{ user", "1: unclosed action");
    fails("{{ user\n\n", "3: unclosed action started at hcl2_upgrade:1");
    fails("{{ \"a\nb\" }}", "1: unterminated quoted string");
    fails("{{}}", "1: missing value for command");
    fails("{{ % }}", "1: unexpected \"%\" in command");
    fails("{{ user `x` % }}", "1: unexpected \"%\" in operand");
    fails("{{ if .X }}", "1: unexpected EOF");
    fails("{{ end }}", "1: unexpected {{end}}");
    fails("{{ $x }}", "1: undefined variable \"$x\"");
    fails("{{ .X | 1 }}", "1: non executable command in pipeline stage 2");
    fails("{{ (user `x` }}", "1: unclosed left paren");
    fails("{{ `x`.Y }}", "1: unexpected . after term \"`x`\"");
    fails("{{ é }}", "1: function \"é\" not defined");
    fails("{{ ☃ }}", "1: unrecognized character in action: U+2603 '☃'");
}

#[test]
fn what_cannot_be_run() {
    fails(
        "x\n é {{ user }}",
        "2:7: executing \"hcl2_upgrade\" at <user>: wrong number of args for user: want 1 got 0",
    );
    fails(
        "{{ user .Name }}",
        "1:8: executing \"hcl2_upgrade\" at <.Name>: invalid value; expected string",
    );
    fails("{{ user 1 }}", "1:8: executing \"hcl2_upgrade\" at <1>: expected string; found 1");
    fails(
        "{{ split `a` `b` `c` }}",
        "1:17: executing \"hcl2_upgrade\" at <`c`>: expected integer; found `c`",
    );
    fails(
        "{{ user `fail` }}",
        "1:3: executing \"hcl2_upgrade\" at <user `fail`>: error calling user: no",
    );
    fails(
        "{{ `a` `b` }}",
        "1:3: executing \"hcl2_upgrade\" at <`a`>: can't give argument to non-function `a`",
    );
}

#[test]
fn quotes() {
    assert_eq!(quote::quote("a\"b\\\n\u{1}é\u{a0}"), "\"a\\\"b\\\\\\n\\x01é\\u00a0\"");
    assert_eq!(quote::unquote("\"a\\tb\\u00e9\\x41\\101\""), Some("a\tbéAA".into()));
    assert_eq!(quote::unquote("\"a\\'\""), None);
    assert_eq!(quote::unquote("\"a\"b\""), None);
    assert_eq!(quote::unquote("`a\\n`"), Some("a\\n".into()));
}
