//! `shell` on a machine that is this one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use karat_component::testing::{
    self, Component, Recorded, Snapshot, body, ends_when_cancelled, leaves_nothing,
    provision_context, provisioner,
};
use karat_component::{ComponentError, NoCommunicator};
use karat_testing::local_communicator::LocalCommunicator;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Shell;

/// Runs `options` with scripts put into the machine's home.
async fn run(
    machine: &LocalCommunicator,
    options: Value,
    secrets: &[&str],
) -> (Result<(), ComponentError>, Recorded) {
    let (events, recorded) = Recorded::new(secrets);
    let cx = provision_context(Arc::new(machine.clone()), events, CancellationToken::new());
    (provisioner(Shell, &at_home(options)).provision(&cx).await, recorded)
}

fn at_home(mut options: Value) -> Value {
    let object = options.as_object_mut().unwrap();
    if !object.contains_key("remote_path") {
        object.entry("remote_folder").or_insert(json!("."));
    }
    options
}

fn errors(options: Value) -> Vec<String> {
    Component::Provisioner(Arc::new(Shell)).errors(&body(&options))
}

#[test]
fn complies() {
    let component = Component::Provisioner(Arc::new(Shell));
    testing::options(&component, &body(&json!({ "inline": ["true"] })));
    testing::options(
        &component,
        &body(&json!({ "scripts": ["a.sh"], "env": { "A": "1" }, "remote_path": "/tmp/x" })),
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let found = errors(json!({
        "script": "a", "inline": ["b"], "environment_vars": ["=x", "b"],
        "env_var_format": "%s", "execute_command": "{{ .Path", "remote_path": "x/",
        "valid_exit_codes": [0, 999], "inline_shebang": "",
    }))
    .join("\n");
    for part in [
        "Only a script file or an inline script can be specified, not both",
        "Environment variable not in format 'key=value': =x",
        "Environment variable not in format 'key=value': b",
        "\"%s\" is no format for a variable",
        "Error in a {{ }} template",
        "\"x/\" does not name a file",
        "999 cannot be the exit code of a script",
        "The first line of a script has to name a program",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
    assert!(errors(json!({}))[0].starts_with("Either a script file or inline script must be"));
    assert!(errors(json!({ "script": "a", "scripts": ["b"] }))[0].contains("Only one of script"));
    assert_eq!(errors(json!({ "inline": ["x"], "valid_exit_codes": [0, 2_300_218] })), [""; 0]);
}

#[tokio::test]
async fn scripts_run_in_order_with_their_environment() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    let before = Snapshot::of(&[dir.path()]);
    let options = json!({
        "inline": ["cd /", "echo \"$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $A $B\"", "pwd"],
        "environment_vars": ["A=lost", "B=it's"],
        "env": { "A": "won" },
    });
    let (result, recorded) = run(&machine, options, &[]).await;
    result.unwrap();
    assert_eq!(recorded.output(), ["test null won it's", "/"]);
    assert_eq!(recorded.said(), ["Provisioning with shell script: inline script (cd / ...)"]);
    before.assert_nothing_new(&[dir.path()]);
    assert_eq!(machine.calls(), 1, "a script is one exchange");
}

#[tokio::test]
async fn windows_line_ends_become_those_of_unix_unless_binary() {
    let (dir, local) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machine = LocalCommunicator::new(dir.path());
    let path = local.path().join("a.sh");
    std::fs::write(&path, "#!/bin/sh\r\necho one\r\n").unwrap();
    let path = path.to_str().unwrap();
    let (result, recorded) = run(&machine, json!({ "script": path }), &[]).await;
    result.unwrap();
    assert_eq!(recorded.output(), ["one"]);
    assert_eq!(recorded.said(), [format!("Provisioning with shell script: {path}")]);
    let (result, _) = run(&machine, json!({ "scripts": [path], "binary": true }), &[]).await;
    result.unwrap_err();
}

#[tokio::test]
async fn the_command_is_rendered_and_the_variables_file_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    let options = json!({
        "inline": ["echo A=$A"],
        "env": { "A": "file" },
        "use_env_var_file": true,
        "execute_command": "stat -c %a {{.EnvVarFile}}; . {{.EnvVarFile}} && sh {{.Path}}; echo {{build_type}}",
    });
    let (result, recorded) = run(&machine, options, &[]).await;
    result.unwrap();
    assert_eq!(recorded.output(), ["600", "A=file", "null"]);
    let options = json!({ "inline": ["true"], "execute_command": "sh {{.Pth}}" });
    let error = run(&machine, options, &[]).await.0.unwrap_err();
    assert!(error.to_string().contains("uses a name that has no value"), "{error}");
    assert!(error.hint().unwrap().contains("{{.Path}}"), "{error:?}");
}

