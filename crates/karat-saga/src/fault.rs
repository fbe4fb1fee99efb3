//! Failures on request, at any point of a saga.
//!
//! A specification is a list of entries with commas between them: `ACTION@NODE:PHASE`, `ACTION@SAGA/NODE:PHASE`,
//! either with `#N` for the Nth time only, or `list`. `*` stands for any name.
//!
//! | action | what happens |
//! |---|---|
//! | `kill` | this process ends by SIGKILL, as in a crash |
//! | `fail` | the step fails |
//! | `enospc` | the step fails as on a full disk |
//! | `cancel` | the saga is cancelled, as by Ctrl-C |
//! | `repeat` | the step runs, or is undone, once more, as if its result had been lost |
//! | `list` | nothing; the points that were passed are collected |
//!
//! | phase | when |
//! |---|---|
//! | `before` | the intent is in the journal, nothing has been done |
//! | `effect` | the step ran; its result is not stored |
//! | `after` | the result is stored |
//! | `undo-before` | the intent to undo is in the journal, nothing has been undone |
//! | `undo-effect` | the step is undone; this is not stored |
//! | `undo-after` | it is stored |
//! | other | a step's own [`fault_point`](crate::StepContext::fault_point) |

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::step::StepError;

/// The intent is in the journal, nothing has been done.
pub const BEFORE: &str = "before";
/// The step ran; its result is not stored.
pub const EFFECT: &str = "effect";
/// The result is stored.
pub const AFTER: &str = "after";
/// The intent to undo is in the journal, nothing has been undone.
pub const UNDO_BEFORE: &str = "undo-before";
/// The step is undone; this is not stored.
pub const UNDO_EFFECT: &str = "undo-effect";
/// It is stored that the step is undone.
pub const UNDO_AFTER: &str = "undo-after";

/// The phases that every node passes in a saga that is run and undone.
pub const PHASES: [&str; 6] = [BEFORE, EFFECT, AFTER, UNDO_BEFORE, UNDO_EFFECT, UNDO_AFTER];

/// The faults to inject. Cloning shares the counts.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    rules: Vec<Rule>,
    list: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often each rule has matched.
    matched: Vec<u64>,
    /// Points in the order in which they were first passed.
    seen: Vec<String>,
    count: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    action: Action,
    saga: Option<String>,
    node: String,
    phase: String,
    nth: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Fail,
    Enospc,
    Cancel,
    Repeat,
}

/// A place in a saga.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) saga: &'a str,
    pub(crate) node: &'a str,
    pub(crate) phase: &'a str,
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.saga, self.node, self.phase)
    }
}

/// A fault specification that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault `{entry}` (column {column}): {problem}")]
pub struct FaultSpecError {
    /// The entry at fault.
    pub entry: String,
    /// Where it begins in the text, counted in characters from 1.
    pub column: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl FaultSpecError {
    /// What an entry looks like.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "write ACTION@NODE:PHASE or ACTION@SAGA/NODE:PHASE, with `#N` behind for the Nth time only; \
         actions: kill, fail, enospc, cancel, repeat; \
         phases: before, effect, after, undo-before, undo-effect, undo-after; or `list`"
    }
}

impl Faults {
    /// Injects nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads a specification. An empty text injects nothing.
    ///
    /// # Errors
    /// When an entry has another form than the ones above.
    pub fn parse(text: &str) -> Result<Self, FaultSpecError> {
        let mut rules = Vec::new();
        let mut list = false;
        let mut column = 1;
        for raw in text.split(',') {
            let entry = raw.trim();
            let start = column + raw.chars().take_while(|c| c.is_whitespace()).count();
            column += raw.chars().count() + 1;
            match entry {
                "" => {}
                "list" => list = true,
                _ => rules.push(Rule::parse(entry).map_err(|problem| FaultSpecError {
                    entry: entry.to_owned(),
                    column: start,
                    problem,
                })?),
            }
        }
        if rules.is_empty() && !list {
            return Ok(Self::none());
        }
        let state = State { matched: vec![0; rules.len()], ..State::default() };
        Ok(Self { shared: Some(Arc::new(Shared { rules, list, state: Mutex::new(state) })) })
    }

