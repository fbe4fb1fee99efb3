//! Tunnels in both directions, and a proxy.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use karat_ssh::SshConfig;
use karat_testing::port::free_port;

use crate::common::{config, connect, server, sh};

/// A server that says one word to everybody.
fn greeter(word: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(word.as_bytes());
        }
    });
    port
}

fn ask(port: u16) -> String {
    let mut text = String::new();
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_lead_both_ways() {
    let Some(server) = server(&[]) else { return };
    let (near, far) = (free_port().unwrap(), free_port().unwrap());
    let there = greeter("there");
    let here = greeter("here");
    let session = connect(SshConfig {
        ssh_local_tunnels: vec![format!("{near}:localhost:{there}")],
        ssh_remote_tunnels: vec![format!("{far}:127.0.0.1:{here}")],
        ..config(&server)
    })
    .await
    .unwrap();
    assert_eq!(tokio::task::spawn_blocking(move || ask(near)).await.unwrap(), "there");
    assert_eq!(tokio::task::spawn_blocking(move || ask(far)).await.unwrap(), "here");
    assert_eq!(sh(&session, "echo still").await.1, "still\n");

    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let _holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let error = connect(SshConfig {
        ssh_local_tunnels: vec![format!("{taken}:localhost:1")],
        ..config(&server)
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(error.contains(&taken.to_string()) && error.contains("ssh_local_tunnels"), "{error}");
}

/// A SOCKS5 server, by the letter of RFC 1928 and 1929.
fn proxy(password: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            std::thread::spawn(move || serve(near, password));
        }
    });
    port
}

fn serve(mut near: TcpStream, password: Option<&'static str>) {
    let mut head = [0; 2];
    near.read_exact(&mut head).unwrap();
    let mut methods = vec![0; head[1].into()];
    near.read_exact(&mut methods).unwrap();
    near.write_all(&[5, if password.is_some() { 2 } else { 0 }]).unwrap();
    if let Some(password) = password {
        let piece = |near: &mut TcpStream| {
            let mut length = [0];
            near.read_exact(&mut length).unwrap();
            let mut text = vec![0; length[0].into()];
            near.read_exact(&mut text).unwrap();
            text
        };
        near.read_exact(&mut [0]).unwrap();
        assert_eq!(piece(&mut near), b"me");
        let good = piece(&mut near) == password.as_bytes();
        near.write_all(&[1, u8::from(!good)]).unwrap();
        if !good {
            return;
        }
    }
    let mut request = [0; 4];
    near.read_exact(&mut request).unwrap();
    let mut address = vec![0; if request[3] == 1 { 4 } else { 0 }];
    near.read_exact(&mut address).unwrap();
    if request[3] == 3 {
        let mut length = [0];
        near.read_exact(&mut length).unwrap();
        near.read_exact(&mut vec![0; length[0].into()]).unwrap();
    }
    let mut target = [0; 2];
    near.read_exact(&mut target).unwrap();
    let mut far = TcpStream::connect(("127.0.0.1", u16::from_be_bytes(target))).unwrap();
    near.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).unwrap();
    let (mut a, mut b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut a, &mut b));
    let _ = std::io::copy(&mut far, &mut near);
}

#[tokio::test]
async fn through_a_proxy() {
    let Some(server) = server(&[]) else { return };
    let with = |port, user: &str, password: &str| SshConfig {
        ssh_proxy_host: "127.0.0.1".into(),
        ssh_proxy_port: port,
        ssh_proxy_username: user.into(),
        ssh_proxy_password: password.into(),
        ssh_timeout: "1s".parse().unwrap(),
        ..config(&server)
    };
    let session = connect(with(proxy(None), "", "")).await.unwrap();
    assert_eq!(sh(&session, "echo through").await.1, "through\n");
    let session = connect(with(proxy(Some("secret")), "me", "secret")).await.unwrap();
    assert_eq!(sh(&session, "echo through").await.1, "through\n");
    let error = connect(with(proxy(Some("secret")), "me", "wrong")).await.unwrap_err().to_string();
    assert!(error.contains("proxy"), "{error}");
}
