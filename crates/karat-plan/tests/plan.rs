//! Which build needs which, which are selected, and what a fingerprint tells.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use karat_config::{Body, OptionKind, OptionSchema, OptionType, Schema};
use karat_functions::MemoryWorld;
use karat_hcl::diag::{Diagnostics, SourceId, SourceMap, Span};
use karat_plan::{Change, Fingerprint, FingerprintBuilder, Graph, Selection};
use karat_template::{Build, Given, Load, NoData, load};
use karat_value::{Type, Value};

const SOURCES: &str = "source \"null\" \"a\" {}\nsource \"null\" \"b\" {}\n";

fn builds(text: &str) -> Vec<Build> {
    let world = MemoryWorld {
        files: BTreeMap::from([(
            PathBuf::from("/templates/a.pkr.hcl"),
            format!("{SOURCES}{text}").into_bytes(),
        )]),
        ..MemoryWorld::default()
    };
    let request = Load { path: "a.pkr.hcl".into(), ..Load::default() };
    let mut loaded = load(&request, &world);
    let evaluated = loaded.evaluate(&Given::default(), &world, &NoData);
    assert!(!loaded.diags.has_errors(), "{:?}", loaded.diags);
    evaluated.builds().to_vec()
}

/// A build of `null.a` that uses the artifacts of others.
fn build(name: &str, uses: &[&str]) -> String {
    let uses: Vec<String> = uses.iter().map(|u| format!("artifact.{u}.null.a.id")).collect();
    format!(
        "build {{\n name = \"{name}\"\n sources = [\"null.a\"]\n provisioner \"p\" {{\n x = [{}]\n }}\n}}\n",
        uses.join(", ")
    )
}

fn graph(text: &str) -> (Vec<Build>, Graph, Diagnostics) {
    let builds = builds(text);
    let mut diags = Diagnostics::new();
    let graph = Graph::new(&builds, &mut diags);
    (builds, graph, diags)
}

#[test]
fn needs_come_first() {
    let text = [build("app", &["base", "tools"]), build("tools", &["base"]), build("base", &[])];
    let (_, graph, diags) = graph(&text.concat());
    assert!(diags.is_empty());
    assert_eq!(graph.order(), [2, 1, 0]);
    assert_eq!(*graph.needs(0), BTreeSet::from([1, 2]));
    assert_eq!(graph.with_needs([1]), BTreeSet::from([1, 2]));
    assert_eq!(graph.with_needs([]), BTreeSet::new());
}

#[test]
fn builds_that_need_nothing_keep_their_order() {
    let (_, graph, _) = graph(&[build("x", &[]), build("y", &[]), build("z", &[])].concat());
    assert_eq!(graph.order(), [0, 1, 2]);
}

#[test]
fn a_circle_shows_every_place_and_no_bystander() {
    let text = [
        build("outside", &["one"]),
        build("one", &["two"]),
        build("two", &["three"]),
        build("three", &["one"]),
    ];
    let (_, graph, diags) = graph(&text.concat());
    let diags: Vec<_> = diags.iter().collect();
    let [error] = diags.as_slice() else { panic!("{diags:?}") };
    assert!(
        error.detail.ends_with("one.null.a needs two.null.a needs three.null.a needs one.null.a."),
        "{}",
        error.detail
    );
    assert!(!error.detail.contains("outside"));
    assert_eq!(error.secondary.len(), 2);
    assert!(graph.order().is_empty(), "none of them can come first");
}

#[test]
fn a_build_that_needs_itself_is_a_circle() {
    let (_, _, diags) = graph(&build("one", &["one"]));
    assert!(diags.iter().any(|d| d.detail.contains("one.null.a needs one.null.a")));
}

#[test]
fn an_unknown_build_shows_both_places() {
    let (_, _, diags) = graph(&[build("base", &[]), build("app", &["bsae"])].concat());
    let error = diags.iter().next().unwrap();
    assert!(error.primary.is_some());
    assert_eq!(error.secondary.len(), 1);
    assert_eq!(error.hints, ["Did you mean \"artifact.base.null.a\"?"]);
}

