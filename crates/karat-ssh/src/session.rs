//! One machine: a connection that is made again when it was lost, with channels kept ready.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use karat_component::{Events, ExitStatus, Stream};
use tokio_util::sync::CancellationToken;

use crate::channel::{Ended, Input, Job, SessionChannel};
use crate::config::SshConfig;
use crate::connect::{Connection, Connector, Way};
use crate::error::SshError;
use crate::host_key::SeenHostKeys;
use crate::wait::{Waiting, seconds};

/// From this round-trip time on, time on the wire is worth more than work at the ends.
pub(crate) const FAR: Duration = Duration::from_millis(10);

/// Channels kept open and unused, so that a command starts without a round trip of its own.
/// OpenSSH allows ten sessions on a connection; the rest is left to what runs at the time.
const READY_NEAR: usize = 1;
const READY_FAR: usize = 6;

/// Where there is no free session left, how long is waited for one.
const FREE_SESSION: Duration = Duration::from_secs(60);

/// A machine reached over ssh. Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connector: Connector,
    config: Arc<SshConfig>,
    events: Events,
    live: tokio::sync::Mutex<Arc<Live>>,
}

/// One connection, with what is known of it.
#[derive(Debug)]
pub(crate) struct Live {
    connection: Connection,
    ready: Mutex<Vec<SessionChannel>>,
    opening: AtomicUsize,
    active: AtomicUsize,
    full: AtomicBool,
    round_trip: Duration,
}

/// What a command of our own printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Captured {
    /// The last thing it complained about, in one line.
    pub(crate) fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let line = text.trim().lines().last().unwrap_or_default().trim();
        let line = line.strip_prefix("sh: ").unwrap_or(line);
        match &self.status {
            ExitStatus::Disconnected => "the connection was lost".into(),
            status if line.is_empty() => status.to_string(),
            _ => line.to_owned(),
        }
    }
}

/// Output of a command of our own that is kept at most.
const MOST_CAPTURED: usize = 64 * 1024;

impl Session {
    /// Waits until the machine can be reached, and logs in.
    ///
    /// What is waited for is told through `events`. `seen` keeps host keys for the run.
    ///
    /// # Errors
    /// A wrong option or key file, a host key that is not the expected one (both at once), or
    /// what the last attempt met when `ssh_timeout` or `ssh_handshake_attempts` ran out.
    pub async fn connect(
        config: SshConfig,
        seen: SeenHostKeys,
        events: Events,
        cancel: &CancellationToken,
    ) -> Result<Self, SshError> {
        Self::connect_by(config, None, seen, events, cancel).await
    }

