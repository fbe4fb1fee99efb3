//! Work that would hold up other tasks, and how it is cancelled.

use std::io;

use karat_component::ComponentError;
use tokio_util::sync::CancellationToken;

/// Runs `work` on a thread of its own. It watches `cancel` itself, so that when this returns, it
/// has ended and cleaned up.
pub(crate) async fn blocking<T: Send + 'static>(
    cancel: &CancellationToken,
    work: impl FnOnce(&CancellationToken) -> Result<T, ComponentError> + Send + 'static,
) -> Result<T, ComponentError> {
    if cancel.is_cancelled() {
        return Err(ComponentError::cancelled());
    }
    let token = cancel.clone();
    let result = tokio::task::spawn_blocking(move || work(&token)).await;
    match result {
        // What was interrupted fails in many ways.
        Ok(Err(_)) if cancel.is_cancelled() => Err(ComponentError::cancelled()),
        Ok(result) => result,
        Err(panic) => Err(ComponentError::because("a post-processor ended abnormally", panic)),
    }
}

/// The error of reads and writes that were interrupted.
pub(crate) fn check(cancel: &CancellationToken) -> io::Result<()> {
    if cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
}
