//! A relay between a client and a server that makes the way long, or cuts it.
//!
//! It delays both directions without limiting how much is under way: each piece is passed on a
//! fixed time after it came. The way to the server can be made narrow as well.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A relay on a port of 127.0.0.1. Connections end when it is dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    one_way: Duration,
    /// Bytes towards the server after which everything is cut.
    limit: AtomicU64,
    /// Bytes a second that each connection passes on towards the server.
    rate: AtomicU64,
    passed: AtomicU64,
    connections: AtomicU64,
    silent: AtomicBool,
    stop: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Relays to `target` on 127.0.0.1. A round trip takes `round_trip` longer.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(target: u16, round_trip: Duration) -> io::Result<Self> {
        Self::start_on(0, target, round_trip)
    }

    /// As [`Relay::start`], on a port of the caller's choice.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_on(port: u16, target: u16, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            one_way: round_trip / 2,
            limit: AtomicU64::new(u64::MAX),
            rate: AtomicU64::new(u64::MAX),
            passed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let relay = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for near in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(near) = near else { continue };
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let _ = join(&shared, &near, &far);
            }
        });
        Ok(relay)
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made through it.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many bytes went towards the server.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Cuts every connection once this many bytes more have gone towards the server.
    pub fn cut_after(&self, bytes: u64) {
        let passed = self.shared.passed.load(Ordering::Relaxed);
        self.shared.limit.store(passed + bytes, Ordering::Relaxed);
    }

    /// Passes on at most this many bytes a second towards the server, in each connection.
    pub fn narrow(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second.max(1), Ordering::Relaxed);
    }

    /// Lets new connections through again after a cut.
    pub fn mend(&self) {
        self.shared.limit.store(u64::MAX, Ordering::Relaxed);
    }

    /// Passes nothing on any more, in either direction, without closing anything.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.cut();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.cut();
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn join(shared: &Arc<Shared>, near: &TcpStream, far: &TcpStream) -> io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    {
        let mut streams = shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.push(near.try_clone()?);
        streams.push(far.try_clone()?);
    }
    for (from, to, counted) in [(near, far, true), (far, near, false)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (pieces, queue) = channel();
        let (reading, writing) = (Arc::clone(shared), Arc::clone(shared));
        thread::spawn(move || read(&reading, from, &pieces));
        thread::spawn(move || write(&writing, to, &queue, counted));
    }
    Ok(())
}

fn read(shared: &Shared, mut from: TcpStream, pieces: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        let due = Instant::now() + shared.one_way;
        if n == 0 || pieces.send((due, buffer[..n].to_vec())).is_err() {
            return;
        }
    }
}

fn write(shared: &Shared, mut to: TcpStream, queue: &Receiver<(Instant, Vec<u8>)>, counted: bool) {
    while let Ok((due, piece)) = queue.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if shared.silent.load(Ordering::Relaxed) {
            continue;
        }
        if counted {
            let passed = shared.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
            let left = shared.limit.load(Ordering::Relaxed).saturating_sub(passed);
            if left < piece.len() as u64 {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                let _ = to.write_all(&piece[..left]);
                shared.cut();
                return;
            }
        }
        if to.write_all(&piece).is_err() {
            return;
        }
        let rate = shared.rate.load(Ordering::Relaxed);
        if counted && rate < u64::MAX {
            let micros = (piece.len() as u64).saturating_mul(1_000_000) / rate;
            thread::sleep(Duration::from_micros(micros));
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
