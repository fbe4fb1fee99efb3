//! What happens during a run, as data. Reports and the stored record consume this one stream.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::mask::Masker;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 within a run.
    pub seq: u64,
    /// When, by the wall clock.
    #[serde(with = "unix_millis")]
    pub time: SystemTime,
    /// The build that it belongs to (`null.a`, `base.machine.debian`); none for the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Arc<str>>,
    /// Its place among the builds of [`EventKind::RunStarted`], from 0: several may have one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Which of a command's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It made what it should.
    Finished,
    /// Nothing had changed, and what an earlier build made was taken.
    Reused,
    /// It failed.
    Errored,
    /// It was stopped.
    Cancelled,
    /// It did not start, because one that it needs did not succeed.
    Skipped,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A run begins.
    RunStarted {
        /// The run's id, as `karat logs` takes it.
        run: String,
        /// The builds of it, in the order of the template.
        builds: Vec<String>,
    },
    /// A build begins.
    BuildStarted {},
    /// A heading: a step of a build, in words.
    Say {
        /// The text, one or more lines.
        text: String,
    },
    /// A line below a heading.
    Message {
        /// The text, one or more lines.
        text: String,
    },
    /// Something went wrong, in words.
    Error {
        /// The text, one or more lines.
        text: String,
    },
    /// A line that a command printed.
    Output {
        /// From which output.
        stream: Stream,
        /// The line without its end.
        line: String,
    },
    /// A long operation got on.
    Progress {
        /// What is being done ("copying disk").
        what: String,
        /// How much is done.
        done: u64,
        /// How much there is, if known.
        total: Option<u64>,
        /// Unit of both: `bytes`, `files`, `packages`, ….
        unit: String,
    },
    /// A step of a saga changed its state.
    Step {
        /// The node's name.
        node: String,
        /// `running`, `done`, `failed`, `undoing`, `undone`, ….
        state: String,
    },
    /// A provisioner or post-processor begins.
    ComponentStarted {
        /// `provisioner`, `error-cleanup-provisioner` or `post-processor`.
        kind: String,
        /// Its type.
        component: String,
        /// Its place in the build, from 0.
        index: usize,
    },
    /// A provisioner or post-processor ended.
    ComponentFinished {
        /// `provisioner`, `error-cleanup-provisioner` or `post-processor`.
        kind: String,
        /// Its type.
        component: String,
        /// Its place in the build, from 0.
        index: usize,
        /// How long it took, in seconds.
        #[serde(with = "seconds")]
        duration: Duration,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// Data for `-machine-readable`, as Packer's builders send it.
    Machine {
        /// The record's type.
        category: String,
        /// Its values.
        args: Vec<String>,
    },
    /// A build ended.
    BuildFinished {
        /// How.
        outcome: Outcome,
        /// How long it took, in seconds.
        #[serde(with = "seconds")]
        duration: Duration,
        /// Why it failed, if it did.
        error: Option<String>,
        /// What came out, the builder's own artifact first.
        artifacts: Vec<Artifact>,
    },
    /// The run ended.
    RunFinished {
        /// How long it took, in seconds.
        #[serde(with = "seconds")]
        duration: Duration,
        /// The exit code that the command will give.
        exit_code: i32,
    },
}

mod unix_millis {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        s.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        Ok(UNIX_EPOCH + Duration::from_millis(u64::deserialize(d)?))
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64((d.as_secs_f64() * 1e3).round() / 1e3)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

type Consumer = dyn Fn(Event) + Send + Sync;

/// Where events go. Clones share the stream and its count.
///
/// Secrets are masked here, before any consumer sees an event.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
    build: Option<Arc<str>>,
    place: Option<usize>,
}

struct Inner {
    consumer: Box<Consumer>,
    masker: Masker,
    seq: AtomicU64,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("build", &self.build).finish_non_exhaustive()
    }
}

impl Events {
    /// A stream that ends in `consumer`, which must not block for long.
    pub fn new(masker: Masker, consumer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let inner = Inner { consumer: Box::new(consumer), masker, seq: AtomicU64::new(0) };
        Self { inner: Arc::new(inner), build: None, place: None }
    }

    /// A stream that goes nowhere.
    pub fn discard() -> Self {
        Self::new(Masker::new(), |_| {})
    }

