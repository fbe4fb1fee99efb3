//! The one door to the terminal.
//!
//! Whatever passes it is masked, so that a secret which a report overlooks does not show.
//!
//! A reader that went away (`karat … | head`) ends the program quietly, as other programs do.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use karat_component::Masker;

use super::machine;

static MASKER: OnceLock<Masker> = OnceLock::new();

/// The secrets of the process: what is added here shows nowhere.
pub(crate) fn masker() -> &'static Masker {
    MASKER.get_or_init(Masker::new)
}

/// Errors go to stdout when the program was started as `packer`, as Packer's do.
static ERRORS_TO_STDOUT: AtomicBool = AtomicBool::new(false);

/// Sends errors to stdout from now on.
pub(crate) fn errors_to_stdout() {
    ERRORS_TO_STDOUT.store(true, Ordering::Relaxed);
}

/// With `-machine-readable` what is no data is a record, too.
static RECORDS: AtomicBool = AtomicBool::new(false);

/// Makes records of errors from now on.
pub(crate) fn errors_to_records() {
    RECORDS.store(true, Ordering::Relaxed);
}

/// Writes data, or what a person asked for.
pub(crate) fn stdout(text: &str) {
    masked(&masker().mask(text));
}

/// Writes a line for programs whose texts were masked one by one, before they were put into a form
/// that masking would break.
pub(crate) fn masked_line(text: &str) {
    masked(&format!("{text}\n"));
}

fn masked(text: &str) {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes a line of data.
pub(crate) fn stdout_line(text: &str) {
    stdout(&format!("{text}\n"));
}

/// Writes a line that is not data: errors, warnings, hints.
pub(crate) fn stderr_line(text: &str) {
    told("error", text);
}

/// Writes a warning.
pub(crate) fn warning_line(text: &str) {
    told("say", text);
}

fn told(level: &str, text: &str) {
    if RECORDS.load(Ordering::Relaxed) {
        return machine::ui(level, text);
    }
    if ERRORS_TO_STDOUT.load(Ordering::Relaxed) {
        return stdout_line(text);
    }
    // Where stderr cannot be written to, there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{}", masker().mask(text));
}

fn written(result: io::Result<()>) {
    if result.is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        #[expect(clippy::exit, reason = "nobody reads any more; 141 is what SIGPIPE would give")]
        std::process::exit(141);
    }
}

/// Whether output may be coloured: a person looks at it, and nobody said no.
pub(crate) fn colour(flag: bool) -> bool {
    flag && is_terminal()
        && std::env::var_os("PACKER_NO_COLOR").is_none()
        && std::env::var_os("NO_COLOR").is_none()
}

/// Whether a person looks at stdout.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}
