//! Recovery: what it touches, what it leaves alone, and several at once.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use karat_saga::journal::RunRecord;
use karat_saga::{
    Cancellation, Executor, Faults, Journal, JournalError, OnError, Policy, RecoverOptions,
    RecoverReport, RunInfo, RunState, SagaState, StepRegistry, UndoPolicy, recover,
};

use crate::probe::{Calls, Does, Probe, registry, saga, services};

const STATE: &str = "KARAT_SAGA_TEST_STATE";

fn options() -> RecoverOptions {
    let undo = UndoPolicy { attempts: 1, delay: Duration::ZERO, ..UndoPolicy::default() };
    RecoverOptions { undo, ..RecoverOptions::default() }
}

async fn recover_with(
    journal: &Journal,
    registry: &StepRegistry,
    options: &RecoverOptions,
) -> (RecoverReport, Arc<Calls>) {
    let (services, calls) = services();
    let report = recover(journal, registry, &services, options, &Cancellation::new()).await;
    (report.unwrap(), calls)
}

/// Runs three sagas in a run that is then let go as if its process had died.
async fn dead_run(journal: &Journal, faults: &str, on_error: OnError) -> RunRecord {
    let hold = Arc::new(journal.begin_run(RunInfo::default()).await.unwrap());
    let policy = Policy { on_error, ..Policy::default() };
    let (services, calls) = services();
    let executor = Executor::new(Arc::clone(&hold), services)
        .with_policy(policy)
        .with_faults(Faults::parse(faults).unwrap());
    let steps = [("a", Probe::default()), ("b", Probe::kept()), ("c", Probe::runs(Does::WaitDeaf))];
    // Dropping the future is what a crash looks like to the journal.
    let cancellation = Cancellation::new();
    let crashed = executor.execute(saga(steps).unwrap(), &cancellation);
    tokio::select! {
        _ = crashed => {}
        () = calls.reached("run c") => {}
    }
    let id = hold.id();
    drop((executor, hold));
    journal.run(id).await.unwrap()
}

#[tokio::test]
async fn a_dead_run_is_listed_then_undone_then_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let run = dead_run(&journal, "", OnError::Cleanup).await;
    assert_eq!((run.state, run.unsettled, run.live), (RunState::Running, 1, false));

    let list = RecoverOptions { list_only: true, ..options() };
    let (report, calls) = recover_with(&journal, &registry(), &list).await;
    assert_eq!(report.runs[0].sagas[0].undone, ["c", "b", "a"]);
    assert_eq!(report.runs[0].sagas[0].found, SagaState::Running);
    assert!(calls.all().is_empty());

    let (report, calls) = recover_with(&journal, &registry(), &options()).await;
    assert_eq!(calls.all(), ["undo c", "undo b", "undo a"]);
    assert_eq!(report.runs[0].sagas[0].undone, ["c", "b", "a"]);
    assert_eq!(report.left().count(), 0);
    assert_eq!(journal.run(run.id).await.unwrap().state, RunState::Recovered);

    let (report, calls) = recover_with(&journal, &registry(), &options()).await;
    assert!(report.runs.is_empty() && calls.all().is_empty());
    journal.forget_run(run.id).await.unwrap();
    assert!(matches!(journal.run(run.id).await, Err(JournalError::NoSuchRun(_))));
}

#[tokio::test]
async fn an_aborted_saga_is_kept_until_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let run = dead_run(&journal, "fail@b:effect", OnError::Abort).await;
    let (report, calls) = recover_with(&journal, &registry(), &options()).await;
    assert!(calls.all().is_empty());
    assert_eq!(report.runs[0].sagas[0].left.len(), 2);
    assert_eq!(report.left().count(), 0);
    let asked = RecoverOptions { runs: vec![run.id], aborted: true, ..options() };
    let (report, calls) = recover_with(&journal, &registry(), &asked).await;
    assert_eq!(calls.all(), ["undo b", "undo a"]);
    assert_eq!(report.left().count(), 0);
    assert_eq!(journal.run(run.id).await.unwrap().unsettled, 0);
}

