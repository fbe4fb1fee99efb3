//! What the server may start by itself: its host key, tunnels, the agent, the end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use russh::client::{ChannelOpenHandle, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelOpenFailure};
use tokio::net::UnixStream;

use crate::error::SshError;
use crate::host_key::{HostKeyCheck, fingerprint};
use crate::tunnel::{Forward, lead};

/// What the handler learns and others want to know.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// The host key's fingerprint.
    pub(crate) fingerprint: Option<String>,
    /// Why the connection ended.
    pub(crate) end: Option<String>,
}

/// What is [`Learned`], shared.
pub(crate) type SharedLearned = Arc<Mutex<Learned>>;

/// Answers the server.
pub(crate) struct Handler {
    pub(crate) host_key: HostKeyCheck,
    pub(crate) agent: Option<PathBuf>,
    pub(crate) tunnels: HashMap<u32, Forward>,
    pub(crate) learned: SharedLearned,
}

impl Handler {
    fn learn(&self, with: impl FnOnce(&mut Learned)) {
        with(&mut self.learned.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl russh::client::Handler for Handler {
    type Error = SshError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        let key = key.public_key();
        self.learn(|l| l.fingerprint = Some(fingerprint(&key)));
        self.host_key.check(&key)?;
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        match self.tunnels.get(&connected_port) {
            Some(forward) => {
                reply.accept().await;
                lead(channel, forward.clone());
            }
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        let Some(socket) = self.agent.clone() else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            if let Ok(mut agent) = UnixStream::connect(socket).await {
                let mut far = channel.into_stream();
                let _ = tokio::io::copy_bidirectional(&mut far, &mut agent).await;
            }
        });
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), SshError> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<SshError>) -> Result<(), SshError> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => info.message.clone(),
            DisconnectReason::Error(SshError::Protocol(e)) => reason_of(e),
            DisconnectReason::Error(e) => e.to_string(),
        };
        self.learn(|l| l.end = Some(text));
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(e) => Err(e),
        }
    }
}

/// The library's error in words that say what happened to the connection.
pub(crate) fn reason_of(e: &russh::Error) -> String {
    match e {
        russh::Error::KeepaliveTimeout => "no answer to keep-alives".into(),
        russh::Error::InactivityTimeout => "nothing came within ssh_read_write_timeout".into(),
        russh::Error::HUP | russh::Error::Disconnect => "the other side closed it".into(),
        russh::Error::IO(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the other side closed it".into()
        }
        other => other.to_string(),
    }
}
