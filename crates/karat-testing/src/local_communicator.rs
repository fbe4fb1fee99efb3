//! A communicator whose machine is this one: it really runs commands and copies files.
//!
//! Relative paths start at a folder of the test's own, which stands for the login user's home;
//! absolute paths are this machine's. It can be told to go away and to come back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use karat_component::{
    Communicator, CommunicatorError, ExitStatus, Output, RemoteCommand, RemoteScript, Stream,
    dir_target,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// The exit code by which a command makes a [`LocalCommunicator`] go away.
pub const VANISH: i32 = 77;

/// Runs commands on this machine. Clones share their state.
#[derive(Clone, Debug)]
pub struct LocalCommunicator {
    home: PathBuf,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    away: AtomicU32,
    away_after_vanishing: AtomicU32,
    reconnects: AtomicU32,
    calls: AtomicU32,
}

impl LocalCommunicator {
    /// A machine whose login user lives in `home`, which exists.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into(), state: Arc::default() }
    }

    /// The next `calls` calls fail as if the machine could not be reached.
    pub fn go_away(&self, calls: u32) {
        self.state.away.store(calls, Ordering::SeqCst);
    }

    /// A command that ends with [`VANISH`] cuts the connection, and so many calls fail then.
    pub fn stay_away_after_vanishing(&self, calls: u32) {
        self.state.away_after_vanishing.store(calls, Ordering::SeqCst);
    }

    /// How often it was told to reconnect.
    pub fn reconnects(&self) -> u32 {
        self.state.reconnects.load(Ordering::SeqCst)
    }

    /// How many commands, scripts and transfers were asked for.
    pub fn calls(&self) -> u32 {
        self.state.calls.load(Ordering::SeqCst)
    }

    fn call(&self) -> Result<(), CommunicatorError> {
        self.state.calls.fetch_add(1, Ordering::SeqCst);
        let away = &self.state.away;
        let taken = away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match taken {
            Ok(_) => Err(CommunicatorError::Connection { what: "the machine is away".into() }),
            Err(_) => Ok(()),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => self.home.join(path),
        }
    }

    async fn run(&self, mut command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        let failed = |e: std::io::Error| CommunicatorError::Connection { what: e.to_string() };
        if command.cancel.is_cancelled() {
            return Err(CommunicatorError::Cancelled);
        }
        let mut child = tokio::process::Command::new("/bin/sh")
            .args(["-c", &command.line])
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .stdin(if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let group = child.id().map(|id| id.to_string());
        let (input, source) = (child.stdin.take(), command.stdin.take());
        let feed = async move {
            if let (Some(mut input), Some(mut source)) = (input, source) {
                // A command need not read all of it.
                let _ = tokio::io::copy(&mut source, &mut input).await;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (status, ..) = tokio::join!(
                child.wait(),
                feed,
                pass_on(stdout, Stream::Stdout, &command.output),
                pass_on(stderr, Stream::Stderr, &command.output),
            );
            status
        };
        let status = tokio::select! {
            status = work => status.map_err(failed)?,
            () = command.cancel.cancelled() => {
                if let Some(group) = group {
                    let kill = ["-KILL", "--", &format!("-{group}")].map(str::to_owned);
                    let _ = tokio::process::Command::new("kill").args(kill).status().await;
                }
                return Err(CommunicatorError::Cancelled);
            }
        };
        use std::os::unix::process::ExitStatusExt as _;
        Ok(match (status.code(), status.signal()) {
            (Some(VANISH), _) => {
                let calls = self.state.away_after_vanishing.load(Ordering::SeqCst);
                self.go_away(calls);
                ExitStatus::Disconnected
            }
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(9)) => ExitStatus::Signal("KILL".into()),
            (None, Some(15)) => ExitStatus::Signal("TERM".into()),
            (None, other) => ExitStatus::Signal(other.unwrap_or_default().to_string()),
        })
    }
}

