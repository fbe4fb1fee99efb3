//! Every way to log in, and the ways that must not work.

use std::time::{Duration, Instant};

use karat_component::Events;
use karat_ssh::{SeenHostKeys, Session, SshConfig, SshError};
use karat_testing::sshd::{Agent, PASSWORD, USER};
use tokio_util::sync::CancellationToken;

use crate::common::{Said, config, connect, server, session, sh, text};

#[tokio::test]
async fn keys_of_every_kind() {
    let Some(server) = server(&[]) else { return };
    let kinds: [(&str, &[&str]); 5] = [
        ("ed25519", &["-t", "ed25519"]),
        ("ecdsa", &["-t", "ecdsa"]),
        ("ecdsa384", &["-t", "ecdsa", "-b", "384"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("rsapem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
    ];
    for (name, kind) in kinds {
        let key = server.keygen(name, kind, "").unwrap();
        server.authorize(&key).unwrap();
        let config = SshConfig { ssh_private_key_file: text(&key), ..config(&server) };
        let session = connect(config).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(sh(&session, "id -un").await.1, "root\n", "{name}");
        session.close().await;
    }
}

#[tokio::test]
async fn a_password_and_questions() {
    for (lines, method) in [
        (vec!["PasswordAuthentication yes"], "password"),
        (vec!["UsePAM yes", "KbdInteractiveAuthentication yes"], "keyboard-interactive"),
    ] {
        let Some(server) = server(&lines) else { return };
        let config = SshConfig {
            ssh_username: USER.into(),
            ssh_password: PASSWORD.into(),
            ssh_private_key_file: String::new(),
            ..config(&server)
        };
        let said = Said::default();
        let cancel = CancellationToken::new();
        let session =
            Session::connect(config.clone(), SeenHostKeys::default(), said.events(), &cancel)
                .await
                .unwrap_or_else(|e| panic!("{method}: {e}\n{}", server.log()));
        assert_eq!(sh(&session, "id -un").await.1, format!("{USER}\n"));
        assert!(said.all().contains(&format!("by {method} ")), "{}", said.all());

        let wrong = SshConfig { ssh_password: "wrong".into(), ssh_handshake_attempts: 1, ..config };
        let error = connect(wrong).await.unwrap_err();
        assert!(
            matches!(&error, SshError::Authentication { tried, .. } if tried.contains(method)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_certificate() {
    let Some(mut server) = server(&[]) else { return };
    let authority = server.keygen("authority", &["-t", "ed25519"], "").unwrap();
    let key = server.keygen("certified", &["-t", "ed25519"], "").unwrap();
    let status = std::process::Command::new("ssh-keygen")
        .args(["-q", "-I", "x", "-n", "root", "-s"])
        .arg(&authority)
        .arg(key.with_extension("pub"))
        .status()
        .unwrap();
    assert!(status.success());
    let public = std::fs::read_to_string(authority.with_extension("pub")).unwrap();
    std::fs::write(server.path("authorized_keys"), format!("cert-authority {public}")).unwrap();
    server.resume().unwrap();
    let bare = SshConfig {
        ssh_private_key_file: text(&key),
        ssh_handshake_attempts: 1,
        ..config(&server)
    };
    std::fs::write(server.path("authorized_keys"), format!("cert-authority {public}")).unwrap();
    assert!(matches!(connect(bare.clone()).await, Err(SshError::Authentication { .. })));
    let certified =
        SshConfig { ssh_certificate_file: text(&server.path("certified-cert.pub")), ..bare };
    let session = connect(certified).await.unwrap();
    assert_eq!(sh(&session, "id -un").await.1, "root\n");
}

#[tokio::test]
async fn the_agent_logs_in_and_is_forwarded() {
    let Some(server) = server(&[]) else { return };
    let other = server.keygen("other", &["-t", "ed25519"], "").unwrap();
    let rsa = server.keygen("rsa", &["-t", "rsa", "-b", "2048"], "").unwrap();
    server.authorize(&rsa).unwrap();
    let agent = Agent::start(&[&other, &rsa]).unwrap();
    let by_agent = SshConfig {
        ssh_private_key_file: String::new(),
        ssh_agent_auth: true,
        ssh_agent_socket: text(&agent.socket()),
        ssh_disable_agent_forwarding: false,
        ..config(&server)
    };
    let session = connect(by_agent.clone()).await.unwrap();
    let (_, keys, _) = sh(&session, "ssh-add -L").await;
    assert_eq!(keys.lines().count(), 2, "{keys}");
    let alone = SshConfig { ssh_disable_agent_forwarding: true, ..by_agent };
    let session = connect(alone).await.unwrap();
    assert_eq!(sh(&session, "echo \"[$SSH_AUTH_SOCK]\"").await.1, "[]\n");
}

#[tokio::test]
async fn an_encrypted_key_is_named() {
    let Some(server) = server(&[]) else { return };
    let key = server.keygen("locked", &["-t", "ed25519"], "secret").unwrap();
    let locked = SshConfig { ssh_private_key_file: text(&key), ..config(&server) };
    let start = Instant::now();
    let error = connect(locked).await.unwrap_err().to_string();
    assert!(error.contains("passphrase") && error.contains("locked"), "{error}");
    assert!(error.contains("ssh_private_key_file"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(25));
    let absent = SshConfig { ssh_private_key_file: "/no/such/key".into(), ..config(&server) };
    let error = connect(absent).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/key"), "{error}");
}

#[tokio::test]
async fn a_changed_host_key_is_refused_with_both_fingerprints() {
    let Some(mut server) = server(&[]) else { return };
    let seen = SeenHostKeys::default();
    let cancel = CancellationToken::new();
    let first =
        Session::connect(config(&server), seen.clone(), Events::discard(), &cancel).await.unwrap();
    let old = first.fingerprint().await;
    server.new_host_key().unwrap();
    server.resume().unwrap();
    let start = Instant::now();
    let error = Session::connect(config(&server), seen, Events::discard(), &cancel)
        .await
        .unwrap_err()
        .to_string();
    assert!(start.elapsed() < Duration::from_secs(25), "it must not wait");
    let new = session(&server).await.fingerprint().await;
    assert_ne!(old, new);
    assert!(error.contains(&old) && error.contains(&new), "{error}");
}

#[tokio::test]
async fn host_keys_are_pinned_or_known() {
    let Some(server) = server(&[]) else { return };
    let key = server.host_key().unwrap();
    let fingerprint = session(&server).await.fingerprint().await;
    let hash = fingerprint.split(' ').nth(1).unwrap().to_owned();
    let with = |pin: &str| SshConfig { ssh_host_key: pin.into(), ..config(&server) };
    connect(with(&key)).await.unwrap();
    connect(with(&hash)).await.unwrap();
    let wrong = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let error = connect(with(wrong)).await.unwrap_err().to_string();
    assert!(error.contains(wrong) && error.contains(&hash), "{error}");

    let list = server.path("known_hosts");
    let known = SshConfig {
        ssh_host_key_checking: "known_hosts".into(),
        ssh_known_hosts_file: text(&list),
        ..config(&server)
    };
    std::fs::write(&list, "").unwrap();
    let error = connect(known.clone()).await.unwrap_err();
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "{error}");
    std::fs::write(&list, format!("[127.0.0.1]:{} {key}", server.port())).unwrap();
    connect(known.clone()).await.unwrap();
    let other = server.keygen("other", &["-t", "ed25519"], "").unwrap();
    let other = std::fs::read_to_string(other.with_extension("pub")).unwrap();
    std::fs::write(&list, format!("[127.0.0.1]:{} {other}", server.port())).unwrap();
    let error = connect(known.clone()).await.unwrap_err();
    assert!(matches!(error, SshError::HostKeyMismatch { .. }), "{error}");
    connect(SshConfig { ssh_host_key_checking: "off".into(), ..known }).await.unwrap();
}

#[tokio::test]
async fn through_a_bastion() {
    let (Some(bastion), Some(inner)) = (server(&[]), server(&[])) else { return };
    let config = SshConfig {
        ssh_bastion_host: "127.0.0.1".into(),
        ssh_bastion_port: bastion.port(),
        ssh_bastion_username: USER.into(),
        ssh_bastion_private_key_file: text(&bastion.user_key().unwrap()),
        ..config(&inner)
    };
    let session = connect(config.clone()).await.unwrap();
    assert_eq!(sh(&session, "id -un; echo $SSH_CONNECTION").await.0.code(), 0);
    assert!(bastion.log().contains(&format!("Accepted publickey for {USER}")), "{}", bastion.log());
    assert!(inner.log().contains("Accepted publickey for root"), "{}", inner.log());
    let nowhere = SshConfig { ssh_port: 1, ssh_timeout: "20s".parse().unwrap(), ..config };
    let error = connect(nowhere).await.unwrap_err().to_string();
    assert!(error.contains("bastion") && error.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn waiting_says_what_it_waits_for() {
    let Some(mut server) = server(&[]) else { return };
    let base = config(&server);
    server.kill();
    let said = Said::default();
    let cancel = CancellationToken::new();
    let waiting = Session::connect(base, SeenHostKeys::default(), said.events(), &cancel);
    let waking = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.resume().unwrap();
    };
    let (session, ()) = tokio::join!(waiting, waking);
    session.unwrap();
    assert!(said.all().contains("connection refused"), "{}", said.all());
    assert!(said.all().contains("connected to 127.0.0.1"), "{}", said.all());
}

#[tokio::test]
async fn giving_up_names_the_last_reason() {
    let Some(mut server) = server(&[]) else { return };
    let base = config(&server);
    server.kill();
    let short = SshConfig { ssh_timeout: "3s".parse().unwrap(), ..base.clone() };
    let error = connect(short).await.unwrap_err();
    assert!(matches!(error, SshError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");

    server.resume().unwrap();
    let key = server.keygen("stranger", &["-t", "ed25519"], "").unwrap();
    let stranger =
        SshConfig { ssh_private_key_file: text(&key), ssh_handshake_attempts: 2, ..base.clone() };
    let error = connect(stranger).await.unwrap_err().to_string();
    assert!(error.contains("\"root\"") && error.contains("publickey"), "{error}");

    // A server that accepts and says nothing.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mute = SshConfig {
        ssh_port: listener.local_addr().unwrap().port(),
        ssh_timeout: "600ms".parse().unwrap(),
        ..base.clone()
    };
    let start = Instant::now();
    assert!(matches!(connect(mute).await, Err(SshError::Timeout { .. })));
    assert!(start.elapsed() < Duration::from_secs(60));

    let cancel = CancellationToken::new();
    let gone = SshConfig { ssh_port: 1, ..base };
    let waiting = Session::connect(gone, SeenHostKeys::default(), Events::discard(), &cancel);
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(waiting, cancelling);
    assert!(matches!(result, Err(SshError::Cancelled)));
}

#[tokio::test]
async fn pausing_connects_twice() {
    let Some(server) = server(&[]) else { return };
    let start = Instant::now();
    let pausing =
        SshConfig { pause_before_connecting: "400ms".parse().unwrap(), ..config(&server) };
    connect(pausing).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(server.log().matches("Accepted publickey").count(), 2);
}

#[tokio::test]
async fn algorithms_are_as_configured() {
    let Some(server) = server(&["Ciphers aes128-ctr", "KexAlgorithms ecdh-sha2-nistp256"]) else {
        return;
    };
    let with = |cipher: &str| SshConfig {
        ssh_ciphers: vec![cipher.into()],
        ssh_key_exchange_algorithms: vec!["ecdh-sha2-nistp256".into()],
        ..config(&server)
    };
    connect(with("aes128-ctr")).await.unwrap();
    let error = connect(with("aes256-ctr")).await.unwrap_err().to_string();
    assert!(error.contains("aes256-ctr") && error.contains("aes128-ctr"), "{error}");
}

#[tokio::test]
async fn the_key_is_cleared_on_request() {
    let Some(server) = server(&["AuthorizedKeysFile .ssh/authorized_keys"]) else { return };
    let key = crate::common::key(&server);
    let folder = server.home().join(".ssh");
    std::fs::create_dir(&folder).unwrap();
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let list = folder.join("authorized_keys");
    std::fs::write(&list, format!("# kept\n{public}")).unwrap();
    for path in [&folder, &list] {
        std::os::unix::fs::chown(path, Some(54_321), Some(54_321)).unwrap();
    }
    let session =
        connect(SshConfig { ssh_username: USER.into(), ..config(&server) }).await.unwrap();
    session.clear_authorized_keys(&CancellationToken::new()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&list).unwrap(), "# kept\n");
}
