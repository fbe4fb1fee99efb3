//! The states of nodes and sagas, and the one function each by which they change.
//!
//! Nothing else moves a node or a saga: the journal reads the stored state, asks here, and stores the answer.
//! A change that is not in the tables below is refused.

use std::fmt;

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeState {
    /// Not touched yet.
    Pending,
    /// It is written down that the step runs: its effect may be there, in part or as a whole.
    Running,
    /// The step ran, and its output is stored.
    Done,
    /// The step failed or was cut off: its effect may be there in part.
    Failed,
    /// It is written down that the step is being undone.
    Undoing,
    /// The effect is gone.
    Undone,
    /// Undoing failed for good: the effect may still be there.
    UndoFailed,
}

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeEvent {
    /// The step is about to run.
    Start,
    /// It ran.
    Finish,
    /// It failed.
    Fail,
    /// It is about to be undone.
    Undo,
    /// It is undone.
    UndoFinish,
    /// Undoing it failed.
    UndoFail,
}

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SagaState {
    /// Nodes run.
    Running,
    /// Every node is done; what was temporary is being undone.
    Settling,
    /// A node failed, or the saga was cancelled; everything is being undone.
    Unwinding,
    /// Complete: what is kept stands, what was temporary is gone.
    Succeeded,
    /// Undone.
    Failed,
    /// Stopped after a failure with everything left in place, as was asked for.
    Aborted,
}

/// What happens to a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SagaEvent {
    /// The last node is done.
    Complete,
    /// What was temporary is gone.
    Settle,
    /// Undoing begins.
    Unwind,
    /// Everything is undone.
    Unwound,
    /// Everything is left in place.
    Abort,
    /// The saga goes on from the first node that is not done.
    Resume,
}

/// A change of state that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} that is {state} cannot {event}")]
pub struct Refused {
    what: &'static str,
    state: &'static str,
    event: String,
}

