//! The parent's end of the control socket.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};

use super::error::{Result, RuntimeError};
use super::supervisor::SUPERVISOR_COMMAND;
use super::wire::{self, Answer, Call, Failure, Message, News, Op};

type Reply = std::result::Result<(Answer, Vec<OwnedFd>), Failure>;

/// What is known of the machine without asking.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// systemd has finished starting.
    pub(super) ready: bool,
    /// The machine has ended by itself or by an order: exit code or signal.
    pub(super) stopped: Option<(Option<i32>, Option<i32>)>,
    /// The supervisor is gone.
    pub(super) closed: bool,
    /// The program that carries packets out has ended.
    pub(super) outbound_ended: bool,
}

#[derive(Debug)]
struct Waiting {
    calls: HashMap<u64, oneshot::Sender<Reply>>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<Waiting>,
    state: watch::Sender<State>,
}

/// A connection to a supervisor. When it is dropped, the machine with all its processes ends.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
    next: AtomicU64,
    keeper: tokio::sync::Mutex<Child>,
    pid: u32,
    reader: tokio::task::JoinHandle<()>,
}

impl Client {
    /// Starts keeper and supervisor.
    pub(super) fn start(program: &Path, id: &str) -> Result<Self> {
        let fail = |source: io::Error| RuntimeError::Supervisor { source };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| fail(e.into()))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|e| fail(e.into()))?;
        let keeper = Command::new(program)
            .arg(SUPERVISOR_COMMAND)
            .arg(id)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(fail)?;
        let pid = keeper.id().unwrap_or_default();
        // SAFETY: the socket owns its descriptor and gives the same one for all its life.
        let socket = unsafe { AsyncFd::register(ours) }.map_err(|e| fail(e.into()))?;
        let shared = Arc::new(Shared {
            socket,
            waiting: Mutex::new(Waiting { calls: HashMap::new(), closed: false }),
            state: watch::Sender::new(State::default()),
        });
        let reader = tokio::spawn(read_all(Arc::clone(&shared)));
        let keeper = tokio::sync::Mutex::new(keeper);
        Ok(Self { shared, next: AtomicU64::new(1), keeper, pid, reader })
    }

    /// The keeper's process number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Follows what happens by itself.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Forgets how the machine ended, before it starts once more.
    pub(super) fn starts_again(&self) {
        self.shared.state.send_modify(|state| (state.ready, state.stopped) = (false, None));
    }

    /// Asks and waits for the answer.
    pub(super) async fn call(&self, op: Op, fds: &[RawFd]) -> Result<(Answer, Vec<OwnedFd>)> {
        let (_, answer) = self.begin(op, fds).await?;
        Self::end(answer).await
    }

    /// Asks; the answer comes by the channel.
    pub(super) async fn begin(
        &self,
        op: Op,
        fds: &[RawFd],
    ) -> Result<(u64, oneshot::Receiver<Reply>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        {
            let mut waiting = self.shared.lock();
            if waiting.closed {
                return Err(RuntimeError::Gone);
            }
            waiting.calls.insert(id, tell);
        }
        let call = Call { id, op };
        let sent = self
            .shared
            .socket
            .async_io(tokio::io::Interest::WRITABLE, |fd| wire::send(fd.as_fd(), &call, fds))
            .await;
        match sent {
            Ok(()) => Ok((id, answer)),
            Err(_) => Err(RuntimeError::Gone),
        }
    }

    /// Waits for the answer of [`Client::begin`].
    pub(super) async fn end(answer: oneshot::Receiver<Reply>) -> Result<(Answer, Vec<OwnedFd>)> {
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => {
                Err(RuntimeError::Refused { what: failure.what, errno: failure.errno })
            }
            Err(_) => Err(RuntimeError::Gone),
        }
    }

    /// Signals a command without waiting. Signals are few and small: the socket takes them.
    pub(super) fn signal_now(&self, exec: u64, signal: i32) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let call = Call { id, op: Op::Signal { exec, signal } };
        let _ = wire::send(self.shared.socket.get_ref().as_fd(), &call, &[]);
    }

    /// Ends everything of the machine and waits until nothing of it is left.
    pub(super) async fn close(&self, graceful: bool) -> Result<()> {
        if graceful {
            let unmounted = self.call(Op::Exit, &[]);
            let _ = tokio::time::timeout(Duration::from_secs(10), unmounted).await;
        }
        let _ = shutdown(self.shared.socket.as_raw_fd(), Shutdown::Both);
        let mut keeper = self.keeper.lock().await;
        keeper.wait().await.map_err(|source| RuntimeError::Supervisor { source })?;
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = shutdown(self.shared.socket.as_raw_fd(), Shutdown::Both);
        self.reader.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_all(shared: Arc<Shared>) {
    loop {
        let message = shared
            .socket
            .async_io(tokio::io::Interest::READABLE, |fd| wire::receive::<Message>(fd.as_fd()))
            .await;
        match message {
            Ok(Some((Message::Answer { id, result }, fds))) => {
                let reply = result.map(|answer| (answer, fds));
                // The keeper's own failure comes without a call.
                let to = match id {
                    0 => shared.lock().calls.drain().map(|(_, tell)| tell).next(),
                    id => shared.lock().calls.remove(&id),
                };
                if let Some(to) = to {
                    let _ = to.send(reply);
                }
            }
            Ok(Some((Message::News(news), _))) => shared.state.send_modify(|state| match news {
                News::Ready => state.ready = true,
                News::Stopped { code, signal } => state.stopped = Some((code, signal)),
                News::OutboundEnded => state.outbound_ended = true,
            }),
            Ok(None) | Err(_) => break,
        }
    }
    let mut waiting = shared.lock();
    waiting.closed = true;
    waiting.calls.clear();
    drop(waiting);
    shared.state.send_modify(|state| state.closed = true);
}
