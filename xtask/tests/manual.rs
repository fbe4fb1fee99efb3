//! What the manual shows is what the repository has.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every line that the tutorial shows of the example stands in the example.
#[test]
fn the_tutorial_shows_the_example() {
    let example: BTreeSet<String> = ["golden.pkr.hcl", "variables.pkr.hcl"]
        .iter()
        .map(|name| fs::read_to_string(root().join("examples/golden").join(name)).unwrap())
        .flat_map(|text| text.lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    let tutorial = fs::read_to_string(root().join("docs/src/tutorial.md")).unwrap();
    let mut hcl = false;
    let mut shown = 0;
    for line in tutorial.lines() {
        match line.trim() {
            "```hcl" => hcl = true,
            "```" => hcl = false,
            line if hcl && !line.is_empty() => {
                shown += 1;
                assert!(example.contains(line), "not in examples/golden: {line}");
            }
            _ => {}
        }
    }
    assert!(shown > 20, "the tutorial shows no more than {shown} lines of the example");
}

/// The exit codes of the manual are those of the program.
#[test]
fn the_manual_tells_every_exit_code() {
    let source = fs::read_to_string(root().join("crates/karat/src/error.rs")).unwrap();
    let chapter = fs::read_to_string(root().join("docs/src/exit-codes.md")).unwrap();
    let codes = source.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) const "));
    let codes: Vec<&str> =
        codes.filter_map(|rest| Some(rest.split_once("u8 = ")?.1.trim_end_matches(';'))).collect();
    assert!(codes.contains(&"0") && codes.contains(&"1"), "{codes:?}");
    for code in codes {
        assert!(chapter.contains(&format!("\n| {code} |")), "exit code {code} is not told");
    }
}
