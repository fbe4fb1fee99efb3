//! Lines as Packer prints them; on a terminal, with a live line below for each running build.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use karat_component::{Artifact, Event, EventKind, Outcome};

use super::speaker::Speakers;
use super::{Report, out};

/// Green, cyan, magenta, yellow, blue: Packer's order.
const COLOURS: [&str; 5] = ["1;32", "1;36", "1;35", "1;33", "1;34"];
const RED: &str = "1;31";

/// How lines are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) colour: bool,
    pub(crate) timestamps: bool,
    /// Whether a person looks on, so that there is something to be drawn live.
    pub(crate) live: bool,
}

/// Prints for people.
pub(crate) struct Human {
    style: Style,
    live: Option<MultiProgress>,
    speakers: Speakers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The builds of the run. Several may have one name, so a build is its place here.
    names: Vec<String>,
    live: BTreeMap<usize, Live>,
    ended: Vec<Ended>,
    started: Option<Instant>,
}

impl State {
    /// The place of the build that an event belongs to.
    fn place(&self, event: &Event) -> Option<usize> {
        let name = event.build.as_deref()?;
        event.place.or_else(|| self.names.iter().position(|known| known == name))
    }

    fn colour(&self, event: &Event) -> Option<&'static str> {
        self.place(event).map(colour_of)
    }
}

