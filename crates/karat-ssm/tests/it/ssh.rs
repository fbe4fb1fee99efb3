//! The ssh communicator through a session, with a real server behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use karat_component::Events;
use karat_ssh::{Carrier, SeenHostKeys, Session, SshConfig, Way};
use karat_ssm::{PortSession, Service};
use karat_testing::sshd::Sshd;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, direct, noise};

/// Each connection is a session of its own.
struct Through(Arc<Rig>);

impl std::fmt::Debug for Through {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Through")
    }
}

#[async_trait]
impl Way for Through {
    async fn open(&self, host: &str, port: u16) -> Result<Box<dyn Carrier>, String> {
        assert_eq!((host, port), ("i-1", 22));
        let service: Arc<dyn Service> = self.0.clone();
        let cancel = CancellationToken::new();
        let session = PortSession::open(service, Arc::new(direct()), &cancel).await;
        session.map(|session| Box::new(session) as _).map_err(|error| error.to_string())
    }
}

/// No port of the machine is open to us, and the web socket is cut several times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_through_a_session_that_is_cut() {
    if let Some(why) = karat_testing::sshd::missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let server = Sshd::start(&[]).unwrap();
    let rig = Arc::new(Rig::new(server.port(), true).await);
    let config = SshConfig {
        ssh_host: "i-1".into(),
        ssh_port: 22,
        ssh_username: "root".into(),
        ssh_private_key_file: server.user_key().unwrap().to_str().unwrap().into(),
        ssh_timeout: "60s".parse().unwrap(),
        // What answers stands behind the data, and a busy machine is slow to bring that.
        ssh_keep_alive_interval: "30s".into(),
        ssh_disable_agent_forwarding: true,
        ..SshConfig::default()
    };
    let cancel = CancellationToken::new();
    let way = Arc::new(Through(Arc::clone(&rig)));
    let seen = SeenHostKeys::default();
    let session =
        Session::connect_by(config, Some(way), seen, Events::discard(), &cancel).await.unwrap();
    let bytes = noise(50_000_000);
    let there = server.path("large");
    let cuts = Arc::clone(&rig);
    let cutter = tokio::spawn(async move {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cuts.cut();
        }
    });
    let path = there.to_str().unwrap();
    session.upload(&mut &bytes[..], path, None, &cancel).await.unwrap();
    assert!(Sha256::digest(std::fs::read(&there).unwrap()) == Sha256::digest(&bytes));
    let back = server.path("back");
    session.download(path, &back, &cancel).await.unwrap();
    cutter.await.unwrap();
    assert!(Sha256::digest(std::fs::read(&back).unwrap()) == Sha256::digest(&bytes));
    assert!(rig.resumed.load(Ordering::SeqCst) > 0, "it was cut on the way");
}
