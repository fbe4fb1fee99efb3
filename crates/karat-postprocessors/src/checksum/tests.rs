//! Digests of known texts, and the files that they are written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use karat_component::testing::{
    self, Component, Recorded, artifact, body, ends_when_cancelled, leaves_nothing,
    post_process_context, post_processor,
};
use karat_component::{ComponentError, Processed};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Checksum;

async fn run(options: &Value, files: &[PathBuf]) -> Result<Processed, ComponentError> {
    let cx = post_process_context(Recorded::new(&[]).0, CancellationToken::new());
    post_processor(Checksum, options).post_process(&cx, artifact(files)).await
}

#[test]
fn complies() {
    let component = Component::PostProcessor(Arc::new(Checksum));
    testing::options(&component, &body(&json!({})));
    testing::options(&component, &body(&json!({ "checksum_types": ["md5", "sha512"] })));
    let found = component.errors(&body(&json!({ "checksum_types": ["sha265"], "output": "{{" })));
    assert!(found.join("\n").contains("unrecognized checksum type: sha265"), "{found:?}");
    assert!(found.join("\n").contains("Did you mean \"sha256\"?"), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn digests_are_those_that_everybody_gets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hello.txt");
    std::fs::write(&file, "hello").unwrap();
    let output = format!("{}/out/{{{{.BuildName}}}}.{{{{.ChecksumType}}}}", dir.path().display());
    let kinds = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "md5"];
    let options = json!({ "checksum_types": kinds, "output": output });
    let processed = run(&options, std::slice::from_ref(&file)).await.unwrap();
    assert!(processed.keep && processed.force);
    let made = processed.artifact.unwrap();
    assert_eq!(made.files.len(), 7);
    assert_eq!(made.files[0], file);
    for kind in &kinds[..6] {
        let text = std::fs::read_to_string(dir.path().join(format!("out/test.{kind}"))).unwrap();
        let program = format!("{kind}sum");
        let out = std::process::Command::new(program).arg(&file).output().unwrap();
        let expected = String::from_utf8(out.stdout).unwrap();
        let expected = expected.split(' ').next().unwrap();
        assert_eq!(text, format!("{expected}\thello.txt\n"), "{kind}");
    }
}

#[tokio::test]
async fn a_shared_file_keeps_the_lines_of_others_and_repeats_none() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("sums");
    std::fs::write(&output, "0123\tother\n").unwrap();
    let files: Vec<PathBuf> = ["a", "b"].map(|name| dir.path().join(name)).into();
    let options = json!({ "checksum_types": ["sha1", "md5"], "output": output });
    for text in ["1", "2"] {
        files.iter().for_each(|file| std::fs::write(file, text).unwrap());
        run(&options, &files).await.unwrap();
        let found = std::fs::read_to_string(&output).unwrap();
        let lines: Vec<(usize, &str)> = found
            .lines()
            .map(|line| line.split_once('\t').map(|(d, name)| (d.len(), name)).unwrap())
            .collect();
        assert_eq!(lines, [(4, "other"), (40, "a"), (40, "b"), (32, "a"), (32, "b")]);
    }
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.contains("c81e728d9d4c2f636f067f89cc14862c\ta"), "{text}");
}

#[tokio::test]
async fn failing_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    std::fs::write(&good, "x").unwrap();
    let options = json!({ "output": dir.path().join("new/folder/{{.ChecksumType}}") });
    let work = async { run(&options, &[good.clone(), dir.path().join("none")]).await };
    let error = leaves_nothing(&[dir.path()], work).await;
    assert!(error.chain().contains("cannot read"), "{error:?}");
    // The second file cannot be written, since a folder has its name.
    std::fs::create_dir_all(dir.path().join("out/sha1")).unwrap();
    let options = json!({
        "output": dir.path().join("out/{{.ChecksumType}}"), "checksum_types": ["md5", "sha1"],
    });
    let work = async { run(&options, std::slice::from_ref(&good)).await };
    leaves_nothing(&[dir.path()], work).await;
}

#[tokio::test]
async fn ends_at_once_when_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let big = dir.path().join("big");
    // Holes: much to read, nothing on the disk.
    std::fs::File::create(&big).unwrap().set_len(200 << 30).unwrap();
    let output = dir.path().join("new/sums");
    let options = json!({ "checksum_types": ["md5", "sha256"], "output": output });
    let prepared = post_processor(Checksum, &options);
    ends_when_cancelled(&[dir.path()] as &[&Path], |cancel| {
        let cx = post_process_context(Recorded::new(&[]).0, cancel);
        let (prepared, artifact) = (&prepared, artifact([&big]));
        async move { prepared.post_process(&cx, artifact).await }
    })
    .await;
}