impl NodeState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Undoing,
        Self::Undone,
        Self::UndoFailed,
    ];

    /// The state after an event.
    ///
    /// # Errors
    /// When a node in this state cannot have that event.
    pub fn next(self, event: NodeEvent) -> Result<Self, Refused> {
        use NodeEvent as E;
        match (self, event) {
            // `Running` and `Failed` again: after a crash, on retry. `Undone` again: on resume.
            (Self::Pending | Self::Running | Self::Failed | Self::Undone, E::Start)
            // An undo that failed, or was cut off, may have removed something: running finds what is there.
            | (Self::Undoing | Self::UndoFailed, E::Start) => Ok(Self::Running),
            (Self::Running, E::Finish) => Ok(Self::Done),
            (Self::Running, E::Fail) => Ok(Self::Failed),
            (
                Self::Running | Self::Done | Self::Failed | Self::Undoing | Self::UndoFailed,
                E::Undo,
            ) => Ok(Self::Undoing),
            (Self::Undoing, E::UndoFinish) => Ok(Self::Undone),
            (Self::Undoing, E::UndoFail) => Ok(Self::UndoFailed),
            _ => Err(Refused {
                what: "a step",
                state: self.as_str(),
                event: format!("{event:?}"),
            }),
        }
    }

    /// Whether there may be something to undo.
    #[must_use]
    pub fn may_have_effect(self) -> bool {
        !matches!(self, Self::Pending | Self::Undone)
    }

    /// The name under which the journal stores it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
        }
    }

    /// The state of a stored name.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl SagaState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Settling,
        Self::Unwinding,
        Self::Succeeded,
        Self::Failed,
        Self::Aborted,
    ];

    /// The state after an event.
    ///
    /// # Errors
    /// When a saga in this state cannot have that event.
    pub fn next(self, event: SagaEvent) -> Result<Self, Refused> {
        use SagaEvent as E;
        match (self, event) {
            (Self::Running, E::Complete) => Ok(Self::Settling),
            (Self::Settling, E::Settle) => Ok(Self::Succeeded),
            (Self::Running | Self::Unwinding | Self::Aborted, E::Unwind) => Ok(Self::Unwinding),
            (Self::Unwinding, E::Unwound) => Ok(Self::Failed),
            (Self::Running, E::Abort) => Ok(Self::Aborted),
            (Self::Running | Self::Unwinding | Self::Aborted | Self::Failed, E::Resume) => {
                Ok(Self::Running)
            }
            _ => Err(Refused { what: "a saga", state: self.as_str(), event: format!("{event:?}") }),
        }
    }

    /// Whether nothing is left to do: what is there is meant to be there.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The name under which the journal stores it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Settling => "settling",
            Self::Unwinding => "unwinding",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// The state of a stored name.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SagaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [NodeEvent; 6] = [
        NodeEvent::Start,
        NodeEvent::Finish,
        NodeEvent::Fail,
        NodeEvent::Undo,
        NodeEvent::UndoFinish,
        NodeEvent::UndoFail,
    ];
    const SAGA_EVENTS: [SagaEvent; 6] = [
        SagaEvent::Complete,
        SagaEvent::Settle,
        SagaEvent::Unwind,
        SagaEvent::Unwound,
        SagaEvent::Abort,
        SagaEvent::Resume,
    ];

    #[test]
    fn names_are_distinct_and_read_back() {
        for state in NodeState::ALL {
            assert_eq!(NodeState::from_stored(state.as_str()), Some(state));
        }
        for state in SagaState::ALL {
            assert_eq!(SagaState::from_stored(state.as_str()), Some(state));
        }
        assert_eq!(NodeState::from_stored("gone"), None);
    }

    #[test]
    fn a_refusal_names_state_and_event() {
        let refused = NodeState::Pending.next(NodeEvent::Finish).unwrap_err();
        assert_eq!(refused.to_string(), "a step that is pending cannot Finish");
        assert!(SagaState::Succeeded.next(SagaEvent::Resume).is_err());
        assert!(SagaState::Settling.next(SagaEvent::Unwind).is_err());
    }

    #[test]
    fn what_may_have_an_effect_can_be_undone_and_nothing_else() {
        for state in NodeState::ALL {
            assert_eq!(state.next(NodeEvent::Undo).is_ok(), state.may_have_effect(), "{state}");
        }
    }

    proptest! {
        /// Whatever happens, an effect is never lost sight of: once a step has begun, the node counts as
        /// having an effect until an undo has finished, and `Done` is reached through `Running` alone.
        #[test]
        fn an_effect_is_forgotten_only_by_undoing(events in prop::collection::vec(0..6_usize, 0..40)) {
            let mut state = NodeState::Pending;
            let mut effect = false;
            for index in events {
                let event = EVENTS[index];
                match state.next(event) {
                    Ok(next) => {
                        match event {
                            NodeEvent::Start => effect = true,
                            NodeEvent::UndoFinish => effect = false,
                            NodeEvent::Finish => prop_assert_eq!(state, NodeState::Running),
                            _ => {}
                        }
                        state = next;
                    }
                    Err(refused) => prop_assert!(refused.to_string().contains(state.as_str())),
                }
                prop_assert_eq!(state.may_have_effect(), effect);
            }
        }

        /// Success is final, and is reached only by completing and settling; from every other state a saga
        /// can still be brought to an end.
        #[test]
        fn a_saga_can_always_end(events in prop::collection::vec(0..6_usize, 0..40)) {
            let mut state = SagaState::Running;
            for index in events {
                let event = SAGA_EVENTS[index];
                let Ok(next) = state.next(event) else { continue };
                prop_assert!(state != SagaState::Succeeded);
                if next == SagaState::Succeeded {
                    prop_assert_eq!((state, event), (SagaState::Settling, SagaEvent::Settle));
                }
                state = next;
            }
            let end = match state {
                SagaState::Settling => state.next(SagaEvent::Settle),
                settled if settled.is_settled() => Ok(settled),
                other => other.next(SagaEvent::Unwind).and_then(|s| s.next(SagaEvent::Unwound)),
            };
            prop_assert!(end.unwrap().is_settled());
        }
    }
}
