//! How a long operation talks to its caller: progress out, cancellation in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{Error, Result};

/// What a long operation is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A phase began, in words for a person: "resolving packages".
    Phase(String),
    /// Within the phase: how many of how many units are done.
    Done {
        /// Units finished.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What a unit is: "bytes", "packages", "files".
        unit: &'static str,
    },
    /// A line of a program that ran, such as dpkg.
    Output(String),
    /// Something to tell the user that does not stop the work.
    Warning(String),
}

/// The caller's side of a long operation. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    cancel: Arc<AtomicBool>,
    report: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { cancel: Arc::default(), report: Arc::new(|_| {}) }
    }
}

impl Control {
    /// Stops when `cancel` turns true, and calls `report` as the work goes on, from any thread.
    pub fn new(cancel: Arc<AtomicBool>, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { cancel, report: Arc::new(report) }
    }

    /// The flag that stops the work when set.
    #[must_use]
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Whether the caller asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Fails when the caller asked to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn phase(&self, words: impl Into<String>) {
        let words = words.into();
        tracing::debug!(phase = %words);
        (self.report)(Progress::Phase(words));
    }

    pub(crate) fn done(&self, done: u64, total: u64, unit: &'static str) {
        (self.report)(Progress::Done { done, total, unit });
    }

    pub(crate) fn output(&self, line: impl Into<String>) {
        (self.report)(Progress::Output(line.into()));
    }
}

/// Runs `work` on every item with as many threads as there are processors, in order of the items.
/// The first error stops the rest.
pub(crate) fn parallel<T: Sync, R: Send>(
    items: &[T],
    control: &Control,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(items.len());
    if threads <= 1 {
        return items.iter().map(|item| control.check().and_then(|()| work(item))).collect();
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let parts: Vec<Result<Vec<(usize, R)>>> =
        std::thread::scope(|scope| {
            let run = || {
                let mut out = Vec::new();
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    match control.check().and_then(|()| work(item)) {
                        Ok(value) => out.push((index, value)),
                        Err(error) => {
                            failed.store(true, Ordering::Relaxed);
                            return Err(error);
                        }
                    }
                }
                Ok(out)
            };
            // A thread that has left its process namespace cannot start others; it works alone then.
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, run).ok();
            let handles: Vec<_> = (1..threads).map_while(spawn).collect();
            let mut parts = vec![run()];
            parts.extend(handles.into_iter().map(|handle| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }));
            parts
        });
    let mut all = Vec::with_capacity(items.len());
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, value)| value).collect())
}
