//! Agents that are not the lab's own: Amazon's, started in an instance. They open a control channel,
//! through which they are told of sessions, and a data channel for each session, which is joined
//! to the client's. Both ends see to it themselves that nothing is lost.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use karat_ssm::{Envelope, Socket, channel_closed, read_opening, refuse};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Hub;
use crate::aws::{Leads, Session};

/// How long what was said last may take on its way.
const FAREWELL: Duration = Duration::from_secs(5);

type Frames = mpsc::UnboundedSender<Frame>;

/// The two data channels of a session.
#[derive(Default)]
struct Relay {
    client: Option<Frames>,
    agent: Option<Frames>,
    /// The instance whose agent was told of the session.
    instance: String,
}

/// The agents that are connected, and their sessions.
#[derive(Default)]
pub(super) struct Remote {
    channels: Mutex<BTreeMap<String, Frames>>,
    relays: Mutex<BTreeMap<String, Relay>>,
}

/// The end of a session that a web socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Agent,
}

impl Remote {
    fn channels(&self) -> MutexGuard<'_, BTreeMap<String, Frames>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relays(&self) -> MutexGuard<'_, BTreeMap<String, Relay>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the agent of an instance has a control channel.
    pub(super) fn has(&self, instance: &str) -> bool {
        self.channels().get(instance).is_some_and(|channel| !channel.is_closed())
    }

    /// Whether a session goes through an agent that is not the lab's own.
    pub(super) fn serves(&self, session: &str) -> bool {
        self.relays().contains_key(session)
    }

    fn tell(&self, instance: &str, message: &Envelope) {
        if let Some(channel) = self.channels().get(instance) {
            // An agent that is gone comes back and is told again, or its sessions end.
            let _ = channel.send(Frame::Binary(message.to_bytes()));
        }
    }

    /// Tells an instance's agent of a session, once.
    pub(super) fn begin(&self, session: &Session) {
        let mut relays = self.relays();
        if relays.contains_key(&session.id) {
            return;
        }
        let relay = Relay { instance: session.instance.clone(), ..Relay::default() };
        relays.insert(session.id.clone(), relay);
        drop(relays);
        self.tell(&session.instance, &Envelope::new("interactive_shell", &task(session)));
    }

    /// An instance is no more.
    pub(super) fn forget(&self, instance: &str) {
        self.channels().remove(instance);
        self.relays().retain(|_, relay| relay.instance != instance);
    }

    /// Ends a session for whoever is still there. `why` is told to the client.
    pub(super) fn end(&self, session: &str, why: &str) {
        let Some(relay) = self.relays().remove(session) else { return };
        if let Some(client) = relay.client {
            let _ = client.send(Frame::Binary(channel_closed(session, why)));
            let _ = client.send(Frame::Close(None));
        }
        let closed = json!({
            "MessageType": "channel_closed",
            "MessageId": "",
            "DestinationId": relay.instance,
            "SessionId": session,
            "SchemaVersion": 1,
            "CreatedDate": "",
        });
        self.tell(&relay.instance, &Envelope::new("channel_closed", &closed));
    }

    fn join(&self, session: &str, end: End, frames: Frames) -> bool {
        let mut relays = self.relays();
        let Some(relay) = relays.get_mut(session) else { return false };
        match end {
            End::Client => relay.client = Some(frames),
            End::Agent => relay.agent = Some(frames),
        }
        true
    }

    /// Hands a frame to the other end. Where that is not there, it is lost, and sent again by who
    /// sent it.
    fn pass(&self, session: &str, from: End, frame: Frame) -> bool {
        let relays = self.relays();
        let Some(relay) = relays.get(session) else { return false };
        let to = match from {
            End::Client => &relay.agent,
            End::Agent => &relay.client,
        };
        if let Some(to) = to {
            let _ = to.send(frame);
        }
        true
    }
}

