//! `-machine-readable`: `UNIXTS,TARGET,TYPE,ARG…`, one record a line.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use indexmap::IndexMap;
use karat_component::{Artifact, Event, EventKind, Outcome};

use super::human::{ending, long_duration};
use super::speaker::Speakers;
use super::{Report, out};

/// Prints records as Packer does: what people are told as `ui`, and what came out in types of its
/// own when all builds have ended.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    ended: Mutex<Vec<Ended>>,
    speakers: Speakers,
}

#[derive(Debug)]
struct Ended {
    build: String,
    error: Option<String>,
    artifacts: Vec<Artifact>,
}

impl Report for Machine {
    fn event(&self, event: &Event) {
        self.speakers.note(event);
        let target = event.build.as_deref().unwrap_or("");
        let ui = |level: &str, text: &str| {
            let prefixed = if target.is_empty() {
                text.to_owned()
            } else {
                let lines: Vec<_> = text.lines().map(|l| self.speakers.line(event, l)).collect();
                lines.join("\n")
            };
            print(event, "", "ui", &[level, &prefixed]);
        };
        match &event.kind {
            // Packer makes no difference between them any more.
            EventKind::Say { text } | EventKind::Message { text } => ui("say", text),
            EventKind::Error { text } => ui("error", text),
            EventKind::Output { line, .. } => ui("say", line),
            EventKind::Machine { category, args } => {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                print(event, target, category, &args);
            }
            EventKind::BuildFinished { outcome, duration, error, artifacts } => {
                let good = matches!(outcome, Outcome::Finished | Outcome::Reused);
                let text = ending(target, *outcome, error.as_deref(), *duration);
                print(event, "", "ui", &[if good { "say" } else { "error" }, &text]);
                let ended = Ended {
                    build: target.to_owned(),
                    error: error.clone().or_else(|| (!good).then(|| "cancelled".to_owned())),
                    artifacts: if good { artifacts.clone() } else { Vec::new() },
                };
                self.ended().push(ended);
            }
            EventKind::RunFinished { duration, .. } => self.summary(event, *duration),
            _ => {}
        }
    }
}

impl Machine {
    fn ended(&self) -> MutexGuard<'_, Vec<Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self, event: &Event, duration: Duration) {
        let ended = self.ended();
        let ui = |level: &str, text: &str| print(event, "", "ui", &[level, text]);
        ui("say", &format!("\n==> Wait completed after {}", long_duration(duration)));
        let failed: Vec<(&Ended, &str)> =
            ended.iter().filter_map(|e| Some((e, e.error.as_deref()?))).collect();
        if !failed.is_empty() {
            print(event, "", "error-count", &[&failed.len().to_string()]);
            ui("error", "\n==> Some builds didn't complete successfully and had errors:");
        }
        for (one, error) in failed {
            print(event, &one.build, "error", &[error]);
            ui("error", &format!("--> {}: {error}", one.build));
        }
        // Several builds may have one name, and readers look for what was made by that.
        let mut made: IndexMap<&str, Vec<&Artifact>> = IndexMap::new();
        for one in ended.iter().filter(|e| !e.artifacts.is_empty()) {
            made.entry(&one.build).or_default().extend(&one.artifacts);
        }
        if made.is_empty() {
            ui("say", "\n==> Builds finished but no artifacts were created.");
            return;
        }
        ui("say", "\n==> Builds finished. The artifacts of successful builds are:");
        for (build, artifacts) in made {
            print(event, build, "artifact-count", &[&artifacts.len().to_string()]);
            for (index, artifact) in artifacts.into_iter().enumerate() {
                records(event, build, index, artifact);
                ui("say", &format!("--> {build}: {artifact}"));
            }
        }
    }
}

fn records(event: &Event, target: &str, index: usize, artifact: &Artifact) {
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

/// Prints a text of the program's own, in which there is no secret to be masked.
pub(crate) fn fixed(level: &str, text: &str) {
    out::masked_line(&format!("{},,ui,{level},{}", seconds_now(), escape(text)));
}

/// Prints one record, now.
pub(crate) fn now(target: &str, category: &str, args: &[&str]) {
    record(seconds_now(), target, category, args);
}

fn seconds_now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
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
