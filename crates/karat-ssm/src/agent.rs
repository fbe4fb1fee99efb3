//! The machine's side of a session, without a machine's agent: what the lab answers with.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use ring::rand::SecureRandom as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;

use crate::SsmError;
use crate::cipher::Cipher;
use crate::connect::Io;
use crate::handshake::{
    Base64, Challenge, Complete, ENCRYPTION, EncryptionRequest, EncryptionResult, Request,
    Requested, Response, SESSION_TYPE, context, status,
};
use crate::link::{Link, Lost, Socket, Sockets};
use crate::message::{Flag, Message, payload};
use crate::reliable::Side;

/// The version that is announced: the newest that puts one connection into a session, and that
/// knows how a client ends one.
const VERSION: &str = "3.0.196.0";
const CHUNK: usize = 1024;
/// How long the client may take for each step of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long a session without a web socket waits for the next.
const ABANDONED: Duration = Duration::from_secs(120);
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// A payload with the size of a terminal.
const SIZE: u32 = 3;

/// What a client says first through a web socket, to be let in.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Opening {
    /// What the service gave it. A secret.
    #[serde(rename = "TokenValue")]
    pub token: String,
    /// Who it is; the same after a web socket is lost.
    #[serde(default)]
    pub client_id: String,
    /// Its version.
    #[serde(default)]
    pub client_version: String,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening")
            .field("client_version", &self.client_version)
            .finish_non_exhaustive()
    }
}

/// Reads what a client says first.
///
/// # Errors
/// When it says nothing in time, or something else.
pub async fn read_opening(socket: &mut Socket) -> Result<Opening, SsmError> {
    let read = async {
        loop {
            return match socket.next().await {
                Some(Ok(Frame::Text(text))) => serde_json::from_str(&text)
                    .map_err(|error| SsmError::Protocol(format!("the first message: {error}"))),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                Some(Ok(_)) => Err(SsmError::Protocol("the first message is no text".into())),
                Some(Err(error)) => Err(SsmError::Lost(error.to_string())),
                None => Err(SsmError::Lost("nobody said who is there".into())),
            };
        }
    };
    let seconds = FIRST_MESSAGE.as_secs();
    tokio::time::timeout(FIRST_MESSAGE, read)
        .await
        .unwrap_or(Err(SsmError::Timeout { what: "the first message", seconds }))
}

/// What a session leads to.
#[async_trait]
pub trait Target: Send + Sync {
    /// Connects: to a port, or to a shell.
    ///
    /// # Errors
    /// When that cannot be done; the session ends with it.
    async fn open(&self) -> std::io::Result<Box<dyn Io>>;

    /// The client's terminal has this size now. Means nothing for a port.
    fn resize(&self, _columns: u32, _rows: u32) {}

    /// Whether the session ends with the connection, as a shell's does, or another may follow, as
    /// with a port.
    fn ends(&self) -> bool {
        false
    }
}

/// Decrypts data keys, as `kms:Decrypt` does.
#[async_trait]
pub trait Unlock: Send + Sync {
    /// The plain key.
    ///
    /// # Errors
    /// When the key is not this account's, or the context is another.
    async fn unlock(
        &self,
        encrypted: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, SsmError>;
}

/// What there is to know of a session.
#[derive(Clone)]
pub struct AgentOptions {
    /// The session's id.
    pub session_id: String,
    /// The machine: an instance's id.
    pub target_id: String,
    /// `Port`, or `Standard_Stream` for a shell.
    pub session_type: String,
    /// What the client is told of the session: for a port `portNumber`, `localPortNumber`, `type`.
    pub properties: Value,
    /// The id of a key of KMS, and what decrypts with it, where the session is encrypted.
    pub encryption: Option<(String, Arc<dyn Unlock>)>,
}

impl std::fmt::Debug for AgentOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentOptions")
            .field("session_id", &self.session_id)
            .field("session_type", &self.session_type)
            .finish_non_exhaustive()
    }
}

/// A session that waits for web sockets and serves them, one after the other. Dropping it ends it.
#[derive(Debug)]
pub struct AgentSession {
    sockets: mpsc::Sender<Socket>,
    over: CancellationToken,
    task: JoinHandle<()>,
}

impl AgentSession {
    /// Begins a session.
    #[must_use]
    pub fn start(options: AgentOptions, target: Arc<dyn Target>) -> Self {
        let (sockets, next) = mpsc::channel(4);
        let link =
            Link::start(Side::Agent, Waiting { next, session_id: options.session_id.clone() });
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _guard = guard;
            let mut link = link;
            let result = serve(&mut link, &options, &*target).await;
            tracing::debug!(session = options.session_id, ?result, "a session is over");
            let why = match result {
                Err(SsmError::Closed(why)) => why,
                _ => String::new(),
            };
            // It is set here alone.
            let _ = link.farewell.set(Message::closed(&options.session_id, &why).to_bytes());
            drop(link.outgoing);
            // What was sent last is on its way.
            let _ = tokio::time::timeout(Duration::from_secs(10), &mut link.task).await;
            link.task.abort();
        });
        Self { sockets, over, task }
    }

    /// Goes on through a web socket whose client has been let in.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn attach(&self, socket: Socket) -> Result<(), SsmError> {
        let sent = self.sockets.send(socket).await;
        sent.map_err(|_| SsmError::Closed("the session is over".into()))
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// What tells the end of the session.
    #[must_use]
    pub fn over(&self) -> CancellationToken {
        self.over.clone()
    }
}

