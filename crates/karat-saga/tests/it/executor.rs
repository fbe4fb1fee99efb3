//! Failures, cancellation, time, and what the policy makes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use karat_saga::{
    Answer, Ask, Cancellation, CleanupHook, Completed, Ending, Executor, Faults, Journal,
    NodeState, OnError, Policy, RunHold, RunInfo, SagaFailure, SagaState, StepContext, StepError,
    StepErrorKind, UndoPolicy,
};
use karat_saga::{Observer, Place, Progress};

use crate::probe::{Calls, Does, Probe, registry, saga, services};

struct Bench {
    _dir: tempfile::TempDir,
    journal: Journal,
    hold: Arc<RunHold>,
    calls: Arc<Calls>,
    executor: Executor,
    cancellation: Cancellation,
}

fn quick() -> Policy {
    Policy {
        // More than a busy machine takes for steps that listen.
        grace: Duration::from_secs(3),
        undo: UndoPolicy {
            attempts: 3,
            delay: Duration::from_millis(1),
            timeout: Duration::from_secs(1),
        },
        ..Policy::default()
    }
}

impl Bench {
    async fn new(policy: Policy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let hold = Arc::new(journal.begin_run(RunInfo::default()).await.unwrap());
        let (services, calls) = services();
        let executor = Executor::new(Arc::clone(&hold), services).with_policy(policy);
        Self { _dir: dir, journal, hold, calls, executor, cancellation: Cancellation::new() }
    }

    async fn execute<const N: usize>(
        &self,
        steps: [(&str, Probe); N],
    ) -> Result<Completed, Box<SagaFailure>> {
        self.executor.execute(saga(steps).unwrap(), &self.cancellation).await
    }

    async fn states(&self) -> (SagaState, Vec<NodeState>) {
        let saga = self.journal.sagas(self.hold.id()).await.unwrap().pop().unwrap();
        (saga.state, saga.nodes.iter().map(|node| node.state).collect())
    }
}

#[tokio::test]
async fn success_keeps_what_is_kept_and_undoes_the_rest_backwards() {
    let bench = Bench::new(quick()).await;
    let steps = [("a", Probe::default()), ("b", Probe::kept()), ("c", Probe::default())];
    let done = bench.execute(steps).await.unwrap();
    assert_eq!(done.outputs.get::<String>("b").unwrap(), "made by b");
    assert!(done.outputs.get::<u32>("b").unwrap_err().to_string().contains("`b` is not a u32"));
    assert_eq!(bench.calls.all(), ["run a", "run b", "run c", "undo c", "undo a"]);
    use NodeState::{Done, Undone};
    assert_eq!(bench.states().await, (SagaState::Succeeded, vec![Undone, Done, Undone]));
}

