//! Waiting for a machine, commands, and files.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_component::{Events, ExitStatus, RemoteFile, Stream, dir_target};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Sink};
use crate::config::WinrmConfig;
use crate::error::WinrmError;
use crate::powershell;
use crate::shell::run;

/// Between two attempts to reach the machine.
const PAUSE: Duration = Duration::from_secs(2);
/// What is waited for is said again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// Bytes of a file in a line.
const LINE: usize = 48 * 1024;
/// What it says of an error is read up to so many bytes.
const SAID: usize = 64 * 1024;

/// A machine that was reached.
#[derive(Clone, Debug)]
pub struct WinrmSession {
    client: Client,
    timeout: Duration,
    events: Events,
}

impl WinrmSession {
    /// Waits until the machine lets the user in and runs a command.
    ///
    /// # Errors
    /// When it does not within `winrm_timeout`, or the run is cancelled.
    pub async fn connect(
        config: WinrmConfig,
        events: Events,
        cancel: &CancellationToken,
    ) -> Result<Self, WinrmError> {
        if !config.winrm_use_ssl && !config.winrm_use_ntlm {
            events.message(
                "the password goes over the network as it is: set winrm_use_ssl or winrm_use_ntlm",
            );
        }
        let timeout = config.winrm_timeout.0;
        let session = Self { client: Client::new(config), timeout, events };
        let start = Instant::now();
        session.wait(cancel).await?;
        session.events.message(format!(
            "connected to {} after {:.1} s",
            session.client.url(),
            start.elapsed().as_secs_f64()
        ));
        Ok(session)
    }

    async fn wait(&self, cancel: &CancellationToken) -> Result<(), WinrmError> {
        let start = Instant::now();
        let mut said: Option<(Instant, String)> = None;
        loop {
            let error = match self.exec("echo connected", None, cancel, &mut |_, _| {}).await {
                Ok(ExitStatus::Code(0)) => return Ok(()),
                Ok(other) => WinrmError::Answer {
                    url: self.client.url().to_owned(),
                    reason: format!("echo ended with {other}"),
                },
                Err(error @ (WinrmError::Cancelled | WinrmError::Client { .. })) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            let text = error.to_string();
            if start.elapsed() + PAUSE >= self.timeout {
                let url = self.client.url().to_owned();
                return Err(WinrmError::Timeout { url, waited: self.timeout, last: text });
            }
            let due = match &said {
                None => true,
                Some((when, last)) => *last != text || when.elapsed() >= SAY_AGAIN,
            };
            if due {
                self.events.message(format!(
                    "waiting for WinRM ({} of {} s): {text}",
                    start.elapsed().as_secs(),
                    self.timeout.as_secs()
                ));
                said = Some((Instant::now(), text));
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = cancel.cancelled() => return Err(WinrmError::Cancelled),
            }
        }
    }

    /// Waits until the machine can be reached again.
    ///
    /// # Errors
    /// As [`WinrmSession::connect`].
    pub async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), WinrmError> {
        self.wait(cancel).await
    }

    /// Runs a command line by `cmd.exe`; `sink` takes what it prints.
    ///
    /// # Errors
    /// When the machine refuses, or the run is cancelled. A machine that goes away meanwhile gives
    /// [`ExitStatus::Disconnected`].
    pub async fn exec(
        &self,
        line: &str,
        input: Option<&mut (dyn AsyncRead + Send + Unpin)>,
        cancel: &CancellationToken,
        sink: &mut Sink<'_>,
    ) -> Result<ExitStatus, WinrmError> {
        run(&self.client, line, false, input, cancel, sink).await
    }

    /// Runs a script of ours that moves files.
    async fn script(
        &self,
        script: &str,
        moving: Moving<'_>,
        input: Option<&mut (dyn AsyncRead + Send + Unpin)>,
        cancel: &CancellationToken,
        stdout: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), WinrmError> {
        let mut said = Vec::new();
        let mut sink = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout(bytes),
            Stream::Stderr => {
                let room = SAID.saturating_sub(said.len());
                said.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        };
        let line = powershell::line(script);
        let ended = run(&self.client, &line, true, input, cancel, &mut sink).await;
        let reason = match ended {
            Ok(ExitStatus::Code(0)) => return Ok(()),
            Ok(ExitStatus::Disconnected) => "the machine went away".to_owned(),
            Ok(other) => match powershell::plain(&said) {
                text if text.is_empty() => format!("PowerShell ended with {other}"),
                text => text,
            },
            Err(WinrmError::Transfer { reason, .. }) => reason,
            Err(WinrmError::Cancelled) => return Err(WinrmError::Cancelled),
            Err(error) => error.to_string(),
        };
        Err(WinrmError::Transfer { verb: moving.verb, path: moving.path.to_owned(), reason })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When the machine refuses, or the run is cancelled; then no file stands under that name.
    pub async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), WinrmError> {
        let (lines, input) = Lines::new();
        let send = async {
            lines.text(powershell::heading('>', "")).await?;
            lines.content(content).await
        };
        self.stream(to, &lines, send, input, cancel).await
    }

