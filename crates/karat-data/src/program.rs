//! A program that is asked for a value: one process, and all that it started.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use karat_component::ComponentError;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// A program that prints more bytes is ended: it is for templates, not for downloads.
const LARGEST: usize = 64 * 1024 * 1024;
/// How much of what it printed to its standard error is shown.
const SHOWN: usize = 4 * 1024;

/// A program that can be run.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) arguments: Vec<String>,
    pub(crate) input: String,
    pub(crate) working_dir: Option<PathBuf>,
    pub(crate) timeout: Duration,
}

impl Program {
    /// Runs it to its end, and gives what it printed.
    pub(crate) async fn run(&self, cancel: &CancellationToken) -> Result<String, ComponentError> {
        let name = self.arguments.first().map_or("", String::as_str);
        if cancel.is_cancelled() {
            return Err(ComponentError::cancelled());
        }
        let mut child = self.start(name)?;
        let mut group = Group::of(&child);
        let talk = tokio::time::timeout(self.timeout, self.talk(&mut child));
        let (stdout, stderr, status) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ComponentError::cancelled()),
            talked = talk => match talked {
                Ok(talked) => talked.map_err(|e| {
                    ComponentError::because(format!("cannot talk to \"{name}\""), e)
                })?,
                Err(_) => {
                    let after = self.timeout.as_secs_f64();
                    let text = format!("\"{name}\" did not end within {after} seconds");
                    return Err(ComponentError::new(text).with_hint("\"timeout\" allows more"));
                }
            },
        };
        // What it left in the background may go on, as it does in a shell.
        group.0 = None;
        if !status.success() {
            let start = stderr.len().saturating_sub(SHOWN);
            let said = String::from_utf8_lossy(&stderr[start..]);
            let text = format!("\"{name}\" failed with {}", ended(status));
            return Err(match said.trim() {
                "" => ComponentError::new(text),
                said => ComponentError::because(text, said.to_owned()),
            });
        }
        if stdout.len() > LARGEST {
            return Err(ComponentError::new(format!("\"{name}\" printed more than 64 MiB")));
        }
        String::from_utf8(stdout).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let reason = format!("byte {at} begins no character of UTF-8");
            let text = format!("\"{name}\" printed something that is no text");
            ComponentError::because(text, reason)
        })
    }

    fn start(&self, name: &str) -> Result<Child, ComponentError> {
        let mut command = Command::new(name);
        command
            .args(self.arguments.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Apart, so that it can be ended with all that it started.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(folder) = &self.working_dir {
            command.current_dir(folder);
        }
        command.spawn().map_err(|e| ComponentError::because(format!("cannot start \"{name}\""), e))
    }

    async fn talk(&self, child: &mut Child) -> std::io::Result<(Vec<u8>, Vec<u8>, ExitStatus)> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read is none of our business.
                let _ = stdin.write_all(self.input.as_bytes()).await;
            }
        };
        let ((), stdout, stderr) = tokio::join!(write, read(stdout), read(stderr));
        Ok((stdout?, stderr?, child.wait().await?))
    }
}

/// Reads to the end, or a little more than what is too much.
async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(from) = from {
        from.take(LARGEST as u64 + 1).read_to_end(&mut all).await?;
    }
    Ok(all)
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The processes of a program, killed when it is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // There may be none any more.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
