//! Tunnels: ports here that lead to the machine's side, and ports there that lead here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use russh::client::Handle;
use tokio::net::{TcpListener, TcpStream};

use crate::error::SshError;
use crate::handler::Handler;

/// A port that is listened on, and where what connects to it is led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The port that is listened on, on the loopback address.
    pub port: u16,
    /// Host to connect to, as seen from the far side of the tunnel.
    pub host: String,
    /// Port to connect to.
    pub host_port: u16,
}

/// A text that is no tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardError {
    given: String,
    reason: &'static str,
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is no tunnel: {}", self.given, self.reason)
    }
}

impl std::error::Error for ForwardError {}

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(given: &str) -> Result<Self, ForwardError> {
        let fail = |reason| ForwardError { given: given.to_owned(), reason };
        let (port, rest) =
            given.split_once(':').ok_or_else(|| fail("it has no host to connect to"))?;
        let port = port.parse().map_err(|_| fail("its first part is no port"))?;
        let (host, host_port) =
            rest.rsplit_once(':').ok_or_else(|| fail("it has no port to connect to"))?;
        let host_port = host_port.parse().map_err(|_| fail("its last part is no port"))?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(fail("its host is empty"));
        }
        Ok(Self { port, host: host.to_owned(), host_port })
    }
}

/// Listens here and leads each connection through the ssh connection.
///
/// The task ends when the returned handle is aborted.
pub(crate) async fn listen_here(
    handle: Arc<Handle<Handler>>,
    forward: Forward,
) -> Result<tokio::task::JoinHandle<()>, SshError> {
    let listener =
        TcpListener::bind(("127.0.0.1", forward.port)).await.map_err(|e| SshError::Config {
            option: "ssh_local_tunnels",
            summary: format!("cannot listen on port {}: {e}", forward.port),
        })?;
    Ok(tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let (handle, forward) = (Arc::clone(&handle), forward.clone());
            tokio::spawn(async move {
                let opened = handle
                    .channel_open_direct_tcpip(
                        forward.host,
                        forward.host_port.into(),
                        peer.ip().to_string(),
                        peer.port().into(),
                    )
                    .await;
                match opened {
                    Ok(channel) => {
                        let mut far = channel.into_stream();
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
                    }
                    Err(e) => tracing::debug!("tunnel: {e}"),
                }
            });
        }
    }))
}

/// Asks the machine to listen and to lead each connection here.
pub(crate) async fn listen_there(
    handle: &Handle<Handler>,
    address: &str,
    forward: &Forward,
) -> Result<(), SshError> {
    handle.tcpip_forward("localhost", forward.port.into()).await.map(|_| ()).map_err(|_| {
        SshError::Refused {
            address: address.to_owned(),
            what: format!("to listen on port {} for a tunnel", forward.port),
        }
    })
}

/// Leads one connection that came through the machine's port.
pub(crate) fn lead(channel: russh::Channel<russh::client::Msg>, forward: Forward) {
    tokio::spawn(async move {
        let mut far = channel.into_stream();
        match TcpStream::connect((forward.host.as_str(), forward.host_port)).await {
            Ok(mut near) => {
                let _ = tokio::io::copy_bidirectional(&mut far, &mut near).await;
            }
            Err(e) => tracing::debug!("tunnel to {}:{}: {e}", forward.host, forward.host_port),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_read() {
        let it = |text: &str| Forward::from_str(text).map(|f| (f.port, f.host, f.host_port));
        assert_eq!(it("8080:localhost:80"), Ok((8080, "localhost".into(), 80)));
        assert_eq!(it("8080:[::1]:80"), Ok((8080, "::1".into(), 80)));
        for bad in ["", "80", "80:x", "x:h:80", "80:h:x", "80::80", "70000:h:80"] {
            assert!(it(bad).is_err(), "{bad}");
        }
    }
}
