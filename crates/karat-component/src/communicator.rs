//! How commands and files reach a machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::event::{EventKind, Events, Stream};

/// How a command on a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself with this code.
    Code(i32),
    /// A signal ended it; its name without `SIG`.
    Signal(String),
    /// The connection went away before the command told how it ended: a reboot, say.
    Disconnected,
}

/// The code by which Packer's templates name a vanished connection in `valid_exit_codes`.
pub const DISCONNECTED: i32 = 2_300_218;

impl ExitStatus {
    /// As a number: a signal is 128 and over as in a shell, a vanished connection
    /// [`DISCONNECTED`].
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(name) => 128 + signal_number(name),
            Self::Disconnected => DISCONNECTED,
        }
    }

    /// Whether it is code 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

fn signal_number(name: &str) -> i32 {
    const SIGNALS: &[(&str, i32)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("ABRT", 6),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
    ];
    SIGNALS.iter().find(|(n, _)| *n == name).map_or(0, |(_, number)| *number)
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
            Self::Disconnected => f.write_str("the connection went away"),
        }
    }
}

/// Why a communicator could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommunicatorError {
    /// The machine could not be reached, or the connection was lost.
    #[error("{what}")]
    Connection {
        /// What was tried, with the reason.
        what: String,
    },
    /// The machine cannot be used, and will not come back by itself.
    #[error("{what}")]
    Failed {
        /// What was tried, with the reason.
        what: String,
    },
    /// A file could not be sent or fetched.
    #[error("cannot {verb} \"{path}\": {reason}")]
    Transfer {
        /// `upload` or `download`.
        verb: &'static str,
        /// The path that failed.
        path: String,
        /// Why.
        reason: String,
    },
    /// The machine has no way to do it.
    #[error("{communicator} cannot {what}")]
    Unsupported {
        /// Which communicator.
        communicator: &'static str,
        /// What was asked.
        what: String,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

type Sink = dyn Fn(Stream, &[u8]) + Send + Sync;

/// Takes what a command prints, in pieces as they come.
#[derive(Clone)]
pub struct Output(Arc<Sink>);

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Hands each piece to `sink`.
    pub fn new(sink: impl Fn(Stream, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Throws it away.
    pub fn discard() -> Self {
        Self::new(|_, _| {})
    }

    /// Sends each whole line as an event; a last line without end when the output is dropped.
    pub fn lines(events: &Events) -> Self {
        let lines = Lines { events: events.clone(), partial: Default::default() };
        Self::new(move |stream, bytes| lines.push(stream, bytes))
    }

    /// Takes one piece.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        (self.0)(stream, bytes);
    }
}

/// A command that prints this much without a line end has it cut here, so that memory is bounded.
const LONGEST_LINE: usize = 64 * 1024;

struct Lines {
    events: Events,
    partial: std::sync::Mutex<[Vec<u8>; 2]>,
}

impl Lines {
    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let buffer = &mut partial[usize::from(stream == Stream::Stderr)];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            buffer.extend_from_slice(piece);
            if buffer.ends_with(b"\n") {
                self.emit(stream, std::mem::take(buffer));
            } else if buffer.len() > LONGEST_LINE {
                // Not within a secret, which would show in two halves.
                let mut cut = self.events.masker().settled(buffer);
                while cut > 0 && buffer.get(cut).is_some_and(|b| b & 0xc0 == 0x80) {
                    cut -= 1;
                }
                if cut > 0 {
                    let rest = buffer.split_off(cut);
                    self.emit(stream, std::mem::replace(buffer, rest));
                }
            }
        }
    }

    fn emit(&self, stream: Stream, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes);
        // A carriage return redraws the line: what counts is what stands there at the end.
        let line = text.trim_end_matches(['\n', '\r']);
        let line = line.rsplit('\r').next().unwrap_or(line).to_owned();
        self.events.emit(EventKind::Output { stream, line });
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let partial = self.partial.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (stream, buffer) in
            [Stream::Stdout, Stream::Stderr].into_iter().zip(std::mem::take(partial))
        {
            if !buffer.is_empty() {
                self.emit(stream, buffer);
            }
        }
    }
}

/// A command for a machine, run by the login user's shell.
pub struct RemoteCommand {
    /// The shell command line.
    pub line: String,
    /// What it reads; nothing where `None`.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Takes what it prints.
    pub output: Output,
    /// Ends it early.
    pub cancel: CancellationToken,
}

impl fmt::Debug for RemoteCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCommand").field("line", &self.line).finish_non_exhaustive()
    }
}

impl RemoteCommand {
    /// A command that reads nothing and whose output is thrown away.
    pub fn new(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            stdin: None,
            output: Output::discard(),
            cancel: CancellationToken::new(),
        }
    }
}

/// A file that goes along with a script.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Where it goes.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

/// A script that is sent, run and removed, in one exchange where the communicator can.
#[derive(Debug)]
pub struct RemoteScript {
    /// Files to be written before, the script itself among them.
    pub files: Vec<RemoteFile>,
    /// The shell command line that runs it.
    pub line: String,
    /// Whether the files are removed afterwards, also when the command fails.
    pub clean: bool,
    /// Takes what it prints.
    pub output: Output,
    /// Ends it early.
    pub cancel: CancellationToken,
}

