//! `-machine-readable`: `UNIXTS,TARGET,TYPE,ARG…`, one record a line.

use std::time::UNIX_EPOCH;

use karat_component::{Artifact, Event, EventKind, Outcome};

use super::{Report, out};

/// Prints records as Packer does.
#[derive(Debug, Default)]
pub(crate) struct Machine;

impl Report for Machine {
    fn event(&self, event: &Event) {
        let target = event.build.as_deref().unwrap_or("");
        let ui = |level: &str, text: &str| {
            let prefixed = if target.is_empty() {
                text.to_owned()
            } else {
                text.lines().map(|l| format!("==> {target}: {l}")).collect::<Vec<_>>().join("\n")
            };
            print(event, "", "ui", &[level, &prefixed]);
        };
        match &event.kind {
            EventKind::Say { text } => ui("say", text),
            EventKind::Message { text } => ui("message", text),
            EventKind::Error { text } => ui("error", text),
            EventKind::Output { line, .. } => ui("message", line),
            EventKind::Machine { category, args } => {
                print(
                    event,
                    target,
                    category,
                    &args.iter().map(String::as_str).collect::<Vec<_>>(),
                );
            }
            EventKind::BuildFinished { outcome, error, artifacts, .. } => {
                if let Some(error) = error {
                    print(event, target, "error", &[error]);
                }
                if matches!(outcome, Outcome::Finished | Outcome::Reused) {
                    print(event, target, "artifact-count", &[&artifacts.len().to_string()]);
                    for (index, artifact) in artifacts.iter().enumerate() {
                        self.artifact(event, target, index, artifact);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Machine {
    fn artifact(&self, event: &Event, target: &str, index: usize, artifact: &Artifact) {
        let index = index.to_string();
        let record = |args: &[&str]| {
            print(event, target, "artifact", &[&[index.as_str()], args].concat());
        };
        record(&["builder-id", &artifact.builder_id]);
        record(&["id", &artifact.id]);
        record(&["string", &artifact.description]);
        record(&["files-count", &artifact.files.len().to_string()]);
        for (place, file) in artifact.files.iter().enumerate() {
            record(&["file", &place.to_string(), &file.to_string_lossy()]);
        }
        record(&["end"]);
    }
}

fn print(event: &Event, target: &str, category: &str, args: &[&str]) {
    let seconds = event.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    record(seconds, target, category, args);
}

/// Prints what a command has to say, now.
pub(crate) fn say(text: &str) {
    ui("say", text);
}

/// Prints a text for people, now: `say`, `message` or `error`.
pub(crate) fn ui(level: &str, text: &str) {
    now("", "ui", &[level, text]);
}

/// Prints one record, now.
pub(crate) fn now(target: &str, category: &str, args: &[&str]) {
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    record(now, target, category, args);
}

/// Prints one record.
pub(crate) fn record(seconds: u64, target: &str, category: &str, args: &[&str]) {
    let masker = out::masker();
    let args: Vec<String> = args.iter().map(|a| escape(&masker.mask(a))).collect();
    let target = masker.mask(target);
    out::masked_line(&format!("{seconds},{target},{category},{}", args.join(",")));
}

fn escape(value: &str) -> String {
    value.replace(',', "%!(PACKER_COMMA)").replace('\r', "\\r").replace('\n', "\\n")
}
