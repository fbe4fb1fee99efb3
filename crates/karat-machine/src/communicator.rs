//! The communicator `machine`: commands and files go straight into a local machine, with no
//! network and no login between.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use karat_component::{
    Communicator, CommunicatorError, ExitStatus, RemoteCommand, RemoteScript, dir_target,
};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::runtime::{Exec, LazyMachine, RuntimeError};

/// Reaches a local machine directly, as root. The machine boots at the first need.
#[derive(Clone, Debug)]
pub struct MachineCommunicator(pub Arc<LazyMachine>);

/// A line is run as sshd runs it: by the user's shell.
fn by_login_shell(line: &str) -> Exec {
    Exec::new(["/bin/sh", "-c", "exec \"$SHELL\" -c \"$1\"", "sh", line])
}

fn connection(error: RuntimeError) -> CommunicatorError {
    match error {
        RuntimeError::Cancelled => CommunicatorError::Cancelled,
        RuntimeError::Gone => CommunicatorError::Connection { what: chain(&error) },
        RuntimeError::EndedEarly { ref tail, .. } if tail.contains("/sbin/init) failed") => {
            let hint = "Hint: the base has no init, as container images have none: with \
                        packages = [\"systemd-sysv\", \"dbus\"] the machine gets one";
            CommunicatorError::Failed { what: format!("{}\n{hint}", chain(&error)) }
        }
        other => CommunicatorError::Failed { what: chain(&other) },
    }
}

fn transfer(verb: &'static str, path: &str) -> impl FnOnce(RuntimeError) -> CommunicatorError {
    move |error| match error {
        RuntimeError::Cancelled => CommunicatorError::Cancelled,
        other => CommunicatorError::Transfer { verb, path: path.to_owned(), reason: chain(&other) },
    }
}

/// The error with its causes: the communicator's own errors have a text and no source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[async_trait]
impl Communicator for MachineCommunicator {
    fn kind(&self) -> &'static str {
        "machine"
    }

    async fn exec(&self, command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        let mut exec = by_login_shell(&command.line);
        exec.stdin = command.stdin;
        exec.output = command.output;
        exec.cancel = command.cancel;
        match self.0.exec(exec).await {
            Err(RuntimeError::Gone) => Ok(ExitStatus::Disconnected),
            other => other.map_err(connection),
        }
    }

    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        let machine = self.0.booted().await.map_err(connection)?;
        let sent = async {
            for file in &script.files {
                let mut content: &[u8] = &file.content;
                machine
                    .put(&mut content, &file.path, Some(file.mode), &script.cancel)
                    .await
                    .map_err(transfer("upload", &file.path))?;
            }
            Ok(())
        };
        let result = match sent.await {
            Ok(()) => {
                let mut exec = by_login_shell(&script.line);
                exec.output = script.output.clone();
                exec.cancel = script.cancel.clone();
                match machine.exec(exec).await {
                    Err(RuntimeError::Gone) => Ok(ExitStatus::Disconnected),
                    other => other.map_err(connection),
                }
            }
            Err(error) => Err(error),
        };
        if script.clean && !matches!(result, Ok(ExitStatus::Disconnected)) {
            for file in &script.files {
                let removed = machine.remove_file(&file.path).await;
                if result.is_ok() {
                    removed.map_err(connection)?;
                }
            }
        }
        result
    }

    async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        self.0.put(content, to, mode, cancel).await.map_err(transfer("upload", to))
    }

    async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let target = dir_target(from, to);
        let fail = transfer("upload", to);
        self.0.put_dir(from, &target.to_string_lossy(), cancel).await.map_err(fail)
    }

    async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        self.0.get_file(from, to, cancel).await.map_err(transfer("download", from))
    }

    async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let target = dir_target(Path::new(from), &to.to_string_lossy());
        self.0.get_dir(from, &target, cancel).await.map_err(transfer("download", from))
    }

    async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), CommunicatorError> {
        self.0.revive(cancel).await.map_err(connection)
    }
}
