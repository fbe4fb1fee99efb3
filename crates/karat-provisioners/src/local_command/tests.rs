//! Scripts that run here.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use karat_component::testing::{
    self, Component, Recorded, body, ends_when_cancelled, leaves_nothing, provision_context,
    provisioner,
};
use karat_component::{ComponentError, NoCommunicator};
use karat_value::Value as KaratValue;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ShellLocal;

async fn run(options: Value, secrets: &[&str]) -> (Result<(), ComponentError>, Recorded) {
    let (events, recorded) = Recorded::new(secrets);
    let mut cx = provision_context(Arc::new(NoCommunicator), events, CancellationToken::new());
    cx.generated.insert("Password".into(), KaratValue::string("open sesame"));
    cx.generated.insert("PackerHTTPPort".into(), KaratValue::number(8123));
    cx.generated.insert("PackerHTTPIP".into(), KaratValue::string("ERR_NOT_IMPLEMENTED"));
    (provisioner(ShellLocal, &options).provision(&cx).await, recorded)
}

async fn output(options: Value) -> Vec<String> {
    let (result, recorded) = run(options, &[]).await;
    result.unwrap();
    recorded.output()
}

fn errors(options: Value) -> String {
    Component::Provisioner(Arc::new(ShellLocal)).errors(&body(&options)).join("\n")
}

fn script(folder: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("a script.sh");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn complies() {
    let component = Component::Provisioner(Arc::new(ShellLocal));
    testing::options(&component, &body(&json!({ "command": "true" })));
    testing::options(&component, &body(&json!({ "inline": ["true"], "only_on": ["linux"] })));
}

#[test]
fn what_is_wrong_is_told() {
    assert!(errors(json!({})).starts_with("Either a script file or inline script must be"));
    let found = errors(json!({
        "inline": ["a"], "command": "b", "only_on": ["linus"], "execute_command": [],
        "environment_vars": ["x"], "tempfile_extension": "a/b", "valid_exit_codes": [-1],
    }));
    for part in [
        "\"command\" and \"inline\" exclude each other",
        "Invalid OS specified in only_on: 'linus'",
        "Did you mean \"linux\"?",
        "The command is empty",
        "not in format 'key=value': x",
        "cannot hold a \"/\"",
        "-1 cannot be the exit code",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
}

#[test]
fn commands_have_no_place_in_the_linux_inside_windows() {
    for (option, value) in [("inline", json!(["true"])), ("command", json!("true"))] {
        let found = errors(json!({ option: value, "use_linux_pathing": true }));
        let part = format!("\"{option}\" cannot be used with \"use_linux_pathing\"");
        assert!(found.contains(&part), "{found}");
    }
    let component = Component::Provisioner(Arc::new(ShellLocal));
    let scripts = json!({ "script": "a.sh", "use_linux_pathing": true });
    testing::options(&component, &body(&scripts));
}

#[tokio::test]
async fn commands_know_their_build() {
    let lines = output(json!({
        "inline": [
            "echo $PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $PACKER_RUN_UUID",
            "echo \"$A|$B|$PACKER_HTTP_PORT|${PACKER_HTTP_IP-none}\"",
        ],
        "environment_vars": ["A={{.Password}}", "B=lost"],
        "env": { "B": "it's; $(x) \"\n" },
    }))
    .await;
    assert_eq!(
        lines,
        [
            "test null 00000000-0000-4000-8000-000000000000",
            "open sesame|it's; $(x) \"",
            "|8123|none",
        ]
    );
    assert_eq!(
        output(json!({ "command": "echo {{.Password}}; id -u >/dev/null" })).await,
        ["open sesame"]
    );
}

#[tokio::test]
async fn the_temporary_script_has_packers_name_and_goes_away() {
    let (result, recorded) =
        run(json!({ "inline": ["echo $0"], "tempfile_extension": "py" }), &[]).await;
    result.unwrap();
    let path = recorded.output().remove(0);
    assert_eq!(recorded.said(), [format!("Running local shell script: {path}")]);
    assert!(path.contains("/packer-shell") && path.ends_with(".py"), "{path}");
    assert!(!Path::new(&path).exists(), "{path} is left");
    let (result, recorded) = run(json!({ "inline": ["echo $0", "exit 3"] }), &[]).await;
    result.unwrap_err();
    assert!(!Path::new(&recorded.output()[0]).exists());
}

#[tokio::test]
async fn the_command_can_be_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "echo $A-$1\n");
    let lines = output(json!({
        "script": path,
        "environment_vars": ["A=1"],
        "execute_command": ["/bin/bash", "-c", "{{.Vars}} sh '{{.Script}}' x"],
    }))
    .await;
    assert_eq!(lines, ["1-x"]);
    let lines = output(json!({
        "inline": ["echo $A"], "env": { "A": "b" }, "env_var_format": "export %s=\"%s\"; ",
    }))
    .await;
    assert_eq!(lines, ["b"]);
    // Without a first line, a shell runs it.
    assert_eq!(output(json!({ "scripts": [path], "env": { "A": "2" } })).await, ["2-"]);
    let shebang = json!({ "inline": ["import sys; print(sys.argv[0] != '')"],
        "inline_shebang": "/usr/bin/env python3" });
    assert_eq!(output(shebang).await, ["True"]);
}