#[tokio::test]
async fn a_step_that_this_program_does_not_know_is_left_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let run = dead_run(&journal, "", OnError::Cleanup).await;
    let (report, _) = recover_with(&journal, &StepRegistry::new(), &options()).await;
    let left: Vec<_> = report.left().collect();
    assert_eq!(left.len(), 3);
    assert_eq!(left[0].error, "the journal holds a step of the unknown kind `test.probe`");
    assert_eq!(left[0].params["run"], "WaitDeaf");
    let run = journal.run(run.id).await.unwrap();
    assert_eq!((run.state, run.unsettled, run.live), (RunState::Running, 1, false));
    // The right program can still do it.
    let (report, calls) = recover_with(&journal, &registry(), &options()).await;
    assert_eq!((report.left().count(), calls.all().len()), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_recoveries_at_once_undo_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    for _ in 0..4 {
        dead_run(&journal, "", OnError::Cleanup).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        // Each with a connection of its own, as another process would have.
        let path = dir.path().to_owned();
        tasks.spawn(async move {
            let journal = Journal::open(&path).unwrap();
            recover_with(&journal, &registry(), &options()).await.1.all().len()
        });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<usize>(), 4 * 3);
    assert!(journal.runs().await.unwrap().iter().all(|run| run.state == RunState::Recovered));
}

/// The child of the next test: holds a run until it is killed.
#[tokio::test]
async fn child_that_holds_a_run() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let journal = Journal::open(Path::new(&state)).unwrap();
    let hold = Arc::new(journal.begin_run(RunInfo::default()).await.unwrap());
    let executor = Executor::new(hold, services().0);
    let steps = [("a", Probe::default()), ("b", Probe::runs(Does::WaitDeaf))];
    // The parent waits for this.
    eprintln!("ready");
    let _ = executor.execute(saga(steps).unwrap(), &Cancellation::new()).await;
}

fn start_child(state: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["recover::child_that_holds_a_run", "--exact", "--nocapture"])
        .env(STATE, state)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut stderr = child.stderr.take().unwrap();
    let mut byte = [0_u8; 1];
    while !text.contains("ready") && stderr.read(&mut byte).unwrap() == 1 {
        text.push(byte[0].into());
    }
    child
}

#[tokio::test]
async fn the_run_of_a_live_process_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start_child(dir.path());
    let journal = Journal::open(dir.path()).unwrap();
    let run = loop {
        let run = journal.runs().await.unwrap().pop().unwrap();
        let sagas = journal.sagas(run.id).await.unwrap();
        if sagas.first().is_some_and(|s| s.nodes[1].state == karat_saga::NodeState::Running) {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(run.live);
    assert_eq!(run.pid, Some(child.id()));
    let (report, calls) = recover_with(&journal, &registry(), &options()).await;
    assert_eq!(report.held, [run.id]);
    assert!(calls.all().is_empty());
    let held = journal.take_run(run.id).await.unwrap_err();
    assert_eq!(
        held.to_string(),
        format!("the run {} belongs to a process that is alive (pid {})", run.id, child.id())
    );
    assert!(journal.forget_run(run.id).await.is_err());

    // The stored identity alone protects it where locks do not work.
    std::fs::remove_file(dir.path().join(format!("runs/{}.lock", run.id))).unwrap();
    assert!(matches!(journal.take_run(run.id).await, Err(JournalError::Held { .. })));

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!journal.run(run.id).await.unwrap().live);
    let (report, calls) = recover_with(&journal, &registry(), &options()).await;
    assert_eq!((report.held.len(), report.left().count()), (0, 0));
    assert_eq!(calls.all(), ["undo b", "undo a"]);
}

#[tokio::test]
async fn lock_files_of_runs_that_never_began_or_have_ended_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let live = journal.begin_run(RunInfo::default()).await.unwrap();
    let ended = journal.begin_run(RunInfo::default()).await.unwrap();
    ended.finish(RunState::Succeeded).await.unwrap();
    let locks = dir.path().join("runs");
    for id in [ended.id(), karat_saga::RunId::generate()] {
        std::fs::write(locks.join(format!("{id}.lock")), "").unwrap();
    }
    std::fs::write(locks.join("notes.txt"), "not ours").unwrap();
    let (report, _) = recover_with(&journal, &registry(), &options()).await;
    assert!(report.runs.is_empty());
    assert_eq!(report.held, [live.id()]);
    let mut left: Vec<_> =
        std::fs::read_dir(&locks).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [format!("{}.lock", live.id()).as_str(), "notes.txt"]);
}
