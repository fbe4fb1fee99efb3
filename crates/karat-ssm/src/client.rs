//! The client: a stream to a port of a machine.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::SinkExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, ReadHalf,
    WriteHalf,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::cipher::{Cipher, KEY_BYTES};
use crate::connect::{self, Connect};
use crate::handshake::{
    Base64, Challenge, Complete, ENCRYPTION, EncryptionRequest, EncryptionResult, Processed,
    Request, Response, SESSION_TYPE, context, status,
};
use crate::link::{Link, Lost, Socket, Sockets};
use crate::message::{Flag, Message, payload};
use crate::reliable::Side;
use crate::{SsmError, message};

/// The version that is announced: the last before several connections share a session.
const VERSION: &str = "1.1.69.0";
/// Bytes of a payload, as both the agent and AWS's client send them.
const CHUNK: usize = 1024;
/// Bytes that wait in each direction between the caller and the session.
const BUFFER: usize = 256 * 1024;
/// How long the agent may take to begin and end the handshake.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How often a lost web socket is opened again.
const TRIES: u32 = 6;
/// Between two of these tries; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// How often a call is made that the service answers with "later".
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the service says of a session that it began or resumes.
#[derive(Clone)]
pub struct Opened {
    /// The id of the session.
    pub session_id: String,
    /// The address of the data channel.
    pub stream_url: String,
    /// What lets in there. A secret.
    pub token: String,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// A data key of KMS.
#[derive(Clone)]
pub struct DataKey {
    /// 64 bytes.
    pub plain: Vec<u8>,
    /// The same, encrypted: only who may use the key of KMS can read it.
    pub encrypted: Vec<u8>,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKey").finish_non_exhaustive()
    }
}

/// The calls of the service that a session takes. They are made with whatever makes AWS's calls.
#[async_trait]
pub trait Service: Send + Sync {
    /// The machine: an instance's id.
    fn target(&self) -> &str;

    /// `ssm:StartSession` with the document `AWS-StartPortForwardingSession`.
    ///
    /// # Errors
    /// What the service says; `retry` where it may come right by itself.
    async fn start(&self) -> Result<Opened, SsmError>;

    /// `ssm:ResumeSession`: a new token for a session whose web socket was lost.
    ///
    /// # Errors
    /// What the service says.
    async fn resume(&self, session_id: &str) -> Result<Opened, SsmError>;

    /// `ssm:TerminateSession`.
    ///
    /// # Errors
    /// What the service says.
    async fn terminate(&self, session_id: &str) -> Result<(), SsmError>;

    /// `kms:GenerateDataKey` of `bytes` bytes, for sessions that the account encrypts.
    ///
    /// # Errors
    /// What the service says.
    async fn data_key(
        &self,
        key_id: &str,
        bytes: usize,
        context: &BTreeMap<String, String>,
    ) -> Result<DataKey, SsmError>;
}

/// A stream to a port of a machine. It ends with the session, and ends the session when it is dropped
/// or closed. A session of `AWS-StartSSHSession` ends when the machine closes its connection. One of
/// `AWS-StartPortForwardingSession` does not, and the machine's agent does not tell: a reader has
/// to know where the data ends, as one of ssh does.
#[derive(Debug)]
pub struct PortSession {
    stream: DuplexStream,
    session_id: String,
    ended: Arc<Mutex<Option<SsmError>>>,
    pump: JoinHandle<()>,
}

impl PortSession {
    /// Begins a session and waits until data may flow. While the machine's agent is not connected,
    /// it is asked again, until `cancel`.
    ///
    /// # Errors
    /// What the service refuses, a data channel that cannot be opened, a handshake that fails.
    pub async fn open(
        service: Arc<dyn Service>,
        connect: Arc<dyn Connect>,
        cancel: &CancellationToken,
    ) -> Result<Self, SsmError> {
        let opened = stop_at(cancel, start(&*service)).await?;
        let session_id = opened.session_id.clone();
        let sockets = Channel {
            service: Arc::clone(&service),
            connect,
            session_id: session_id.clone(),
            client_id: Uuid::new_v4(),
            first: Some(opened),
            deaf: 0,
        };
        let mut link = Link::start(Side::Client, sockets);
        let agreed = stop_at(cancel, agree(&mut link, &*service, &session_id)).await;
        let cipher = match agreed {
            Ok(cipher) => cipher,
            Err(error) => {
                link.task.abort();
                // The session ends by itself later where this does not work.
                let _ = service.terminate(&session_id).await;
                return Err(error);
            }
        };
        let (stream, inner) = tokio::io::duplex(BUFFER);
        let ended = Arc::default();
        let pump = Pump {
            service,
            session_id: session_id.clone(),
            cipher: cipher.map(Arc::new),
            ended: Arc::clone(&ended),
        };
        let pump = tokio::spawn(pump.run(link, inner));
        Ok(Self { stream, session_id, ended, pump })
    }