    /// As [`Session::connect`], over a way of the caller's own instead of TCP, a proxy or a
    /// bastion. The host and port of the options name the machine, and go to the way.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_by(
        config: SshConfig,
        way: Option<Arc<dyn Way>>,
        seen: SeenHostKeys,
        events: Events,
        cancel: &CancellationToken,
    ) -> Result<Self, SshError> {
        if let Some(problem) = config.problems().into_iter().next() {
            let summary = match problem.hint.is_empty() {
                true => problem.summary,
                false => format!("{} ({})", problem.summary, problem.hint),
            };
            return Err(SshError::Config { option: problem.option, summary });
        }
        if config.ssh_host.is_empty() {
            return Err(SshError::Config {
                option: "ssh_host",
                summary: "there is no host to connect to".into(),
            });
        }
        let config = Arc::new(config);
        let connector = Connector::new(Arc::clone(&config), way, seen)?;
        let mut live = reach(&connector, &config, &events, cancel).await?;
        let pause = config.pause_before_connecting.0;
        if !pause.is_zero() {
            live.disconnect().await;
            events.message(format!(
                "{} can be reached; pausing {} before connecting",
                config.address(),
                seconds(pause)
            ));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return Err(SshError::Cancelled),
            }
            live = reach(&connector, &config, &events, cancel).await?;
        }
        let live = tokio::sync::Mutex::new(live);
        Ok(Self { inner: Arc::new(Inner { connector, config, events, live }) })
    }

    /// The options it was made with.
    pub fn config(&self) -> &SshConfig {
        &self.inner.config
    }

    /// The time that a question and its answer took when the connection was made.
    pub async fn round_trip(&self) -> Duration {
        self.inner.live.lock().await.round_trip
    }

    /// Fingerprint of the machine's host key, as OpenSSH shows it.
    pub async fn fingerprint(&self) -> String {
        self.inner.live.lock().await.connection.fingerprint()
    }

    /// Waits until the machine can be reached again after it went away, and connects anew even
    /// where the old connection still looks alive.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), SshError> {
        let mut live = self.inner.live.lock().await;
        live.disconnect().await;
        *live = self.reach(cancel).await?;
        Ok(())
    }

    /// Runs a command line by the login user's shell. Output goes to `sink` as it comes.
    ///
    /// # Errors
    /// When the machine cannot be reached, refuses to run it, or `cancel` is set: then the
    /// command's process group was told to end. That the connection went away while it ran is
    /// [`ExitStatus::Disconnected`], no error.
    pub async fn exec(
        &self,
        command: &str,
        stdin: Option<&mut (dyn tokio::io::AsyncRead + Send + Unpin)>,
        cancel: &CancellationToken,
        sink: impl FnMut(Stream, &[u8]),
    ) -> Result<ExitStatus, SshError> {
        let input = match stdin {
            Some(reader) => Input::Reader(reader),
            None => Input::Nothing,
        };
        let pty = self.inner.config.ssh_pty;
        self.run(command.to_owned(), input, pty, true, cancel, sink).await
    }

    /// Removes the key that was used from the login user's `authorized_keys`.
    ///
    /// # Errors
    /// When the machine cannot be reached or the file cannot be written.
    pub async fn clear_authorized_keys(&self, cancel: &CancellationToken) -> Result<(), SshError> {
        let key = self.inner.live.lock().await.connection.logged_in.key.clone();
        let Some(key) = key.and_then(|k| k.to_openssh().ok()) else { return Ok(()) };
        let Some(body) = key.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
        // grep ends with 1 where nothing is left, which is no failure.
        let script = format!(
            "f=\"$HOME/.ssh/authorized_keys\"; [ -f \"$f\" ] || exit 0; t=\"$f.karat\"; \
             umask 077; grep -vF {body} \"$f\" >\"$t\"; [ $? -le 1 ] && cat \"$t\" >\"$f\"; \
             r=$?; rm -f \"$t\"; exit $r"
        );
        let done = self.capture(crate::shell::posix(&script), Input::Nothing, cancel).await?;
        if done.status.success() {
            return Ok(());
        }
        Err(SshError::transfer("upload", "~/.ssh/authorized_keys", done.complaint()))
    }

    /// Says good-bye and closes the connection.
    pub async fn close(&self) {
        self.inner.live.lock().await.disconnect().await;
    }

    pub(crate) async fn run(
        &self,
        command: String,
        input: Input<'_>,
        pty: bool,
        agent: bool,
        cancel: &CancellationToken,
        sink: impl FnMut(Stream, &[u8]),
    ) -> Result<ExitStatus, SshError> {
        let (channel, live) = self.channel(cancel).await?;
        let agent = agent && live.connection.agent;
        let job = Job { command, input, pty, agent, cancel };
        live.active.fetch_add(1, Ordering::Relaxed);
        let ended = channel.run(job, sink).await;
        live.active.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ended::Status(status) => Ok(status),
            Ended::Cancelled => Err(SshError::Cancelled),
            Ended::NoInput(reason) => Err(SshError::Input { reason }),
            Ended::Refused => Err(SshError::Refused {
                address: self.inner.config.address(),
                what: "to run a command".into(),
            }),
        }
    }

    /// Runs a command of our own and keeps what it prints, up to a limit.
    pub(crate) async fn capture(
        &self,
        command: String,
        input: Input<'_>,
        cancel: &CancellationToken,
    ) -> Result<Captured, SshError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self
            .run(command, input, false, false, cancel, |stream, bytes| {
                let buffer = if stream == Stream::Stdout { &mut stdout } else { &mut stderr };
                let room = MOST_CAPTURED.saturating_sub(buffer.len());
                buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
            })
            .await?;
        Ok(Captured { status, stdout, stderr })
    }

    /// A channel to run something on; the connection is made again if it was lost.
    pub(crate) async fn channel(
        &self,
        cancel: &CancellationToken,
    ) -> Result<(SessionChannel, Arc<Live>), SshError> {
        let live = self.alive(cancel).await?;
        let channel = tokio::select! {
            channel = live.take(&self.inner.config) => channel?,
            () = cancel.cancelled() => return Err(SshError::Cancelled),
        };
        live.refill();
        Ok((channel, live))
    }

    async fn reach(&self, cancel: &CancellationToken) -> Result<Arc<Live>, SshError> {
        reach(&self.inner.connector, &self.inner.config, &self.inner.events, cancel).await
    }
}

