//! Templates, right and wrong, as they are read.

use karat_hcl::diag::SourceMap;

use super::*;

fn read(text: &str) -> (Template, Vec<String>) {
    let mut sources = SourceMap::new();
    let id = sources.add("packer.json", text);
    let (template, mut diags) = parse(id, text);
    diags.append(template.check());
    let told = diags.iter().map(|d| {
        let at =
            d.primary.as_ref().map(|l| sources.get(id).unwrap().position(l.span.start as usize));
        let place = at.map(|p| format!("{}:{}: ", p.line, p.column)).unwrap_or_default();
        format!("{place}{}", d.summary)
    });
    let told = told.collect();
    (template, told)
}

#[track_caller]
fn good(text: &str) -> Template {
    let (template, told) = read(text);
    assert_eq!(told, [""; 0]);
    template
}

#[track_caller]
fn bad(text: &str, wanted: &[&str]) {
    assert_eq!(read(text).1, wanted);
}

/// A template with one builder and something else.
fn with(rest: &str) -> String {
    format!("{{\"builders\": [{{\"type\": \"null\"}}],\n{rest}}}")
}

fn names(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|t| t.text.as_str()).collect()
}

#[test]
fn everything_keeps_its_order() {
    let template = good(
        r#"{
          "_first": "a comment", "min_packer_version": "1.4.0", "description": "What it is",
          "variables": {"z": "1", "a": null, "m": ""}, "sensitive-variables": ["m", "unknown"],
          "builders": [
            {"type": "qemu", "name": "x{{user `z`}}", "zz": 1, "aa": {"b": [true]}},
            {"type": "null"}
          ],
          "push": {"name": "old"}
        }"#,
    );
    assert_eq!(template.comments[0].0.text, "_first");
    assert_eq!(template.min_packer_version.unwrap().text, "1.4.0");
    let variables: Vec<_> = template
        .variables
        .iter()
        .map(|v| (&*v.name.text, v.default.as_ref().map(|d| &*d.text), v.sensitive))
        .collect();
    assert_eq!(variables, [("z", Some("1"), false), ("a", None, false), ("m", Some(""), true)]);
    assert_eq!(names(&template.sensitive), ["m", "unknown"]);
    assert_eq!(template.builders[0].name.text, "x{{user `z`}}");
    let options: Vec<_> = template.builders[0].options.iter().map(|o| &*o.name.text).collect();
    assert_eq!(options, ["zz", "aa"]);
    assert_eq!(template.builders[1].name.text, "null");
}

#[test]
fn provisioners_are_read_leniently() {
    let template = good(&with(
        r#""provisioners": [{
             "type": "shell", "only": "null", "pause_before": "1m30s", "timeout": 5,
             "max_retries": 3, "override": [{"null": {"inline": ["b"]}}], "inline": ["a"]
           }],
           "error-cleanup-provisioner": {"type": "shell-local", "max_retries": true}"#,
    ));
    let [shell] = &template.provisioners[..] else { panic!() };
    assert_eq!(names(&shell.only), ["null"]);
    assert_eq!(shell.pause_before.unwrap().to_string(), "1m30s");
    assert_eq!(shell.timeout.unwrap().to_string(), "5ns");
    assert_eq!(shell.max_retries.as_ref().unwrap().text, "3");
    assert!(shell.overridden("null").unwrap().get("inline").is_some());
    assert!(shell.runs_in("null") && !shell.runs_in("other"));
    assert_eq!(shell.options.len(), 1);
    assert_eq!(template.error_cleanup.unwrap().max_retries.unwrap().text, "1");
}

#[test]
fn post_processors_have_three_shapes() {
    let template = good(&with(
        r#""post-processors": [
             "manifest",
             {"type": "compress", "name": "zip", "keep_input_artifact": false, "output": "x"},
             ["checksum", {"type": "vagrant", "except": ["null"]}],
             []
           ]"#,
    ));
    let chains: Vec<Vec<&str>> = template
        .post_processors
        .iter()
        .map(|c| c.iter().map(|p| &*p.type_name.text).collect())
        .collect();
    assert_eq!(chains, [vec!["manifest"], vec!["compress"], vec!["checksum", "vagrant"], vec![]]);
    let zip = &template.post_processors[1][0];
    assert_eq!((&*zip.name.text, zip.keep_input_artifact), ("zip", Some(false)));
    assert!(zip.option("output").is_some() && zip.option("type").is_none());
    assert!(!template.post_processors[2][1].runs_in("null"));
}

#[test]
fn keys_of_other_case_count_and_stay() {
    let template = good(r#"{"Builders": [{"Type": "null"}]}"#);
    assert_eq!(template.builders[0].type_name.text, "null");
    assert!(template.builders[0].option("Type").is_some());
}

#[test]
fn wrong_shapes_are_told_with_their_places() {
    bad("[]", &["1:1: Wrong type", "1:1: at least one builder must be defined"]);
    bad(&with("\"builder\": []"), &["2:1: Unknown root level key in template: 'builder'"]);
    bad(&with("\"_c\": 1"), &["2:7: Wrong type"]);
    bad(&with("\"description\": 1"), &["2:16: Wrong type"]);
    bad(&with("\"variables\": {\"n\": 5}"), &["2:20: Variable n is not a string"]);
    bad(
        &with("\"variables\": {\"n\": \"\", \"n\": null}"),
        &["2:24: Template has duplicate field: n"],
    );
    bad(&with("\"provisioners\": {}"), &["2:17: Wrong type"]);
    bad(&with("\"provisioners\": [{\"inline\": []}]"), &["2:18: Provisioner 1: missing 'type'"]);
    bad(
        &with("\"provisioners\": [{\"type\": \"shell\", \"timeout\": \"5x\"}]"),
        &["2:47: Invalid duration"],
    );
    bad(
        &with("\"post-processors\": [[[]]]"),
        &["2:22: Sequence not allowed to be nested in a sequence"],
    );
    bad(
        &with("\"post-processors\": [{\"type\": \"x\", \"keep_input_artifact\": \"true\"}]"),
        &["2:58: Wrong type"],
    );
    bad(
        &with("\"post-processors\": [{\"output\": \"x\"}]"),
        &["2:21: Post-processor 1.1: type is required"],
    );
    bad(
        r#"{"builders": [{"type": "null"}, {"type": "null"}, {"x": 1}]}"#,
        &["1:42: builder with name 'null' already exists", "1:51: Builder 3: missing 'type'"],
    );
}

#[test]
fn names_have_to_be_those_of_builders() {
    bad(
        &with(
            "\"provisioners\": [{\"type\": \"shell\", \"only\": [\"nul\"], \"override\": {\"x\": {}}}],\n\
             \"post-processors\": [{\"type\": \"manifest\", \"only\": [\"null\"], \"except\": [\"y\"]}]",
        ),
        &[
            "2:45: provisioner 1: 'only' specified builder 'nul' not found",
            "2:66: provisioner 1: override 'x' doesn't exist",
            "3:71: post-processor 1.1: only one of 'only' or 'except' may be specified",
        ],
    );
}
