//! The manual names every call that the lab answers.

use karat_lab::aws::{ec2_actions, iam_actions, s3_actions};

#[test]
fn every_call_stands_in_the_manual() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/lab.md");
    let page = std::fs::read_to_string(page).unwrap();
    let missing: Vec<&str> = ec2_actions()
        .chain(iam_actions())
        .chain(s3_actions())
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
