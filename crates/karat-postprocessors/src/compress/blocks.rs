//! Compresses blocks side by side and writes them in order.
//!
//! Own code: the crate that does this for gzip and bgzf panics when the file it writes to cannot
//! be written to any more, and a full disk must not be a panic.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Turns one block into bytes of the file.
pub(super) trait Codec: Send + Sync + 'static {
    /// What the writer has to know of each block at the end.
    type Tail: Default + Send + 'static;

    /// How many bytes go into one block.
    const BLOCK: usize;

    /// Compresses one block.
    fn compress(&self, block: &[u8]) -> io::Result<(Vec<u8>, Self::Tail)>;

    /// Adds what is known of the next block to what is known of those before.
    fn combine(&self, all: &mut Self::Tail, next: Self::Tail);

    /// What stands at the file's beginning.
    fn header(&self) -> Vec<u8>;

    /// What stands at its end.
    fn footer(&self, all: &Self::Tail) -> Vec<u8>;
}

type Done<C> = io::Result<(Vec<u8>, <C as Codec>::Tail)>;
type Job<C> = (Vec<u8>, SyncSender<Done<C>>);

/// A writer that compresses on several threads. What comes out does not depend on their number.
pub(super) struct Blocks<W: Write, C: Codec> {
    out: W,
    codec: Arc<C>,
    jobs: SyncSender<Job<C>>,
    waiting: VecDeque<Receiver<Done<C>>>,
    most_waiting: usize,
    buffer: Vec<u8>,
    tail: C::Tail,
}

impl<W: Write, C: Codec> Blocks<W, C> {
    /// A writer into `out`.
    ///
    /// # Errors
    /// When the beginning cannot be written, or no thread can be started.
    pub(super) fn new(mut out: W, codec: C, threads: usize) -> io::Result<Self> {
        let codec = Arc::new(codec);
        let threads = threads.max(1);
        let (jobs, taken) = sync_channel::<Job<C>>(threads);
        let taken = Arc::new(Mutex::new(taken));
        for _ in 0..threads {
            let (codec, taken) = (Arc::clone(&codec), Arc::clone(&taken));
            // Each ends when the writer is dropped, and with it the last sender.
            std::thread::Builder::new().name("compress".into()).spawn(move || {
                while let Some((block, answer)) = next::<C>(&taken) {
                    // A writer that failed does not listen any more.
                    let _ = answer.send(codec.compress(&block));
                }
            })?;
        }
        out.write_all(&codec.header())?;
        Ok(Self {
            out,
            codec,
            jobs,
            waiting: VecDeque::new(),
            most_waiting: 2 * threads,
            buffer: Vec::with_capacity(C::BLOCK),
            tail: C::Tail::default(),
        })
    }

    /// Writes what is left, and the end. Gives back what it wrote into.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        while !self.waiting.is_empty() {
            self.receive()?;
        }
        self.out.write_all(&self.codec.footer(&self.tail))?;
        Ok(self.out)
    }

    fn send(&mut self) -> io::Result<()> {
        if self.waiting.len() >= self.most_waiting {
            self.receive()?;
        }
        let block = std::mem::replace(&mut self.buffer, Vec::with_capacity(C::BLOCK));
        let (answer, done) = sync_channel(1);
        self.jobs.send((block, answer)).map_err(|_| ended())?;
        self.waiting.push_back(done);
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let Some(done) = self.waiting.pop_front() else { return Ok(()) };
        let (bytes, tail) = done.recv().map_err(|_| ended())??;
        self.codec.combine(&mut self.tail, tail);
        self.out.write_all(&bytes)
    }
}

fn next<C: Codec>(jobs: &Mutex<Receiver<Job<C>>>) -> Option<Job<C>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn ended() -> io::Error {
    io::Error::other("a thread that compresses ended")
}

impl<W: Write, C: Codec> Write for Blocks<W, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(C::BLOCK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == C::BLOCK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
