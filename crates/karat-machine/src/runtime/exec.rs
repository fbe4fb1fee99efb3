//! Running commands in a machine.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use karat_component::{ExitStatus, Output, Stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::{Result, RuntimeError};
use super::wire::{Answer, Exec as WireExec, Op};

/// How long a cancelled command may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// After a command's end its output is read until it is closed, or silent for this long: a service
/// it left behind may keep it open for ever.
const SILENCE: Duration = Duration::from_millis(150);
/// And never longer than this.
const DRAIN: Duration = Duration::from_secs(5);

/// A command for a machine.
pub struct Exec {
    /// The program and its arguments; a program without `/` is looked for in `PATH`.
    pub argv: Vec<String>,
    /// Added to the environment, which has `PATH`, `LANG`, `HOME`, `USER`, `LOGNAME`, `SHELL`.
    pub env: BTreeMap<String, String>,
    /// Whose it is, by name or number; root's by default.
    pub user: Option<String>,
    /// The working folder; the user's home by default.
    pub cwd: Option<String>,
    /// What it reads; nothing by default.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Takes what it prints.
    pub output: Output,
    /// Ends it early: SIGTERM to its process group, then SIGKILL to all it started.
    pub cancel: CancellationToken,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("argv", &self.argv).finish_non_exhaustive()
    }
}

impl Exec {
    /// A command of root that reads nothing and whose output is thrown away.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            user: None,
            cwd: None,
            stdin: None,
            output: Output::discard(),
            cancel: CancellationToken::new(),
        }
    }

    /// A line for `/bin/sh`.
    pub fn shell(line: impl Into<String>) -> Self {
        Self::new(["/bin/sh".to_owned(), "-c".to_owned(), line.into()])
    }
}

/// Kills the command when the future that waits for it is dropped.
struct Guard<'a> {
    client: &'a Client,
    id: u64,
    armed: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.client.signal_now(self.id, nix::libc::SIGKILL);
        }
    }
}

/// Runs a command and waits for its end and that of its output.
pub(super) async fn run(client: &Client, exec: Exec) -> Result<ExitStatus> {
    let Exec { argv, env, user, cwd, stdin, output, cancel } = exec;
    if cancel.is_cancelled() {
        return Err(RuntimeError::Cancelled);
    }
    let (out, out_end) = reading_pipe()?;
    let (err, err_end) = reading_pipe()?;
    let (input, input_end) = match stdin {
        Some(source) => {
            let (end, writer) = writing_pipe()?;
            (Some((source, writer)), end)
        }
        None => {
            let null = std::fs::File::open("/dev/null");
            (None, null.map_err(|e| RuntimeError::file("open", "/dev/null", e))?.into())
        }
    };
    let fds = [input_end.as_raw_fd(), out_end.as_raw_fd(), err_end.as_raw_fd()];
    let op = Op::Exec(WireExec { argv, env, user, cwd });
    let (id, answer) = client.begin(op, &fds).await?;
    drop((input_end, out_end, err_end));
    let mut guard = Guard { client, id, armed: true };

    let ended = watch::Sender::new(None);
    let wait = async {
        let mut answer = std::pin::pin!(Client::end(answer));
        let mut cancelled = false;
        let result = loop {
            tokio::select! {
                result = &mut answer => break result,
                () = cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    client.signal_now(id, nix::libc::SIGTERM);
                }
                () = tokio::time::sleep(GRACE), if cancelled => {
                    client.signal_now(id, nix::libc::SIGKILL);
                }
            }
        };
        ended.send_replace(Some(Instant::now()));
        if cancelled { Err(RuntimeError::Cancelled) } else { result }
    };
    let feed = async {
        if let Some((source, writer)) = input {
            let mut over = ended.subscribe();
            tokio::select! {
                () = feed(source, writer) => {}
                _ = over.wait_for(Option::is_some) => {}
            }
        }
    };
    let (result, (), (), ()) = tokio::join!(
        wait,
        drain(out, Stream::Stdout, &output, ended.subscribe()),
        drain(err, Stream::Stderr, &output, ended.subscribe()),
        feed,
    );
    guard.armed = false;
    match result?.0 {
        Answer::Ended { code: Some(code), .. } => Ok(ExitStatus::Code(code)),
        Answer::Ended { signal: Some(signal), .. } => Ok(ExitStatus::Signal(signal_name(signal))),
        _ => Ok(ExitStatus::Disconnected),
    }
}

async fn feed(mut source: Box<dyn AsyncRead + Send + Unpin>, mut writer: pipe::Sender) {
    // A command that does not read all of its input is no error.
    let _ = tokio::io::copy(&mut source, &mut writer).await;
}

async fn drain(
    mut reader: pipe::Receiver,
    stream: Stream,
    output: &Output,
    mut ended: watch::Receiver<Option<Instant>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let since = *ended.borrow();
        let read = match since {
            None => tokio::select! {
                read = reader.read(&mut buffer) => read,
                changed = ended.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            },
            Some(at) if at.elapsed() > DRAIN => return,
            Some(_) => match tokio::time::timeout(SILENCE, reader.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return,
            },
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) => output.write(stream, &buffer[..length]),
        }
    }
}

fn pipe_pair() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|e| RuntimeError::file("make", "a pipe", e))
}

fn reading_pipe() -> Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = pipe_pair()?;
    let read = pipe::Receiver::from_owned_fd(read);
    Ok((read.map_err(|e| RuntimeError::file("use", "a pipe", e))?, write))
}

fn writing_pipe() -> Result<(OwnedFd, pipe::Sender)> {
    let (read, write) = pipe_pair()?;
    let write = pipe::Sender::from_owned_fd(write);
    Ok((read, write.map_err(|e| RuntimeError::file("use", "a pipe", e))?))
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) => number.to_string(),
    }
}
