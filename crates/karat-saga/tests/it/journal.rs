//! The journal's file: events, damage, other programs' databases, records that nobody wrote.

use std::path::Path;
use std::sync::Arc;

use karat_saga::{
    Cancellation, Executor, Journal, JournalError, RecoverOptions, RunId, RunInfo, RunState,
    recover,
};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::probe::{Probe, registry, saga, services};

fn info() -> RunInfo {
    RunInfo {
        version: "0.1.0".to_owned(),
        command: vec!["karat".to_owned(), "build".to_owned(), "a b.pkr.hcl".to_owned()],
        cwd: "/srv/images".to_owned(),
        template: Some("a b.pkr.hcl".to_owned()),
        fingerprint: None,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn runs_and_events_are_read_back_by_another_connection() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let hold = journal.begin_run(info()).await.unwrap();
    let id = hold.id();
    hold.describe(None, Some("sha256:00".to_owned())).await.unwrap();
    journal.append_event(id, 0, r#"{"kind":"started"}"#.to_owned()).await.unwrap();
    for seq in 1..1000 {
        journal.queue_event(id, seq, format!("line {seq}"));
    }
    assert!(journal.append_event(id, 0, "again".to_owned()).await.is_err());
    journal.flush().await.unwrap();

    let other = Journal::open(dir.path()).unwrap();
    let run = other.run(id).await.unwrap();
    assert!(run.live);
    assert_eq!(run.info, RunInfo { fingerprint: Some("sha256:00".to_owned()), ..info() });
    let all = other.events(id, 0, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 1000);
    assert_eq!(all[0].body, r#"{"kind":"started"}"#);
    assert!(all.iter().enumerate().all(|(i, event)| event.seq == i as u64));
    assert_eq!(other.next_event(id).await.unwrap(), 1000);
    assert_eq!(other.next_event(RunId::generate()).await.unwrap(), 0);
    let some = other.events(id, 998, 1).await.unwrap();
    assert_eq!((some.len(), some[0].body.as_str()), (1, "line 998"));

    hold.finish(RunState::Succeeded).await.unwrap();
    let run = other.run(id).await.unwrap();
    assert_eq!((run.state, run.live, run.pid), (RunState::Succeeded, false, None));
    assert!(run.ended_ms.unwrap() >= run.started_ms);
    assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
    other.forget_run(id).await.unwrap();
    assert!(other.events(id, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_queued_is_written_when_the_journal_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let hold = journal.begin_run(info()).await.unwrap();
    let id = hold.id();
    for seq in 0..5000 {
        journal.queue_event(id, seq, "x".repeat(100));
    }
    drop((hold, journal));
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.events(id, 0, usize::MAX).await.unwrap().len(), 5000);
}

#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    drop(journal);
}

#[tokio::test]
async fn other_files_are_refused_by_name_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");

    std::fs::write(&path, "this is a letter, not a journal. ".repeat(100)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert!(error.hint().unwrap().contains("move the file away"));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE cookies (a)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    drop(Journal::open(dir.path()).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("has version 99, this program knows versions up to 1"));

    let error = Journal::open(Path::new("/proc/none")).unwrap_err();
    assert!(chain(&error).contains("/proc/none/journal.db"), "{}", chain(&error));
}

/// A journal with a finished and an unfinished run.
fn sample(dir: &Path) {
    runtime().block_on(async {
        let journal = Journal::open(dir).unwrap();
        let hold = Arc::new(journal.begin_run(info()).await.unwrap());
        journal.queue_event(hold.id(), 0, "event".to_owned());
        let (services, calls) = services();
        let executor = Executor::new(Arc::clone(&hold), services);
        for steps in [[("a", Probe::kept()), ("b", Probe::default())]] {
            executor.execute(saga(steps).unwrap(), &Cancellation::new()).await.unwrap();
        }
        let wait = Probe::runs(crate::probe::Does::WaitDeaf);
        let cancellation = Cancellation::new();
        let crashed = executor.execute(saga([("w", wait)]).unwrap(), &cancellation);
        tokio::select! {
            _ = crashed => {}
            () = calls.reached("run w") => {}
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Reads and recovers everything. Errors are fine, and each has to name the file; a panic is not.
fn read_all(dir: &Path) -> Result<(), JournalError> {
    let journal = Journal::open(dir)?;
    runtime().block_on(async {
        for run in journal.runs().await? {
            journal.sagas(run.id).await?;
            journal.events(run.id, 0, 100).await?;
        }
        let (services, _) = services();
        let options = RecoverOptions::default();
        let cancellation = Cancellation::new();
        cancellation.stop();
        recover(&journal, &registry(), &services, &options, &cancellation).await.map(|_| ())
    })
}

#[test]
fn every_column_may_hold_anything() {
    let values = ["''", "'x'", "'{'", "'[1'", "-1", "9223372036854775807", "x'ff00'", "'\u{0}'"];
    let columns = [
        ("runs", "id pid pid_start boot command state started_ms cwd"),
        ("sagas", "id run state name"),
        ("nodes", "name kind params lifetime state output position"),
        ("events", "seq body"),
    ];
    let original = tempfile::tempdir().unwrap();
    sample(original.path());
    let mut refused = 0;
    for (table, names) in columns {
        for name in names.split(' ') {
            for value in values {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("journal.db");
                std::fs::copy(original.path().join("journal.db"), &path).unwrap();
                let connection = Connection::open(&path).unwrap();
                let changed = connection.execute_batch(&format!(
                    "PRAGMA foreign_keys=OFF; UPDATE {table} SET {name} = {value}"
                ));
                drop(connection);
                // A strict table refuses some by itself.
                if changed.is_ok()
                    && let Err(error) = read_all(dir.path())
                {
                    refused += 1;
                    let text = chain(&error);
                    assert!(text.contains("journal"), "{table}.{name} = {value}: {text}");
                }
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Bytes of the file changed at random: a clear error or a right answer, never a panic.
    #[test]
    fn a_damaged_file_is_an_error(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60), cut in prop::option::of(any::<prop::sample::Index>())) {
        use std::sync::OnceLock;
        static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
        let bytes = SAMPLE.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            sample(dir.path());
            std::fs::read(dir.path().join("journal.db")).unwrap()
        });
        let mut bytes = bytes.clone();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_all(dir.path()) {
            let text = chain(&error);
            prop_assert!(text.contains(path.to_str().unwrap()) || text.contains("journal"), "{}", text);
        }
    }
}