fn colour_of(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

struct Live {
    bar: Option<ProgressBar>,
    what: String,
}

struct Ended {
    build: Arc<str>,
    outcome: Outcome,
    error: Option<String>,
    artifacts: Vec<Artifact>,
}

impl Human {
    pub(crate) fn new(style: Style) -> Self {
        let live = style.live.then(MultiProgress::new);
        Self { style, live, speakers: Speakers::default(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        match &self.live {
            Some(live) => {
                // The terminal may be gone; there is nobody to tell then.
                let _ = live.println(text);
            }
            None => out::stdout_line(text),
        }
    }

    fn say(&self, event: &Event, text: &str, red: bool) {
        let colour = if red { Some(RED) } else { self.state().colour(event) };
        for line in text.lines() {
            let line = self.speakers.line(event, line);
            self.line(&self.stamped(event.time, &self.paint(colour, &line)));
        }
    }

    fn stamped(&self, time: SystemTime, line: &str) -> String {
        if !self.style.timestamps {
            return line.to_owned();
        }
        let stamp =
            jiff::Timestamp::try_from(time).map(|t| t.to_zoned(jiff::tz::TimeZone::system()));
        match stamp {
            Ok(stamp) => format!("{}: {line}", stamp.strftime("%Y-%m-%dT%H:%M:%S%:z")),
            Err(_) => line.to_owned(),
        }
    }

    fn paint(&self, colour: Option<&str>, text: &str) -> String {
        match colour {
            Some(colour) if self.style.colour => format!("\x1b[{colour}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    fn run_started(&self, builds: &[String]) {
        let mut state = self.state();
        state.started = Some(Instant::now());
        state.names = builds.to_vec();
        drop(state);
        if self.style.colour {
            for (place, build) in builds.iter().enumerate() {
                let text = format!("{build}: output will be in this color.");
                self.line(&self.paint(Some(colour_of(place)), &text));
            }
            if !builds.is_empty() {
                self.line("");
            }
        }
    }

    fn build_started(&self, event: &Event, build: &Arc<str>) {
        let mut state = self.state();
        let Some(place) = state.place(event) else { return };
        let bar = self.live.as_ref().map(|live| {
            let bar = live.add(ProgressBar::new_spinner());
            let template = "{spinner} {prefix} {elapsed} {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(build.to_string());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        state.live.insert(place, Live { bar, what: String::new() });
    }

    fn live_text(&self, event: &Event, text: String) {
        let mut state = self.state();
        let Some(place) = state.place(event) else { return };
        if let Some(live) = state.live.get_mut(&place) {
            if let Some(bar) = &live.bar {
                bar.set_message(text.clone());
            }
            live.what = text;
        }
    }

    fn build_finished(&self, event: &Event, ended: Ended, duration: Duration) {
        let build = &ended.build;
        let text = ending(build, ended.outcome, ended.error.as_deref(), duration);
        let red = !matches!(ended.outcome, Outcome::Finished | Outcome::Reused);
        let mut state = self.state();
        let live = state.place(event).and_then(|place| state.live.remove(&place));
        if let Some(Live { bar: Some(bar), .. }) = live {
            bar.finish_and_clear();
        }
        let colour = if red { Some(RED) } else { state.colour(event) };
        state.ended.push(ended);
        drop(state);
        self.line(&self.stamped(event.time, &self.paint(colour, &text)));
    }

    fn summary(&self, duration: Duration) {
        let state = self.state();
        if state.started.is_none() {
            return;
        }
        self.line(&format!("\n==> Wait completed after {}", long_duration(duration)));
        let failed = state.ended.iter().filter(|e| e.error.is_some()).collect::<Vec<_>>();
        if !failed.is_empty() {
            let head = "\n==> Some builds didn't complete successfully and had errors:";
            self.line(&self.paint(Some(RED), head));
            for ended in failed {
                let text = ended.error.as_deref().unwrap_or_default();
                self.line(&self.paint(Some(RED), &format!("--> {}: {text}", ended.build)));
            }
        }
        let made = state.ended.iter().flat_map(|e| e.artifacts.iter().map(move |a| (e, a)));
        let lines: Vec<String> =
            made.map(|(ended, artifact)| format!("--> {}: {artifact}", ended.build)).collect();
        if lines.is_empty() {
            self.line("\n==> Builds finished but no artifacts were created.");
            return;
        }
        self.line("\n==> Builds finished. The artifacts of successful builds are:");
        for line in lines {
            self.line(&line);
        }
    }
}

impl Report for Human {
    fn event(&self, event: &Event) {
        self.speakers.note(event);
        match &event.kind {
            EventKind::RunStarted { builds, .. } => self.run_started(builds),
            EventKind::BuildStarted {} => {
                if let Some(build) = &event.build {
                    self.build_started(event, build);
                }
            }
            EventKind::Say { text } | EventKind::Message { text } => {
                self.say(event, text, false);
                self.live_text(event, text.lines().next().unwrap_or_default().to_owned());
            }
            EventKind::Error { text } => self.say(event, text, true),
            EventKind::Output { line, .. } => self.say(event, line, false),
            EventKind::Progress { what, done, total, unit } => {
                self.live_text(event, progress_text(what, *done, *total, unit));
            }
            EventKind::Step { node, state } if state == "running" => {
                self.live_text(event, node.replace(['-', '_'], " "));
            }
            EventKind::BuildFinished { outcome, duration, error, artifacts } => {
                let Some(build) = event.build.clone() else { return };
                let (outcome, error, artifacts) = (*outcome, error.clone(), artifacts.clone());
                self.build_finished(event, Ended { build, outcome, error, artifacts }, *duration);
            }
            EventKind::RunFinished { duration, .. } => self.summary(*duration),
            _ => {}
        }
    }

    fn notice(&self, text: &str) {
        match &self.live {
            Some(_) => self.line(text),
            None => out::stderr_line(text),
        }
    }

    fn finish(&self) {
        if let Some(live) = &self.live {
            // Drawn lines that cannot be cleared are no harm.
            let _ = live.clear();
        }
    }
}

/// How a build ended, in Packer's words where Packer has any: scripts match them.
pub(crate) fn ending(
    build: &str,
    outcome: Outcome,
    error: Option<&str>,
    duration: Duration,
) -> String {
    let took = long_duration(duration);
    let why = error.unwrap_or("cancelled");
    match outcome {
        Outcome::Reused => {
            format!(
                "Build '{build}' is up to date after {took}: nothing that goes into it changed."
            )
        }
        Outcome::Finished => format!("Build '{build}' finished after {took}."),
        Outcome::Skipped => format!("Build '{build}' was not started: {why}"),
        Outcome::Errored | Outcome::Cancelled => {
            format!("Build '{build}' errored after {took}: {why}")
        }
    }
}

fn progress_text(what: &str, done: u64, total: Option<u64>, unit: &str) -> String {
    let amount = |n: u64| match unit {
        "bytes" => indicatif::HumanBytes(n).to_string(),
        unit => format!("{n} {unit}"),
    };
    match total {
        Some(total) if total > 0 => {
            format!("{what}: {} of {} ({} %)", amount(done), amount(total), done * 100 / total)
        }
        _ => format!("{what}: {}", amount(done)),
    }
}

/// The two largest parts of a duration in words: `1 minute 5 seconds`, `15 milliseconds`.
pub(crate) fn long_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let parts = [
        (millis / 86_400_000, "day"),
        (millis / 3_600_000 % 24, "hour"),
        (millis / 60_000 % 60, "minute"),
        (millis / 1000 % 60, "second"),
        (millis % 1000, "millisecond"),
    ];
    let words: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .take(2)
        .map(|(n, unit)| format!("{n} {unit}{}", if *n == 1 { "" } else { "s" }))
        .collect();
    if words.is_empty() { "0 milliseconds".into() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_their_two_largest_parts() {
        let told = |ms| long_duration(Duration::from_millis(ms));
        assert_eq!(told(0), "0 milliseconds");
        assert_eq!(told(1002), "1 second 2 milliseconds");
        assert_eq!(told(65_000), "1 minute 5 seconds");
        assert_eq!(told(3_600_001), "1 hour 1 millisecond");
    }
}
