//! A shell, and one command in it.

use karat_component::ExitStatus;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Sink};
use crate::envelope::{Action, PIECE};
use crate::error::WinrmError;

/// A shell on the machine, closed when dropped.
struct Shell {
    client: Client,
    id: String,
    open: bool,
}

impl Shell {
    async fn close(mut self) {
        self.open = false;
        // A machine that went away took the shell with it.
        let _ = self.client.ask(Some(&self.id), Action::Delete).await;
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.open, tokio::runtime::Handle::try_current()) {
            let (client, id) = (self.client.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move {
                let _ = client.ask(Some(&id), Action::Delete).await;
            });
        }
    }
}

/// What a command reads.
pub(crate) type Input<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Sends all of the input. A command that ends before it has read all is none of our errors.
async fn feed(shell: &Shell, id: &str, input: Input<'_>) -> Result<(), WinrmError> {
    let mut piece = vec![0; PIECE];
    loop {
        let mut filled = 0;
        while filled < PIECE {
            let read = input.read(&mut piece[filled..]).await;
            let count = read.map_err(|e| WinrmError::Transfer {
                verb: "upload",
                path: String::new(),
                reason: format!("cannot read what is to be sent: {e}"),
            })?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        let end = filled < PIECE;
        let action = Action::Send { command: id, bytes: &piece[..filled], end };
        match shell.client.ask(Some(&shell.id), action).await {
            Ok(_) => {}
            Err(WinrmError::Fault { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        if end {
            return Ok(());
        }
    }
}

/// Takes what it prints until it has ended.
async fn follow(shell: &Shell, id: &str, sink: &mut Sink<'_>) -> Result<ExitStatus, WinrmError> {
    loop {
        let received = shell.client.receive(&shell.id, id).await?;
        for (stream, bytes) in received.pieces {
            sink(stream, &bytes);
        }
        if let Some(code) = received.ended {
            return Ok(ExitStatus::Code(code));
        }
    }
}

/// Runs one command line, by `cmd.exe` unless `bare`. A machine that goes away while it runs gives
/// [`ExitStatus::Disconnected`].
pub(crate) async fn run(
    client: &Client,
    line: &str,
    bare: bool,
    input: Option<Input<'_>>,
    cancel: &CancellationToken,
    sink: &mut Sink<'_>,
) -> Result<ExitStatus, WinrmError> {
    let stdin = input.is_some();
    let open = async {
        let id = client.create().await?;
        let shell = Shell { client: client.clone(), id, open: true };
        let action = Action::Command { line, bare, stdin };
        let command = client.command(&shell.id, action).await?;
        Ok::<_, WinrmError>((shell, command))
    };
    let (shell, command) = tokio::select! {
        opened = open => opened?,
        () = cancel.cancelled() => return Err(WinrmError::Cancelled),
    };
    let ended = {
        let work = async {
            match input {
                None => follow(&shell, &command, sink).await,
                Some(input) => {
                    let fed = feed(&shell, &command, input);
                    let followed = follow(&shell, &command, sink);
                    tokio::pin!(fed, followed);
                    tokio::select! {
                        ended = &mut followed => ended,
                        sent = &mut fed => match sent {
                            Ok(()) => followed.await,
                            Err(error) => Err(error),
                        },
                    }
                }
            }
        };
        tokio::select! {
            ended = work => ended,
            () = cancel.cancelled() => Err(WinrmError::Cancelled),
        }
    };
    match ended {
        Ok(status) => {
            shell.close().await;
            Ok(status)
        }
        Err(WinrmError::Cancelled) => {
            let terminate = Action::Terminate { command: &command };
            let _ = client.ask(Some(&shell.id), terminate).await;
            shell.close().await;
            Err(WinrmError::Cancelled)
        }
        // It restarts, say: the shell is gone with it.
        Err(error) if error.is_absence() => {
            tracing::debug!(%error, "the machine went away");
            Ok(ExitStatus::Disconnected)
        }
        Err(error) => {
            shell.close().await;
            Err(error)
        }
    }
}
