//! Runs the documents of `tests/suite/errors`, `tests/suite/legacy` and `tests/suite/quirks`. Their
//! READMEs say how they are written.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use karat_testing::document::{self, Outcome};

#[test]
fn wrong_templates_are_told_what_is_wrong() {
    run("errors", "karat validate .", 40);
}

#[test]
fn legacy_templates_are_read_as_packer_reads_them() {
    run("legacy", "karat validate template.json", 40);
}

#[test]
fn quirks_of_packer_are_kept_or_mended() {
    run("quirks", "karat validate .", 60);
}

/// Runs the documents of one folder, in which there are `least` cases at least.
fn run(suite: &str, command: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/suite").join(suite);
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_karat"), home.path().join("karat")).unwrap();
    let (mut all, wrong_exits) = (Outcome::default(), RefCell::default());
    for path in document::documents(&folder).unwrap() {
        let mut case = Case::new(home.path(), command, &wrong_exits);
        all.add(&document::run(&path, |fence| case.step(&fence.info, &fence.text)).unwrap());
    }
    let wrong_exits = wrong_exits.into_inner();
    assert!(wrong_exits.is_empty(), "{}", wrong_exits.join("\n"));
    assert!(all.failures.is_empty(), "{}", all.failures);
    assert!(all.compared >= least, "only {} cases were found", all.compared);
}

/// Files, and a command over them.
struct Case<'a> {
    home: &'a Path,
    wrong_exits: &'a RefCell<Vec<String>>,
    folder: tempfile::TempDir,
    usual: &'a str,
    command: String,
    done: bool,
}

impl<'a> Case<'a> {
    fn new(home: &'a Path, usual: &'a str, wrong_exits: &'a RefCell<Vec<String>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { home, wrong_exits, folder, usual, command: usual.into(), done: false }
    }

    fn step(&mut self, info: &str, text: &str) -> Option<String> {
        if self.done {
            *self = Self::new(self.home, self.usual, self.wrong_exits);
        }
        let mut words = info.split_whitespace();
        match (words.next(), words.next()) {
            (Some("hcl" | "json" | "sh" | "text"), Some(name)) => {
                let path = self.folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
                None
            }
            (Some("hcl"), None) => self.step("hcl main.pkr.hcl", text),
            (Some("json"), None) => self.step("json template.json", text),
            (Some("console"), None) => {
                self.command = text.trim().strip_prefix("$ ").unwrap().to_owned();
                None
            }
            (Some(kind @ ("errors" | "output")), None) => {
                self.done = true;
                Some(self.run(kind == "errors"))
            }
            _ => panic!("what is a block \"{info}\"?"),
        }
    }

    fn run(&self, fails: bool) -> String {
        let path = std::env::join_paths(
            std::iter::once(self.home.to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let output = Command::new("sh")
            .args(["-c", &format!("{} 2>&1", self.command)])
            .env_clear()
            .env("PATH", path.unwrap())
            .env("HOME", self.home)
            .env("NO_COLOR", "1")
            .env("KARAT_STATE_DIR", self.home.join("state"))
            .env("KARAT_CACHE_DIR", self.home.join("cache"))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.code() != Some(i32::from(fails)) {
            self.wrong_exits
                .borrow_mut()
                .push(format!("{}: {}\n{text}", self.command, output.status));
        }
        let place = self.folder.path().to_str().unwrap();
        format!("{}\n", text.replace(place, "/folder").trim_end())
    }
}