    /// Copies a folder, by the rule of [`karat_component::Communicator::upload_dir`].
    ///
    /// # Errors
    /// When it cannot be read, the machine refuses, or the run is cancelled.
    pub async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), WinrmError> {
        let target = dir_target(from, to);
        let (lines, input) = Lines::new();
        let send = async {
            lines.text(powershell::heading('<', "")).await?;
            let mut left = vec![PathBuf::new()];
            while let Some(folder) = left.pop() {
                for (name, is_dir) in listed(&from.join(&folder)).await? {
                    let below = folder.join(name);
                    let told = below.to_string_lossy();
                    if is_dir {
                        lines.text(powershell::heading('<', &told)).await?;
                        left.push(below);
                        continue;
                    }
                    lines.text(powershell::heading('>', &told)).await?;
                    let mut file = tokio::fs::File::open(from.join(&below)).await?;
                    lines.content(&mut file).await?;
                }
            }
            Ok(())
        };
        self.stream(&target.to_string_lossy(), &lines, send, input, cancel).await
    }

    /// Has the machine write files of a stream of lines.
    async fn stream(
        &self,
        to: &str,
        lines: &Lines,
        send: impl Future<Output = std::io::Result<()>>,
        mut input: Receiver,
        cancel: &CancellationToken,
    ) -> Result<(), WinrmError> {
        let moving = Moving { verb: "upload", path: to };
        // What cannot be read must not look like the end: then a half file would get its name.
        let stop = cancel.child_token();
        let mut failed = None;
        let send = async {
            let sent = match send.await {
                Ok(()) => lines.end().await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                failed = Some(error);
                stop.cancel();
            }
        };
        let script = powershell::receive(to);
        let work = async {
            let done = self.script(&script, moving, Some(&mut input), &stop, &mut |_| {}).await;
            // Whoever still sends is told that nobody listens.
            drop(input);
            done
        };
        let ((), done) = tokio::join!(send, work);
        match failed {
            Some(error) => Err(moving.failed(format!("cannot read what is to be sent: {error}"))),
            None => done,
        }
    }

    /// Fetches a file to a local path.
    ///
    /// # Errors
    /// When the machine refuses, it cannot be written, or the run is cancelled.
    pub async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), WinrmError> {
        self.fetch(from, to, false, cancel).await
    }

    /// Fetches a folder, by the rule of [`karat_component::Communicator::download_dir`].
    ///
    /// # Errors
    /// When the machine refuses, it cannot be written, or the run is cancelled.
    pub async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), WinrmError> {
        let slashes = from.replace('\\', "/");
        let to = dir_target(Path::new(&slashes), &to.to_string_lossy());
        self.fetch(from, &to, true, cancel).await
    }

    async fn fetch(
        &self,
        from: &str,
        to: &Path,
        folder: bool,
        cancel: &CancellationToken,
    ) -> Result<(), WinrmError> {
        let moving = Moving { verb: "download", path: from };
        let (sender, mut received) = mpsc::unbounded_channel::<Vec<u8>>();
        let stop = cancel.child_token();
        let script = powershell::send(from, folder);
        let work = async {
            let mut sink = |bytes: &[u8]| {
                let _ = sender.send(bytes.to_vec());
            };
            let done = self.script(&script, moving, None, &stop, &mut sink).await;
            drop(sender);
            done
        };
        let write = async {
            let mut writer = Writer::new(to, folder);
            let mut outcome = Ok(());
            while let Some(bytes) = received.recv().await {
                if outcome.is_ok() {
                    outcome = writer.take(&bytes).await;
                    if outcome.is_err() {
                        stop.cancel();
                    }
                }
            }
            outcome.map(|()| writer)
        };
        let (done, written) = tokio::join!(work, write);
        match (done, written) {
            (_, Err(reason)) => Err(moving.failed(reason)),
            (Err(error), Ok(writer)) => {
                writer.abandon().await;
                Err(error)
            }
            (Ok(()), Ok(writer)) => writer.complete().await.map_err(|e| moving.failed(e)),
        }
    }

    /// Sends files, runs a command line, and removes the files.
    ///
    /// # Errors
    /// When the machine refuses, or the run is cancelled.
    pub async fn run_script(
        &self,
        files: &[RemoteFile],
        line: &str,
        clean: bool,
        cancel: &CancellationToken,
        sink: &mut Sink<'_>,
    ) -> Result<ExitStatus, WinrmError> {
        for file in files {
            self.upload(&mut &file.content[..], &file.path, cancel).await?;
        }
        let ended = self.exec(line, None, cancel, sink).await;
        let gone = matches!(ended, Ok(ExitStatus::Disconnected));
        if clean && !gone && !files.is_empty() {
            let script = powershell::remove(files.iter().map(|file| file.path.as_str()));
            let moving = Moving { verb: "remove", path: &files[0].path };
            // Also of a run that is cancelled.
            let anew = CancellationToken::new();
            let removed = self.script(&script, moving, None, &anew, &mut |_| {}).await;
            if let (Ok(_), Err(error)) = (&ended, removed) {
                return Err(error);
            }
        }
        ended
    }
}