    /// The same stream, with events that belong to `build`.
    #[must_use]
    pub fn for_build(&self, build: impl Into<Arc<str>>) -> Self {
        Self { inner: Arc::clone(&self.inner), build: Some(build.into()), place: None }
    }

    /// The same stream, with events that belong to the build at `place` of the run.
    #[must_use]
    pub fn for_build_at(&self, place: usize, build: impl Into<Arc<str>>) -> Self {
        Self { place: Some(place), ..self.for_build(build) }
    }

    /// The masker that this stream goes through.
    pub fn masker(&self) -> &Masker {
        &self.inner.masker
    }

    /// Sends an event.
    pub fn emit(&self, kind: EventKind) {
        let event = Event {
            seq: self.inner.seq.fetch_add(1, Ordering::Relaxed) + 1,
            time: SystemTime::now(),
            build: self.build.as_ref().map(|build| match &self.inner.masker {
                masker if masker.is_empty() => Arc::clone(build),
                masker => masker.mask(build).into(),
            }),
            place: self.place,
            kind: self.masked(kind),
        };
        (self.inner.consumer)(event);
    }

    /// Sends a heading.
    pub fn say(&self, text: impl Into<String>) {
        self.emit(EventKind::Say { text: text.into() });
    }

    /// Sends a line below a heading.
    pub fn message(&self, text: impl Into<String>) {
        self.emit(EventKind::Message { text: text.into() });
    }

    /// Sends a failure in words.
    pub fn error(&self, text: impl Into<String>) {
        self.emit(EventKind::Error { text: text.into() });
    }

    /// Sends how far something got.
    pub fn progress(&self, what: &str, done: u64, total: Option<u64>, unit: &str) {
        self.emit(EventKind::Progress { what: what.into(), done, total, unit: unit.into() });
    }

    fn masked(&self, kind: EventKind) -> EventKind {
        let masker = &self.inner.masker;
        if masker.is_empty() {
            return kind;
        }
        let mask = |text: String| masker.mask(&text);
        match kind {
            EventKind::RunStarted { run, builds } => {
                EventKind::RunStarted { run, builds: builds.into_iter().map(mask).collect() }
            }
            EventKind::Say { text } => EventKind::Say { text: mask(text) },
            EventKind::Message { text } => EventKind::Message { text: mask(text) },
            EventKind::Error { text } => EventKind::Error { text: mask(text) },
            EventKind::Output { stream, line } => EventKind::Output { stream, line: mask(line) },
            EventKind::Progress { what, done, total, unit } => {
                EventKind::Progress { what: mask(what), done, total, unit }
            }
            EventKind::Machine { category, args } => {
                let args = args.into_iter().map(mask).collect();
                EventKind::Machine { category: masker.mask(&category), args }
            }
            EventKind::ComponentFinished { kind, component, index, duration, error } => {
                let error = error.map(mask);
                EventKind::ComponentFinished { kind, component, index, duration, error }
            }
            EventKind::BuildFinished { outcome, duration, error, artifacts } => {
                let error = error.map(mask);
                let artifacts = artifacts.into_iter().map(|a| a.masked(masker)).collect();
                EventKind::BuildFinished { outcome, duration, error, artifacts }
            }
            // Nothing of these is the user's text.
            EventKind::BuildStarted {}
            | EventKind::Step { .. }
            | EventKind::ComponentStarted { .. }
            | EventKind::RunFinished { .. } => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn secrets_do_not_reach_a_consumer() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let masker = Masker::new();
        masker.add("s3cret");
        let sink = Arc::clone(&seen);
        let events = Events::new(masker, move |e| sink.lock().unwrap().push(e));
        events.for_build("null.a").say("the password is s3cret");
        let event = seen.lock().unwrap().pop().unwrap();
        assert_eq!(event.kind, EventKind::Say { text: "the password is <sensitive>".into() });
        assert_eq!(event.build.as_deref(), Some("null.a"));
    }

    #[test]
    fn an_event_survives_its_json() {
        let event = Event {
            seq: 1,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1234),
            build: Some("null.a".into()),
            place: Some(1),
            kind: EventKind::BuildFinished {
                outcome: Outcome::Finished,
                duration: Duration::from_millis(1500),
                error: None,
                artifacts: vec![],
            },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