impl Drop for AgentSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells a client that its session is over, and closes the web socket.
///
/// # Errors
/// When the client is gone already.
pub async fn refuse(socket: &mut Socket, session_id: &str, why: &str) -> Result<(), SsmError> {
    let frame = Frame::Binary(Message::closed(session_id, why).to_bytes());
    let sent = async {
        socket.send(frame).await?;
        socket.close(None).await
    };
    sent.await.map_err(|error| SsmError::Lost(error.to_string()))
}

/// Web sockets as clients come.
struct Waiting {
    next: mpsc::Receiver<Socket>,
    session_id: String,
}

impl Sockets for Waiting {
    async fn next(&mut self, lost: Option<Lost>) -> Result<Socket, SsmError> {
        let lost = lost.map_or_else(|| "no client came".into(), |lost| lost.reason);
        match tokio::time::timeout(ABANDONED, self.next.recv()).await {
            Ok(Some(socket)) => Ok(socket),
            Ok(None) => Err(SsmError::Closed("the session is over".into())),
            Err(_) => {
                tracing::debug!(session = self.session_id, "a session is abandoned");
                Err(SsmError::Lost(lost))
            }
        }
    }
}

async fn say(link: &Link, kind: u32, what: &impl serde::Serialize) -> Result<(), SsmError> {
    let gone = |_| SsmError::Lost("the data channel is gone".into());
    // Plain structs of texts and numbers can always be written as JSON.
    let payload = serde_json::to_vec(what).unwrap_or_default();
    link.outgoing.send((kind, payload.into())).await.map_err(gone)
}

/// The next payload of this type; others are passed over, as agents do during the handshake.
async fn expect(link: &mut Link, wanted: u32, what: &'static str) -> Result<Message, SsmError> {
    let wait = async {
        while let Some(message) = link.incoming.recv().await {
            if message.payload_type == wanted {
                return Ok(message);
            }
        }
        Err(SsmError::Lost("the data channel is gone".into()))
    };
    let seconds = HANDSHAKE.as_secs();
    tokio::time::timeout(HANDSHAKE, wait).await.unwrap_or(Err(SsmError::Timeout { what, seconds }))
}

fn random<const N: usize>() -> Result<[u8; N], SsmError> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| SsmError::Protocol("there are no random numbers".into()))?;
    Ok(bytes)
}

async fn agree(link: &mut Link, options: &AgentOptions) -> Result<Option<Cipher>, SsmError> {
    let begun = Instant::now();
    let type_action = json!({
        "SessionType": options.session_type,
        "Properties": options.properties,
    });
    let mut actions =
        vec![Requested { action_type: SESSION_TYPE.into(), action_parameters: type_action }];
    let nonce = uuid::Uuid::from_bytes(random()?).to_string();
    if let Some((key_id, _)) = &options.encryption {
        let request = EncryptionRequest { key_id: key_id.clone(), challenge: nonce.clone() };
        let action_parameters = serde_json::to_value(request).unwrap_or_default();
        actions.push(Requested { action_type: ENCRYPTION.into(), action_parameters });
    }
    let request = Request { agent_version: VERSION.into(), requested_client_actions: actions };
    say(link, payload::HANDSHAKE_REQUEST, &request).await?;
    let answer = expect(link, payload::HANDSHAKE_RESPONSE, "the answer to the handshake").await?;
    let answer: Response = answer.json("the answer to the handshake")?;
    let mut cipher = None;
    for action in answer.processed_client_actions {
        if action.action_status != status::DONE {
            return Err(SsmError::Handshake(format!("{}: {}", action.action_type, action.error)));
        }
        if action.action_type == ENCRYPTION
            && let Some((_, unlock)) = &options.encryption
        {
            let result: EncryptionResult = serde_json::from_value(action.action_result)
                .map_err(|error| SsmError::Protocol(format!("the encrypted key: {error}")))?;
            let mut about = BTreeMap::from([
                (context::SESSION.to_owned(), options.session_id.clone()),
                (context::TARGET.to_owned(), options.target_id.clone()),
            ]);
            if result.challenge_acknowledgement {
                about.insert(context::CHALLENGE.into(), nonce.clone());
            }
            let key = unlock.unlock(&result.key.0, &about).await?;
            cipher = Some(Cipher::new(Side::Agent, &key)?);
        }
    }
    if options.encryption.is_some() && cipher.is_none() {
        return Err(SsmError::Handshake("the client does not encrypt".into()));
    }
    if let Some(cipher) = &cipher {
        let text: [u8; 64] = random()?;
        let challenge = Challenge { challenge: Base64(cipher.seal(&text)?) };
        say(link, payload::CHALLENGE_REQUEST, &challenge).await?;
        let answer = expect(link, payload::CHALLENGE_RESPONSE, "the answer to a challenge").await?;
        let answer: Challenge = answer.json("the answer to a challenge")?;
        if cipher.open(&answer.challenge.0)? != text {
            return Err(SsmError::Handshake("the client has another key".into()));
        }
    }
    let complete = Complete {
        handshake_time_to_complete: begun.elapsed().as_nanos() as u64,
        customer_message: String::new(),
    };
    say(link, payload::HANDSHAKE_COMPLETE, &complete).await?;
    Ok(cipher)
}

