//! Tries again while a machine comes back.

use std::time::Duration;

use karat_component::{Communicator, CommunicatorError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits for a machine that cannot be reached, until patience is over. A caller's loop:
///
/// ```ignore
/// let mut away = Away::new(communicator, patience, cancel);
/// loop {
///     match communicator.exec(command()).await {
///         Err(error) => away.wait(error).await?,
///         done => return done,
///     }
/// }
/// ```
pub(crate) struct Away<'a> {
    communicator: &'a dyn Communicator,
    cancel: &'a CancellationToken,
    end: Instant,
}

impl<'a> Away<'a> {
    pub(crate) fn new(
        communicator: &'a dyn Communicator,
        patience: Duration,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self { communicator, cancel, end: Instant::now() + patience }
    }

    /// Returns when it is worth trying again after `error`.
    ///
    /// # Errors
    /// `error` itself, if the machine did not go away, or does not come back in time.
    pub(crate) async fn wait(&mut self, error: CommunicatorError) -> Result<(), CommunicatorError> {
        let lost = matches!(error, CommunicatorError::Connection { .. });
        if !lost || Instant::now() >= self.end {
            return Err(error);
        }
        let back = self.communicator.reconnect(self.cancel);
        match tokio::time::timeout_at(self.end, back).await {
            Ok(Ok(()) | Err(CommunicatorError::Connection { .. })) => {}
            Ok(Err(CommunicatorError::Cancelled)) => return Err(CommunicatorError::Cancelled),
            // It cannot come back, or not in time: what failed first says more.
            Ok(Err(_)) | Err(_) => return Err(error),
        }
        tokio::select! {
            () = self.cancel.cancelled() => Err(CommunicatorError::Cancelled),
            () = tokio::time::sleep_until((Instant::now() + PAUSE).min(self.end)) => Ok(()),
        }
    }
}
