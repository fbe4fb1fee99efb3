//! A step whose behaviour a test chooses, and a record of what was called.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use karat_saga::{Lifetime, Saga, SagaError, Services, Step, StepContext, StepError, StepRegistry};
use serde::{Deserialize, Serialize};

/// What was called, in order: `run a`, `undo a`.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Vec<String>>);

impl Calls {
    pub(crate) fn add(&self, call: String) {
        self.0.lock().unwrap().push(call);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until this was called.
    pub(crate) async fn reached(&self, call: &str) {
        while self.count(call) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.all().iter().filter(|c| *c == call).count()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub(crate) enum Does {
    #[default]
    Succeed,
    /// Fails the first N times.
    Fail(usize),
    Panic,
    /// Waits until told to end, then obeys.
    WaitPolitely,
    /// Waits and does not listen.
    WaitDeaf,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) run: Does,
    pub(crate) undo: Does,
    pub(crate) kept: bool,
}

impl Probe {
    pub(crate) fn runs(run: Does) -> Self {
        Self { run, ..Self::default() }
    }

    pub(crate) fn undoes(undo: Does) -> Self {
        Self { undo, ..Self::default() }
    }

    pub(crate) fn kept() -> Self {
        Self { kept: true, ..Self::default() }
    }
}

async fn act(does: &Does, call: &str, cx: &StepContext) -> Result<(), StepError> {
    let calls = cx.service::<Calls>()?;
    let call = format!("{call} {}", cx.node());
    calls.add(call.clone());
    match does {
        Does::Succeed => Ok(()),
        Does::Fail(times) if calls.count(&call) > *times => Ok(()),
        Does::Fail(_) => Err(StepError::new(format!("{call} does not want to"))),
        Does::Panic => panic!("{call} panics"),
        Does::WaitPolitely => {
            cx.cancelled().await;
            calls.add(format!("told {}", cx.node()));
            Err(StepError::cancelled())
        }
        Does::WaitDeaf => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
    }
}

impl Step for Probe {
    const KIND: &'static str = "test.probe";
    type Output = String;

    fn lifetime(&self) -> Lifetime {
        if self.kept { Lifetime::Kept } else { Lifetime::Temporary }
    }

    async fn run(&self, cx: &StepContext) -> Result<String, StepError> {
        act(&self.run, "run", cx).await?;
        Ok(format!("made by {}", cx.node()))
    }

    async fn undo(&self, cx: &StepContext, done: Option<String>) -> Result<(), StepError> {
        assert!(done.is_none_or(|output| output == format!("made by {}", cx.node())));
        act(&self.undo, "undo", cx).await
    }
}

pub(crate) fn saga<const N: usize>(steps: [(&str, Probe); N]) -> Result<Saga, SagaError> {
    let mut saga = Saga::new("probes");
    for (name, step) in steps {
        saga = saga.step(name, step);
    }
    saga.build()
}

pub(crate) fn registry() -> StepRegistry {
    StepRegistry::new().with::<Probe>()
}

pub(crate) fn services() -> (Services, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    (Services::new().with(Arc::clone(&calls)), calls)
}
