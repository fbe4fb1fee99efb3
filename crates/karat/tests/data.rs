//! Data sources: side by side, once in each run, and ended when they are told to.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// On a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);

fn karat(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karat"));
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("KARAT_STATE_DIR", folder.join("state"))
        .env("KARAT_CACHE_DIR", folder.join("cache"))
        .current_dir(folder);
    command
}

fn template(data: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "{data}\nsource \"file\" \"a\" {{\n  content = jsonencode(data)\n  target = \"out.txt\"\n}}\n\
         build {{\n  sources = [\"source.file.a\"]\n}}\n"
    );
    fs::write(folder.path().join("t.pkr.hcl"), text).unwrap();
    folder
}

fn shown(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn those_that_do_not_need_each_other_run_side_by_side_and_once() {
    // Each waits for the other two; a third needs the first, and is not waited for.
    let waits = "echo x >> $0; for i in $(seq 600); do [ -e a -a -e b ] && break; sleep 0.1; done; \
                 [ -e a -a -e b ] && printf $0";
    let folder = template(&format!(
        r#"
data "external-raw" "one" {{
  program = ["sh", "-c", "{waits}", "a"]
}}
data "external-raw" "two" {{
  program = ["sh", "-c", "{waits}", "b"]
}}
locals {{
  both = "${{data.external-raw.one.result}}${{data.external-raw.two.result}}"
}}
data "external-raw" "three" {{
  program = ["sh", "-c", "echo x >> c; cat"]
  query   = local.both
}}"#
    ));
    let output = karat(folder.path(), &["build", "t.pkr.hcl"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let made = fs::read_to_string(folder.path().join("out.txt")).unwrap();
    assert!(made.contains(r#""three":{"result":"ab"}"#), "{made}");
    for name in ["a", "b", "c"] {
        let runs = fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(runs, "x\n", "{name} ran more than once");
    }
}

#[test]
fn an_interrupt_ends_what_runs() {
    let folder = template(
        r#"data "external" "slow" {
  program = ["sh", "-c", "echo $$ > pid; sleep 600 & wait"]
}"#,
    );
    for args in [&["build", "t.pkr.hcl"][..], &["validate", "-evaluate-datasources", "t.pkr.hcl"]] {
        let pid_file = folder.path().join("pid");
        let _ = fs::remove_file(&pid_file);
        let child = karat(folder.path(), args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the program", || {
            fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
        });
        let program: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(
            shown(&output).contains("Cancelled while data.external.slow"),
            "{}",
            shown(&output)
        );
        wait_for("the end of the program", || kill(Pid::from_raw(program), None).is_err());
    }
}