async fn pass_on(from: Option<impl AsyncRead + Unpin>, stream: Stream, output: &Output) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        output.write(stream, &buffer[..count]);
    }
}

fn transfer(
    verb: &'static str,
    path: &Path,
) -> impl Fn(std::io::Error) -> CommunicatorError + use<> {
    let path = path.display().to_string();
    move |e| CommunicatorError::Transfer { verb, path: path.clone(), reason: e.to_string() }
}

/// Copies a tree. Links are copied as links.
fn copy_tree(from: &Path, to: &Path, cancel: &CancellationToken) -> std::io::Result<()> {
    if cancel.is_cancelled() {
        return Err(std::io::Error::other("cancelled"));
    }
    let meta = std::fs::symlink_metadata(from)?;
    if meta.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()), cancel)?;
        }
        Ok(())
    } else if meta.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(from)?, to)
    } else {
        std::fs::copy(from, to).map(drop)
    }
}

#[async_trait]
impl Communicator for LocalCommunicator {
    fn kind(&self) -> &'static str {
        "local"
    }

    async fn exec(&self, command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        self.call()?;
        self.run(command).await
    }

    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        self.call()?;
        let mut removed = Vec::new();
        for file in &script.files {
            let path = self.at(&file.path);
            let failed = transfer("upload", &path);
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::write(&path, &file.content).map_err(&failed)?;
            let mode = std::fs::Permissions::from_mode(file.mode);
            std::fs::set_permissions(&path, mode).map_err(&failed)?;
            removed.push(path);
        }
        let ended = self
            .run(RemoteCommand {
                line: script.line,
                stdin: None,
                output: script.output,
                cancel: script.cancel,
            })
            .await;
        // A machine that goes away cannot remove anything.
        if script.clean && ended.as_ref().ok() != Some(&ExitStatus::Disconnected) {
            for path in removed {
                let _ = std::fs::remove_file(path);
            }
        }
        ended
    }

    async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        use std::os::unix::fs::PermissionsExt as _;
        self.call()?;
        let path = self.at(to);
        let failed = transfer("upload", &path);
        let part = PathBuf::from(format!("{}.part", path.display()));
        let copy = async {
            let mut file = tokio::fs::File::create(&part).await?;
            tokio::io::copy(content, &mut file).await?;
            file.flush().await?;
            let mode = std::fs::Permissions::from_mode(mode.unwrap_or(0o644));
            tokio::fs::set_permissions(&part, mode).await?;
            tokio::fs::rename(&part, &path).await
        };
        let copied = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(CommunicatorError::Cancelled),
            copied = copy => copied.map_err(failed),
        };
        if copied.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        copied
    }

    async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        self.call()?;
        let target = dir_target(from, &self.at(to).to_string_lossy());
        match copy_tree(from, &target, cancel) {
            Err(_) if cancel.is_cancelled() => Err(CommunicatorError::Cancelled),
            other => other.map_err(transfer("upload", from)),
        }
    }

    async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        self.call()?;
        if cancel.is_cancelled() {
            return Err(CommunicatorError::Cancelled);
        }
        let from = self.at(from);
        if from.is_dir() {
            let reason = std::io::Error::other("it is a folder");
            return Err(transfer("download", &from)(reason));
        }
        std::fs::copy(&from, to).map(drop).map_err(transfer("download", &from))
    }

    async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        self.call()?;
        let target = dir_target(Path::new(from), &to.to_string_lossy());
        match copy_tree(&self.at(from), &target, cancel) {
            Err(_) if cancel.is_cancelled() => Err(CommunicatorError::Cancelled),
            other => other.map_err(transfer("download", &self.at(from))),
        }
    }

    async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), CommunicatorError> {
        self.state.reconnects.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            () = cancel.cancelled() => Err(CommunicatorError::Cancelled),
            () = tokio::time::sleep(Duration::from_millis(10)) => Ok(()),
        }
    }
}