    /// Whether `list` was asked for.
    #[must_use]
    pub fn wants_list(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.list)
    }

    /// The points passed so far, each once as `SAGA/NODE:PHASE`, in order. Empty unless anything is injected
    /// or `list` was asked for.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.shared
            .as_ref()
            .map(|shared| shared.state.lock().unwrap_or_else(PoisonError::into_inner).seen.clone())
            .unwrap_or_default()
    }

    /// Passes a point. `Ok(true)` asks for a repetition.
    pub(crate) fn pass(
        &self,
        point: &Point<'_>,
        cancel: &CancellationToken,
    ) -> Result<bool, StepError> {
        let Some(shared) = &self.shared else { return Ok(false) };
        let mut due = Vec::new();
        {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let name = point.to_string();
            let count = state.count.entry(name.clone()).or_insert(0);
            *count += 1;
            if *count == 1 {
                state.seen.push(name);
            }
            for (rule, matched) in shared.rules.iter().zip(&mut state.matched) {
                if rule.matches(point) {
                    *matched += 1;
                    if rule.nth.is_none_or(|nth| nth == *matched) {
                        due.push(rule.action);
                    }
                }
            }
        }
        let mut repeat = false;
        for action in due {
            tracing::warn!(%point, ?action, "injecting a fault");
            match action {
                Action::Kill => kill_self(),
                Action::Fail => {
                    return Err(StepError::new(format!("injected failure at {point}")));
                }
                Action::Enospc => {
                    return Err(StepError::because(
                        format!("injected failure at {point}"),
                        io::Error::from(io::ErrorKind::StorageFull),
                    ));
                }
                Action::Cancel => cancel.cancel(),
                Action::Repeat => repeat = true,
            }
        }
        Ok(repeat)
    }

    pub(crate) fn reach(
        &self,
        point: &Point<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        self.pass(point, cancel).map(|_repeat| ())
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shared {
            None => f.write_str("Faults(none)"),
            Some(shared) => f.debug_tuple("Faults").field(&shared.rules).finish(),
        }
    }
}

impl Rule {
    fn parse(entry: &str) -> Result<Self, String> {
        let (action, place) = entry.split_once('@').ok_or_else(|| "there is no `@`".to_owned())?;
        let action = match action {
            "kill" => Action::Kill,
            "fail" => Action::Fail,
            "enospc" => Action::Enospc,
            "cancel" => Action::Cancel,
            "repeat" => Action::Repeat,
            other => return Err(format!("there is no action `{other}`")),
        };
        let (place, nth) = match place.rsplit_once('#') {
            None => (place, None),
            Some((place, count)) => match count.parse::<u64>() {
                Ok(nth) if nth > 0 => (place, Some(nth)),
                _ => return Err(format!("`{count}` is not a count from 1 on")),
            },
        };
        let (place, phase) = place
            .rsplit_once(':')
            .ok_or_else(|| "there is no `:` with a phase behind it".to_owned())?;
        let (saga, node) = match place.rsplit_once('/') {
            None => (None, place),
            Some((saga, node)) => (Some(saga.to_owned()), node),
        };
        if node.is_empty() || phase.is_empty() || saga.as_deref() == Some("") {
            return Err("a name is missing".to_owned());
        }
        Ok(Self { action, saga, node: node.to_owned(), phase: phase.to_owned(), nth })
    }

    fn matches(&self, point: &Point<'_>) -> bool {
        let fits = |wanted: &str, name: &str| wanted == "*" || wanted == name;
        self.saga.as_deref().is_none_or(|saga| fits(saga, point.saga))
            && fits(&self.node, point.node)
            && fits(&self.phase, point.phase)
    }
}

/// Ends this process as a crash would: no destructor runs and nothing is flushed.
fn kill_self() -> ! {
    let sent =
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    if let Err(error) = sent {
        tracing::error!(%error, "could not send SIGKILL to this process");
    }
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point<'a>(saga: &'a str, node: &'a str, phase: &'a str) -> Point<'a> {
        Point { saga, node, phase }
    }

    #[test]
    fn a_rule_fires_at_its_place_and_count_only() {
        let faults = Faults::parse(" fail@web/launch:before#2 , repeat@*:effect,list").unwrap();
        let cancel = CancellationToken::new();
        let launch = point("web", "launch", BEFORE);
        assert!(!faults.pass(&launch, &cancel).unwrap());
        assert!(
            faults.pass(&launch, &cancel).unwrap_err().to_string().contains("web/launch:before")
        );
        assert!(!faults.pass(&launch, &cancel).unwrap());
        assert!(faults.pass(&point("db", "launch", BEFORE), &cancel).is_ok());
        assert!(faults.pass(&point("db", "any", EFFECT), &cancel).unwrap());
        assert_eq!(faults.seen(), ["web/launch:before", "db/launch:before", "db/any:effect"]);
        assert!(!cancel.is_cancelled());
        let faults = Faults::parse("cancel@x:own,enospc@y:after").unwrap();
        faults.pass(&point("s", "x", "own"), &cancel).unwrap();
        assert!(cancel.is_cancelled());
        let full = faults.pass(&point("s", "y", AFTER), &cancel).unwrap_err();
        assert!(full.chain().contains("no storage space"), "{}", full.chain());
    }

    #[test]
    fn a_bad_entry_is_named_with_its_column() {
        let cases = [
            ("kill@a:before, explode@b:after", 16, "there is no action `explode`"),
            ("kill", 1, "there is no `@`"),
            ("kill@a", 1, "there is no `:` with a phase behind it"),
            ("kill@a:before#0", 1, "`0` is not a count from 1 on"),
            ("kill@:before", 1, "a name is missing"),
            ("é,kill@/a:before", 1, "there is no `@`"),
        ];
        for (text, column, problem) in cases {
            let error = Faults::parse(text).unwrap_err();
            assert_eq!((error.column, error.problem.as_str()), (column, problem), "{text}");
        }
        assert!(Faults::parse("").unwrap().seen().is_empty());
    }
}