#[test]
fn a_reference_to_one_of_several_builds_of_a_name_is_ambiguous() {
    let text = [build("base", &[]), build("base", &[]), build("app", &["base"])];
    let (builds, _, diags) = graph(&text.concat());
    let keys: Vec<&str> = builds.iter().map(|b| b.key.as_str()).collect();
    assert_eq!(keys, ["base.null.a", "base.null.a (2)", "app.null.a"]);
    let error = diags.iter().next().unwrap();
    assert_eq!(error.summary, "Reference to several builds");
    assert_eq!(error.secondary.len(), 2);
}

#[test]
fn keys_differ_whatever_the_names() {
    let source = |name: &str| format!("source \"null.a\" {{\n name = \"{name}\"\n }}\n");
    let nested = [source("x"), source("x"), source("x (2)"), source("x"), source("x (2)")];
    let builds = builds(&format!("build {{\n{}}}\n", nested.concat()));
    let keys: Vec<&str> = builds.iter().map(|b| b.key.as_str()).collect();
    let expected = ["null.x", "null.x (3)", "null.x (2)", "null.x (4)", "null.x (2) (2)"];
    assert_eq!(keys, expected);
    assert!(builds.iter().all(|b| b.key.starts_with(&b.target)));
}

fn selected(only: &[&str], except: &[&str]) -> Vec<String> {
    let text = "build {\n sources = [\"null.a\", \"null.b\"]\n}\n\
                build {\n name = \"web\"\n source \"null.a\" {\n name = \"renamed\"\n }\n}\n";
    let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let selection = Selection::new(&owned(only), &owned(except)).unwrap();
    let all = builds(text);
    all.iter().filter(|b| selection.selects(b)).map(|b| b.target.clone()).collect()
}

#[test]
fn globs_select() {
    let all = ["null.a", "null.b", "web.null.renamed"];
    assert_eq!(selected(&[], &[]), all);
    assert_eq!(selected(&["*"], &[]), all);
    assert_eq!(selected(&["null.a"], &[]), ["null.a"]);
    assert_eq!(selected(&["null.*"], &[]), ["null.a", "null.b"], "a name is told as a whole");
    assert_eq!(selected(&["null.renamed"], &[]), Vec::<String>::new());
    assert_eq!(selected(&[], &["null.renamed"]), all);
    assert_eq!(selected(&["web.*"], &[]), ["web.null.renamed"]);
    assert_eq!(selected(&["*.renamed", "null.b"], &[]), ["null.b", "web.null.renamed"]);
    assert_eq!(selected(&[], &["null.?"]), ["web.null.renamed"]);
    assert_eq!(selected(&["null.{a,b}"], &["*.b"]), ["null.a"]);
    assert_eq!(selected(&["nothing"], &[]), Vec::<String>::new());
}

#[test]
fn what_is_no_glob_is_told() {
    let error = Selection::new(&["a[".to_owned()], &[]).unwrap_err();
    assert_eq!((error.flag, error.pattern.as_str()), ("only", "a["));
}

#[test]
fn except_cuts_a_chain_at_a_post_processor() {
    let text = "build {\n sources = [\"null.a\"]\n post-processors {\n\
                post-processor \"compress\" {}\n\
                post-processor \"checksum\" {\n name = \"sum\"\n }\n\
                post-processor \"manifest\" {}\n }\n post-processor \"manifest\" {}\n}\n";
    let left = |except: &str| {
        let selection = Selection::new(&[], &[except.to_owned()]).unwrap();
        let build = selection.trim(builds(text).remove(0));
        build
            .chains
            .iter()
            .map(|c| c.iter().map(|p| p.component.type_name.clone()).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(left("sum"), [vec!["compress"], vec!["manifest"]]);
    assert_eq!(left("manifest"), [vec!["compress", "checksum"]]);
    assert_eq!(left("compress"), [vec!["manifest"]]);
}

#[test]
fn patterns_that_match_nothing_are_known() {
    let text = "build {\n name = \"web\"\n sources = [\"null.a\"]\n\
                post-processor \"manifest\" {\n name = \"list\"\n }\n}\n";
    let idle = |only: &[&str], except: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(only), &owned(except)).unwrap();
        let idle = selection.idle(&builds(text));
        idle.into_iter().map(|(flag, text)| format!("{flag}: {text}")).collect::<Vec<_>>()
    };
    assert_eq!(idle(&["web.*", "null.a"], &[]), ["only: null.a"]);
    assert_eq!(idle(&[], &["list", "manifest", "checksum"]), ["except: checksum"]);
    assert_eq!(idle(&["list"], &["web.null.a"]), ["only: list"]);
}

