//! Bytes through sessions that are slow, cut, encrypted, refused, or behind a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use karat_ssm::{PortSession, SsmError};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, direct, echo, noise, open};

/// Sends bytes and reads them back; `beside` runs at the same time.
async fn there_and_back(session: PortSession, bytes: &[u8], beside: impl Future) -> PortSession {
    let (mut reads, mut writes) = tokio::io::split(session);
    let mut back = vec![0; bytes.len()];
    let (sent, read, _) =
        tokio::join!(writes.write_all(bytes), reads.read_exact(&mut back), beside);
    sent.unwrap();
    read.unwrap();
    assert!(Sha256::digest(bytes) == Sha256::digest(&back), "it comes back as it was sent");
    reads.unsplit(writes)
}

#[tokio::test]
async fn bytes_go_to_the_port_and_back() {
    for encrypted in [false, true] {
        let rig = Arc::new(Rig::new(echo().await, encrypted).await);
        let session = open(&rig).await.unwrap();
        assert_eq!(session.session_id(), "s-1");
        let session = there_and_back(session, &noise(2 << 20), async {}).await;
        session.close().await.unwrap();
        assert_eq!(rig.ended.load(Ordering::SeqCst), 1);
        for _ in 0..200 {
            if rig.agent.is_over() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(rig.agent.is_over(), "the machine's side ends as well");
    }
}

/// A server that says so many bytes to each who comes, and hangs up.
async fn speaker(bytes: Vec<u8>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move { stream.write_all(&bytes).await });
        }
    });
    port
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_where_the_session_ends_with_it() {
    let said = noise(1 << 20);
    let rig = Arc::new(Rig::ending(speaker(said.clone()).await).await);
    let mut session = open(&rig).await.unwrap();
    let mut heard = Vec::new();
    session.read_to_end(&mut heard).await.unwrap();
    assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
    let error = session.close().await.unwrap_err();
    assert!(matches!(error, SsmError::Closed(_)), "{error}");
    rig.agent.over().cancelled().await;
    // It was told, not found out by another web socket, and there was nothing to be ended.
    assert_eq!(rig.resumed.load(Ordering::SeqCst), 0);
    assert_eq!(rig.ended.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_session_that_is_cut_goes_on_and_loses_nothing() {
    let rig = Arc::new(Rig::new(echo().await, true).await);
    let session = open(&rig).await.unwrap();
    let cuts = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            rig.cut();
        }
    };
    let session = there_and_back(session, &noise(8 << 20), cuts).await;
    assert!(rig.resumed.load(Ordering::SeqCst) >= 2);
    session.close().await.unwrap();
}