#[tokio::test]
async fn failure_undoes_the_failed_step_too_and_nothing_later() {
    let bench = Bench::new(quick()).await;
    let failed = Probe::runs(Does::Fail(9));
    let steps = [("a", Probe::kept()), ("b", failed), ("c", Probe::default())];
    let failure = bench.execute(steps).await.unwrap_err();
    assert_eq!(failure.to_string(), "`probes` failed at the step `b`");
    assert_eq!(failure.step_error().unwrap().message(), "run b does not want to");
    assert_eq!(failure.ending, Ending::Undone);
    assert_eq!(bench.calls.all(), ["run a", "run b", "undo b", "undo a"]);
    let stored = bench.journal.saga(failure.saga).await.unwrap();
    assert_eq!(stored.state, SagaState::Failed);
    assert_eq!(stored.error.as_deref(), Some("run b does not want to"));
    assert_eq!(stored.nodes[2].state, NodeState::Pending);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_the_step() {
    let bench = Bench::new(quick()).await;
    let steps = [("a", Probe::default()), ("b", Probe::runs(Does::Panic))];
    let failure = bench.execute(steps).await.unwrap_err();
    let error = failure.step_error().unwrap();
    assert_eq!(error.kind(), StepErrorKind::Panicked);
    assert!(error.message().contains("run b panics"));
    assert_eq!(failure.ending, Ending::Undone);
    assert_eq!(bench.calls.count("undo a"), 1);
}

#[tokio::test]
async fn undoing_is_tried_again_and_one_failure_does_not_stop_the_others() {
    let bench = Bench::new(quick()).await;
    let steps = [
        ("a", Probe::default()),
        ("b", Probe::undoes(Does::Fail(2))),
        ("c", Probe::undoes(Does::Fail(99))),
        ("d", Probe::undoes(Does::WaitDeaf)),
        ("e", Probe::undoes(Does::Panic)),
        ("f", Probe::runs(Does::Fail(9))),
    ];
    let failure = bench.execute(steps).await.unwrap_err();
    assert_eq!(failure.ending, Ending::Left);
    let left: Vec<_> = failure.left.iter().map(|left| left.node.as_str()).collect();
    assert_eq!(left, ["e", "d", "c"]);
    assert!(failure.left[0].error.contains("undo e panics"));
    assert!(failure.left[1].error.contains("longer than 1s"));
    assert_eq!(failure.left[2].error, "undo c does not want to");
    assert_eq!((bench.calls.count("undo b"), bench.calls.count("undo c")), (3, 3));
    assert_eq!(bench.calls.count("undo a"), 1);
    use NodeState::{UndoFailed, Undone};
    let nodes = vec![Undone, Undone, UndoFailed, UndoFailed, UndoFailed, Undone];
    assert_eq!(bench.states().await, (SagaState::Unwinding, nodes));
    assert_eq!(bench.journal.run(bench.hold.id()).await.unwrap().unsettled, 1);
}

#[tokio::test]
async fn what_cannot_be_undone_after_success_is_told_beside_it() {
    let bench = Bench::new(quick()).await;
    let done = bench.execute([("a", Probe::undoes(Does::Fail(99)))]).await.unwrap();
    assert_eq!(done.left.len(), 1);
    assert_eq!(bench.states().await, (SagaState::Settling, vec![NodeState::UndoFailed]));
}

#[tokio::test]
async fn cancelling_tells_the_step_and_undoes() {
    let bench = Bench::new(quick()).await;
    let cancellation = bench.cancellation.clone();
    let calls = Arc::clone(&bench.calls);
    tokio::spawn(async move {
        calls.reached("run b").await;
        cancellation.request();
    });
    let steps = [("a", Probe::default()), ("b", Probe::runs(Does::WaitPolitely))];
    let failure = bench.execute(steps).await.unwrap_err();
    assert!(failure.is_cancelled());
    assert_eq!(failure.to_string(), "`probes` was cancelled at the step `b`");
    assert_eq!(bench.calls.all(), ["run a", "run b", "told b", "undo b", "undo a"]);
}

#[tokio::test]
async fn a_step_that_does_not_listen_is_dropped_after_the_grace_period() {
    let grace = Duration::from_millis(50);
    let bench = Bench::new(Policy { grace, ..quick() }).await;
    bench.cancellation.child().cancel();
    let cancellation = bench.cancellation.clone();
    let calls = Arc::clone(&bench.calls);
    let since = Instant::now();
    tokio::spawn(async move {
        calls.reached("run a").await;
        cancellation.cancel();
    });
    let failure = bench.execute([("a", Probe::runs(Does::WaitDeaf))]).await.unwrap_err();
    assert!(since.elapsed() >= grace);
    assert!(failure.is_cancelled());
    assert!(failure.step_error().unwrap().chain().contains("did not end when told"));
    assert_eq!(bench.calls.all(), ["run a", "undo a"]);
}

#[tokio::test]
async fn a_second_request_stops_waiting_and_says_what_is_left() {
    let policy = Policy {
        undo: UndoPolicy { timeout: Duration::from_secs(3600), ..UndoPolicy::default() },
        ..quick()
    };
    let bench = Bench::new(policy).await;
    let cancellation = bench.cancellation.clone();
    let calls = Arc::clone(&bench.calls);
    tokio::spawn(async move {
        for call in ["run c", "undo b"] {
            calls.reached(call).await;
            cancellation.request();
        }
    });
    let steps = [
        ("a", Probe::default()),
        ("b", Probe::undoes(Does::WaitDeaf)),
        ("c", Probe::runs(Does::WaitPolitely)),
    ];
    let since = Instant::now();
    let failure = bench.execute(steps).await.unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(30));
    assert_eq!(failure.ending, Ending::Left);
    let left: Vec<_> = failure.left.iter().map(|left| left.node.as_str()).collect();
    assert_eq!(left, ["b", "a"]);
    assert_eq!(bench.calls.count("undo a"), 0);
}

