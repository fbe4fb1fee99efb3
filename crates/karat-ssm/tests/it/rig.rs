//! A service with one session, whose web sockets can be cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use karat_ssm::{
    AgentOptions, AgentSession, DataKey, Direct, Io, Opened, PortSession, Service, Socket,
    SsmError, Target, Unlock, read_opening, refuse,
};

const KEY_ID: &str = "arn:aws:kms:ap-northeast-1:000000000000:key/k";

/// A service with one session, on a port of this machine.
pub(crate) struct Rig {
    port: u16,
    /// What is to be refused, and how often.
    pub(crate) refusals: AtomicU32,
    pub(crate) retry: bool,
    pub(crate) resumed: AtomicU32,
    pub(crate) ended: AtomicU32,
    /// The connections of the web sockets, to be cut.
    streams: Arc<Mutex<Vec<socket2::Socket>>>,
    /// Whether clients are let in, and nothing comes then.
    pub(crate) deaf: Arc<AtomicBool>,
    pub(crate) agent: Arc<AgentSession>,
}

/// A port, and whether the session ends with its connection.
struct Port(u16, bool);

#[async_trait]
impl Target for Port {
    async fn open(&self) -> std::io::Result<Box<dyn Io>> {
        Ok(Box::new(TcpStream::connect(("127.0.0.1", self.0)).await?))
    }

    fn ends(&self) -> bool {
        self.1
    }
}

/// "Encrypts" a data key by putting the context beside it.
struct Keys;

fn label(context: &BTreeMap<String, String>) -> Vec<u8> {
    serde_json::to_vec(context).unwrap()
}

#[async_trait]
impl Unlock for Keys {
    async fn unlock(
        &self,
        encrypted: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, SsmError> {
        let (key, sealed_for) = encrypted.split_at(64);
        if sealed_for != label(context) {
            return Err(SsmError::Handshake("the key is for another context".into()));
        }
        Ok(key.to_vec())
    }
}

impl Rig {
    /// A session to a port, encrypted or not.
    pub(crate) async fn new(to: u16, encrypted: bool) -> Self {
        Self::with(to, encrypted, false).await
    }

    /// A session that ends with its connection.
    pub(crate) async fn ending(to: u16) -> Self {
        Self::with(to, false, true).await
    }

    async fn with(to: u16, encrypted: bool, ends: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = AgentOptions {
            session_id: "s-1".into(),
            target_id: "i-1".into(),
            session_type: "Port".into(),
            properties: json!({ "portNumber": to.to_string(), "type": "LocalPortForwarding" }),
            encryption: encrypted.then(|| (KEY_ID.to_owned(), Arc::new(Keys) as Arc<dyn Unlock>)),
        };
        let agent = Arc::new(AgentSession::start(options, Arc::new(Port(to, ends))));
        let streams: Arc<Mutex<Vec<socket2::Socket>>> = Arc::default();
        let (serves, kept) = (Arc::clone(&agent), Arc::clone(&streams));
        let deaf = Arc::new(AtomicBool::new(false));
        let is_deaf = Arc::clone(&deaf);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let copy = socket2::SockRef::from(&stream).try_clone().unwrap();
                kept.lock().unwrap().push(copy);
                let (agent, is_deaf) = (Arc::clone(&serves), Arc::clone(&is_deaf));
                tokio::spawn(async move {
                    let stream: Box<dyn Io> = Box::new(stream);
                    let mut socket: Socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                    let opening = read_opening(&mut socket).await.unwrap();
                    if is_deaf.load(Ordering::SeqCst) {
                        let _ = socket.close(None).await;
                    } else if opening.token == "let me in" {
                        // A session that is over needs nothing more.
                        let _ = agent.attach(socket).await;
                    } else {
                        refuse(&mut socket, "s-1", "who are you?").await.unwrap();
                    }
                });
            }
        });
        Self {
            port,
            refusals: AtomicU32::new(0),
            retry: true,
            resumed: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            streams,
            deaf,
            agent,
        }
    }

    pub(crate) fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(crate) fn opened(&self) -> Opened {
        Opened {
            session_id: "s-1".into(),
            stream_url: format!("ws://127.0.0.1:{}/v1/data-channel/s-1?role=x", self.port),
            token: "let me in".into(),
        }
    }
}

#[async_trait]
impl Service for Rig {
    fn target(&self) -> &str {
        "i-1"
    }

    async fn start(&self) -> Result<Opened, SsmError> {
        let take = |left: u32| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            return Err(SsmError::Service {
                call: "StartSession",
                reason: "TargetNotConnected".into(),
                retry: self.retry,
            });
        }
        Ok(self.opened())
    }

    async fn resume(&self, _: &str) -> Result<Opened, SsmError> {
        self.resumed.fetch_add(1, Ordering::SeqCst);
        Ok(self.opened())
    }

    async fn terminate(&self, _: &str) -> Result<(), SsmError> {
        self.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn data_key(
        &self,
        key_id: &str,
        bytes: usize,
        context: &BTreeMap<String, String>,
    ) -> Result<DataKey, SsmError> {
        assert_eq!((key_id, bytes), (KEY_ID, 64));
        let plain: Vec<u8> = (0..64).collect();
        Ok(DataKey { encrypted: [plain.clone(), label(context)].concat(), plain })
    }
}

/// A server that sends back what it gets.
pub(crate) async fn echo() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.into_split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
            });
        }
    });
    port
}

/// Nobody is trusted: the web sockets of these tests are not encrypted.
pub(crate) fn direct() -> Direct {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Direct::new(Arc::new(tls))
}

pub(crate) async fn open(rig: &Arc<Rig>) -> Result<PortSession, SsmError> {
    let service: Arc<dyn Service> = rig.clone();
    PortSession::open(service, Arc::new(direct()), &CancellationToken::new()).await
}

/// Bytes without a pattern.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    (0..count as u64 / 32).flat_map(|n| Sha256::digest(n.to_le_bytes())).collect()
}
