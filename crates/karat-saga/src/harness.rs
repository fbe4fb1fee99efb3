//! The tests that every saga gets.
//!
//! [`check_saga`] runs a saga in fresh worlds: as it is; with every node run twice and undone twice; failing,
//! cancelled and out of disk space at every point; killed at every point of going forward, of undoing and of
//! recovering, in a child process, and then recovered or resumed. Each time the world must be as it was before,
//! or as after a plain success.
//!
//! The child is the same test binary, told by its environment what to do. So a test calls `check_saga` with its
//! own full name:
//!
//! ```ignore
//! #[test]
//! fn image_saga_leaves_nothing() {
//!     karat_saga::harness::check_saga("saga::image_saga_leaves_nothing", &ImageSaga);
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::executor::{Cancellation, Completed, Ending, Executor, Policy, SagaFailure, UndoPolicy};
use crate::fault::{AFTER, EFFECT, Faults};
use crate::ids::SagaId;
use crate::journal::{Journal, RunInfo, RunState};
use crate::recover::{RecoverOptions, RecoverReport, recover};
use crate::saga::Saga;
use crate::services::Services;
use crate::state::SagaState;
use crate::step::StepRegistry;

const CHILD: &str = "KARAT_SAGA_HARNESS_CHILD";
const STATE: &str = "KARAT_SAGA_HARNESS_STATE";
const WORLD: &str = "KARAT_SAGA_HARNESS_WORLD";
const FAULT: &str = "KARAT_SAGA_HARNESS_FAULT";

/// A saga to check, and the world in which it has its effects.
///
/// `world` is an empty folder, another one for each scenario. A fake cloud may keep its state in it. Names of
/// nodes are the same whenever `saga` is called.
pub trait Fixture {
    /// The saga. Called once per scenario.
    fn saga(&self, world: &Path) -> Saga;

    /// The steps of the saga.
    fn registry(&self) -> StepRegistry;

    /// What the steps need.
    fn services(&self, world: &Path) -> Services {
        let _ = world;
        Services::new()
    }

    /// Puts what has to be there before the saga runs.
    fn prepare(&self, world: &Path) {
        let _ = world;
    }

    /// What is there: everything that a step could leave. The same in every world of the same contents, so
    /// without ids made anew, times and the folder's own path.
    fn snapshot(&self, world: &Path) -> BTreeMap<String, String>;
}

/// What was checked, for a test that wants to be sure that it was enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// The fault points of a plain run, as `NODE:PHASE`.
    pub points: Vec<String>,
    /// How many scenarios were run.
    pub scenarios: usize,
    /// How many times a child process was killed.
    pub kills: usize,
}

/// Runs all scenarios. `test` is the full name of the calling test, as `cargo test -- --list` prints it.
///
/// # Panics
/// When the saga leaves the world in another state than it should, or the harness itself cannot work.
pub fn check_saga(test: &str, fixture: &dyn Fixture) -> Checked {
    if let Some(mode) = std::env::var_os(CHILD) {
        run_as_child(&mode.to_string_lossy(), fixture);
        return Checked::default();
    }
    let mut check = Check::new(test, fixture);
    check.plain();
    check.twice();
    check.failures();
    check.kills_forward();
    check.kills_backward();
    check.kills_while_recovering();
    check.checked
}

/// What one scenario works in.
struct Place {
    dir: tempfile::TempDir,
    before: BTreeMap<String, String>,
}

struct Check<'a> {
    test: &'a str,
    fixture: &'a dyn Fixture,
    names: Vec<String>,
    /// The world after a plain success.
    success: BTreeMap<String, String>,
    checked: Checked,
}

impl Place {
    fn new(fixture: &dyn Fixture) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let place = Self { dir, before: BTreeMap::new() };
        for folder in [place.world(), place.state()] {
            std::fs::create_dir(folder).expect("a folder can be made in a new one");
        }
        fixture.prepare(&place.world());
        let before = fixture.snapshot(&place.world());
        Self { before, ..place }
    }

    fn world(&self) -> PathBuf {
        self.dir.path().join("world")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }
}

impl<'a> Check<'a> {
    fn new(test: &'a str, fixture: &'a dyn Fixture) -> Self {
        let place = Place::new(fixture);
        let saga = fixture.saga(&place.world());
        let names = saga.nodes().iter().map(|node| node.name.clone()).collect();
        Self { test, fixture, names, success: BTreeMap::new(), checked: Checked::default() }
    }

    fn plain(&mut self) {
        let place = Place::new(self.fixture);
        let faults = parse("list");
        let done = execute(self.fixture, &place.state(), &place.world(), &faults);
        let done = done.unwrap_or_else(|e| panic!("the saga fails by itself: {}", describe(&e)));
        assert!(done.left.is_empty(), "temporary things are left: {:?}", done.left);
        self.success = self.fixture.snapshot(&place.world());
        self.checked.points = faults
            .seen()
            .iter()
            .map(|point| point.rsplit('/').next().unwrap_or(point).to_owned())
            .collect();
        self.settled(&place, "a plain run");
    }

