//! Builds of one name, as people see them: what is shown is Packer's, and each can be gone on
//! with, undone and looked at by itself.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::path::Path;
use std::process::Command;

const TEMPLATE: &str = r#"
source "file" "a" {
  content = "text"
  target  = "made"
}

source "null" "b" {
  communicator = "none"
}

build {
  sources = ["file.a", "null.b"]
  provisioner "shell-local" {
    inline = ["echo first >> ran"]
  }
}

build {
  sources = ["source.file.a"]
  provisioner "shell-local" {
    inline = ["echo second >> ran; test ! -e fail"]
  }
}
"#;

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn karat(&self, args: &[&str], fault: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_karat"))
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("KARAT_STATE_DIR", self.path().join("state"))
            .env("KARAT_CACHE_DIR", self.path().join("cache"))
            .env("KARAT_FAULT", fault)
            .current_dir(self.path())
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("ran")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The id of the last run.
    fn run(&self) -> String {
        let runs = self.karat(&["runs", "--json", "--limit=1"], "");
        let run: serde_json::Value = serde_json::from_str(&runs).unwrap();
        run["id"].as_str().unwrap().to_owned()
    }
}

fn count(text: &str, start: &str) -> usize {
    text.lines().filter(|line| line.starts_with(start)).count()
}

#[test]
fn each_is_built_and_shown_by_its_one_name() {
    let lab = Lab::new();
    let said = lab.karat(&["build", "t.pkr.hcl"], "");
    assert_eq!(count(&said, "Build 'file.a' finished after"), 2, "{said}");
    assert_eq!(count(&said, "--> file.a: Stored file: made"), 2, "{said}");
    assert!(!said.contains("(2)") && !said.contains("output will be in this color"), "{said}");
    assert_eq!(lab.ran(), ["first", "first", "second"]);

    // What was made by one name is one list.
    let records = lab.karat(&["build", "-force", "-machine-readable", "t.pkr.hcl"], "");
    let of = |kind: &str| -> Vec<String> {
        let after = |line: &str| line.split_once(kind).map(|(_, rest)| rest.to_owned());
        records.lines().filter_map(after).collect()
    };
    assert_eq!(of(",file.a,artifact-count,"), ["2"], "{records}");
    let strings = ["0,string,Stored file: made", "1,string,Stored file: made"];
    let seen = of(",file.a,artifact,");
    assert!(strings.iter().all(|s| seen.contains(&(*s).to_owned())), "{records}");

    // A reader of the events can tell them apart, and a stored run is shown as it was.
    let lines = lab.karat(&["build", "-force", "-json", "t.pkr.hcl"], "");
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_file = |e: &&serde_json::Value| e["build"] == "file.a" && e["type"] == "build_finished";
    let mut places: Vec<u64> =
        events.iter().filter(of_file).map(|e| e["place"].as_u64().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 2]);
    assert_eq!(events[0]["builds"], serde_json::json!(["file.a", "null.b", "file.a"]));
    let logs = lab.karat(&["logs"], "");
    assert_eq!(count(&logs, "Build 'file.a' finished after"), 2, "{logs}");
}

#[test]
fn patterns_mean_all_of_one_name() {
    let lab = Lab::new();
    let said = lab.karat(&["build", "-only=file.a", "t.pkr.hcl"], "");
    assert_eq!(lab.ran(), ["first", "second"], "{said}");
    let plan = lab.karat(&["plan", "-except=null.*", "t.pkr.hcl"], "");
    assert_eq!(count(&plan, "~ file.a"), 2, "{plan}");
}

#[test]
fn one_that_failed_is_resumed_alone() {
    let lab = Lab::new();
    std::fs::write(lab.path().join("fail"), "").unwrap();
    let said = lab.karat(&["build", "-on-error=abort", "t.pkr.hcl"], "");
    assert_eq!(count(&said, "Build 'file.a' finished after"), 1, "{said}");
    assert_eq!(count(&said, "--> file.a: Script exited with non-zero exit status: 1"), 1, "{said}");
    assert_eq!(lab.ran(), ["first", "first", "second"]);
    let kept = lab.karat(&["recover"], "");
    assert!(kept.contains("file.a (2) was kept on purpose"), "{kept}");
    assert!(!kept.contains("file.a was"), "{kept}");

    std::fs::remove_file(lab.path().join("fail")).unwrap();
    let said = lab.karat(&["resume", &lab.run()], "");
    assert_eq!(count(&said, "Build 'file.a' finished after"), 1, "{said}");
    assert_eq!(lab.ran(), ["first", "first", "second", "second"], "{said}");
}

#[test]
fn what_a_dead_process_left_of_one_is_undone_or_gone_on_with() {
    let lab = Lab::new();
    let fault = "kill@file.a (2)/write-file:effect";
    let build = ["build", "-parallel-builds=1", "t.pkr.hcl"];
    lab.karat(&build, fault);
    let undone = lab.karat(&["recover"], "");
    assert!(undone.contains("undid write-file of file.a (2)"), "{undone}");
    assert!(!undone.contains("of file.a\n"), "the first was done: {undone}");

    lab.karat(&[build[0], build[1], "-force", build[2]], fault);
    std::fs::remove_file(lab.path().join("ran")).unwrap();
    let said = lab.karat(&["resume", &lab.run()], "");
    assert_eq!(count(&said, "--> file.a: Stored file: made"), 2, "{said}");
    assert_eq!(lab.ran().iter().filter(|l| *l == "second").count(), 1, "{said}");
}