/// Waits until a connection stands.
async fn reach(
    connector: &Connector,
    config: &SshConfig,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Arc<Live>, SshError> {
    let mut waiting =
        Waiting::new(config.address(), config.ssh_timeout.0, config.ssh_handshake_attempts, events);
    loop {
        let attempt = async {
            let connection = connector.connect().await?;
            Live::new(connection, config).await
        };
        let error = tokio::select! {
            made = tokio::time::timeout(waiting.left(), attempt) => match made {
                Ok(Ok(live)) => {
                    events.message(format!(
                        "connected to {} by {} after {} (host key {})",
                        config.address(),
                        live.connection.logged_in.method,
                        seconds(waiting.elapsed()),
                        live.connection.fingerprint(),
                    ));
                    return Ok(live);
                }
                Ok(Err(e)) => e,
                Err(_) => SshError::Connect {
                    address: config.address(),
                    reason: "the server did not answer in time".into(),
                },
            },
            () = cancel.cancelled() => return Err(SshError::Cancelled),
        };
        waiting.failed(error, cancel).await?;
    }
}

impl Live {
    async fn new(connection: Connection, config: &SshConfig) -> Result<Arc<Self>, SshError> {
        let start = Instant::now();
        let first = connection.handle.channel_open_session().await.map_err(|e| match e {
            russh::Error::ChannelOpenFailure(_) => {
                SshError::Refused { address: config.address(), what: "to open a session".into() }
            }
            _ => SshError::Lost { address: config.address(), reason: connection.end() },
        })?;
        let live = Arc::new(Self {
            connection,
            ready: Mutex::new(vec![first.into()]),
            opening: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            round_trip: start.elapsed(),
        });
        live.refill();
        Ok(live)
    }

    fn pop(&self) -> Option<SessionChannel> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// How many channels may be used at once without asking for more.
    pub(crate) fn spare(&self) -> usize {
        if self.full.load(Ordering::Relaxed) {
            return self.ready.lock().unwrap_or_else(PoisonError::into_inner).len().max(1);
        }
        READY_FAR
    }

    async fn take(&self, config: &SshConfig) -> Result<SessionChannel, SshError> {
        let start = Instant::now();
        loop {
            if let Some(channel) = self.pop() {
                return Ok(channel);
            }
            match self.connection.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel.into()),
                Err(russh::Error::ChannelOpenFailure(_)) => {
                    self.full.store(true, Ordering::Relaxed);
                    if start.elapsed() > FREE_SESSION {
                        return Err(SshError::Refused {
                            address: config.address(),
                            what: "to open another session".into(),
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(_) => {
                    return Err(SshError::Lost {
                        address: config.address(),
                        reason: self.connection.end(),
                    });
                }
            }
        }
    }

    /// Opens channels for later, in the background.
    fn refill(self: &Arc<Self>) {
        let wanted = if self.round_trip >= FAR { READY_FAR } else { READY_NEAR };
        loop {
            let have = self.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
                + self.opening.load(Ordering::Relaxed);
            if have >= wanted || self.full.load(Ordering::Relaxed) {
                return;
            }
            self.opening.fetch_add(1, Ordering::Relaxed);
            let live = Arc::clone(self);
            tokio::spawn(async move {
                match live.connection.handle.channel_open_session().await {
                    Ok(channel) => {
                        live.ready
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(channel.into());
                    }
                    Err(_) => live.full.store(true, Ordering::Relaxed),
                }
                live.opening.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    async fn disconnect(&self) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _ =
            self.connection.handle.disconnect(russh::Disconnect::ByApplication, "done", "en").await;
    }

    pub(crate) fn end(&self) -> String {
        self.connection.end()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.handle.is_closed()
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip
    }
}

impl Session {
    pub(crate) async fn live(&self) -> Arc<Live> {
        Arc::clone(&*self.inner.live.lock().await)
    }

    /// The connection, made again if it was lost.
    pub(crate) async fn alive(&self, cancel: &CancellationToken) -> Result<Arc<Live>, SshError> {
        let mut live = self.inner.live.lock().await;
        if live.is_closed() {
            self.inner.events.message(format!(
                "the connection to {} was lost ({}); connecting again",
                self.inner.config.address(),
                live.end()
            ));
            *live = self.reach(cancel).await?;
        }
        Ok(Arc::clone(&live))
    }
}