    /// The id of the session, as the service names it.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Why the stream ended, where the caller did not end it.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.as_ref().map(ToString::to_string)
    }

    /// Ends the session, once all that was written has arrived.
    ///
    /// # Errors
    /// When the session was lost before.
    pub async fn close(mut self) -> Result<(), SsmError> {
        // A stream that ended before cannot be shut down, which is as good.
        let _ = self.stream.shutdown().await;
        drop(self.stream);
        self.pump.await.map_err(|error| SsmError::Lost(error.to_string()))?;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        ended.map_or(Ok(()), Err)
    }
}

impl AsyncRead for PortSession {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PortSession {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn stop_at<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, SsmError>>,
) -> Result<T, SsmError> {
    tokio::select! {
        result = work => result,
        () = cancel.cancelled() => Err(SsmError::Cancelled),
    }
}

/// Begins a session, again and again while the service says "later".
async fn start(service: &dyn Service) -> Result<Opened, SsmError> {
    let mut pause = Duration::from_millis(250);
    loop {
        match service.start().await {
            Err(SsmError::Service { retry: true, reason, .. }) => {
                tracing::debug!(reason, "the session cannot begin yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            other => return other,
        }
    }
}

/// The web sockets of one session.
struct Channel {
    service: Arc<dyn Service>,
    connect: Arc<dyn Connect>,
    session_id: String,
    client_id: Uuid,
    first: Option<Opened>,
    /// Web sockets in a row through which nothing came.
    deaf: u32,
}

impl Channel {
    /// Opens a web socket and says who is there.
    async fn open(&self, opened: &Opened) -> Result<Socket, SsmError> {
        let mut socket = connect::open(&*self.connect, &opened.stream_url).await?;
        let hello = json!({
            "MessageSchemaVersion": "1.0",
            "RequestId": Uuid::new_v4().to_string(),
            "TokenValue": opened.token,
            "ClientId": self.client_id.to_string(),
            "ClientVersion": VERSION,
        });
        let sent = socket.send(Frame::text(hello.to_string())).await;
        sent.map_err(|error| SsmError::Lost(error.to_string()))?;
        Ok(socket)
    }
}

impl Sockets for Channel {
    async fn next(&mut self, lost: Option<Lost>) -> Result<Socket, SsmError> {
        if let Some(opened) = self.first.take() {
            return self.open(&opened).await;
        }
        let Lost { mut reason, heard } =
            lost.unwrap_or(Lost { reason: String::new(), heard: true });
        self.deaf = if heard { 0 } else { self.deaf + 1 };
        if self.deaf >= TRIES {
            return Err(SsmError::Lost(reason));
        }
        if self.deaf > 0 {
            tokio::time::sleep(FIRST_PAUSE.saturating_mul(1 << (self.deaf - 1))).await;
        }
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            let again = async {
                let opened = self.service.resume(&self.session_id).await?;
                self.open(&opened).await
            };
            match again.await {
                Ok(socket) => return Ok(socket),
                Err(error @ SsmError::Service { retry: false, .. }) => {
                    return Err(SsmError::Lost(format!("{reason}; {error}")));
                }
                Err(error) => reason = error.to_string(),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(SsmError::Lost(reason))
    }
}

/// Does what the agent asks for before data flows. Gives what encrypts the data, if anything does.
async fn agree(
    link: &mut Link,
    service: &dyn Service,
    session_id: &str,
) -> Result<Option<Cipher>, SsmError> {
    let mut cipher = None;
    let talk = async {
        loop {
            let Some(message) = link.incoming.recv().await else { return Err(None) };
            match message.payload_type {
                payload::HANDSHAKE_REQUEST => {
                    let request: Request = message.json("the request of the handshake")?;
                    let (response, made) = respond(&request, service, session_id).await;
                    say(link, payload::HANDSHAKE_RESPONSE, &response).await?;
                    if let Some(errors) = response.errors.filter(|errors| !errors.is_empty()) {
                        return Err(Some(SsmError::Handshake(errors.join("; "))));
                    }
                    cipher = made;
                }
                payload::CHALLENGE_REQUEST => {
                    let given: Challenge = message.json("the challenge")?;
                    let Some(cipher) = &cipher else {
                        let text = "a challenge came without a key".to_owned();
                        return Err(Some(SsmError::Handshake(text)));
                    };
                    let answer = cipher.seal(&cipher.open(&given.challenge.0)?)?;
                    let answer = Challenge { challenge: Base64(answer) };
                    say(link, payload::CHALLENGE_RESPONSE, &answer).await?;
                }
                payload::HANDSHAKE_COMPLETE => {
                    let complete: Complete = message.json("the end of the handshake")?;
                    tracing::debug!(
                        nanoseconds = complete.handshake_time_to_complete,
                        said = complete.customer_message,
                        "the session is agreed on"
                    );
                    return Ok(());
                }
                payload::OUTPUT => {
                    let text = "data came first: the machine's agent is too old".to_owned();
                    return Err(Some(SsmError::Handshake(text)));
                }
                other => tracing::debug!(other, "a payload of an unknown type is passed over"),
            }
        }
    };
    match tokio::time::timeout(HANDSHAKE, talk).await {
        Ok(Ok(())) => Ok(cipher),
        Ok(Err(Some(error))) => Err(error),
        Ok(Err(None)) => Err(end_of(&mut link.task).await),
        Err(_) => Err(SsmError::Timeout {
            what: "the handshake with the machine's agent",
            seconds: HANDSHAKE.as_secs(),
        }),
    }
}

/// Why a link ended whose messages have stopped.
async fn end_of(task: &mut AbortOnDropHandle<Result<(), SsmError>>) -> SsmError {
    match task.await {
        Ok(Err(error)) => error,
        Ok(Ok(())) => SsmError::Closed(String::new()),
        Err(error) => SsmError::Lost(error.to_string()),
    }
}

async fn say(link: &Link, kind: u32, what: &impl serde::Serialize) -> Result<(), Option<SsmError>> {
    // Plain structs of texts and numbers can always be written as JSON.
    let payload = serde_json::to_vec(what).unwrap_or_default();
    link.outgoing.send((kind, payload.into())).await.map_err(|_| None)
}

/// Answers the agent's request.
async fn respond(
    request: &Request,
    service: &dyn Service,
    session_id: &str,
) -> (Response, Option<Cipher>) {
    let mut cipher = None;
    let mut response = Response {
        client_version: VERSION.into(),
        processed_client_actions: Vec::new(),
        errors: Some(Vec::new()),
    };
    for action in &request.requested_client_actions {
        let mut processed = Processed {
            action_type: action.action_type.clone(),
            action_status: status::DONE,
            action_result: Value::Null,
            error: String::new(),
        };
        match action.action_type.as_str() {
            SESSION_TYPE => {
                let kind = action.action_parameters["SessionType"].as_str().unwrap_or_default();
                if kind != "Port" {
                    processed.action_status = status::FAILED;
                    processed.error = format!("a session of type \"{kind}\" is no port");
                }
            }
            ENCRYPTION => match encrypt(&action.action_parameters, service, session_id).await {
                Ok((made, result)) => {
                    cipher = Some(made);
                    processed.action_result = result;
                }
                Err(error) => {
                    processed.action_status = status::FAILED;
                    processed.error = error.to_string();
                }
            },
            other => {
                processed.action_status = status::UNSUPPORTED;
                processed.error = format!("the action \"{other}\" is unknown");
            }
        }
        if !processed.error.is_empty()
            && let Some(errors) = &mut response.errors
        {
            errors.push(processed.error.clone());
        }
        response.processed_client_actions.push(processed);
    }
    (response, cipher)
}

async fn encrypt(
    parameters: &Value,
    service: &dyn Service,
    session_id: &str,
) -> Result<(Cipher, Value), SsmError> {
    let request: EncryptionRequest = serde_json::from_value(parameters.clone())
        .map_err(|error| SsmError::Protocol(format!("the request to encrypt: {error}")))?;
    let mut about = BTreeMap::from([
        (context::SESSION.to_owned(), session_id.to_owned()),
        (context::TARGET.to_owned(), service.target().to_owned()),
    ]);
    let challenged = !request.challenge.is_empty();
    if challenged {
        about.insert(context::CHALLENGE.into(), request.challenge);
    }
    let key = service.data_key(&request.key_id, KEY_BYTES, &about).await?;
    let cipher = Cipher::new(Side::Client, &key.plain)?;
    let result = EncryptionResult {
        hash: Base64(Sha256::digest(&key.encrypted).to_vec()),
        key: Base64(key.encrypted),
        challenge_acknowledgement: challenged,
    };
    // As above.
    Ok((cipher, serde_json::to_value(result).unwrap_or_default()))
}

/// Moves bytes between the caller's stream and the session.
struct Pump {
    service: Arc<dyn Service>,
    session_id: String,
    cipher: Option<Arc<Cipher>>,
    ended: Arc<Mutex<Option<SsmError>>>,
}

impl Pump {
    async fn run(self, link: Link, stream: DuplexStream) {
        let Link { outgoing, incoming, mut task, .. } = link;
        let (reads, writes) = tokio::io::split(stream);
        let up = up(reads, outgoing, self.cipher.clone());
        let down = down(incoming, writes, self.cipher.clone());
        tokio::pin!(up, down);
        let outcome = tokio::select! {
            // The caller is done; what is under way is waited for, and not much longer.
            result = &mut up => match result {
                Ok(()) => {
                    let rest = async { tokio::join!(&mut down, &mut task) };
                    let _ = tokio::time::timeout(Duration::from_secs(10), rest).await;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            result = &mut down => match result {
                Ok(()) => Err(end_of(&mut task).await),
                Err(error) => Err(error),
            },
        };
        task.abort();
        let over = matches!(&outcome, Err(SsmError::Closed(_)));
        if let Err(error) = outcome {
            *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        if !over && let Err(error) = self.service.terminate(&self.session_id).await {
            tracing::debug!(%error, "the session could not be ended; it ends by itself later");
        }
    }
}

/// From the caller to the machine.
async fn up(
    mut reads: ReadHalf<DuplexStream>,
    outgoing: mpsc::Sender<(u32, Bytes)>,
    cipher: Option<Arc<Cipher>>,
) -> Result<(), SsmError> {
    let mut buffer = [0; CHUNK];
    // Where nobody takes it any more, the other direction knows why.
    let gone = std::future::pending::<Result<(), SsmError>>();
    loop {
        let Ok(permit) = outgoing.reserve().await else { return gone.await };
        let count = reads.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            permit.send((payload::FLAG, Flag::TerminateSession.to_payload()));
            return Ok(());
        }
        let payload = match &cipher {
            Some(cipher) => cipher.seal(&buffer[..count])?.into(),
            None => Bytes::copy_from_slice(&buffer[..count]),
        };
        permit.send((payload::OUTPUT, payload));
    }
}

/// From the machine to the caller. Ends when the session does.
async fn down(
    mut incoming: mpsc::Receiver<Message>,
    mut writes: WriteHalf<DuplexStream>,
    cipher: Option<Arc<Cipher>>,
) -> Result<(), SsmError> {
    while let Some(message) = incoming.recv().await {
        match message.payload_type {
            message::payload::OUTPUT => {
                let plain = match &cipher {
                    Some(cipher) => cipher.open(&message.payload)?.into(),
                    None => message.payload,
                };
                // A caller that reads no more is told of by the other direction.
                let _ = writes.write_all(&plain).await;
            }
            message::payload::FLAG => {
                if Flag::from_payload(&message.payload) == Some(Flag::ConnectToPortError) {
                    let text = "the machine's agent cannot connect to the port".to_owned();
                    return Err(SsmError::Closed(text));
                }
            }
            other => tracing::debug!(other, "a payload of an unknown type is passed over"),
        }
    }
    Ok(())
}
