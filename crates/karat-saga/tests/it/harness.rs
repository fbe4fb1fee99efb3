//! The harness on a good saga, and on bad ones, which it must catch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use karat_saga::harness::{Fixture, check_saga};
use karat_saga::{Saga, Step, StepContext, StepError, StepRegistry};
use serde::{Deserialize, Serialize};

use crate::files::Files;

#[test]
fn files_saga_leaves_nothing() {
    let checked = check_saga("harness::files_saga_leaves_nothing", &Files);
    if checked.scenarios == 0 {
        return; // In the child.
    }
    // Four nodes with three points each, one of a step's own, and the three temporary nodes' undoing.
    assert_eq!(checked.points.len(), 4 * 3 + 1 + 3 * 3, "{:?}", checked.points);
    assert!(checked.points.contains(&"draft:between".to_owned()));
    assert_eq!(checked.kills, 2 * 22 + 2 * 4 * 3 + 2 * 4 * 3);
}

/// Appends on every run: not idempotent.
#[derive(Debug, Serialize, Deserialize)]
struct Append {
    path: PathBuf,
}

impl Step for Append {
    const KIND: &'static str = "test.append";
    type Output = ();

    fn lifetime(&self) -> karat_saga::Lifetime {
        karat_saga::Lifetime::Kept
    }

    async fn run(&self, _: &StepContext) -> Result<(), StepError> {
        let old = std::fs::read_to_string(&self.path).unwrap_or_default();
        std::fs::write(&self.path, old + "x").map_err(|e| StepError::because("could not write", e))
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        let _ = std::fs::remove_file(&self.path);
        Ok(())
    }
}

/// Forgets what it made unless it finished.
#[derive(Debug, Serialize, Deserialize)]
struct Forgetful {
    path: PathBuf,
}

impl Step for Forgetful {
    const KIND: &'static str = "test.forgetful";
    type Output = PathBuf;

    async fn run(&self, _: &StepContext) -> Result<PathBuf, StepError> {
        std::fs::write(&self.path, "").map_err(|e| StepError::because("could not write", e))?;
        Ok(self.path.clone())
    }

    async fn undo(&self, _: &StepContext, done: Option<PathBuf>) -> Result<(), StepError> {
        if let Some(path) = done {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

struct Bad<S: Step, F: Fn(&Path) -> S>(F);

impl<S: Step, F: Fn(&Path) -> S> Fixture for Bad<S, F> {
    fn saga(&self, world: &Path) -> Saga {
        Saga::new("bad").step("bad", self.0(world)).build().unwrap()
    }

    fn registry(&self) -> StepRegistry {
        StepRegistry::new().with::<S>()
    }

    fn snapshot(&self, world: &Path) -> BTreeMap<String, String> {
        Files.snapshot(world)
    }
}

#[test]
#[should_panic(expected = "repeat@*:effect: the world is not as it should be")]
fn a_step_that_cannot_run_twice_is_caught() {
    let bad = Bad(|world| Append { path: world.join("log") });
    check_saga("harness::a_step_that_cannot_run_twice_is_caught", &bad);
}

#[test]
#[should_panic(expected = "fail@bad:effect: the world is not as it should be")]
fn a_step_that_undoes_only_what_finished_is_caught() {
    let bad = Bad(|world| Forgetful { path: world.join("file") });
    check_saga("harness::a_step_that_undoes_only_what_finished_is_caught", &bad);
}