/// The session is over, but the service still lets its client in.
#[tokio::test]
async fn a_session_through_which_nothing_comes_is_given_up() {
    let rig = Arc::new(Rig::new(echo().await, false).await);
    let session = open(&rig).await.unwrap();
    let mut session = there_and_back(session, b"here", async {}).await;
    rig.deaf.store(true, Ordering::SeqCst);
    rig.cut();
    let mut rest = Vec::new();
    session.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    let error = session.close().await.unwrap_err();
    assert!(matches!(error, SsmError::Lost(_)), "{error}");
    // The one that was cut, and as many as are tried in a row.
    assert_eq!(rig.resumed.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_slow_reader_holds_the_sender_back_and_loses_nothing() {
    let rig = Arc::new(Rig::new(echo().await, false).await);
    let session = open(&rig).await.unwrap();
    let bytes = noise(6 << 20);
    let (mut reads, mut writes) = tokio::io::split(session);
    let (sent, ()) = tokio::join!(writes.write_all(&bytes), async {
        // More than all buffers hold waits meanwhile.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut back = vec![0; bytes.len()];
        reads.read_exact(&mut back).await.unwrap();
        assert!(back == bytes);
    });
    sent.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_not_there_yet_is_waited_for() {
    let mut rig = Rig::new(echo().await, false).await;
    rig.refusals = AtomicU32::new(2);
    let rig = Arc::new(rig);
    let session = open(&rig).await.unwrap();
    there_and_back(session, b"here", async {}).await.close().await.unwrap();

    let mut rig = Rig::new(echo().await, false).await;
    (rig.refusals, rig.retry) = (AtomicU32::new(1), false);
    let error = open(&Arc::new(rig)).await.unwrap_err().to_string();
    assert_eq!(error, "StartSession: TargetNotConnected");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told() {
    let free = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let rig = Arc::new(Rig::new(free, false).await);
    let mut session = open(&rig).await.unwrap();
    let mut text = String::new();
    session.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "");
    for _ in 0..200 {
        if session.ended().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let why = session.ended().unwrap();
    assert!(why.contains("cannot connect to the port"), "{why}");
}

/// A proxy that lets through who knows the password, and counts.
async fn proxy() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let passed = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&passed);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(near.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            // "u:p" in base64.
            if !head.to_lowercase().contains("proxy-authorization: basic dtpw") {
                near.write_all(b"HTTP/1.1 407 No\r\n\r\n").await.unwrap();
                continue;
            }
            let place = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
            let mut far = TcpStream::connect(place).await.unwrap();
            near.write_all(b"HTTP/1.1 200 Yes\r\n\r\n").await.unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (port, passed)
}

#[tokio::test]
async fn a_proxy_is_gone_through() {
    let rig = Arc::new(Rig::new(echo().await, false).await);
    let (port, passed) = proxy().await;
    let cancel = CancellationToken::new();
    let connect = direct().through(&format!("http://u:p@127.0.0.1:{port}"));
    let session = PortSession::open(rig.clone(), Arc::new(connect), &cancel).await.unwrap();
    there_and_back(session, b"round the corner", async {}).await.close().await.unwrap();
    assert_eq!(passed.load(Ordering::SeqCst), 1);

    let connect = direct().through(&format!("http://u:wrong@127.0.0.1:{port}"));
    let error = PortSession::open(rig, Arc::new(connect), &cancel).await.unwrap_err().to_string();
    assert!(error.contains("the proxy 127.0.0.1") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn cancelling_ends_the_wait() {
    let mut rig = Rig::new(echo().await, false).await;
    rig.refusals = AtomicU32::new(u32::MAX);
    let cancel = CancellationToken::new();
    let opening = PortSession::open(Arc::new(rig), Arc::new(direct()), &cancel);
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(opening, cancelling);
    assert!(matches!(result, Err(SsmError::Cancelled)));
}

/// AWS's own client against our side of the machine, where there is one: `SESSION_MANAGER_PLUGIN`
/// names the program.
#[tokio::test]
async fn awss_own_client_reaches_the_port() {
    let Some(program) = std::env::var_os("SESSION_MANAGER_PLUGIN") else {
        eprintln!("SESSION_MANAGER_PLUGIN names no program: AWS's client is not tried");
        return;
    };
    let rig = Rig::new(echo().await, false).await;
    let opened = rig.opened();
    let response = json!({
        "SessionId": opened.session_id,
        "TokenValue": opened.token,
        "StreamUrl": opened.stream_url,
    });
    let request = json!({
        "Target": "i-1",
        "DocumentName": "AWS-StartPortForwardingSession",
        "Parameters": { "portNumber": ["22"], "localPortNumber": ["0"] },
    });
    let mut child = tokio::process::Command::new(program)
        .arg(response.to_string())
        .args(["ap-northeast-1", "StartSession", ""])
        .arg(request.to_string())
        .arg("http://127.0.0.1:1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    let port: u16 = loop {
        let mut line = String::new();
        let count = tokio::io::AsyncBufReadExt::read_line(&mut output, &mut line).await.unwrap();
        assert!(count > 0, "it ended: {said}");
        said.push_str(&line);
        if let Some(rest) = line.strip_prefix("Port ") {
            break rest.split(' ').next().unwrap().parse().unwrap();
        }
    };
    let bytes = noise(1 << 20);
    // One connection after the other, as its basic mode does.
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut reads, mut writes) = stream.split();
        let mut back = vec![0; bytes.len()];
        let (sent, read) = tokio::join!(writes.write_all(&bytes), reads.read_exact(&mut back));
        sent.unwrap();
        read.unwrap();
        assert!(back == bytes);
    }
}