#[tokio::test]
async fn time_up_is_a_failure_of_its_own_kind() {
    let bench = Bench::new(Policy { limit: Some(Duration::from_secs(2)), ..quick() }).await;
    let steps = [("a", Probe::default()), ("b", Probe::runs(Does::WaitPolitely))];
    let failure = bench.execute(steps).await.unwrap_err();
    assert_eq!(failure.step_error().unwrap().kind(), StepErrorKind::TimedOut);
    assert!(!failure.is_cancelled());
    assert_eq!(bench.calls.all(), ["run a", "run b", "told b", "undo b", "undo a"]);
}

#[tokio::test]
async fn aborting_keeps_everything_and_resuming_goes_on_from_there() {
    let bench = Bench::new(Policy { on_error: OnError::Abort, ..quick() }).await;
    let steps = [("a", Probe::default()), ("b", Probe::runs(Does::Fail(1))), ("c", Probe::kept())];
    let failure = bench.execute(steps).await.unwrap_err();
    assert_eq!(failure.ending, Ending::Aborted);
    let left: Vec<_> = failure.left.iter().map(|left| left.node.as_str()).collect();
    assert_eq!(left, ["a", "b"]);
    use NodeState::{Done, Failed, Pending};
    assert_eq!(bench.states().await, (SagaState::Aborted, vec![Done, Failed, Pending]));

    let done = bench.executor.resume(failure.saga, &registry(), &bench.cancellation).await.unwrap();
    assert_eq!(done.outputs.get::<String>("a").unwrap(), "made by a");
    assert_eq!(bench.calls.all(), ["run a", "run b", "run b", "run c", "undo b", "undo a"]);
    assert_eq!(bench.states().await.0, SagaState::Succeeded);

    let again =
        bench.executor.resume(failure.saga, &registry(), &bench.cancellation).await.unwrap_err();
    assert!(again.cause_text().contains("succeeded cannot Resume"), "{}", again.cause_text());
}