#[tokio::test]
async fn a_code_that_is_not_valid_fails_in_packers_words_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    let work = async { run(&machine, json!({ "inline": ["exit 2"] }), &[]).await.0 };
    let error = leaves_nothing(&[dir.path()], work).await;
    assert_eq!(
        error.to_string(),
        "Script exited with non-zero exit status: 2. Allowed exit codes are: [0]"
    );
    let options = json!({ "inline": ["exit 2"], "valid_exit_codes": [0, 2] });
    run(&machine, options, &[]).await.0.unwrap();
    let options = json!({ "inline": ["true"], "valid_exit_codes": [3, 2] });
    let error = run(&machine, options, &[]).await.0.unwrap_err();
    assert!(error.to_string().ends_with("Allowed exit codes are: [3 2]"), "{error}");
}

#[tokio::test]
async fn a_lost_connection_fails_unless_it_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    machine.stay_away_after_vanishing(1);
    let (result, _) = run(&machine, json!({ "inline": ["exit 77"] }), &[]).await;
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "Script disconnected unexpectedly");
    assert!(error.hint().unwrap().contains("expect_disconnect"));
    machine.go_away(0);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for expected in [
        json!({ "inline": ["exit 77"], "expect_disconnect": true }),
        json!({ "inline": ["exit 77"], "valid_exit_codes": [0, 2_300_218] }),
    ] {
        let before = Snapshot::of(&[dir.path()]);
        let reconnects = machine.reconnects();
        run(&machine, expected, &[]).await.0.unwrap();
        assert!(machine.reconnects() > reconnects, "it waits for the machine");
        before.assert_nothing_new(&[dir.path()]);
    }
}

#[tokio::test]
async fn a_machine_that_is_away_is_waited_for_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    machine.go_away(2);
    let (result, recorded) = run(&machine, json!({ "inline": ["echo back"] }), &[]).await;
    result.unwrap();
    assert_eq!((recorded.output(), machine.reconnects()), (vec!["back".to_owned()], 2));
    machine.go_away(u32::MAX);
    let start = Instant::now();
    let options = json!({ "inline": ["true"], "start_retry_timeout": "1500ms" });
    let error = run(&machine, options, &[]).await.0.unwrap_err();
    assert_eq!(error.to_string(), "the machine is away");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn skip_clean_leaves_the_script_where_it_was_asked_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    let options = json!({
        "inline": ["true"], "skip_clean": true, "remote_file": "mine.sh",
        "inline_shebang": "/bin/sh -eux",
    });
    run(&machine, options, &[]).await.0.unwrap();
    let text = std::fs::read_to_string(dir.path().join("mine.sh")).unwrap();
    assert_eq!(text, "#!/bin/sh -eux\ntrue\n");
}

#[tokio::test]
async fn secrets_are_masked_in_all_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    let options = json!({ "inline": ["echo pass hunter2-long"], "env": { "P": "hunter2-long" } });
    let (result, recorded) = run(&machine, options, &["hunter2-long"]).await;
    result.unwrap();
    recorded.assert_without("hunter2-long");
    assert_eq!(recorded.output(), ["pass <sensitive>"]);
}

#[tokio::test]
async fn ends_at_once_when_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let folders: &[&Path] = &[dir.path()];
    for options in
        [json!({ "inline": ["sleep 100"] }), json!({ "inline": ["true"], "pause_after": "100s" })]
    {
        let prepared = provisioner(Shell, &at_home(options));
        ends_when_cancelled(folders, |cancel| {
            let machine = LocalCommunicator::new(dir.path());
            let cx = provision_context(Arc::new(machine), Recorded::new(&[]).0, cancel);
            let prepared = &prepared;
            async move { prepared.provision(&cx).await }
        })
        .await;
    }
}

#[tokio::test]
async fn a_missing_script_and_a_missing_communicator_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let machine = LocalCommunicator::new(dir.path());
    let error = run(&machine, json!({ "script": "/no/such.sh" }), &[]).await.0.unwrap_err();
    assert!(error.chain().starts_with("cannot read the script \"/no/such.sh\": "), "{error:?}");
    let cx =
        provision_context(Arc::new(NoCommunicator), Recorded::new(&[]).0, CancellationToken::new());
    let prepared = provisioner(Shell, &json!({ "inline": ["true"] }));
    let error = prepared.provision(&cx).await.unwrap_err();
    assert_eq!(error.to_string(), "communicator \"none\" cannot run a script");
}
