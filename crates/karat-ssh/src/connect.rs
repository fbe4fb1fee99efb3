//! From the options to a connection that is logged in: proxy, bastion, handshake, tunnels.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use russh::client::Handle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::auth::{Credentials, LoggedIn};
use crate::config::SshConfig;
use crate::error::SshError;
use crate::handler::{Handler, SharedLearned, reason_of};
use crate::host_key::{HostKeyCheck, SeenHostKeys};
use crate::tunnel::{Forward, listen_here, listen_there};

/// One attempt to reach a host by TCP takes at most this long.
const TCP_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that accepts a connection has this long for its half of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes that the machine may send before it has to wait for us: 20 MB at 100 ms need 2 MB.
const WINDOW: u32 = 16 << 20;

/// Packets that a slow reader may leave waiting before the whole connection waits for it.
const WAITING_PACKETS: usize = 600;

/// A keep-alive may stay without answer this often: a machine that boots under emulation can be
/// busy for most of a minute.
const KEEP_ALIVES: usize = 12;

/// A connection that is logged in.
pub(crate) struct Connection {
    pub(crate) handle: Arc<Handle<Handler>>,
    pub(crate) learned: SharedLearned,
    pub(crate) logged_in: LoggedIn,
    /// The agent that is forwarded, if any.
    pub(crate) agent: bool,
    listeners: Vec<tokio::task::JoinHandle<()>>,
    /// Kept alive as long as the connection that goes through it.
    _bastion: Option<Arc<Handle<Handler>>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("logged_in", &self.logged_in).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

impl Connection {
    /// Why it ended, as far as known.
    pub(crate) fn end(&self) -> String {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.end.clone().unwrap_or_else(|| "the other side closed it".into())
    }

    /// The host key's fingerprint.
    pub(crate) fn fingerprint(&self) -> String {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.fingerprint.clone().unwrap_or_default()
    }
}

/// Makes connections by the options. Key files have been read.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    config: Arc<SshConfig>,
    target: Credentials,
    bastion: Option<Credentials>,
    seen: SeenHostKeys,
    way: Option<Arc<dyn Way>>,
}

impl Connector {
    pub(crate) fn new(
        config: Arc<SshConfig>,
        way: Option<Arc<dyn Way>>,
        seen: SeenHostKeys,
    ) -> Result<Self, SshError> {
        let target = Credentials::load(config.login())?;
        let bastion = config.bastion().map(Credentials::load).transpose()?;
        Ok(Self { config, target, bastion, seen, way })
    }

    /// One attempt, without waiting for anything to come up.
    pub(crate) async fn connect(&self) -> Result<Connection, SshError> {
        let target = self.target.login();
        let (stream, bastion) = self.stream(&target.host, target.port).await?;
        let agent = self.agent();
        let forwards = forwards("ssh_remote_tunnels", &self.config.ssh_remote_tunnels)?;
        let handler = Handler {
            host_key: HostKeyCheck::new(&self.config, &target.host, target.port, true, &self.seen),
            agent: agent.clone(),
            tunnels: forwards.iter().map(|f| (u32::from(f.port), f.clone())).collect(),
            learned: SharedLearned::default(),
        };
        let learned = Arc::clone(&handler.learned);
        let (handle, logged_in) = self.shake_hands(stream, handler, &self.target).await?;
        let handle = Arc::new(handle);
        let mut connection = Connection {
            handle: Arc::clone(&handle),
            learned,
            logged_in,
            agent: agent.is_some(),
            listeners: Vec::new(),
            _bastion: bastion,
        };
        for forward in &forwards {
            listen_there(&handle, &target.address(), forward).await?;
        }
        for forward in forwards_here(&self.config)? {
            connection.listeners.push(listen_here(Arc::clone(&handle), forward).await?);
        }
        Ok(connection)
    }

    /// The agent's socket where it is to be forwarded.
    fn agent(&self) -> Option<PathBuf> {
        if self.config.ssh_disable_agent_forwarding {
            return None;
        }
        self.config.agent_socket()
    }

    async fn stream(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(Box<dyn Carrier>, Option<Arc<Handle<Handler>>>), SshError> {
        if let Some(way) = &self.way {
            let failed = |reason: String| SshError::Connect {
                address: crate::config::host_port(host, port),
                reason,
            };
            return Ok((way.open(host, port).await.map_err(failed)?, None));
        }
        if let Some(bastion) = &self.bastion {
            let login = bastion.login();
            let stream = tcp(&login.host, login.port).await?;
            let handler = Handler {
                host_key: HostKeyCheck::new(
                    &self.config,
                    &login.host,
                    login.port,
                    false,
                    &self.seen,
                ),
                agent: None,
                tunnels: HashMap::new(),
                learned: SharedLearned::default(),
            };
            let (handle, _) = self.shake_hands(Box::new(stream), handler, bastion).await?;
            let channel = handle
                .channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0)
                .await
                .map_err(|e| SshError::Connect {
                    address: crate::config::host_port(host, port),
                    reason: format!("the bastion {} cannot reach it ({e})", login.address()),
                })?;
            return Ok((Box::new(channel.into_stream()), Some(Arc::new(handle))));
        }
        if !self.config.ssh_proxy_host.is_empty() {
            return Ok((Box::new(self.through_proxy(host, port).await?), None));
        }
        Ok((Box::new(tcp(host, port).await?), None))
    }

