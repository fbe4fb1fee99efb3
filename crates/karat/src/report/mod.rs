//! What a person or a program sees of a run: consumers of the one event stream.
//!
//! | file | what |
//! |---|---|
//! | `human.rs` | lines as Packer prints them, with live progress on a terminal |
//! | `json.rs` | one event a line |
//! | `machine.rs` | `-machine-readable` |
//! | `diagnostics.rs` | errors in templates with file, line and excerpt |
//! | `speaker.rs` | whose lines are printed |
//! | `out.rs` | the one door to the terminal |

pub(crate) mod diagnostics;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod machine;
pub(crate) mod out;
pub(crate) mod speaker;

use karat_component::Event;

/// Consumes events as they happen.
pub(crate) trait Report: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event);

    /// Tells the person at the terminal something that is no event.
    fn notice(&self, text: &str) {
        out::stderr_line(text);
    }

    /// The run is over: clears what is drawn, prints what comes last.
    fn finish(&self) {}
}
