//! One process and all that it started.

use std::process::Stdio;
use std::time::Duration;

use karat_component::{ComponentError, Events, ExitStatus, Output, Stream};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How long a process may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(5);
/// How long to read on after the end of a process whose children still hold its output.
const DRAIN: Duration = Duration::from_secs(2);

/// What is started.
#[derive(Debug)]
pub struct Invocation {
    /// The program and its arguments; never empty.
    pub arguments: Vec<String>,
    /// Variables beyond those that this program has itself.
    pub environment: Vec<(String, String)>,
}

/// Runs it to its end, in a process group of its own, and sends what it prints as events.
pub(super) async fn run(
    invocation: &Invocation,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<ExitStatus, ComponentError> {
    let (status, held) = run_process(invocation, None, &Output::lines(events), cancel).await?;
    if held {
        events.message(
            "The script ended; a process that it started holds its output open and is not \
             listened to any more.",
        );
    }
    Ok(status)
}

/// Runs it to its end, in a process group of its own, and hands on what it prints. Says as well
/// whether a process that it started holds its output open.
///
/// # Errors
/// When it cannot be started, or is cancelled: then all of it has ended.
pub async fn run_process(
    invocation: &Invocation,
    stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
    output: &Output,
    cancel: &CancellationToken,
) -> Result<(ExitStatus, bool), ComponentError> {
    let mut child = start(invocation, stdin.is_some())?;
    let group = Group::of(&child);
    let copy = {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        async move {
            tokio::join!(
                pass_on(stdout, Stream::Stdout, output),
                pass_on(stderr, Stream::Stderr, output)
            )
        }
    };
    let feed = {
        let pipe = child.stdin.take();
        async move {
            if let (Some(from), Some(mut to)) = (stdin, pipe) {
                // Who does not read to the end has what it needs.
                let _ = tokio::io::copy(from, &mut to).await;
            }
        }
    };
    tokio::pin!(copy);
    tokio::pin!(feed);
    let (mut copied, mut fed) = (false, false);
    let status = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                group.end(&mut child).await;
                return Err(ComponentError::cancelled());
            }
            _ = &mut copy, if !copied => copied = true,
            () = &mut feed, if !fed => fed = true,
            status = child.wait() => break status,
        }
    };
    let status = status
        .map_err(|e| ComponentError::because("cannot wait for the end of a local command", e))?;
    // What it started in the background may go on, as it does in a shell.
    group.release();
    let held = !copied && tokio::time::timeout(DRAIN, copy).await.is_err();
    Ok((ended(status), held))
}

fn start(invocation: &Invocation, reads: bool) -> Result<Child, ComponentError> {
    let [program, arguments @ ..] = invocation.arguments.as_slice() else {
        return Err(ComponentError::new("\"execute_command\" is empty"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(invocation.environment.iter().map(|(k, v)| (k, v)))
        .stdin(if reads { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(|e| {
        let error = ComponentError::because(format!("cannot start \"{program}\""), e);
        error.with_hint("\"execute_command\" and \"inline_shebang\" say what is started")
    })
}

async fn pass_on(from: Option<impl AsyncRead + Unpin>, stream: Stream, output: &Output) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        output.write(stream, &buffer[..n]);
    }
}

fn ended(status: std::process::ExitStatus) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal_name(signal)),
        (None, None) => ExitStatus::Code(255),
    }
}

fn signal_name(number: i32) -> String {
    match number {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        8 => "FPE",
        9 => "KILL",
        10 => "USR1",
        11 => "SEGV",
        12 => "USR2",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        other => return other.to_string(),
    }
    .to_owned()
}

/// The process group, killed when it is dropped without being released.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It may be gone already.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Asks it to end, and makes it end.
    async fn end(mut self, child: &mut Child) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        self.signal(Signal::KILL);
        let _ = child.wait().await;
        self.0 = None;
    }

    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
