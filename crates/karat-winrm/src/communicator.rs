//! The session as the engine's [`Communicator`].

use std::path::Path;

use async_trait::async_trait;
use karat_component::{Communicator, CommunicatorError, ExitStatus, RemoteCommand, RemoteScript};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::session::WinrmSession;

/// Reaches a machine over WinRM.
#[derive(Clone, Debug)]
pub struct WinrmCommunicator(pub WinrmSession);

#[async_trait]
impl Communicator for WinrmCommunicator {
    fn kind(&self) -> &'static str {
        "winrm"
    }

    async fn exec(&self, mut command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        let output = command.output.clone();
        let stdin = command.stdin.as_mut().map(|s| &mut **s as &mut (dyn AsyncRead + Send + Unpin));
        let mut sink = |stream, bytes: &[u8]| output.write(stream, bytes);
        Ok(self.0.exec(&command.line, stdin, &command.cancel, &mut sink).await?)
    }

    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        let RemoteScript { files, line, clean, output, cancel } = script;
        let mut sink = |stream, bytes: &[u8]| output.write(stream, bytes);
        Ok(self.0.run_script(&files, &line, clean, &cancel, &mut sink).await?)
    }

    async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        _mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Ok(self.0.upload(content, to, cancel).await?)
    }

    async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Ok(self.0.upload_dir(from, to, cancel).await?)
    }

    async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Ok(self.0.download(from, to, cancel).await?)
    }

    async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Ok(self.0.download_dir(from, to, cancel).await?)
    }

    async fn reconnect(&self, cancel: &CancellationToken) -> Result<(), CommunicatorError> {
        Ok(self.0.reconnect(cancel).await?)
    }
}