/// How commands and files reach one machine.
///
/// All methods may run side by side on one communicator. Paths on the machine are as the machine
/// writes them; relative ones start at the login user's home. What a cancelled transfer leaves
/// never stands under its final name.
#[async_trait]
pub trait Communicator: fmt::Debug + Send + Sync {
    /// The name as in a template: `ssh`, `machine`, `none`.
    fn kind(&self) -> &'static str;

    /// Runs a command and waits for its end.
    async fn exec(&self, command: RemoteCommand) -> Result<ExitStatus, CommunicatorError>;

    /// Sends, runs and removes a script.
    ///
    /// A script whose machine goes away in the middle gives [`ExitStatus::Disconnected`].
    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError>;

    /// Writes a file on the machine. `mode` is that of the new file; without it, 0644.
    async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError>;

    /// Copies a local folder. As in Packer and rsync: a source that ends in `/` copies its
    /// contents into `to`, one that does not copies the folder itself below `to`.
    async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError>;

    /// Fetches a file to a local path, whose folder exists.
    async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError>;

    /// Fetches a folder; the rule of the trailing `/` is that of [`Communicator::upload_dir`].
    async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError>;

    /// Waits until the machine can be reached again after it went away, and reaches it.
    async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), CommunicatorError>;
}

/// The communicator of a source that has none: every use is a clear error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCommunicator;

impl NoCommunicator {
    fn refuse<T>(what: &str) -> Result<T, CommunicatorError> {
        Err(CommunicatorError::Unsupported {
            communicator: "communicator \"none\"",
            what: what.into(),
        })
    }
}

#[async_trait]
impl Communicator for NoCommunicator {
    fn kind(&self) -> &'static str {
        "none"
    }

    async fn exec(&self, command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        Self::refuse(&format!("run \"{}\"", command.line))
    }

    async fn run_script(&self, _: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        Self::refuse("run a script")
    }

    async fn upload(
        &self,
        _: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        _: Option<u32>,
        _: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::refuse(&format!("upload \"{to}\""))
    }

    async fn upload_dir(
        &self,
        _: &Path,
        to: &str,
        _: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::refuse(&format!("upload \"{to}\""))
    }

    async fn download(
        &self,
        from: &str,
        _: &Path,
        _: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::refuse(&format!("download \"{from}\""))
    }

    async fn download_dir(
        &self,
        from: &str,
        _: &Path,
        _: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Self::refuse(&format!("download \"{from}\""))
    }

    async fn reconnect(&self, _: &CancellationToken) -> Result<(), CommunicatorError> {
        Self::refuse("reconnect")
    }
}

/// What a folder is called at the other end, by the rule of the trailing `/`.
pub fn dir_target(from: &Path, to: &str) -> PathBuf {
    if from.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return PathBuf::from(to);
    }
    match from.file_name() {
        Some(name) => Path::new(to).join(name),
        None => PathBuf::from(to),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::mask::Masker;

    #[test]
    fn lines_are_cut_at_their_ends_and_the_rest_comes_last() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let events = Events::new(Masker::new(), move |e| {
            if let EventKind::Output { line, .. } = e.kind {
                sink.lock().unwrap().push(line);
            }
        });
        let output = Output::lines(&events);
        output.write(Stream::Stdout, b"one\r\ntw");
        output.write(Stream::Stdout, b"o\n10%\r100%\nthree");
        drop(output);
        assert_eq!(*seen.lock().unwrap(), ["one", "two", "100%", "three"]);
    }

    #[test]
    fn a_secret_in_two_writes_and_in_a_long_line_is_masked() {
        let masker = Masker::new();
        masker.add("s3cret-value");
        let seen = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&seen);
        let events = Events::new(masker, move |e| {
            if let EventKind::Output { line, .. } = e.kind {
                sink.lock().unwrap().push_str(&line);
            }
        });
        let output = Output::lines(&events);
        output.write(Stream::Stdout, b"a s3cret-");
        output.write(Stream::Stdout, b"value b\n");
        // A line so long that it is cut, wherever the secret stands in it.
        for before in LONGEST_LINE - 14..LONGEST_LINE + 2 {
            output.write(Stream::Stderr, &vec![b'x'; before]);
            output.write(Stream::Stderr, b"s3cret-");
            output.write(Stream::Stderr, b"value");
            output.write(Stream::Stderr, b"\n");
        }
        drop(output);
        let seen = seen.lock().unwrap();
        assert!(seen.starts_with("a <sensitive> b"), "{}", &seen[..30]);
        assert_eq!(seen.matches("<sensitive>").count(), 17);
        assert!(!seen.contains("s3c") && !seen.contains("lue"));
    }

    #[test]
    fn a_folder_keeps_its_name_unless_it_ends_in_a_slash() {
        assert_eq!(dir_target(Path::new("a/b"), "/x"), Path::new("/x/b"));
        assert_eq!(dir_target(Path::new("a/b/"), "/x"), Path::new("/x"));
    }
}
