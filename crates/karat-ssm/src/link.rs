//! A data channel over one web socket after the other.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message as Frame};
use tokio_util::task::AbortOnDropHandle;

use crate::SsmError;
use crate::connect::Io;
use crate::message::Message;
use crate::reliable::{Reliable, Side};

/// A web socket that carries a data channel.
pub type Socket = WebSocketStream<Box<dyn Io>>;

/// How often it is looked at what is late.
const TICK: Duration = Duration::from_millis(50);
/// How often something is sent through a silent web socket: proxies forget those that are.
const PING: Duration = Duration::from_secs(30);
/// After this long without a byte a web socket is lost.
const SILENCE: Duration = Duration::from_secs(75);
/// Messages that wait for the reader.
const WAITING: usize = 1024;
/// How long the end of a link waits for acknowledgements of what was sent last.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a web socket was lost.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) reason: String,
    /// Whether anything of the channel came through it. The service lets clients of a session in
    /// that is over, too, and nothing comes then.
    pub(crate) heard: bool,
}

/// Gives one web socket after the other.
pub(crate) trait Sockets: Send + 'static {
    /// The first one, or the next after `lost` says why the former one is gone. An error ends the
    /// channel.
    fn next(&mut self, lost: Option<Lost>)
    -> impl Future<Output = Result<Socket, SsmError>> + Send;
}

/// A running data channel.
#[derive(Debug)]
pub(crate) struct Link {
    /// Types of payloads, and payloads. Closing it ends the channel once all has arrived.
    pub(crate) outgoing: mpsc::Sender<(u32, Bytes)>,
    /// What came, in order.
    pub(crate) incoming: mpsc::Receiver<Message>,
    /// Ends with what the other side said at the end, or nothing after a local end. Dropping it
    /// drops the channel.
    pub(crate) task: AbortOnDropHandle<Result<(), SsmError>>,
    /// What is said last, when all has arrived.
    pub(crate) farewell: Arc<OnceLock<Bytes>>,
}

impl Link {
    /// Runs a channel in a task of its own.
    pub(crate) fn start(side: Side, sockets: impl Sockets) -> Self {
        let (outgoing, takes) = mpsc::channel(16);
        let (gives, incoming) = mpsc::channel(WAITING);
        let farewell = Arc::default();
        let says = Arc::clone(&farewell);
        let task = tokio::spawn(run(Reliable::new(side), sockets, takes, gives, says));
        Self { outgoing, incoming, task: AbortOnDropHandle::new(task), farewell }
    }
}

/// Why one web socket is not used any more.
enum Turn {
    Lost(Lost),
    Done,
}

async fn run(
    mut state: Reliable,
    mut sockets: impl Sockets,
    mut takes: mpsc::Receiver<(u32, Bytes)>,
    gives: mpsc::Sender<Message>,
    farewell: Arc<OnceLock<Bytes>>,
) -> Result<(), SsmError> {
    let mut lost = None;
    loop {
        let socket = sockets.next(lost).await?;
        match carry(socket, &mut state, &mut takes, &gives, &farewell).await? {
            Turn::Lost(how) => {
                tracing::debug!(how.reason, "the data channel's web socket is lost");
                lost = Some(how);
            }
            Turn::Done => return Ok(()),
        }
    }
}

/// Uses one web socket until it is lost or the channel ends.
async fn carry(
    socket: Socket,
    state: &mut Reliable,
    takes: &mut mpsc::Receiver<(u32, Bytes)>,
    gives: &mpsc::Sender<Message>,
    farewell: &OnceLock<Bytes>,
) -> Result<Turn, SsmError> {
    let (mut sink, mut stream) = socket.split();
    // Writing has a task of its own: two sides that both only write would wait for ever.
    let (frames, mut queue) = mpsc::unbounded_channel::<Frame>();
    let queued = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&queued);
    let writer = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut fed = 0;
        while let Some(frame) = queue.recv().await {
            sink.feed(frame).await?;
            fed += 1;
            if queue.is_empty() {
                sink.flush().await?;
                written.fetch_sub(std::mem::take(&mut fed), Ordering::Relaxed);
            }
        }
        sink.close().await?;
        Ok::<(), SocketError>(())
    }));
    // Where writing has failed, reading does so as well.
    let send = |frame: Frame| {
        queued.fetch_add(1, Ordering::Relaxed);
        let _ = frames.send(frame);
    };
    state.outstanding(Instant::now()).into_iter().map(Frame::Binary).for_each(send);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut last, mut pinged) = (Instant::now(), Instant::now());
    let mut heard = false;
    let lost = |reason: String, heard| Ok(Turn::Lost(Lost { reason, heard }));
    let mut leaving: Option<Instant> = None;
    loop {
        tokio::select! {
            frame = stream.next() => {
                last = Instant::now();
                let bytes = match frame {
                    Some(Ok(Frame::Binary(bytes))) => bytes,
                    Some(Ok(Frame::Close(close))) => {
                        let why = close.map(|c| format!("{} {}", c.code, c.reason));
                        return lost(why.unwrap_or_else(|| "it was closed".into()), heard);
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return lost(error.to_string(), heard),
                    None => return lost("it ended".into(), heard),
                };
                heard = true;
                let received = state.receive(&bytes, gives.capacity() > 0, last)?;
                received.reply.into_iter().map(Frame::Binary).for_each(send);
                if let Some(reason) = received.closed {
                    // All that came before is still the reader's, however slow it is.
                    while let Some((message, _)) = state.deliver() {
                        if gives.send(message).await.is_err() {
                            break;
                        }
                    }
                    return Err(SsmError::Closed(reason));
                }
                deliver(state, gives).into_iter().map(Frame::Binary).for_each(send);
            }
            taken = takes.recv(), if leaving.is_none() && state.may_send() => match taken {
                Some((kind, payload)) => {
                    send(Frame::Binary(state.send(kind, payload, Instant::now())));
                }
                None => leaving = Some(Instant::now()),
            },
            _ = tick.tick() => {
                let now = Instant::now();
                // What waits to be written is late because of what stands before it; sending it
                // again would only make that more.
                let free = queued.load(Ordering::Relaxed) == 0;
                state.overdue(free, now)?.into_iter().map(Frame::Binary).for_each(send);
                deliver(state, gives).into_iter().map(Frame::Binary).for_each(send);
                if now.duration_since(last) > SILENCE {
                    return lost(format!("nothing came for {} s", SILENCE.as_secs()), heard);
                }
                if now.duration_since(pinged) > PING {
                    pinged = now;
                    send(Frame::Ping(Bytes::from_static(b"keepalive")));
                }
            }
        }
        if let Some(since) = leaving
            && (state.is_settled() || since.elapsed() > FAREWELL)
        {
            if let Some(bytes) = farewell.get() {
                send(Frame::Binary(bytes.clone()));
            }
            // The writer ends, with the web socket, when it has written all.
            drop(frames);
            let _ = tokio::time::timeout(FAREWELL, writer).await;
            return Ok(Turn::Done);
        }
    }
}

/// Hands over what is in order, as far as there is room. Gives the acknowledgements that are owed.
fn deliver(state: &mut Reliable, gives: &mpsc::Sender<Message>) -> Vec<Bytes> {
    let mut owed = Vec::new();
    while let Ok(permit) = gives.try_reserve() {
        let Some((message, acknowledgement)) = state.deliver() else { break };
        owed.extend(acknowledgement);
        permit.send(message);
    }
    owed
}