fn option(name: &str, kind: OptionKind) -> OptionSchema {
    OptionSchema {
        name: name.into(),
        aliases: Vec::new(),
        doc: String::new(),
        ty: OptionType::Attribute(Type::Dynamic),
        required: false,
        default: None,
        kind,
        deprecated: None,
    }
}

fn fingerprint(values: &[(&str, OptionKind, Value)]) -> (Fingerprint, Vec<String>) {
    let schema = Schema {
        options: values.iter().map(|(name, kind, _)| option(name, *kind)).collect(),
        ..Schema::default()
    };
    let span = Span::new(SourceId(0), 0..0);
    let mut body = Body::new(span);
    for (name, _, value) in values {
        body.set(*name, span, value.clone());
    }
    let sources = SourceMap::new();
    let mut builder = FingerprintBuilder::new(&sources);
    builder.component("source", &schema, &body);
    let files = builder.files().iter().map(|(_, path)| path.clone()).collect();
    (builder.finish(), files)
}

#[test]
fn a_fingerprint_changes_with_what_goes_in() {
    let of = |kind, value: Value| fingerprint(&[("x", kind, value)]).0;
    let plain = |value| of(OptionKind::Plain, value);
    let one = plain(Value::string("1"));
    assert_eq!(one, plain(Value::string("1")));
    assert_ne!(one.digest, plain(Value::string("2")).digest);
    assert_ne!(one.digest, plain(Value::number(1)).digest, "a number is no text");
    let nested = |items: [&str; 2]| {
        plain(Value::list(Type::String, items.map(Value::string).to_vec())).digest
    };
    assert_ne!(nested(["a", "b"]), nested(["b", "a"]));
    assert_ne!(nested(["a,", "b"]), nested(["a", ",b"]));
}

#[test]
fn volatile_and_secret_values_do_not_count() {
    for kind in [OptionKind::Volatile, OptionKind::Output, OptionKind::Secret] {
        let of = |text| fingerprint(&[("x", kind, Value::string(text))]).0.digest;
        assert_eq!(of("one"), of("two"), "{kind:?}");
    }
    let without = fingerprint(&[]).0;
    let with = fingerprint(&[("x", OptionKind::Secret, Value::string("s"))]).0;
    assert_ne!(without.digest, with.digest, "whether a secret is given counts");
    assert!(!with.inputs.values().any(|v| v == "s"));
}

#[test]
fn input_files_are_named() {
    let files = Value::list(Type::String, vec![Value::string("a.sh"), Value::string("b.sh")]);
    let (_, found) = fingerprint(&[("scripts", OptionKind::Input, files)]);
    assert_eq!(found, ["a.sh", "b.sh"]);
}

#[test]
fn changes_are_named() {
    let plain = |name, text| (name, OptionKind::Plain, Value::string(text));
    let old = fingerprint(&[plain("a", "1"), plain("b", "1")]).0;
    let new = fingerprint(&[plain("a", "2"), plain("c", "1")]).0;
    let changes = new.changes_since(&old.inputs);
    assert_eq!(
        changes,
        [
            Change::Changed("source: a".into()),
            Change::Added("source: c".into()),
            Change::Removed("source: b".into()),
        ]
    );
    assert!(new.changes_since(&new.inputs).is_empty());
}
