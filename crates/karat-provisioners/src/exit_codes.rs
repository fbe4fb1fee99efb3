//! Which exit codes count as success.

use karat_component::{ComponentError, ExitStatus};

/// What Packer says of a code that is not among the valid ones; its list is Go's.
pub(crate) fn check(status: &ExitStatus, valid: &[i32]) -> Result<(), ComponentError> {
    let code = status.code();
    if valid.contains(&code) {
        return Ok(());
    }
    let list: Vec<String> = valid.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "Script exited with non-zero exit status: {code}. Allowed exit codes are: [{}]",
        list.join(" ")
    );
    if let ExitStatus::Signal(name) = status {
        text.push_str(&format!(" (the signal {name} ended it)"));
    }
    let error = ComponentError::new(text);
    Err(match code {
        126 => error.with_hint(
            "126 is what a shell gives for a file that it may not execute: is it executable, and \
             does the program in its first line exist?",
        ),
        127 => error.with_hint("127 is what a shell gives for a command that it does not find"),
        _ => error,
    })
}
