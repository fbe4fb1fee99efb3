//! Whose lines are printed: the build's, or in it those of a post-processor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use karat_component::{Event, EventKind};

/// Follows the events to know which post-processor runs in which build.
#[derive(Debug, Default)]
pub(crate) struct Speakers(Mutex<BTreeMap<Who, String>>);

/// A build: several may have one name, so its place in the run counts, too.
type Who = (Option<usize>, Arc<str>);

impl Speakers {
    /// Takes note of an event.
    pub(crate) fn note(&self, event: &Event) {
        let Some(build) = &event.build else { return };
        let who = (event.place, Arc::clone(build));
        match &event.kind {
            EventKind::ComponentStarted { kind, component, .. } if kind == "post-processor" => {
                self.running().insert(who, component.clone());
            }
            EventKind::ComponentFinished { kind, .. } if kind == "post-processor" => {
                self.running().remove(&who);
            }
            _ => {}
        }
    }

    /// A line with who says it before it, as Packer has it: scripts match it.
    pub(crate) fn line(&self, event: &Event, line: &str) -> String {
        let Some(build) = &event.build else { return line.to_owned() };
        match self.running().get(&(event.place, Arc::clone(build))) {
            Some(component) => format!("==> {build} ({component}): {line}"),
            None => format!("==> {build}: {line}"),
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<Who, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
