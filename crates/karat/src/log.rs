//! Logs, for who looks for a fault: off unless `PACKER_LOG` or `KARAT_LOG` is set. Secrets are
//! masked in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::env;
use crate::report::out;

/// Starts logging as the environment asks.
pub(crate) fn start() {
    let Some(path) = env::log() else { return };
    let filter = EnvFilter::try_from_env("KARAT_LOG").unwrap_or_else(|_| {
        EnvFilter::new("info,karat=debug,karat_engine=debug,karat_machine=debug")
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    if path.as_os_str().is_empty() {
        builder.with_writer(|| Masked(io::stderr())).init();
        return;
    }
    match OpenOptions::new().create(true).append(true).open(&path) {
        Ok(file) => {
            let file = Arc::new(Mutex::new(file));
            builder.with_writer(move || Masked(Shared(Arc::clone(&file)))).init();
        }
        Err(error) => {
            out::stderr_line(&format!("Warning: cannot log to {}: {error}", path.display()));
        }
    }
}

/// Masks what is written. Each entry of a log comes in one piece.
struct Masked<W>(W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let masker = out::masker();
        if masker.is_empty() {
            return self.0.write(bytes);
        }
        self.0.write_all(masker.mask(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A file that several threads write to.
struct Shared(Arc<Mutex<File>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_masked() {
        out::masker().add("s3cret-of-the-log");
        let mut log = Masked(Vec::new());
        log.write_all(b"INFO password=s3cret-of-the-log\n").unwrap();
        assert_eq!(log.0, b"INFO password=<sensitive>\n");
    }
}
