//! Ports for servers that cannot say which one they got.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what Linux gives to connections and to whoever asks for any port, so that nobody takes one
/// between the look and the server's start.
const FIRST: u32 = 15_000;
const COUNT: u32 = 17_000;

/// A port of 127.0.0.1 that nobody listens on, and that this process is given once.
///
/// # Errors
/// When none is free.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes begin apart from each other.
    let begin = std::process::id().wrapping_mul(211);
    for _ in 0..COUNT {
        let number = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + number).map_err(io::Error::other)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
}
