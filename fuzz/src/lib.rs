//! The functions that are fuzzed. They stand with the tests, which feed them what was found.

#[path = "../../crates/karat-template/tests/fuzz/targets.rs"]
mod targets;

/// Runs the target of that name.
///
/// # Panics
/// When something is wrong with Karat, or there is no such target.
pub fn run(name: &str, text: &str) {
    targets::run(name, text);
}