    fn twice(&mut self) {
        for spec in
            ["repeat@*:effect", "repeat@*:undo-effect", "repeat@*:effect,repeat@*:undo-effect"]
        {
            let place = Place::new(self.fixture);
            execute(self.fixture, &place.state(), &place.world(), &parse(spec))
                .unwrap_or_else(|e| panic!("{spec}: {}", describe(&e)));
            self.same(&place, &self.success, spec);
            self.settled(&place, spec);
        }
    }

    fn failures(&mut self) {
        for point in self.forward_points() {
            for action in ["fail", "enospc", "cancel"] {
                for more in
                    ["", ",repeat@*:undo-effect", ",repeat@*:effect", ",fail@*:undo-before#1"]
                {
                    let spec = format!("{action}@{point}{more}");
                    let place = Place::new(self.fixture);
                    let done = execute(self.fixture, &place.state(), &place.world(), &parse(&spec));
                    match done {
                        Ok(_) => {
                            // Cancelled too late: all that was to be done was done.
                            assert!(
                                action == "cancel" && self.ends_at(&point),
                                "{spec}: the saga succeeded"
                            );
                            self.same(&place, &self.success, &spec);
                        }
                        Err(failure) => {
                            assert_eq!(
                                failure.ending,
                                Ending::Undone,
                                "{spec}: {}",
                                describe(&failure)
                            );
                            if action != "cancel" {
                                let node = point.split(':').next();
                                assert_eq!(failure.node.as_deref(), node, "{spec}");
                            }
                            self.same(&place, &place.before, &spec);
                        }
                    }
                    self.settled(&place, &spec);
                }
            }
        }
    }

    fn kills_forward(&mut self) {
        for point in self.checked.points.clone() {
            let spec = format!("kill@{point}");
            let complete = is_undo(&point) || point == self.completion();
            let place = Place::new(self.fixture);
            self.kill("run", &place, &spec);
            recover_all(self.fixture, &place.state(), &place.world(), &Faults::none());
            let want = if complete { &self.success } else { &place.before };
            self.same(&place, want, &format!("{spec}, recovered"));
            self.settled(&place, &spec);

            let place = Place::new(self.fixture);
            self.kill("run", &place, &spec);
            resume_all(self.fixture, &place.state(), &place.world());
            self.same(&place, &self.success, &format!("{spec}, resumed"));
            self.settled(&place, &spec);
        }
    }

    fn kills_backward(&mut self) {
        let Some(last) = self.names.last().cloned() else { return };
        for name in self.names.clone() {
            for phase in ["undo-before", "undo-effect", "undo-after"] {
                let spec = format!("fail@{last}:{EFFECT},kill@{name}:{phase}");
                let place = Place::new(self.fixture);
                self.kill("run", &place, &spec);
                recover_all(self.fixture, &place.state(), &place.world(), &Faults::none());
                self.same(&place, &place.before, &format!("{spec}, recovered"));
                self.settled(&place, &spec);

                let place = Place::new(self.fixture);
                self.kill("run", &place, &spec);
                resume_all(self.fixture, &place.state(), &place.world());
                self.same(&place, &self.success, &format!("{spec}, resumed"));
                self.settled(&place, &spec);
            }
        }
    }

    fn kills_while_recovering(&mut self) {
        let Some(last) = self.names.last().cloned() else { return };
        for name in self.names.clone() {
            for phase in ["undo-before", "undo-effect", "undo-after"] {
                let spec = format!("kill@{name}:{phase}");
                let place = Place::new(self.fixture);
                self.kill("run", &place, &format!("kill@{last}:{EFFECT}"));
                self.kill("recover", &place, &spec);
                recover_all(self.fixture, &place.state(), &place.world(), &Faults::none());
                self.same(&place, &place.before, &format!("{spec} while recovering, recovered"));
                self.settled(&place, &spec);
            }
        }
    }

    /// The last point of going forward: when it is reached the saga is complete.
    fn completion(&self) -> String {
        self.names.last().map(|last| format!("{last}:{AFTER}")).unwrap_or_default()
    }

    /// Points at which failing makes the saga fail.
    fn forward_points(&self) -> Vec<String> {
        let completion = self.completion();
        let points = self.checked.points.iter();
        points.filter(|point| !is_undo(point) && **point != completion).cloned().collect()
    }

    /// Whether a point is in the last node, after which nothing looks whether the saga is cancelled.
    fn ends_at(&self, point: &str) -> bool {
        self.names.last().is_some_and(|last| point.split(':').next() == Some(last))
    }

