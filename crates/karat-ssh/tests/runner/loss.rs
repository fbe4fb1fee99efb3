//! Connections that are cut, fall silent or come back.

use std::time::{Duration, Instant};

use karat_component::{Events, ExitStatus};
use karat_ssh::{SeenHostKeys, Session, SshConfig, SshError};
use karat_testing::relay::Relay;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::common::{Said, config, connect, noise, server, session, sh, text};

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing_at_its_place() {
    let Some(server) = server(&[]) else { return };
    for (way, delay) in [("scp", 0), ("scp", 30), ("sftp", 0)] {
        let relay = Relay::start(server.port(), Duration::from_millis(delay)).unwrap();
        let session = connect(SshConfig {
            ssh_port: relay.port(),
            ssh_file_transfer_method: way.into(),
            ..config(&server)
        })
        .await
        .unwrap();
        let cancel = CancellationToken::new();
        let path = server.path(&format!("half-{way}-{delay}"));
        std::fs::write(&path, "old").unwrap();
        let data = noise(20 << 20);
        relay.cut_after(7 << 20);
        let mut reader = data.as_slice();
        let error = session.upload(&mut reader, &text(&path), None, &cancel).await.unwrap_err();
        assert!(
            matches!(error, SshError::Transfer { .. } | SshError::Lost { .. }),
            "{way}: {error}"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "{way} {delay}");

        // A folder the same.
        relay.mend();
        let tree = server.path("tree");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("large"), &data).unwrap();
        session.reconnect(&cancel).await.unwrap();
        relay.cut_after(7 << 20);
        let there = server.path(&format!("there-{way}-{delay}"));
        assert!(session.upload_dir(&tree, &text(&there), &cancel).await.is_err());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!there.join("tree/large").exists(), "{way} {delay}");
    }
}

#[tokio::test]
async fn a_script_that_is_cut_does_not_run() {
    let Some(server) = server(&[]) else { return };
    let relay = Relay::start(server.port(), Duration::ZERO).unwrap();
    let session = connect(SshConfig { ssh_port: relay.port(), ..config(&server) }).await.unwrap();
    let cancel = CancellationToken::new();
    let witness = server.path("witness");
    let mut body = format!("touch {}\n", witness.display()).into_bytes();
    body.resize(2_000_000, b'\n');
    let file = karat_component::RemoteFile {
        path: text(&server.path("cut.sh")),
        mode: 0o700,
        content: body.into(),
    };
    relay.cut_after(1_000_000);
    let line = format!("sh {}", file.path);
    let ended = session.run_script(&[file], &line, true, &cancel, |_, _| {}).await;
    assert!(matches!(ended, Ok(ExitStatus::Disconnected)), "{ended:?}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!witness.exists());
}

#[tokio::test]
async fn a_reboot_is_told_from_an_exit_code_and_survived() {
    let Some(mut server) = server(&[]) else { return };
    let said = Said::default();
    let cancel = CancellationToken::new();
    let session =
        Session::connect(config(&server), SeenHostKeys::default(), said.events(), &cancel)
            .await
            .unwrap();
    let runs = Notify::new();
    let running = session.exec("echo; sleep 600", None, &cancel, |_, _| runs.notify_one());
    let rebooting = async {
        runs.notified().await;
        server.kill();
    };
    let (ended, ()) = tokio::join!(running, rebooting);
    let ended = ended.unwrap();
    assert_eq!(ended, ExitStatus::Disconnected);
    assert_eq!(ended.code(), 2_300_218);
    server.resume().unwrap();
    assert_eq!(sh(&session, "echo back").await.1, "back\n");
    assert!(said.all().contains("was lost"), "{}", said.all());

    // Asked for while the machine is still down.
    server.kill();
    let waiting = session.reconnect(&cancel);
    let waking = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.resume().unwrap();
    };
    let (again, ()) = tokio::join!(waiting, waking);
    again.unwrap();
    assert_eq!(sh(&session, "echo back").await.1, "back\n");
}

#[tokio::test]
async fn silence_is_noticed() {
    let Some(server) = server(&[]) else { return };
    for (interval, silence) in [("100ms", "0s"), ("-1s", "1s")] {
        let relay = Relay::start(server.port(), Duration::ZERO).unwrap();
        let session = connect(SshConfig {
            ssh_port: relay.port(),
            ssh_keep_alive_interval: interval.into(),
            ssh_read_write_timeout: silence.parse().unwrap(),
            ..config(&server)
        })
        .await
        .unwrap();
        let cancel = CancellationToken::new();
        let start = Instant::now();
        let runs = Notify::new();
        let running = session.exec("echo; sleep 600", None, &cancel, |_, _| runs.notify_one());
        let silencing = async {
            runs.notified().await;
            relay.fall_silent();
        };
        let (ended, ()) = tokio::join!(running, silencing);
        assert_eq!(ended.unwrap(), ExitStatus::Disconnected);
        assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_quiet_command_is_kept_alive() {
    let Some(server) = server(&[]) else { return };
    let session = connect(SshConfig {
        ssh_keep_alive_interval: "100ms".into(),
        ssh_read_write_timeout: "1s".parse().unwrap(),
        ..config(&server)
    })
    .await
    .unwrap();
    assert_eq!(sh(&session, "sleep 2; echo done").await.1, "done\n");
}

#[tokio::test]
async fn one_connection_serves_everything() {
    let Some(server) = server(&[]) else { return };
    let relay = Relay::start(server.port(), Duration::ZERO).unwrap();
    let session = connect(SshConfig { ssh_port: relay.port(), ..config(&server) }).await.unwrap();
    let cancel = CancellationToken::new();
    for i in 0..5 {
        sh(&session, "true").await;
        let mut reader = b"x".as_slice();
        let path = server.path(&format!("f{i}"));
        session.upload(&mut reader, &text(&path), None, &cancel).await.unwrap();
    }
    assert_eq!(relay.connections(), 1);
    session.close().await;
    let _ = session;
    let _ = Events::discard();
}

#[tokio::test]
async fn a_session_that_is_dropped_leaves_no_connection() {
    let Some(server) = server(&[]) else { return };
    let session = session(&server).await;
    drop(session);
    for _ in 0..100 {
        if server.log().contains("Disconnected from") || server.log().contains("Connection closed")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{}", server.log());
}
