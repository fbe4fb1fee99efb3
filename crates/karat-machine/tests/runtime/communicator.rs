//! The communicator `machine`.

use std::sync::{Arc, Mutex};

use karat_component::{
    Communicator, CommunicatorError, ExitStatus, Output, RemoteCommand, RemoteFile, RemoteScript,
};
use karat_machine::MachineCommunicator;
use karat_machine::runtime::LazyMachine;
use tokio_util::sync::CancellationToken;

use super::common::{SUITES, folder, is_root, spec};

async fn text(communicator: &MachineCommunicator, line: &str) -> (ExitStatus, String) {
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&seen);
    let mut command = RemoteCommand::new(line);
    command.output = Output::new(move |_, bytes| {
        sink.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
    });
    let status = communicator.exec(command).await.unwrap();
    let text = seen.lock().unwrap().trim().to_owned();
    (status, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_folders_and_reboots() {
    if !is_root() {
        return;
    }
    for suite in SUITES {
        let dir = folder();
        let cancel = CancellationToken::new();
        let machine =
            LazyMachine::prepare(spec(&format!("kt-comm-{suite}"), suite, dir.path()), &cancel);
        let communicator = MachineCommunicator(Arc::new(machine.await.unwrap()));

        let tree = dir.path().join("site");
        std::fs::create_dir_all(tree.join("css")).unwrap();
        std::fs::write(tree.join("css/a.css"), "a{}").unwrap();
        communicator.upload_dir(&tree, "/srv", &cancel).await.unwrap();
        let contents = format!("{}/", tree.display());
        communicator.upload_dir(contents.as_ref(), "/srv/flat", &cancel).await.unwrap();
        assert!(communicator.0.report().is_none());

        let script = |line: &str| RemoteScript {
            files: vec![RemoteFile {
                path: "/tmp/script_1.sh".into(),
                mode: 0o755,
                content: Arc::from(
                    &b"#!/bin/sh\nls /srv /srv/flat; echo \"$0 $WORD\"; exit 3\n"[..],
                ),
            }],
            line: line.into(),
            clean: true,
            output: Output::discard(),
            cancel: CancellationToken::new(),
        };
        let seen = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&seen);
        let mut first = script("chmod +x /tmp/script_1.sh; WORD='x y' /tmp/script_1.sh");
        first.output = Output::new(move |_, bytes| {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        });
        assert_eq!(communicator.run_script(first).await.unwrap(), ExitStatus::Code(3));
        let expected = "/srv:\nflat\nsite\n\n/srv/flat:\ncss\n/tmp/script_1.sh x y\n";
        assert_eq!(*seen.lock().unwrap(), expected);
        assert_eq!(text(&communicator, "ls /tmp/script_1.sh").await.0, ExitStatus::Code(2));

        // The login shell runs the line, as over ssh.
        assert_eq!(text(&communicator, "echo $0").await.1, "/bin/bash");
        let (_, boot) =
            text(&communicator, "cat /proc/sys/kernel/random/boot_id; touch /etc/before").await;
        let status = communicator.run_script(script("reboot; sleep 60")).await.unwrap();
        assert_eq!(status, ExitStatus::Disconnected, "{suite}");
        communicator.reconnect(&cancel).await.unwrap();
        let (_, after) =
            text(&communicator, "cat /proc/sys/kernel/random/boot_id; ls /etc/before").await;
        assert!(after.ends_with("/etc/before") && !after.contains(&boot), "{boot} {after}");
        communicator.reconnect(&cancel).await.unwrap();

        communicator.download_dir("/srv/site", dir.path(), &cancel).await.unwrap();
        communicator
            .download("/srv/flat/css/a.css", &dir.path().join("got"), &cancel)
            .await
            .unwrap();
        assert_eq!(std::fs::read(dir.path().join("got")).unwrap(), b"a{}");
        let error =
            communicator.download("/none", &dir.path().join("x"), &cancel).await.unwrap_err();
        assert!(matches!(error, CommunicatorError::Transfer { .. }));
        assert!(error.to_string().contains("No such file"), "{error}");
        communicator.0.machine().stop(std::time::Duration::from_secs(30)).await.unwrap();
    }
}

/// A container image has no init. Waiting does not give it one.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_an_init_is_told_at_once() {
    if !is_root() {
        return;
    }
    let dir = folder();
    let cancel = CancellationToken::new();
    let image = dir.path().join("image");
    std::fs::create_dir_all(image.join("etc")).unwrap();
    std::fs::create_dir(image.join("usr")).unwrap();
    std::fs::write(image.join("etc/os-release"), "ID=none\n").unwrap();
    let mut bare = spec("kt-comm-bare", "trixie", dir.path());
    bare.lower = vec![image];
    let machine = LazyMachine::prepare(bare, &cancel).await.unwrap();
    let communicator = MachineCommunicator(Arc::new(machine));
    let script = RemoteScript {
        files: Vec::new(),
        line: "true".into(),
        clean: true,
        output: Output::discard(),
        cancel: CancellationToken::new(),
    };
    let error = communicator.run_script(script).await.unwrap_err();
    assert!(matches!(error, CommunicatorError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("packages = [\"systemd-sysv\""), "{error}");
}