/// What an agent is told of a session: its document, filled in.
fn task(session: &Session) -> Value {
    let (kind, properties) = match &session.leads {
        Leads::Port { properties, .. } => ("Port", properties.clone()),
        Leads::Shell { command: None } => ("Standard_Stream", Value::Null),
        Leads::Shell { command: Some(command) } => {
            let linux = json!({ "commands": command, "runAsElevated": false });
            ("InteractiveCommands", json!({ "linux": linux }))
        }
    };
    let inputs = json!({
        "kmsKeyId": session.key.clone().unwrap_or_default(),
        "s3BucketName": "",
        "s3KeyPrefix": "",
        "s3EncryptionEnabled": false,
        "cloudWatchLogGroupName": "",
        "cloudWatchEncryptionEnabled": false,
        "cloudWatchStreamingEnabled": false,
        "runAsEnabled": false,
        "runAsDefaultUser": "",
    });
    let content = json!({
        "DocumentName": session.document,
        "DocumentContent": {
            "schemaVersion": "1.0",
            "description": "",
            "sessionType": kind,
            "inputs": inputs,
            "parameters": null,
            "properties": properties,
        },
        "SessionId": session.id,
        "Parameters": {},
        "RunAsUser": "",
        "SessionOwner": session.owner,
    });
    json!({
        "Content": content.to_string(),
        "TaskId": session.id,
        "Topic": "interactive_shell",
        "SchemaVersion": 1,
    })
}

/// Sends what is queued until the queue or the web socket ends; gives what comes to `take`.
async fn pump(
    socket: Socket,
    mut queue: mpsc::UnboundedReceiver<Frame>,
    mut take: impl FnMut(Bytes) -> bool,
) {
    let (mut sink, mut stream) = socket.split();
    loop {
        tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => {
                    let last = matches!(frame, Frame::Close(_));
                    if sink.send(frame).await.is_err() || last {
                        break;
                    }
                }
                None => break,
            },
            came = stream.next() => match came {
                Some(Ok(Frame::Binary(bytes))) => {
                    if !take(bytes) {
                        break;
                    }
                }
                // The answer to a ping is queued in the socket, and goes out when it is flushed.
                Some(Ok(Frame::Ping(_))) => {
                    if sink.flush().await.is_err() {
                        break;
                    }
                }
                Some(Ok(Frame::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = tokio::time::timeout(FAREWELL, sink.close()).await;
}

impl Hub {
    /// Serves the control channel of an instance's agent.
    pub(super) async fn serve_agent(&self, instance: &str, mut socket: Socket) {
        let opening = match read_opening(&mut socket).await {
            Ok(opening) => opening,
            Err(error) => {
                tracing::debug!(instance, %error, "a control channel that says nothing");
                return;
            }
        };
        if !self.front.is_control_token(instance, &opening.token) {
            let _ = socket.close(None).await;
            return;
        }
        tracing::info!(instance, "the instance's own agent is connected");
        let (frames, queue) = mpsc::unbounded_channel();
        self.remote.channels().insert(instance.to_owned(), frames.clone());
        pump(socket, queue, |bytes| {
            if let Ok(message) = Envelope::from_bytes(&bytes) {
                self.hear(&message, &frames);
            }
            true
        })
        .await;
        let mut channels = self.remote.channels();
        if channels.get(instance).is_some_and(|channel| channel.same_channel(&frames)) {
            channels.remove(instance);
            tracing::info!(instance, "the instance's own agent is gone");
        }
    }

    /// What an agent says through its control channel.
    fn hear(&self, message: &Envelope, frames: &Frames) {
        let said: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        tracing::debug!(kind = message.kind, %said, "an agent's message");
        let reply = match message.kind.as_str() {
            "agent_task_complete" => {
                let id = said["TaskId"].as_str().unwrap_or_default();
                let output = said["Output"].as_str().unwrap_or_default();
                let told = serde_json::from_str::<Value>(output).ok();
                let told = told.and_then(|v| v["Output"].as_str().map(str::to_owned));
                self.remote.end(id, told.as_deref().unwrap_or_default());
                self.front.end_session(id);
                let content = json!({
                    "SchemaVersion": 1,
                    "MessageId": message.id,
                    "TaskId": id,
                    "Topic": said["Topic"],
                });
                Envelope::new("agent_task_acknowledge", &content)
            }
            "agent_job_reply" => {
                let content =
                    json!({ "jobId": said["jobId"], "acknowledgedMessageId": message.id });
                Envelope::new("agent_job_reply_ack", &content)
            }
            _ => return,
        };
        let _ = frames.send(Frame::Binary(reply.to_bytes()));
    }

    /// Joins a web socket to the other end's.
    pub(super) async fn relay(&self, session: &str, end: End, mut socket: Socket) {
        let (frames, queue) = mpsc::unbounded_channel();
        if !self.remote.join(session, end, frames) {
            let _ = refuse(&mut socket, session, "The session is over.").await;
            return;
        }
        pump(socket, queue, |bytes| self.remote.pass(session, end, Frame::Binary(bytes))).await;
    }
}
