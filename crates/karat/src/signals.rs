//! Ctrl-C: the first cleans up, the second stops waiting.

use std::sync::Arc;

use karat_saga::Cancellation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::report::{Report, out};

/// Cancels `cancellation` when the process is told to end. Has to be called in a runtime.
///
/// # Errors
/// When the system lets no handler be set.
pub(crate) fn watch(
    cancellation: &Cancellation,
    report: Option<Arc<dyn Report>>,
) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cancellation = cancellation.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = interrupt.recv() => {}
                Some(()) = terminate.recv() => {}
                else => return,
            }
            let first = !cancellation.cancel_token().is_cancelled();
            let text = if first {
                "\nCancelling: what was made is being removed. Press Ctrl-C again to stop waiting."
            } else {
                "\nStopped waiting."
            };
            match &report {
                Some(report) => report.notice(text),
                None => out::stderr_line(text),
            }
            cancellation.request();
        }
    });
    Ok(())
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cancels `token` when the process is told to end. Has to be called in a runtime.
///
/// # Errors
/// When the system lets no handler be set.
pub(crate) fn cancel_on_signal(token: CancellationToken) -> std::io::Result<Listener> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let task = tokio::spawn(async move {
        tokio::select! {
            Some(()) = interrupt.recv() => {}
            Some(()) = terminate.recv() => {}
            else => return,
        }
        token.cancel();
    });
    Ok(Listener(task.abort_handle()))
}