    async fn through_proxy(&self, host: &str, port: u16) -> Result<impl Carrier, SshError> {
        let config = &self.config;
        let stream = tcp(&config.ssh_proxy_host, config.ssh_proxy_port).await?;
        let asked = async {
            if config.ssh_proxy_username.is_empty() {
                tokio_socks::tcp::Socks5Stream::connect_with_socket(stream, (host, port)).await
            } else {
                tokio_socks::tcp::Socks5Stream::connect_with_password_and_socket(
                    stream,
                    (host, port),
                    &config.ssh_proxy_username,
                    &config.ssh_proxy_password,
                )
                .await
            }
        };
        let failed = |reason: String| SshError::Connect {
            address: crate::config::host_port(host, port),
            reason: format!(
                "the proxy {} says: {reason}",
                crate::config::host_port(&config.ssh_proxy_host, config.ssh_proxy_port)
            ),
        };
        match tokio::time::timeout(TCP_TIMEOUT, asked).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(_) => Err(failed("nothing, for 15 s".into())),
        }
    }

    async fn shake_hands(
        &self,
        stream: Box<dyn Carrier>,
        handler: Handler,
        credentials: &Credentials,
    ) -> Result<(Handle<Handler>, LoggedIn), SshError> {
        let address = credentials.login().address();
        let config = Arc::new(self.client_config(&handler.host_key)?);
        let shaken = async {
            let mut handle = russh::client::connect_stream(config, stream, handler)
                .await
                .map_err(|e| named(e, &address))?;
            let logged_in =
                credentials.authenticate(&mut handle).await.map_err(|e| named(e, &address))?;
            Ok((handle, logged_in))
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaken).await {
            Ok(done) => done,
            Err(_) => Err(SshError::Connect {
                address: address.clone(),
                reason: "the server did not finish the handshake within 60 s".into(),
            }),
        }
    }

    fn client_config(&self, host_key: &HostKeyCheck) -> Result<russh::client::Config, SshError> {
        let interval = self
            .config
            .keep_alive_interval()
            .map_err(|summary| SshError::Config { option: "ssh_keep_alive_interval", summary })?;
        let silence = self.config.ssh_read_write_timeout.0;
        let mut preferred = self.config.preferred();
        let expected = host_key.expected();
        if !expected.is_empty() {
            // A server has a key of each kind: one of those that are known is asked for.
            let known = |a: &russh::keys::Algorithm| {
                expected
                    .iter()
                    .any(|k| k.algorithm() == *a || (k.algorithm().is_rsa() && a.clone().is_rsa()))
            };
            let mut order = preferred.key.to_vec();
            order.sort_by_key(|a| !known(a));
            preferred.key = order.into();
        }
        Ok(russh::client::Config {
            window_size: WINDOW,
            maximum_packet_size: 32768,
            channel_buffer_size: WAITING_PACKETS,
            preferred,
            inactivity_timeout: (!silence.is_zero()).then_some(silence),
            keepalive_interval: interval,
            keepalive_max: KEEP_ALIVES,
            nodelay: true,
            ..russh::client::Config::default()
        })
    }
}

/// Another way to a machine than TCP, such as a session of a cloud's own.
#[async_trait]
pub trait Way: std::fmt::Debug + Send + Sync {
    /// A stream to a port of the machine; once for each connection that is tried.
    ///
    /// # Errors
    /// Why it cannot be had now, in words. It is tried again until the time is up.
    async fn open(&self, host: &str, port: u16) -> Result<Box<dyn Carrier>, String>;
}

/// What a connection can run over.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Carrier for T {}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, SshError> {
    let failed = |reason: String| SshError::Connect {
        address: crate::config::host_port(host, port),
        reason,
    };
    match tokio::time::timeout(TCP_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => {
            // Without it small packets wait for each other's acknowledgement.
            stream.set_nodelay(true).map_err(|e| failed(e.to_string()))?;
            Ok(stream)
        }
        Ok(Err(e)) => Err(failed(io_reason(&e))),
        Err(_) => Err(failed("no answer within 15 s".into())),
    }
}

fn io_reason(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused (no ssh server there yet?)".into(),
        io::ErrorKind::HostUnreachable => "no route to the host".into(),
        io::ErrorKind::TimedOut => "no answer".into(),
        _ => e.to_string(),
    }
}

/// The library's errors during a handshake, with the address and plain words.
fn named(e: SshError, address: &str) -> SshError {
    match e {
        SshError::Protocol(russh::Error::NoCommonAlgo { kind, ours, theirs }) => {
            SshError::Refused {
                address: address.to_owned(),
                what: format!(
                    "every {kind:?} algorithm offered ({}); it knows {}",
                    ours.join(", "),
                    theirs.join(", ")
                ),
            }
        }
        SshError::Protocol(e) => {
            SshError::Connect { address: address.to_owned(), reason: reason_of(&e) }
        }
        other => other,
    }
}

fn forwards(option: &'static str, list: &[String]) -> Result<Vec<Forward>, SshError> {
    list.iter()
        .map(|text| {
            Forward::from_str(text).map_err(|e| SshError::Config { option, summary: e.to_string() })
        })
        .collect()
}

fn forwards_here(config: &SshConfig) -> Result<Vec<Forward>, SshError> {
    forwards("ssh_local_tunnels", &config.ssh_local_tunnels)
}
