//! The built-in agent of instances: data channels of session manager, and what is behind them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use karat_machine::runtime::Machine;
use karat_ssm::{
    AgentOptions, AgentSession, Io, Socket, SsmError, Target, Unlock, read_opening, refuse,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::remote::End;
use super::shell::Shell;
use crate::aws::{Front, Leads, Session};

/// The agents' sides of sessions, by their ids.
#[derive(Default)]
pub(super) struct Agents(Mutex<BTreeMap<String, Arc<AgentSession>>>);

impl Agents {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<AgentSession>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self, session: &str) {
        self.lock().remove(session);
    }
}

impl Session {
    /// The end whose token it is.
    fn end_of(&self, token: &str) -> Option<End> {
        if self.token == token {
            return Some(End::Client);
        }
        (self.agent_token.as_deref() == Some(token)).then_some(End::Agent)
    }
}

impl Hub {
    /// Serves a web socket that asks for a session.
    pub(super) async fn serve_session(&self, id: &str, mut socket: Socket, cut: CancellationToken) {
        let opening = match read_opening(&mut socket).await {
            Ok(opening) => opening,
            Err(error) => {
                tracing::debug!(session = id, %error, "a data channel that says nothing");
                return;
            }
        };
        let session = self.front.session(id).and_then(|session| {
            let end = session.end_of(&opening.token)?;
            Some((session, end))
        });
        let Some((session, end)) = session else {
            let _ = refuse(&mut socket, id, "The session is over, or the token is not its.").await;
            return;
        };
        if end == End::Agent {
            return self.relay(id, end, socket).await;
        }
        let Some(machine) = self.machine(&session.instance) else {
            let _ = refuse(&mut socket, id, "The instance is not connected.").await;
            return;
        };
        if !self.lines.join(&session.instance, cut) {
            return;
        }
        let begun = self.agents.lock().contains_key(id);
        if self.remote.serves(id) || !begun && self.remote.has(&session.instance) {
            self.remote.begin(&session);
            return self.relay(id, end, socket).await;
        }
        let agent = {
            let mut agents = self.agents.lock();
            agents.retain(|_, agent| !agent.is_over());
            if agents.contains_key(id) {
                tracing::info!(session = id, "a session goes on through another web socket");
            }
            let begin = || Arc::new(self.begin(&session, machine));
            Arc::clone(agents.entry(id.to_owned()).or_insert_with(begin))
        };
        let _ = agent.attach(socket).await;
    }
}

impl Hub {
    /// Begins the machine's side of a session. When it ends, so does the session.
    fn begin(&self, session: &Session, machine: Machine) -> AgentSession {
        let agent = AgentSession::start(self.options(session), target(session, machine));
        let (over, front, id) = (agent.over(), Arc::clone(&self.front), session.id.clone());
        self.tasks.spawn(async move {
            over.cancelled().await;
            front.end_session(&id);
        });
        agent
    }

    fn options(&self, session: &Session) -> AgentOptions {
        let (kind, properties) = match &session.leads {
            Leads::Port { properties, .. } => ("Port", properties.clone()),
            Leads::Shell { .. } => ("Standard_Stream", json!({})),
        };
        let unlock = || {
            let (front, region) = (Arc::clone(&self.front), session.region.clone());
            Arc::new(Keys { front, region }) as Arc<dyn Unlock>
        };
        AgentOptions {
            session_id: session.id.clone(),
            target_id: session.instance.clone(),
            session_type: kind.into(),
            properties,
            encryption: session.key.clone().map(|key| (key, unlock())),
        }
    }
}

fn target(session: &Session, machine: Machine) -> Arc<dyn Target> {
    match &session.leads {
        Leads::Port { host, port, properties } => {
            // As Amazon's agent has it: only one that forwards waits for the next connection.
            let ends = properties["type"] != "LocalPortForwarding";
            Arc::new(Port { machine, host: host.clone(), port: *port, ends })
        }
        Leads::Shell { command } => Arc::new(Shell::new(machine, &session.id, command.clone())),
    }
}

/// The keys of KMS, for sessions that are encrypted.
struct Keys {
    front: Arc<Front>,
    region: String,
}

#[async_trait]
impl Unlock for Keys {
    async fn unlock(
        &self,
        encrypted: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, SsmError> {
        let (front, region) = (Arc::clone(&self.front), self.region.clone());
        let (encrypted, context) = (encrypted.to_vec(), context.clone());
        let opened =
            tokio::task::spawn_blocking(move || front.decrypt(&region, &encrypted, &context));
        let opened = opened.await.map_err(|error| SsmError::Handshake(error.to_string()))?;
        opened.map_err(SsmError::Handshake)
    }
}

/// A port, as the machine reaches it.
struct Port {
    machine: Machine,
    host: Option<String>,
    port: u16,
    /// Whether the session ends with the connection.
    ends: bool,
}

#[async_trait]
impl Target for Port {
    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let address = match &self.host {
            None => SocketAddr::from(([127, 0, 0, 1], self.port)),
            Some(host) => {
                let mut found = tokio::net::lookup_host((host.as_str(), self.port)).await?;
                let found = found.find(SocketAddr::is_ipv4);
                found.ok_or_else(|| io::Error::other(format!("there is no host {host}")))?
            }
        };
        let stream = self.machine.connect_to(address).await.map_err(io::Error::other)?;
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }

    fn ends(&self) -> bool {
        self.ends
    }
}