    fn kill(&mut self, mode: &str, place: &Place, spec: &str) {
        let output = Command::new(std::env::current_exe().expect("the test binary has a path"))
            .args([self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, mode)
            .env(STATE, place.state())
            .env(WORLD, place.world())
            .env(FAULT, spec)
            .stdin(Stdio::null())
            .output()
            .expect("the test binary can be started again");
        assert_eq!(
            output.status.signal(),
            Some(9),
            "{spec}: the child was not killed at that point (is `{}` the full name of the test?)\n{}\n{}",
            self.test,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        self.checked.kills += 1;
    }

    fn same(&self, place: &Place, want: &BTreeMap<String, String>, scenario: &str) {
        let is = self.fixture.snapshot(&place.world());
        let keys: BTreeSet<_> = want.keys().chain(is.keys()).collect();
        let mut differences = String::new();
        for key in keys {
            let (wanted, found) = (want.get(key), is.get(key));
            if wanted != found {
                differences.push_str(&format!("  {key}: wanted {wanted:?}, found {found:?}\n"));
            }
        }
        assert!(
            differences.is_empty(),
            "{scenario}: the world is not as it should be:\n{differences}"
        );
    }

    /// The journal holds nothing to be done, and no lock is left.
    fn settled(&mut self, place: &Place, scenario: &str) {
        self.checked.scenarios += 1;
        let journal = open(&place.state());
        block_on(async {
            for run in journal.runs().await.expect("the journal can be read") {
                assert_eq!(run.unsettled, 0, "{scenario}: the journal holds unsettled sagas");
                assert_ne!(run.state, RunState::Running, "{scenario}: the run has not ended");
            }
            let again = recover(
                &journal,
                &StepRegistry::new(),
                &Services::new(),
                &RecoverOptions::default(),
                &Cancellation::new(),
            )
            .await
            .expect("recovering a clean journal works");
            assert!(again.runs.is_empty(), "{scenario}: there was something left to recover");
        });
        let locks = std::fs::read_dir(place.state().join("runs")).map(Iterator::count);
        assert_eq!(locks.unwrap_or(0), 0, "{scenario}: a lock file is left");
    }
}

fn run_as_child(mode: &str, fixture: &dyn Fixture) {
    let path = |name| PathBuf::from(std::env::var_os(name).expect("the parent set it"));
    let faults = parse(&std::env::var(FAULT).expect("the parent set it"));
    match mode {
        "recover" => {
            recover_all(fixture, &path(STATE), &path(WORLD), &faults);
        }
        _ => {
            // Its success or failure does not matter: the parent waits for it to be killed.
            let _ = execute(fixture, &path(STATE), &path(WORLD), &faults);
        }
    }
}

fn policy() -> Policy {
    let undo = UndoPolicy { delay: Duration::from_millis(1), ..UndoPolicy::default() };
    Policy { undo, ..Policy::default() }
}

fn execute(
    fixture: &dyn Fixture,
    state: &Path,
    world: &Path,
    faults: &Faults,
) -> Result<Completed, Box<SagaFailure>> {
    let journal = open(state);
    let saga = fixture.saga(world);
    let services = fixture.services(world);
    block_on(async {
        let hold = journal.begin_run(RunInfo::default()).await.expect("a run can begin");
        let hold = Arc::new(hold);
        let executor = Executor::new(Arc::clone(&hold), services)
            .with_faults(faults.clone())
            .with_policy(policy());
        let done = executor.execute(saga, &Cancellation::new()).await;
        let ended = if done.is_ok() { RunState::Succeeded } else { RunState::Failed };
        hold.finish(ended).await.expect("a run can end");
        done
    })
}

fn recover_all(
    fixture: &dyn Fixture,
    state: &Path,
    world: &Path,
    faults: &Faults,
) -> RecoverReport {
    let journal = open(state);
    let (registry, services) = (fixture.registry(), fixture.services(world));
    let options =
        RecoverOptions { undo: policy().undo, faults: faults.clone(), ..Default::default() };
    block_on(async {
        let cancellation = Cancellation::new();
        let report = recover(&journal, &registry, &services, &options, &cancellation).await;
        let report = report.expect("recovering works");
        assert!(report.held.is_empty(), "a dead run counts as held: {:?}", report.held);
        assert_eq!(report.left().count(), 0, "recovering left something: {report:?}");
        report
    })
}

fn resume_all(fixture: &dyn Fixture, state: &Path, world: &Path) {
    let journal = open(state);
    let (registry, services) = (fixture.registry(), fixture.services(world));
    block_on(async {
        for run in journal.runs().await.expect("the journal can be read") {
            let hold = Arc::new(journal.take_run(run.id).await.expect("a dead run can be taken"));
            let sagas = journal.sagas(run.id).await.expect("the journal can be read");
            let executor = Executor::new(Arc::clone(&hold), services.clone()).with_policy(policy());
            let open = sagas.iter().filter(|saga| saga.state != SagaState::Succeeded);
            for id in open.map(|saga| saga.id).collect::<Vec<SagaId>>() {
                executor
                    .resume(id, &registry, &Cancellation::new())
                    .await
                    .unwrap_or_else(|e| panic!("resuming fails: {}", describe(&e)));
            }
            hold.finish(RunState::Succeeded).await.expect("a run can end");
        }
    });
}

fn open(state: &Path) -> Journal {
    Journal::open(state).expect("the journal can be opened")
}

fn parse(spec: &str) -> Faults {
    Faults::parse(spec).expect("the harness writes correct specifications")
}

fn is_undo(point: &str) -> bool {
    point.split(':').nth(1).is_some_and(|phase| phase.starts_with("undo-"))
}

fn describe(failure: &SagaFailure) -> String {
    format!("{failure}: {} {:?}", failure.cause.chain(), failure.left)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(work)
}
