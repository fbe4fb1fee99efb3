//! One command on one channel: what it reads, what it prints, how it ends.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use karat_component::{ExitStatus, Stream};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, Sig};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

/// After a cancelled command was told to end, it has this long before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// A command that has ended but whose output stays open (something it left running holds it) is
/// given up after this much silence.
const SILENCE: Duration = Duration::from_secs(5);

/// What a command reads.
pub(crate) enum Input<'a> {
    /// Nothing: it finds the end at once.
    Nothing,
    /// These bytes.
    Bytes(Bytes),
    /// Whatever comes from here.
    Reader(&'a mut (dyn AsyncRead + Send + Unpin)),
}

/// What is asked of a channel.
pub(crate) struct Job<'i, 'c> {
    pub(crate) command: String,
    pub(crate) input: Input<'i>,
    pub(crate) pty: bool,
    pub(crate) agent: bool,
    pub(crate) cancel: &'c CancellationToken,
}

/// How a job ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The command ran.
    Status(ExitStatus),
    /// The server would not run it.
    Refused,
    /// It was cancelled.
    Cancelled,
    /// What it was to read could not be read here.
    NoInput(String),
}

/// A session channel that is closed when dropped.
#[derive(Debug)]
pub(crate) struct SessionChannel {
    read: ChannelReadHalf,
    write: Option<ChannelWriteHalf<Msg>>,
    closed: bool,
}

impl From<Channel<Msg>> for SessionChannel {
    fn from(channel: Channel<Msg>) -> Self {
        let (read, write) = channel.split();
        Self { read, write: Some(write), closed: false }
    }
}

impl Drop for SessionChannel {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let Some(write) = self.write.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = write.close().await;
            });
        }
    }
}

impl SessionChannel {
    /// Runs a job and hands its output to `sink` in pieces as they come.
    pub(crate) async fn run(
        mut self,
        job: Job<'_, '_>,
        mut sink: impl FnMut(Stream, &[u8]),
    ) -> Ended {
        // Taken only by `drop`.
        let Some(write) = self.write.as_ref() else { return Ended::Refused };
        if start(write, &job.command, job.pty, job.agent).await.is_err() {
            self.closed = true;
            return Ended::Status(ExitStatus::Disconnected);
        }
        let mut status = None;
        let mut feeding = true;
        let mut told = 0;
        let mut feed = pin!(feed(write, job.input));
        loop {
            // What is due if nothing comes: the next step of a cancellation, or the end.
            let deadline = match (told, &status) {
                (0, None) => None,
                (0, Some(_)) => Some(SILENCE),
                _ => Some(GRACE),
            };
            let message = tokio::select! {
                message = self.read.wait() => message,
                fed = &mut feed, if feeding => {
                    feeding = false;
                    match fed {
                        Ok(()) => continue,
                        // Closed without an end of file, so that nothing cut off seems whole.
                        Err(e) => return Ended::NoInput(e.to_string()),
                    }
                }
                () = job.cancel.cancelled(), if told == 0 => {
                    told = 1;
                    feeding = false;
                    let _ = write.signal(Sig::TERM).await;
                    continue;
                }
                () = sleep(deadline) => {
                    if told == 1 {
                        told = 2;
                        let _ = write.signal(Sig::KILL).await;
                    }
                    break;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => sink(Stream::Stdout, &data),
                Some(ChannelMsg::ExtendedData { data, .. }) => sink(Stream::Stderr, &data),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    status = Some(ExitStatus::Code(i32::try_from(exit_status).unwrap_or(255)));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    status = Some(ExitStatus::Signal(name(&signal_name)));
                }
                Some(ChannelMsg::Failure) => return Ended::Refused,
                Some(ChannelMsg::Close) | None => {
                    self.closed = true;
                    break;
                }
                Some(_) => {}
            }
        }
        if told > 0 {
            return Ended::Cancelled;
        }
        Ended::Status(status.unwrap_or(ExitStatus::Disconnected))
    }

    /// Turns it into a stream to a subsystem.
    pub(crate) async fn subsystem(self, name: &str) -> Result<Subsystem, russh::Error> {
        let Some(write) = self.write.as_ref() else { return Err(russh::Error::Disconnect) };
        write.request_subsystem(true, name).await?;
        Ok(Subsystem { writer: Box::pin(write.make_writer()), channel: self, rest: Bytes::new() })
    }
}

/// A channel on which a subsystem speaks its own protocol.
pub(crate) struct Subsystem {
    writer: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    channel: SessionChannel,
    rest: Bytes,
}

impl AsyncRead for Subsystem {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        use std::task::Poll;
        loop {
            if !self.rest.is_empty() {
                let n = self.rest.len().min(buffer.remaining());
                let piece = self.rest.split_to(n);
                buffer.put_slice(&piece);
                return Poll::Ready(Ok(()));
            }
            let message = {
                let wait = pin!(self.channel.read.wait());
                match std::future::Future::poll(wait, cx) {
                    Poll::Ready(message) => message,
                    Poll::Pending => return Poll::Pending,
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => self.rest = data,
                Some(ChannelMsg::Failure) => {
                    return Poll::Ready(Err(std::io::Error::other(
                        "the server has no such subsystem",
                    )));
                }
                Some(ChannelMsg::Eof) => return Poll::Ready(Ok(())),
                Some(ChannelMsg::Close) | None => {
                    self.channel.closed = true;
                    return Poll::Ready(Ok(()));
                }
                Some(_) => {}
            }
        }
    }
}

impl tokio::io::AsyncWrite for Subsystem {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.writer.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.writer.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.writer.as_mut().poll_shutdown(cx)
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// Asks for everything at once: no answer is waited for, the command's end tells all.
async fn start(
    write: &ChannelWriteHalf<Msg>,
    command: &str,
    pty: bool,
    agent: bool,
) -> Result<(), russh::Error> {
    if agent {
        write.agent_forward(false).await?;
    }
    if pty {
        let modes = [(Pty::ECHO, 0), (Pty::TTY_OP_ISPEED, 14400), (Pty::TTY_OP_OSPEED, 14400)];
        write.request_pty(false, "xterm", 80, 40, 0, 0, &modes).await?;
    }
    write.exec(true, command.as_bytes()).await
}

/// Sends what the command reads. A command that does not read to the end is no error.
async fn feed(write: &ChannelWriteHalf<Msg>, input: Input<'_>) -> std::io::Result<()> {
    match input {
        Input::Nothing => {}
        Input::Bytes(bytes) => {
            if write.data_bytes(bytes).await.is_err() {
                return Ok(());
            }
        }
        Input::Reader(reader) => loop {
            let mut piece = bytes::BytesMut::with_capacity(64 * 1024);
            if reader.read_buf(&mut piece).await? == 0 {
                break;
            }
            if write.data_bytes(piece.freeze()).await.is_err() {
                return Ok(());
            }
        },
    }
    let _ = write.eof().await;
    Ok(())
}

fn name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        other => format!("{other:?}"),
    }
}