struct Answers {
    answers: Vec<Answer>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Ask for Answers {
    async fn ask(&self, cx: &StepContext, error: &StepError) -> Answer {
        assert_eq!(cx.node(), "b");
        assert_eq!(cx.output::<String>("a").unwrap(), "made by a");
        assert!(error.message().contains("does not want to"));
        self.answers[self.asked.fetch_add(1, Ordering::SeqCst)]
    }
}

#[tokio::test]
async fn the_answer_decides() {
    for (answers, ending, runs) in [
        (vec![Answer::Retry, Answer::Retry, Answer::Cleanup], Some(Ending::Undone), 3),
        (vec![Answer::Retry, Answer::Abort], Some(Ending::Aborted), 2),
        (vec![Answer::Retry, Answer::Retry, Answer::Retry], None, 4),
    ] {
        let ask = Arc::new(Answers { answers, asked: AtomicUsize::new(0) });
        let bench = Bench::new(Policy { on_error: OnError::Ask(ask), ..quick() }).await;
        let done =
            bench.execute([("a", Probe::default()), ("b", Probe::runs(Does::Fail(3)))]).await;
        assert_eq!(done.err().map(|failure| failure.ending), ending);
        assert_eq!(bench.calls.count("run b"), runs);
        assert_eq!(bench.calls.count("run a"), 1);
    }
}

struct Hook(bool);

#[async_trait::async_trait]
impl CleanupHook for Hook {
    async fn before_cleanup(&self, cx: &StepContext, _: &StepError) -> Result<(), StepError> {
        cx.service::<Calls>()?.add(format!("hook {}", cx.node()));
        if self.0 { Ok(()) } else { Err(StepError::new("the hook failed too")) }
    }
}

#[tokio::test]
async fn the_cleanup_hook_runs_before_anything_is_undone() {
    let hook = |works| Some(Arc::new(Hook(works)) as Arc<dyn CleanupHook>);
    for (on_error, works, ending, calls) in [
        (OnError::Cleanup, false, Ending::Undone, vec!["run a", "hook a", "undo a"]),
        (OnError::RunCleanupProvisioner, true, Ending::Aborted, vec!["run a", "hook a"]),
        (OnError::Abort, true, Ending::Aborted, vec!["run a"]),
    ] {
        let bench = Bench::new(Policy { on_error, cleanup_hook: hook(works), ..quick() }).await;
        let failure = bench.execute([("a", Probe::runs(Does::Fail(9)))]).await.unwrap_err();
        assert_eq!(failure.ending, ending);
        assert_eq!(bench.calls.all(), calls);
        assert_eq!(failure.hook_error.map(|e| e.chain()).is_some(), !works);
    }
}

#[tokio::test]
async fn aborting_is_for_failures_and_not_for_the_users_own_cancelling() {
    let bench = Bench::new(Policy { on_error: OnError::Abort, ..quick() }).await;
    bench.cancellation.cancel();
    let failure = bench.execute([("a", Probe::default())]).await.unwrap_err();
    assert_eq!((failure.ending, failure.is_cancelled()), (Ending::Undone, true));
    assert!(bench.calls.all().is_empty());
}

#[tokio::test]
async fn faults_are_listed_and_names_are_checked() {
    let bench = Bench::new(quick()).await;
    let faults = Faults::parse("list").unwrap();
    let executor = bench.executor.clone().with_faults(faults.clone());
    let probe = saga([("a", Probe::kept())]).unwrap();
    executor.execute(probe, &bench.cancellation).await.unwrap();
    assert_eq!(faults.seen(), ["probes/a:before", "probes/a:effect", "probes/a:after"]);
    let twice = saga([("a", Probe::default()), ("a", Probe::default())]).unwrap_err();
    assert_eq!(twice.to_string(), "two steps of the saga `probes` are named `a`");
    assert!(saga([("a/b", Probe::default())]).is_err());
    assert!(bench.execute([]).await.unwrap().left.is_empty());
}

/// Many sagas side by side must cost little: they share one connection and its commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sagas_side_by_side() {
    let bench = Bench::new(quick()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (executor, cancellation) = (bench.executor.clone(), bench.cancellation.clone());
        tasks.spawn(async move {
            let steps = [("a", Probe::default()), ("b", Probe::default()), ("c", Probe::kept())];
            executor.execute(saga(steps).unwrap(), &cancellation).await.map(|_| ())
        });
    }
    let done = tasks.join_all().await;
    assert!(done.iter().all(Result::is_ok));
    let sagas = bench.journal.sagas(bench.hold.id()).await.unwrap();
    assert_eq!(sagas.len(), 200);
    assert!(sagas.iter().all(|saga| saga.state == SagaState::Succeeded));
}

/// Makes the journal refuse some writes, as it does when its disk is full.
fn refuse(bench: &Bench, when: &str) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(bench.journal.path()).unwrap();
    other
        .execute_batch(&format!(
            "CREATE TRIGGER refuse BEFORE UPDATE ON nodes WHEN {when}
             BEGIN SELECT RAISE(ABORT, 'no space left'); END"
        ))
        .unwrap();
    other
}

