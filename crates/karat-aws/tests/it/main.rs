//! The options of the components, and whole builds against the lab, and against moto where it is
//! installed.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

mod build;
mod chroot;
mod fast;
mod import;
mod kin;
mod lab;
mod moto;
mod options;
mod quota;
mod replace;
mod runs;
mod session;
mod spot;
mod windows;

/// Says why a test is skipped.
fn note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {text}");
}
