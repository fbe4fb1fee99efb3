//! Commands and scripts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use karat_component::{ExitStatus, RemoteFile, Stream};
use karat_ssh::{SshConfig, SshError};
use tokio_util::sync::CancellationToken;

use crate::common::{config, connect, noise, server, session, sh};

fn script(path: &str, content: &[u8]) -> RemoteFile {
    RemoteFile { path: path.into(), mode: 0o700, content: Arc::from(content) }
}

#[tokio::test]
async fn exit_codes_signals_and_both_outputs() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    assert_eq!(
        sh(&session, "echo out; echo err >&2; exit 7").await,
        (ExitStatus::Code(7), "out\n".into(), "err\n".into())
    );
    assert_eq!(sh(&session, "kill -KILL $$").await.0, ExitStatus::Signal("KILL".into()));
    assert_eq!(sh(&session, "no-such-program").await.0, ExitStatus::Code(127));
    assert_eq!(sh(&session, "cat").await.0, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_and_binary_input() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let cancel = CancellationToken::new();
    let mut count = 0u64;
    let status = session
        .exec("head -c 104857600 /dev/zero", None, &cancel, |_, b| count += b.len() as u64)
        .await
        .unwrap();
    assert_eq!((status, count), (ExitStatus::Code(0), 104_857_600));
    let sent = noise(5_000_000);
    let mut back = Vec::new();
    let mut reader = sent.as_slice();
    session
        .exec("cat", Some(&mut reader), &cancel, |_, b| back.extend_from_slice(b))
        .await
        .unwrap();
    assert!(back == sent, "{} bytes came back", back.len());
    // A command that does not read what it is given.
    let mut reader = sent.as_slice();
    let status = session.exec("exit 3", Some(&mut reader), &cancel, |_, _| {}).await.unwrap();
    assert_eq!(status, ExitStatus::Code(3));
}

#[tokio::test]
async fn a_script_is_sent_run_and_removed() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let cancel = CancellationToken::new();
    let path = server.path("it's a script.sh").to_str().unwrap().to_owned();
    let quoted = path.replace('\'', "'\\''");
    let mut out = Vec::new();
    let body = b"#!/bin/sh\nprintf '%s\\n' \"$GREETING $1\"; cat; exit 5\n";
    let line = format!("GREETING='it''s \"$HOME\"\nnext! \\n' '{quoted}' one");
    let status = session
        .run_script(&[script(&path, body)], &line, true, &cancel, |_, b| out.extend_from_slice(b))
        .await
        .unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "its \"$HOME\"\nnext! \\n one\n");
    assert_eq!(status, ExitStatus::Code(5));
    assert!(!std::path::Path::new(&path).exists());

    session.run_script(&[script(&path, body)], "exit 4", false, &cancel, |_, _| {}).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), body);
}