#[tokio::test]
async fn a_step_whose_intent_cannot_be_stored_is_not_run() {
    let bench = Bench::new(quick()).await;
    refuse(&bench, "NEW.name = 'b' AND NEW.state = 'running'");
    let failure =
        bench.execute([("a", Probe::default()), ("b", Probe::default())]).await.unwrap_err();
    assert!(failure.cause_text().contains("no space left"), "{}", failure.cause_text());
    assert_eq!(failure.node.as_deref(), Some("b"));
    assert_eq!(bench.calls.all(), ["run a", "undo a"]);
    assert_eq!(bench.states().await.0, SagaState::Failed);
}

#[tokio::test]
async fn a_step_whose_result_cannot_be_stored_is_undone() {
    let bench = Bench::new(quick()).await;
    refuse(&bench, "NEW.name = 'b' AND NEW.state = 'done'");
    let steps = [("a", Probe::default()), ("b", Probe::kept())];
    let failure = bench.execute(steps).await.unwrap_err();
    assert_eq!(failure.ending, Ending::Undone);
    assert_eq!(bench.calls.all(), ["run a", "run b", "undo b", "undo a"]);
    assert_eq!(bench.states().await.0, SagaState::Failed);
}

#[tokio::test]
async fn undoing_does_not_wait_for_the_journal() {
    let bench = Bench::new(quick()).await;
    let other = refuse(&bench, "NEW.state IN ('undoing', 'undone', 'failed')");
    let steps = [("a", Probe::default()), ("b", Probe::runs(Does::Fail(9)))];
    let failure = bench.execute(steps).await.unwrap_err();
    assert_eq!(failure.ending, Ending::Undone);
    assert_eq!(bench.calls.all(), ["run a", "run b", "undo b", "undo a"]);
    use NodeState::{Done, Running};
    assert_eq!(bench.states().await.1, [Done, Running]);
    // The journal knows less than was done, which is the safe side: undoing again is harmless.
    other.execute_batch("DROP TRIGGER refuse").unwrap();
}

#[derive(Debug, Default)]
struct Followed(std::sync::Mutex<Vec<String>>);

impl Observer for Followed {
    fn observe(&self, place: &Place<'_>, progress: &Progress<'_>) {
        let what = match progress {
            Progress::Running => "running".to_owned(),
            Progress::Done { .. } => "done".to_owned(),
            Progress::Failed { error, .. } => format!("failed: {error}"),
            Progress::Undoing => "undoing".to_owned(),
            Progress::Undone { .. } => "undone".to_owned(),
            Progress::UndoFailed { error, again } => {
                format!("undo failed: {error}, again: {again}")
            }
            _ => "?".to_owned(),
        };
        self.0.lock().unwrap().push(format!("{}/{} {what}", place.saga_name, place.node));
    }
}

#[tokio::test]
async fn an_observer_follows_every_step_both_ways() {
    let bench =
        Bench::new(Policy { undo: UndoPolicy { attempts: 2, ..quick().undo }, ..quick() }).await;
    let followed = Arc::new(Followed::default());
    let executor = bench.executor.clone().with_observer(followed.clone());
    let steps = [("a", Probe::undoes(Does::Fail(9))), ("b", Probe::runs(Does::Fail(9)))];
    executor.execute(saga(steps).unwrap(), &bench.cancellation).await.unwrap_err();
    let told = followed.0.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            "probes/a running",
            "probes/a done",
            "probes/b running",
            "probes/b failed: run b does not want to",
            "probes/b undoing",
            "probes/b undone",
            "probes/a undoing",
            "probes/a undo failed: undo a does not want to, again: true",
            "probes/a undo failed: undo a does not want to, again: false",
        ]
    );
}
