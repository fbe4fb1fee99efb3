//! The session as the engine's [`Communicator`].

use std::path::Path;

use async_trait::async_trait;
use karat_component::{Communicator, CommunicatorError, ExitStatus, RemoteCommand, RemoteScript};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::session::Session;

/// Reaches a machine over ssh.
#[derive(Clone, Debug)]
pub struct SshCommunicator(pub Session);

#[async_trait]
impl Communicator for SshCommunicator {
    fn kind(&self) -> &'static str {
        "ssh"
    }

    async fn exec(&self, mut command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        let output = command.output.clone();
        let stdin = command.stdin.as_mut().map(|s| &mut **s as &mut (dyn AsyncRead + Send + Unpin));
        let ended = self
            .0
            .exec(&command.line, stdin, &command.cancel, |stream, bytes| {
                output.write(stream, bytes);
            })
            .await?;
        Ok(ended)
    }

    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        let ended = self
            .0
            .run_script(
                &script.files,
                &script.line,
                script.clean,
                &script.cancel,
                |stream, bytes| script.output.write(stream, bytes),
            )
            .await?;
        Ok(ended)
    }

    async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        Ok(self.0.upload(content, to, mode, cancel).await?)
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
