//! Web sockets of sessions, which can be cut as if a cable were pulled.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// A stream that breaks when its token is cancelled. The token is cancelled with it, too.
pub(crate) struct Severable<S> {
    inner: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _gone: DropGuard,
}

impl<S> Severable<S> {
    /// The stream, and what cuts it.
    pub(crate) fn new(inner: S) -> (Self, CancellationToken) {
        let token = CancellationToken::new();
        let cut = Box::pin(token.clone().cancelled_owned());
        (Self { inner, cut, _gone: token.clone().drop_guard() }, token)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What leads to an instance: its web sockets, and until when there may be none.
#[derive(Default)]
struct Line {
    closed_until: Option<Instant>,
    cuts: Vec<CancellationToken>,
}

/// What leads to instances, by their ids.
#[derive(Default)]
pub(super) struct Lines(Mutex<BTreeMap<String, Line>>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another web socket leads to an instance. `false` where there may be none now.
    pub(super) fn join(&self, instance: &str, cut: CancellationToken) -> bool {
        let mut lines = self.lock();
        let line = lines.entry(instance.to_owned()).or_default();
        if line.closed_until.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        line.cuts.retain(|cut| !cut.is_cancelled());
        line.cuts.push(cut);
        true
    }

    /// Cuts all that lead to an instance, and lets none be for a time.
    pub(super) fn cut(&self, instance: &str, lasts: Duration) {
        let mut lines = self.lock();
        let line = lines.entry(instance.to_owned()).or_default();
        line.closed_until = Instant::now().checked_add(lasts);
        line.cuts.drain(..).for_each(|cut| cut.cancel());
    }

    /// An instance is no more.
    pub(super) fn forget(&self, instance: &str) {
        let line = self.lock().remove(instance);
        line.into_iter().flat_map(|line| line.cuts).for_each(|cut| cut.cancel());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_line_breaks_when_it_is_cut_and_is_forgotten_with_its_stream() {
        let lines = Lines::default();
        let (mut far, near) = tokio::io::duplex(64);
        let (mut near, cut) = Severable::new(near);
        assert!(lines.join("i-1", cut));
        far.write_all(b"a").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'a');
        let waits = tokio::spawn(async move { near.read_u8().await });
        lines.cut("i-2", Duration::ZERO);
        lines.cut("i-1", Duration::from_secs(3600));
        let broken = waits.await.unwrap().unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
        assert!(!lines.join("i-1", CancellationToken::new()));

        let (near, cut) = Severable::new(far);
        assert!(lines.join("i-2", cut.clone()));
        drop(near);
        assert!(cut.is_cancelled());
        lines.forget("i-1");
        assert!(lines.join("i-1", CancellationToken::new()));
    }
}
