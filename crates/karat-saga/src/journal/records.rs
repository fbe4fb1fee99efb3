//! What the journal tells about runs, sagas, nodes and events.

use crate::context::Outputs;
use serde_json::Value;

use crate::ids::{RunId, SagaId};
use crate::state::{NodeState, SagaState};
use crate::step::Lifetime;

/// What a run writes down about itself when it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunInfo {
    /// The version of the program.
    pub version: String,
    /// The command line, with the values of secrets already masked.
    pub command: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// The template's path, as it was given.
    pub template: Option<String>,
    /// The digest of everything that goes into the run.
    pub fingerprint: Option<String>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It has not ended, or its process died: [`RunRecord::live`] tells.
    Running,
    /// It ended well.
    Succeeded,
    /// Something in it failed.
    Failed,
    /// The user ended it.
    Cancelled,
    /// Its process died, and what it left was undone later.
    Recovered,
}

impl RunState {
    const ALL: [Self; 5] =
        [Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Recovered];

    /// The name under which the journal stores it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Recovered => "recovered",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A run, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// What it wrote about itself.
    pub info: RunInfo,
    /// How it stands.
    pub state: RunState,
    /// Milliseconds since 1970-01-01 UTC.
    pub started_ms: i64,
    /// Milliseconds since 1970-01-01 UTC; `None` while it runs, or when its process died.
    pub ended_ms: Option<i64>,
    /// The process that holds or last held it.
    pub pid: Option<u32>,
    /// Whether a live process holds it.
    pub live: bool,
    /// How many of its sagas have something left to be undone or resumed.
    pub unsettled: u64,
}

/// A saga, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct SagaRecord {
    /// The saga.
    pub id: SagaId,
    /// Its run.
    pub run: RunId,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: SagaState,
    /// Why it failed.
    pub error: Option<String>,
    /// Its nodes in order.
    pub nodes: Vec<NodeRecord>,
}

impl SagaRecord {
    /// What its nodes returned.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        let mut outputs = Outputs::default();
        for node in &self.nodes {
            if let Some(output) = &node.output {
                outputs.insert(&node.name, output.clone());
            }
        }
        outputs
    }
}

/// A node, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRecord {
    /// Its name in the saga.
    pub name: String,
    /// Its step's kind.
    pub kind: String,
    /// Its step's parameters.
    pub params: Value,
    /// What becomes of its effect at success.
    pub lifetime: Lifetime,
    /// How it stands.
    pub state: NodeState,
    /// What its step returned.
    pub output: Option<Value>,
    /// Why it, or undoing it, failed.
    pub error: Option<String>,
}

/// An event of a run, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its number in the run.
    pub seq: u64,
    /// When it was stored: milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Its text, as it was given.
    pub body: String,
}
