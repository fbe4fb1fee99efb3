//! Every recorded command line of Packer 1.16, against ours.
//!
//! `variables.tsv` is about HCL templates and `legacy.tsv` about legacy ones, each with a folder of
//! templates of its name. Columns: id, group, folder, arguments (JSON), environment (JSON), standard
//! input, exit code, `exact` or `has`, what is expected, what must not be there, what Packer said.
//! With `exact` the standard output is compared; with `has` each line of the expectation is a
//! regular expression that is to be found in both outputs together.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::RegexBuilder;

/// Rows that differ on purpose; each stands in `docs/differences.md`, section "Commands".
const DELIBERATE: &[&str] =
    &["required-015", "sensitive-005", "data-015", "data-016", "context-008"];

#[test]
fn all_recorded_command_lines_agree() {
    compare("variables", 200);
}

#[test]
fn all_recorded_command_lines_of_legacy_templates_agree() {
    compare("legacy", 150);
}

/// Compares the rows of one table, of which there are `least` at least.
fn compare(table: &str, least: usize) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/packer-1.16");
    let rows = std::fs::read_to_string(data.join(table).with_extension("tsv")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("packer");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_karat"), &program).unwrap();
    let rows: Vec<Row> = rows.lines().skip(1).map(Row::read).collect();
    assert!(rows.len() > least, "only {} rows were read", rows.len());
    let mut report = String::new();
    let mut wrong: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        let outcome = row.run(&program, &data.join(table), home.path());
        match (outcome, DELIBERATE.contains(&row.id.as_str())) {
            (Err(problem), false) => {
                *wrong.entry(&row.group).or_default() += 1;
                // Writing to a String cannot fail.
                let _ = writeln!(report, "{} {:?}\n{problem}\n", row.id, row.args);
            }
            (Ok(()), true) => {
                let _ = writeln!(report, "{} agrees, and is listed as different", row.id);
            }
            _ => {}
        }
    }
    let count: usize = wrong.values().sum();
    assert!(report.is_empty(), "{report}\n{count} of {} rows differ: {wrong:?}", rows.len());
}

struct Row {
    id: String,
    group: String,
    folder: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    stdin: String,
    rc: i32,
    exact: bool,
    expect: String,
    absent: String,
}

impl Row {
    fn read(line: &str) -> Self {
        let columns: Vec<String> = line.split('\t').map(unescape).collect();
        let [id, group, folder, args, env, stdin, rc, how, expect, absent, _] = columns.as_slice()
        else {
            panic!("not eleven columns: {line}");
        };
        Self {
            id: id.clone(),
            group: group.clone(),
            folder: folder.clone(),
            args: serde_json::from_str(args).unwrap(),
            env: if env.is_empty() { BTreeMap::new() } else { serde_json::from_str(env).unwrap() },
            stdin: stdin.clone(),
            rc: rc.parse().unwrap(),
            exact: how == "exact",
            expect: expect.clone(),
            absent: absent.clone(),
        }
    }

    fn run(&self, program: &Path, folders: &Path, home: &Path) -> Result<(), String> {
        let work = tempfile::tempdir().unwrap();
        copy(&folders.join(&self.folder), work.path());
        let place = work.path().to_str().unwrap();
        let args = self.args.iter().map(|a| a.replace("@WORK@", place));
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .env("PACKER_NO_COLOR", "1")
            .env("KARAT_STATE_DIR", home.join("state"))
            .env("KARAT_CACHE_DIR", home.join("cache"))
            .envs(&self.env)
            .current_dir(work.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that ends before it has read everything is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(self.stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).replace(place, "@WORK@");
        let stderr = String::from_utf8_lossy(&output.stderr).replace(place, "@WORK@");
        let all = format!("{stdout}{stderr}");
        if output.status.code() != Some(self.rc) {
            return Err(format!("{}, wants {}:\n{all}", output.status, self.rc));
        }
        if self.exact {
            let (found, wanted) =
                (stdout.trim_end_matches('\n'), self.expect.trim_end_matches('\n'));
            return if found == wanted {
                Ok(())
            } else {
                Err(format!("prints:\n{found}\nwants:\n{wanted}\n{stderr}"))
            };
        }
        let found = |pattern: &str| {
            RegexBuilder::new(pattern).multi_line(true).build().unwrap().is_match(&all)
        };
        if let Some(pattern) = self.expect.lines().find(|p| !p.is_empty() && !found(p)) {
            return Err(format!("{pattern:?} is not in:\n{all}"));
        }
        if let Some(pattern) = self.absent.lines().find(|p| !p.is_empty() && found(p)) {
            return Err(format!("{pattern:?} is in:\n{all}"));
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// `\\ \n \t \r \u{hex}`
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (piece, used) = match tail.as_bytes().first() {
            Some(b'n') => ('\n', 1),
            Some(b't') => ('\t', 1),
            Some(b'r') => ('\r', 1),
            Some(b'\\') => ('\\', 1),
            Some(b'u') => {
                let end = tail.find('}').unwrap();
                let code = u32::from_str_radix(&tail[2..end], 16).unwrap();
                (char::from_u32(code).unwrap(), end + 1)
            }
            other => panic!("unknown escape {other:?} in {text}"),
        };
        out.push(piece);
        rest = &tail[used..];
    }
    out.push_str(rest);
    out
}
