//! Opening a web socket, through a proxy where one is set.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::http::Uri;
use tower_service::Service as _;

use crate::SsmError;
use crate::link::Socket;

const PATIENCE: Duration = Duration::from_secs(30);

/// A two-way stream of bytes.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Gives connections to hosts.
#[async_trait]
pub trait Connect: Send + Sync {
    /// A stream to the host of this address (`wss` or `ws`), encrypted where it says so.
    ///
    /// # Errors
    /// When the host, or a proxy on the way, cannot be reached, or is not who it should be.
    async fn connect(&self, address: &Uri) -> Result<Box<dyn Io>, SsmError>;
}

/// Connects directly, or through the proxy that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`,
/// `ALL_PROXY`, `NO_PROXY`).
pub struct Direct {
    tls: Arc<rustls::ClientConfig>,
    proxies: Matcher,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

impl Direct {
    /// Trusts whom this configuration trusts.
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls, proxies: Matcher::from_env() }
    }

    /// The same through this proxy, such as `http://user:password@proxy:3128`, whatever the
    /// environment says.
    #[must_use]
    pub fn through(self, proxy: &str) -> Self {
        Self { proxies: Matcher::builder().all(proxy).build(), ..self }
    }

    async fn open(&self, address: &Uri) -> Result<Box<dyn Io>, SsmError> {
        let host = address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let fail = |reason: String| SsmError::Connect { host: host.clone(), reason };
        let secure = match address.scheme_str() {
            Some("wss" | "https") => true,
            Some("ws" | "http") => false,
            _ => return Err(fail(format!("\"{address}\" is no address of a web socket"))),
        };
        let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
        // Proxies are chosen by the scheme of the web, which a web socket begins as.
        let scheme = if secure { "https" } else { "http" };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let site: Uri = format!("{scheme}://{bracketed}:{port}/")
            .parse()
            .map_err(|_| fail(format!("\"{host}\" is no name of a host")))?;
        let stream: Box<dyn Io> = match self.proxies.intercept(&site) {
            None => {
                let stream = TcpStream::connect((host.as_str(), port)).await;
                let stream = stream.map_err(|error| fail(error.to_string()))?;
                // Each message is small and waited for.
                stream.set_nodelay(true).map_err(|error| fail(error.to_string()))?;
                Box::new(stream)
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpConnector::new());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let through = proxy.uri().host().unwrap_or_default().to_owned();
                let stream = tunnel.call(site).await;
                let stream = stream
                    .map_err(|error| fail(format!("the proxy {through}: {}", chain(&error))))?
                    .into_inner();
                stream.set_nodelay(true).map_err(|error| fail(error.to_string()))?;
                Box::new(stream)
            }
        };
        if !secure {
            return Ok(stream);
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| fail(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| fail(error.to_string()))?))
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

#[async_trait]
impl Connect for Direct {
    async fn connect(&self, address: &Uri) -> Result<Box<dyn Io>, SsmError> {
        self.open(address).await
    }
}

/// Opens the web socket at an address.
pub(crate) async fn open(connect: &dyn Connect, address: &str) -> Result<Socket, SsmError> {
    let place = address.split(['?', '#']).next().unwrap_or_default();
    let fail = |reason: String| {
        let host = address.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        SsmError::Connect { host: host.unwrap_or_else(|| place.to_owned()), reason }
    };
    let uri: Uri = address.parse().map_err(|_| fail("it is no address".into()))?;
    let opening = async {
        let stream = connect.connect(&uri).await?;
        let opened = tokio_tungstenite::client_async(address, stream).await;
        opened.map(|(socket, _)| socket).map_err(|error| fail(error.to_string()))
    };
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(result) => result,
        Err(_) => Err(fail(format!("no answer in {} s", PATIENCE.as_secs()))),
    }
}
