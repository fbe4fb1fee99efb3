//! `karat lab`, from up to down.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn karat(state: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_karat"));
    command.args(args).env("KARAT_STATE_DIR", state).env_remove("PACKER_LOG").output().unwrap()
}

fn ok(state: &Path, args: &[&str]) -> String {
    let output = karat(state, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(state: &Path, args: &[&str]) -> String {
    let output = karat(state, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Ends the lab whatever becomes of the test.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = karat(self.0, &["lab", "down"]);
    }
}

fn process(state: &Path) -> Option<u64> {
    let text = std::fs::read(state.join("lab/lab.json")).ok()?;
    serde_json::from_slice::<Value>(&text).unwrap()["pid"].as_u64()
}

/// Whether a process has ended; nobody may have waited for it yet.
fn ended(pid: u64) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_none_or(|state| state.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn a_lab_is_started_asked_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let said = refused(state, &["lab", "env"]);
    assert!(said.contains("no lab serves") && said.contains("karat lab up"), "{said}");
    let _down = Down(state);
    let up = ["lab", "up", "-listen", "127.0.0.1:0"];
    let said = ok(state, &up);
    let address = said.trim().trim_start_matches("The lab serves at ").trim_end_matches('.');
    assert!(address.starts_with("http://127.0.0.1:"), "{said}");
    let pid = process(state).unwrap();
    assert!(ok(state, &up).contains("serves already"));
    assert_eq!(process(state), Some(pid));

    let variables = ok(state, &["lab", "env"]);
    assert!(variables.contains(&format!("export AWS_ENDPOINT_URL='{address}'\n")), "{variables}");
    assert!(variables.contains("unset AWS_PROFILE"), "{variables}");
    let json: Value = serde_json::from_str(&ok(state, &["lab", "env", "-json"])).unwrap();
    assert_eq!(json["AWS_REGION"], "us-east-1");
    let status = ok(state, &["lab", "status"]);
    assert!(status.contains("debian-13-"), "{status}");
    assert_eq!(ok(state, &["lab", "audit"]), "");

    let template = state.join("t.pkr.hcl");
    let text = "source \"null\" \"a\" {\n communicator = \"none\"\n}\nbuild {\n \
                sources = [\"source.null.a\"]\n provisioner \"shell-local\" {\n \
                inline = [\"echo at $AWS_ENDPOINT_URL\"]\n}\n}\n";
    std::fs::write(&template, text).unwrap();
    let said = ok(state, &["build", "-color=false", "-lab", template.to_str().unwrap()]);
    assert!(said.contains(&format!("null.a: at {address}\n")), "{said}");

    let add = ["lab", "faults", "add", "-calls", "Run*", "-share", "0.2", "throttle"];
    let id = ok(state, &add);
    let list = ok(state, &["lab", "faults"]);
    assert!(list.contains(id.trim()) && list.contains("share 0.2"), "{list}");
    let wrong = refused(state, &["lab", "faults", "add", "latency"]);
    assert!(wrong.contains("needs a delay"), "{wrong}");
    ok(state, &["lab", "faults", "clear", id.trim()]);
    assert_eq!(ok(state, &["lab", "faults"]), "");
    let wrong = refused(state, &["lab", "faults", "clear", "fault-0"]);
    assert!(wrong.contains("there is no fault"), "{wrong}");

    ok(state, &["lab", "down"]);
    assert!(ended(pid));
    assert!(ok(state, &["lab", "down", "-forget"]).contains("forgotten"));
    assert!(!state.join("lab/lab.db").exists());
}

const IMAGE: &str = r#"
source "amazon-ebs" "a" {
  ami_name      = "golden"
  instance_type = "t3.micro"
  region        = "us-east-1"
  communicator  = "none"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
}

build {
  sources = ["amazon-ebs.a"]
}
"#;

/// Nobody tells `recover` and `resume` where the lab is.
#[test]
fn what_a_killed_build_left_in_the_lab_is_recovered_or_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let _down = Down(state);
    ok(state, &["lab", "up", "-machines", "false", "-listen", "127.0.0.1:0"]);
    let template = state.join("t.pkr.hcl");
    std::fs::write(&template, IMAGE).unwrap();
    let template = template.to_str().unwrap();
    let killed = || {
        let mut build = Command::new(env!("CARGO_BIN_EXE_karat"));
        build.args(["build", "-lab", template]).env("KARAT_STATE_DIR", state);
        let output = build.env("KARAT_FAULT", "kill@instance:after").output().unwrap();
        assert_eq!(output.status.code(), None, "{output:?}");
        let left = String::from_utf8(karat(state, &["lab", "audit"]).stdout).unwrap();
        assert!(left.contains(" instance "), "{left}");
    };

    killed();
    let list = ok(state, &["recover", "--list"]);
    assert!(list.contains("would undo instance of amazon-ebs.a"), "{list}");
    // One that has nothing to do with the lab is recovered whatever becomes of those in the lab.
    let here = state.join("here.pkr.hcl");
    std::fs::write(
        &here,
        "source \"file\" \"a\" {\n content = \"x\"\n target = \"made\"\n}\n\
         build {\n sources = [\"source.file.a\"]\n}\n",
    )
    .unwrap();
    let mut build = Command::new(env!("CARGO_BIN_EXE_karat"));
    build.args(["build", here.to_str().unwrap()]).current_dir(state).env("KARAT_STATE_DIR", state);
    let output = build.env("KARAT_FAULT", "kill@write-file:after").output().unwrap();
    assert_eq!(output.status.code(), None, "{output:?}");
    ok(state, &["lab", "down"]);
    let settings = state.join("lab/lab.toml");
    std::fs::write(&settings, "nonsense").unwrap();
    let output = karat(state, &["recover"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("undid write-file of file.a"), "{output:?}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    std::fs::write(&settings, "instances = \"records\"\n").unwrap();
    // The lab serves at another place now.
    ok(state, &["lab", "up", "-listen", "127.0.0.1:0"]);
    let said = ok(state, &["recover"]);
    assert!(said.contains("undid instance of amazon-ebs.a"), "{said}");
    assert_eq!(ok(state, &["lab", "audit"]), "");
    assert_eq!(ok(state, &["recover"]), "Nothing to recover.\n");

    killed();
    let newest = ok(state, &["runs", "-json"]).lines().next().unwrap().to_owned();
    let newest: Value = serde_json::from_str(&newest).unwrap();
    ok(state, &["resume", newest["id"].as_str().unwrap()]);
    let left = String::from_utf8(karat(state, &["lab", "audit"]).stdout).unwrap();
    let kinds: Vec<&str> = left.lines().filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(kinds, ["image", "snapshot"], "{left}");
}

#[test]
fn what_is_left_over_makes_the_audit_fail() {
    if Command::new("aws").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let _down = Down(state);
    ok(state, &["lab", "up", "-listen", "127.0.0.1:0"]);
    let variables: Value = serde_json::from_str(&ok(state, &["lab", "env", "-json"])).unwrap();
    let aws = |args: &[&str]| {
        let mut command = Command::new("aws");
        for (name, value) in variables.as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        command.env("AWS_CONFIG_FILE", "/dev/null").env("NO_PROXY", "*");
        command.env_remove("AWS_PROFILE");
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    aws(&["ec2", "create-key-pair", "--key-name", "left", "--key-type", "ed25519"]);
    let output = karat(state, &["lab", "audit"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("key-pair") && said.contains("left"), "{said}");
    // It is still there after an end and a new start.
    ok(state, &["lab", "down"]);
    ok(state, &["lab", "up", "-listen", "127.0.0.1:0"]);
    assert_eq!(karat(state, &["lab", "audit"]).status.code(), Some(1));
    let variables: Value = serde_json::from_str(&ok(state, &["lab", "env", "-json"])).unwrap();
    let endpoint = variables["AWS_ENDPOINT_URL"].as_str().unwrap();
    aws(&["ec2", "delete-key-pair", "--key-name", "left", "--endpoint-url", endpoint]);
    assert_eq!(karat(state, &["lab", "audit"]).status.code(), Some(0));
}

#[test]
fn wrong_settings_are_told_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    std::fs::write(&file, "region = \"mars-1\"\n").unwrap();
    let path = file.to_str().unwrap();
    let said = refused(dir.path(), &["lab", "up", "-config", path]);
    assert!(said.contains("mars-1"), "{said}");
    std::fs::write(&file, "account = \"111122223333\"\nregoin = 1\n").unwrap();
    let said = refused(dir.path(), &["lab", "up", "-config", path]);
    assert!(said.contains("line 2") && said.contains("regoin"), "{said}");
    assert!(process(dir.path()).is_none());
}