/// How one connection of a session ended.
enum End {
    /// The target closed it.
    Target,
    /// The client closed it; more may follow.
    Client,
    /// The session is over.
    Session,
}

async fn serve(
    link: &mut Link,
    options: &AgentOptions,
    target: &dyn Target,
) -> Result<(), SsmError> {
    let cipher = agree(link, options).await?;
    let mut waiting = None;
    loop {
        let connection = match target.open().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(%error, "the target cannot be reached");
                let flag = Flag::ConnectToPortError.to_payload();
                let _ = link.outgoing.send((payload::FLAG, flag)).await;
                return Err(SsmError::Closed(error.to_string()));
            }
        };
        let end = pass(link, connection, cipher.as_ref(), target, waiting.take()).await?;
        match end {
            End::Session => return Ok(()),
            End::Target if target.ends() => return Ok(()),
            End::Target | End::Client => {}
        }
        // The next byte from the client begins the next connection.
        waiting = loop {
            let Some(message) = link.incoming.recv().await else { return Ok(()) };
            match message.payload_type {
                payload::OUTPUT => break Some(message),
                payload::FLAG
                    if Flag::from_payload(&message.payload) == Some(Flag::TerminateSession) =>
                {
                    return Ok(());
                }
                _ => {}
            }
        };
    }
}

/// Moves bytes between one connection and the client.
async fn pass(
    link: &mut Link,
    connection: Box<dyn Io>,
    cipher: Option<&Cipher>,
    target: &dyn Target,
    first: Option<Message>,
) -> Result<End, SsmError> {
    let (reads, writes) = tokio::io::split(connection);
    let out = outwards(reads, &link.outgoing, cipher);
    let inn = inwards(&mut link.incoming, writes, cipher, target, first);
    tokio::pin!(out, inn);
    tokio::select! {
        end = &mut out => end,
        end = &mut inn => end,
    }
}

async fn outwards(
    mut reads: ReadHalf<Box<dyn Io>>,
    outgoing: &mpsc::Sender<(u32, Bytes)>,
    cipher: Option<&Cipher>,
) -> Result<End, SsmError> {
    let mut buffer = [0; CHUNK];
    loop {
        let Ok(permit) = outgoing.reserve().await else { return Ok(End::Session) };
        let count = reads.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Ok(End::Target);
        }
        let payload = match cipher {
            Some(cipher) => cipher.seal(&buffer[..count])?.into(),
            None => Bytes::copy_from_slice(&buffer[..count]),
        };
        permit.send((payload::OUTPUT, payload));
    }
}

fn inwards<'a>(
    incoming: &'a mut mpsc::Receiver<Message>,
    mut writes: WriteHalf<Box<dyn Io>>,
    cipher: Option<&'a Cipher>,
    target: &'a dyn Target,
    first: Option<Message>,
) -> impl Future<Output = Result<End, SsmError>> + 'a {
    #[derive(Deserialize)]
    struct Size {
        cols: u32,
        rows: u32,
    }
    async move {
        let mut first = first;
        loop {
            let next = match first.take() {
                Some(message) => Some(message),
                None => incoming.recv().await,
            };
            let Some(message) = next else { return Ok(End::Session) };
            match message.payload_type {
                payload::OUTPUT => {
                    let plain = match cipher {
                        Some(cipher) => cipher.open(&message.payload)?.into(),
                        None => message.payload,
                    };
                    // A target that reads no more closes the connection, which `outwards` sees.
                    let _ = writes.write_all(&plain).await;
                    let _ = writes.flush().await;
                }
                payload::FLAG => match Flag::from_payload(&message.payload) {
                    Some(Flag::TerminateSession) => return Ok(End::Session),
                    Some(Flag::DisconnectToPort) => return Ok(End::Client),
                    _ => {}
                },
                SIZE => {
                    let size: Size = message.json("the size of the terminal")?;
                    target.resize(size.cols, size.rows);
                }
                _ => {}
            }
        }
    }
}
