//! Runs the documents of `tests/suite/upgrade` and `tests/suite/fix`. Their READMEs say how they
//! are written.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::path::Path;

use karat_hcl::diag::{Diagnostics, SourceMap};
use karat_legacy::{Options, Upgraded, fix, parse, upgrade};
use karat_testing::document::{self, Outcome};

fn suite(folder: &str, least: usize, expectation: impl Fn(&str, &str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite").join(folder);
    let mut all = Outcome::default();
    for path in document::documents(&folder).unwrap() {
        let mut template = String::new();
        let outcome = document::run(&path, |fence| match fence.info.as_str() {
            "json" => {
                template.clone_from(&fence.text);
                None
            }
            info => Some(expectation(info, &template)),
        });
        all.add(&outcome.unwrap());
    }
    assert!(all.failures.is_empty(), "{}", all.failures);
    assert!(all.compared >= least, "only {} blocks were found", all.compared);
}

fn upgraded(text: &str, annotations: bool, mend: bool) -> Upgraded {
    let mut sources = SourceMap::new();
    let id = sources.add("template.json", text);
    let (template, diags) = parse(id, text);
    assert!(!diags.has_errors(), "{diags:?}");
    let has_builder = |name: &str| ["null", "file"].contains(&name);
    upgrade(&template, text, Options { annotations, mend, has_builder: &has_builder })
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn upgrade_gives_what_is_written() {
    suite("upgrade", 45, |info, text| match info {
        "hcl" => upgraded(text, false, false).text,
        "hcl annotated" => upgraded(text, true, false).text,
        "hcl mended" => upgraded(text, false, true).text,
        "problems" => lines(&upgraded(text, false, false).problems),
        "remarks" => lines(&upgraded(text, false, false).remarks),
        other => panic!("what is a block \"{other}\"?"),
    });
}

#[test]
fn what_is_mended_is_hcl() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite/upgrade");
    for path in document::documents(&folder).unwrap() {
        document::run(&path, |fence| {
            if fence.info == "json" {
                let upgraded = upgraded(&fence.text, true, true).text;
                let mut sources = SourceMap::new();
                let id = sources.add("a.pkr.hcl", upgraded.as_str());
                let (_, diags) = karat_hcl::parse(id, &upgraded);
                assert!(!diags.has_errors(), "{}:{}: {diags:?}", path.display(), fence.line);
                assert_eq!(karat_hcl::format(&upgraded), upgraded);
            }
            None
        })
        .unwrap();
    }
}

fn fixed(text: &str) -> (String, Diagnostics) {
    let mut sources = SourceMap::new();
    let id = sources.add("template.json", text);
    let (value, diags) = karat_hcl::json_text::read(id, text);
    assert!(!diags.has_errors(), "{diags:?}");
    match fix::fix(&value) {
        Ok(fixed) => {
            let (template, mut diags) = parse(id, &fixed);
            diags.append(template.check());
            (fixed, diags)
        }
        Err(error) => (format!("cannot be mended: {error}\n"), Diagnostics::new()),
    }
}

#[test]
fn fix_gives_what_is_written() {
    suite("fix", 39, |info, text| match info {
        "fixed" => fixed(text).0,
        "errors" => fixed(text).1.iter().map(|d| format!("{}\n", d.summary)).collect(),
        other => panic!("what is a block \"{other}\"?"),
    });
}

#[test]
fn what_is_fixed_needs_no_fixing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite/fix");
    for path in document::documents(&folder).unwrap() {
        document::run(&path, |fence| {
            if fence.info == "fixed" && !fence.text.starts_with("cannot") {
                assert_eq!(fixed(&fence.text).0, fence.text, "{}:{}", path.display(), fence.line);
            }
            None
        })
        .unwrap();
    }
}