#[tokio::test]
async fn several_files_large_and_binary_go_along() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let cancel = CancellationToken::new();
    let data = noise(3_000_000);
    let name = |n: &str| server.path(n).to_str().unwrap().to_owned();
    let files = [
        script(&name("main.sh"), b"#!/bin/sh\n. \"$1\"; echo $X; cat \"$2\" >\"$2.copy\"\n"),
        script(&name("empty"), b""),
        script(&name("vars"), b"X='a\nb'\n"),
        script(&name("data"), &data),
    ];
    let line = format!("{} {} {}", name("main.sh"), name("vars"), name("data"));
    let mut out = Vec::new();
    let status = session
        .run_script(&files, &line, true, &cancel, |_, b| out.extend_from_slice(b))
        .await
        .unwrap();
    assert_eq!((status, out.as_slice()), (ExitStatus::Code(0), b"a b\n".as_slice()));
    assert!(std::fs::read(name("data.copy")).unwrap() == data);
    for file in ["main.sh", "main.sh.files", "empty", "vars", "data"] {
        assert!(!server.path(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn a_script_that_cannot_be_written_is_an_error_of_its_own() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let cancel = CancellationToken::new();
    let mut printed = Vec::new();
    let error = session
        .run_script(&[script("/no/such/folder/x.sh", b"x")], "true", true, &cancel, |_, b| {
            printed.extend_from_slice(b);
        })
        .await
        .unwrap_err();
    assert!(matches!(&error, SshError::Transfer { path, .. } if path == "/no/such/folder/x.sh"));
    assert!(error.to_string().contains("/no/such/folder/x.sh"), "{error}");
    assert_eq!(printed, b"", "nothing of ours is shown as output");
    // The script's own 99 is the script's.
    let path = server.path("x.sh").to_str().unwrap().to_owned();
    let status =
        session.run_script(&[script(&path, b"x")], "exit 99", true, &cancel, |_, _| {}).await;
    assert_eq!(status.unwrap(), ExitStatus::Code(99));
}

#[tokio::test]
async fn a_terminal_on_request() {
    let Some(server) = server(&[]) else { return };
    let session = connect(SshConfig { ssh_pty: true, ..config(&server) }).await.unwrap();
    assert_eq!(sh(&session, "test -t 0 && test -t 1 && echo yes").await.1, "yes\r\n");
    let path = server.path("t.sh").to_str().unwrap().to_owned();
    let mut out = Vec::new();
    let cancel = CancellationToken::new();
    let status = session
        .run_script(
            &[script(&path, b"#!/bin/sh\ntty >/dev/null && echo tty; exit 6\n")],
            &path,
            true,
            &cancel,
            |_, b| out.extend_from_slice(b),
        )
        .await
        .unwrap();
    assert_eq!((status, out.as_slice()), (ExitStatus::Code(6), b"tty\r\n".as_slice()));
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test]
async fn cancelling_ends_the_process_group_and_cleans_up() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let cancel = CancellationToken::new();
    let path = server.path("long.sh").to_str().unwrap().to_owned();
    let pid = server.path("pid");
    let body = format!("#!/bin/sh\nsleep 600 & echo $! >{}; wait\n", pid.display());
    let running = async {
        session.run_script(&[script(&path, body.as_bytes())], &path, true, &cancel, |_, _| {}).await
    };
    let cancelling = async {
        while !std::fs::read_to_string(&pid).is_ok_and(|t| t.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let start = Instant::now();
    let (ended, ()) = tokio::join!(running, cancelling);
    assert!(matches!(ended, Err(SshError::Cancelled)));
    assert!(start.elapsed() < Duration::from_secs(120));
    let (_, left, _) =
        sh(&session, &format!("grep State: /proc/$(cat {})/status", pid.display())).await;
    assert!(left.is_empty() || left.contains('Z'), "{left}");
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_it() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    let start = Instant::now();
    let (status, out, _) = sh(&session, "sleep 600 & echo started").await;
    assert_eq!((status, out.as_str()), (ExitStatus::Code(0), "started\n"));
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[tokio::test]
async fn commands_run_side_by_side_also_where_sessions_are_few() {
    for line in ["MaxSessions 10", "MaxSessions 2", "MaxSessions 1"] {
        let Some(server) = server(&[line]) else { return };
        let session = session(&server).await;
        let cancel = CancellationToken::new();
        let each = (0..12).map(|i| {
            let (session, cancel) = (session.clone(), cancel.clone());
            async move {
                let mut out = Vec::new();
                let line = format!("sleep 0.1; echo {i}");
                let status = session
                    .exec(&line, None, &cancel, |s, b| {
                        if s == Stream::Stdout {
                            out.extend_from_slice(b);
                        }
                    })
                    .await;
                assert_eq!(status.unwrap(), ExitStatus::Code(0));
                assert_eq!(out, format!("{i}\n").into_bytes());
            }
        });
        futures::future::join_all(each).await;
        assert_eq!(server.log().matches("Accepted publickey").count(), 1, "one connection");
    }
}
