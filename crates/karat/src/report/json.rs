//! `--json`: one event a line, in the form in which the journal keeps them.

use karat_component::Event;

use super::{Report, out};

/// Prints each event as one line of JSON.
#[derive(Debug, Default)]
pub(crate) struct Json;

impl Report for Json {
    fn event(&self, event: &Event) {
        if let Ok(text) = serde_json::to_string(event) {
            out::masked_line(&text);
        }
    }
}
