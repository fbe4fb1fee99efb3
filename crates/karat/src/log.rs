//! Logs, for who looks for a fault: off unless `PACKER_LOG` or `KARAT_LOG` is set.

use std::fs::OpenOptions;
use std::sync::Mutex;

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
        builder.with_writer(std::io::stderr).init();
        return;
    }
    match OpenOptions::new().create(true).append(true).open(&path) {
        Ok(file) => builder.with_writer(Mutex::new(file)).init(),
        Err(error) => {
            out::stderr_line(&format!("Warning: cannot log to {}: {error}", path.display()));
        }
    }
}
