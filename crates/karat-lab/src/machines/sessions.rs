//! The built-in agent of instances: data channels of session manager, and what is behind them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use karat_component::Output;
use karat_machine::runtime::{Exec, Machine};
use karat_ssm::{AgentOptions, AgentSession, Io, Socket, Target, read_opening, refuse};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Hub;
use crate::aws::{Leads, Session};

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
        let session = self.front.session(id).filter(|s| s.token == opening.token);
        let Some(session) = session else {
            let _ = refuse(&mut socket, id, "The session is over, or the token is not its.").await;
            return;
        };
        let Some(machine) = self.machine(&session.instance) else {
            let _ = refuse(&mut socket, id, "The instance is not connected.").await;
            return;
        };
        if !self.lines.join(&session.instance, cut) {
            return;
        }
        let agent = {
            let mut agents = self.agents.lock();
            agents.retain(|_, agent| !agent.is_over());
            if agents.contains_key(id) {
                tracing::info!(session = id, "a session goes on through another web socket");
            }
            let begin = || Arc::new(begin(&session, machine));
            Arc::clone(agents.entry(id.to_owned()).or_insert_with(begin))
        };
        let _ = agent.attach(socket).await;
    }
}

fn begin(session: &Session, machine: Machine) -> AgentSession {
    let (kind, properties, target): (_, _, Arc<dyn Target>) = match &session.leads {
        Leads::Port { host, port, properties } => {
            let target = Port { machine, host: host.clone(), port: *port };
            ("Port", properties.clone(), Arc::new(target))
        }
        Leads::Shell { command } => {
            ("Standard_Stream", json!({}), Arc::new(Shell { machine, command: command.clone() }))
        }
    };
    let options = AgentOptions {
        session_id: session.id.clone(),
        target_id: session.instance.clone(),
        session_type: kind.into(),
        properties,
        encryption: None,
    };
    AgentSession::start(options, target)
}

/// A port, as the machine reaches it.
struct Port {
    machine: Machine,
    host: Option<String>,
    port: u16,
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
}

/// A shell with a terminal of its own, of a user that may become root, as Amazon's agent gives.
struct Shell {
    machine: Machine,
    command: Option<String>,
}

/// Makes the user and starts what is in `KARAT_COMMAND`, or a login shell.
const ENTER: &str = "id ssm-user >/dev/null 2>&1 || { \
    useradd --create-home --shell /bin/bash ssm-user && \
    mkdir -p /etc/sudoers.d && \
    echo 'ssm-user ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ssm-agent-users && \
    chmod 0440 /etc/sudoers.d/ssm-agent-users; } >/dev/null 2>&1; \
    export TERM=${TERM:-xterm-256color}; \
    if [ -n \"$KARAT_COMMAND\" ]; then \
    exec script --quiet --return --flush --command \
    'su --login ssm-user --whitelist-environment=TERM,KARAT_COMMAND \
    --command \"exec sh -c \\\"\\$KARAT_COMMAND\\\"\"' /dev/null; \
    else exec script --quiet --return --flush --command \
    'su --login ssm-user --whitelist-environment=TERM' /dev/null; fi";

#[async_trait]
impl Target for Shell {
    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (input, mut output) = tokio::io::split(theirs);
        let (said, mut chunks) = mpsc::unbounded_channel::<Vec<u8>>();
        let mut exec = Exec::shell(ENTER);
        exec.stdin = Some(Box::new(input));
        exec.output = Output::new(move |_, bytes| {
            // Nobody reads when the session is over.
            let _ = said.send(bytes.to_vec());
        });
        if let Some(command) = &self.command {
            exec.env.insert("KARAT_COMMAND".into(), command.clone());
        }
        let cancel = CancellationToken::new();
        exec.cancel = cancel.clone();
        let machine = self.machine.clone();
        let running = tokio::spawn(async move { machine.exec(exec).await.map(drop) });
        tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                if output.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            // Either it has ended and said all, or nobody listens any more.
            let _ = output.shutdown().await;
            cancel.cancel();
            let _ = running.await;
        });
        Ok(Box::new(ours))
    }

    fn ends(&self) -> bool {
        true
    }
}