#[tokio::test]
async fn codes_count() {
    let (result, _) = run(json!({ "inline": ["false"] }), &[]).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "Script exited with non-zero exit status: 1. Allowed exit codes are: [0]"
    );
    let (result, recorded) =
        run(json!({ "inline": ["exit 3"], "only_on": ["windows"] }), &[]).await;
    result.unwrap();
    assert_eq!(recorded.said(), ["Skipping shell-local due to runtime OS"]);
    run(json!({ "inline": ["exit 3"], "valid_exit_codes": [3] }), &[]).await.0.unwrap();
    let killed = run(json!({ "inline": ["kill -9 $$"] }), &[]).await.0.unwrap_err();
    assert!(killed.to_string().contains("137") && killed.to_string().contains("KILL"), "{killed}");
    let missing = run(json!({ "script": "/no/such" }), &[]).await.0.unwrap_err();
    assert!(missing.to_string().contains("there is no script \"/no/such\""), "{missing}");
    let program = json!({ "inline": ["x"], "inline_shebang": "/no/such/program" });
    let error = run(program, &[]).await.0.unwrap_err();
    assert!(error.chain().starts_with("cannot start \"/no/such/program\": "), "{error:?}");
}

#[tokio::test]
async fn what_a_script_leaves_running_does_not_hold_it_up() {
    let start = Instant::now();
    let (result, recorded) = run(json!({ "inline": ["sleep 60 & echo started $!"] }), &[]).await;
    result.unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    let line = recorded.output().remove(0);
    let pid = line.strip_prefix("started ").unwrap();
    assert!(Path::new("/proc").join(pid).exists(), "it was not ended with its script");
    assert!(recorded.said().last().unwrap().contains("holds its output open"));
    std::process::Command::new("kill").arg(pid).status().unwrap();
}

#[tokio::test]
async fn a_cancelled_script_ends_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let line =
        format!("trap '' TERM; sleep 100 & echo $! >>{0}; echo $$ >>{0}; wait", pids.display());
    std::fs::write(&pids, "").unwrap();
    let prepared = provisioner(ShellLocal, &json!({ "inline": [line] }));
    ends_when_cancelled(&[dir.path()], |cancel| {
        let cx = provision_context(Arc::new(NoCommunicator), Recorded::new(&[]).0, cancel);
        let prepared = &prepared;
        async move { prepared.provision(&cx).await }
    })
    .await;
    let text = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for pid in text.lines() {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // One that waits for whoever adopted it to take notice has ended, too.
        let ended = || state().is_empty() || state().contains(") Z ");
        // A signal is sent before it is taken notice of.
        for _ in 0..500 {
            if ended() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(ended(), "process {pid} still runs: {}", state());
    }
}

#[tokio::test]
async fn failing_leaves_nothing_and_secrets_are_masked() {
    let dir = tempfile::tempdir().unwrap();
    let work = async { run(json!({ "command": "exit 9" }), &[]).await.0 };
    leaves_nothing(&[dir.path()], work).await;
    let (_, recorded) = run(json!({ "command": "echo {{.Password}}" }), &["open sesame"]).await;
    recorded.assert_without("open sesame");
    assert_eq!(recorded.output(), ["<sensitive>"]);
}