/// What is being done with which path.
#[derive(Clone, Copy)]
struct Moving<'a> {
    verb: &'static str,
    path: &'a str,
}

impl Moving<'_> {
    fn failed(self, reason: String) -> WinrmError {
        WinrmError::Transfer { verb: self.verb, path: self.path.to_owned(), reason }
    }
}

/// Names in a folder, in order, and whether they are folders.
async fn listed(folder: &Path) -> std::io::Result<Vec<(std::ffi::OsString, bool)>> {
    let mut entries = tokio::fs::read_dir(folder).await?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        // A link counts as what it leads to: Windows has no links of ours.
        let is_dir = tokio::fs::metadata(entry.path()).await?.is_dir();
        found.push((entry.file_name(), is_dir));
    }
    found.sort();
    Ok(found)
}

/// Lines on their way to the machine; nothing is the end.
struct Lines(mpsc::Sender<Option<Vec<u8>>>);

impl Lines {
    fn new() -> (Self, Receiver) {
        let (sender, lines) = mpsc::channel(2);
        (Self(sender), Receiver { lines, current: Vec::new(), at: 0 })
    }

    async fn put(&self, line: Option<Vec<u8>>) -> std::io::Result<()> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.send(line).await.map_err(gone)
    }

    async fn text(&self, line: String) -> std::io::Result<()> {
        self.put(Some(line.into_bytes())).await
    }

    async fn end(&self) -> std::io::Result<()> {
        self.put(None).await
    }

    async fn content(&self, from: &mut (dyn AsyncRead + Send + Unpin)) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(LINE);
        loop {
            bytes.clear();
            let count = (&mut *from).take(LINE as u64).read_to_end(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            self.text(format!("{}\r\n", STANDARD.encode(&bytes))).await?;
        }
    }
}

/// The other end of [`Lines`].
struct Receiver {
    lines: mpsc::Receiver<Option<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
}

impl AsyncRead for Receiver {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.at == self.current.len() {
            match std::task::ready!(self.lines.poll_recv(cx)) {
                None => return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
                Some(None) => return Poll::Ready(Ok(())),
                Some(Some(next)) => {
                    self.current = next;
                    self.at = 0;
                }
            }
        }
        let count = buffer.remaining().min(self.current.len() - self.at);
        buffer.put_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

/// Writes what the machine sends.
struct Writer {
    root: PathBuf,
    folder: bool,
    partial: Vec<u8>,
    file: Option<(tokio::fs::File, PathBuf, PathBuf)>,
}

impl Writer {
    fn new(root: &Path, folder: bool) -> Self {
        Self { root: root.to_owned(), folder, partial: Vec::new(), file: None }
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.line(line.trim_ascii()).await?;
            }
        }
        Ok(())
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let unpack = |packed: &[u8]| STANDARD.decode(packed).map_err(|e| e.to_string());
        match line.first() {
            None => Ok(()),
            Some(mark @ (b'>' | b'<')) => {
                self.finish().await?;
                let name = unpack(&line[1..])?;
                let path = self.place(&String::from_utf8_lossy(&name))?;
                let fail = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
                if *mark == b'<' {
                    return tokio::fs::create_dir_all(&path).await.map_err(fail);
                }
                if let Some(above) = path.parent().filter(|_| self.folder) {
                    tokio::fs::create_dir_all(above).await.map_err(fail)?;
                }
                let mut part = path.clone().into_os_string();
                part.push(".part");
                let part = PathBuf::from(part);
                let file = tokio::fs::File::create(&part).await.map_err(fail)?;
                self.file = Some((file, part, path));
                Ok(())
            }
            Some(_) => {
                let bytes = unpack(line)?;
                let Some((file, part, _)) = &mut self.file else {
                    return Err("it sent content of no file".into());
                };
                let written = file.write_all(&bytes).await;
                written.map_err(|e| format!("cannot write {}: {e}", part.display()))
            }
        }
    }

    /// Where a name of the machine goes: nowhere else than below the folder.
    fn place(&self, name: &str) -> Result<PathBuf, String> {
        if name.is_empty() {
            return Ok(self.root.clone());
        }
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !self.folder || !name.split('/').all(plain) {
            return Err(format!("it sent a file of the name \"{name}\""));
        }
        Ok(self.root.join(name))
    }

    /// Gives the file its name.
    async fn finish(&mut self) -> Result<(), String> {
        let Some((mut file, part, path)) = self.file.take() else { return Ok(()) };
        let fail = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
        file.flush().await.map_err(fail)?;
        tokio::fs::rename(&part, &path).await.map_err(fail)
    }

    async fn complete(mut self) -> Result<(), String> {
        self.finish().await?;
        if self.folder {
            // Also one with nothing in it.
            let made = tokio::fs::create_dir_all(&self.root).await;
            made.map_err(|e| format!("cannot write {}: {e}", self.root.display()))?;
        }
        Ok(())
    }

    async fn abandon(self) {
        if let Some((_, part, _)) = self.file {
            let _ = tokio::fs::remove_file(part).await;
        }
    }
}
