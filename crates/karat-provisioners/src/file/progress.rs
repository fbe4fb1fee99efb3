//! How far a big file got.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use karat_component::Events;
use tokio::io::{AsyncRead, ReadBuf};

/// Smaller files are through before anybody looks.
const SMALLEST: u64 = 4 * 1024 * 1024;
/// How often to tell.
const PAUSE: Duration = Duration::from_millis(200);

/// Passes a reader through and tells how much was read.
pub(super) struct Counted<R> {
    inner: R,
    events: Option<Events>,
    what: String,
    done: u64,
    total: u64,
    told: Instant,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R, what: &str, total: u64, events: &Events) -> Self {
        let events = (total >= SMALLEST).then(|| events.clone());
        Self { inner, events, what: what.to_owned(), done: 0, total, told: Instant::now() }
    }

    fn add(&mut self, count: usize) {
        self.done += count as u64;
        let Some(events) = &self.events else { return };
        let last = self.done == self.total && count > 0;
        if last || self.told.elapsed() >= PAUSE {
            events.progress(&self.what, self.done, Some(self.total), "bytes");
            self.told = Instant::now();
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        self.add(count);
        Poll::Ready(Ok(()))
    }
}
