//! The journal: what a run wrote down before it did it.
//!
//! One SQLite file, `journal.db`, in the state directory, in write-ahead mode with `synchronous=NORMAL`. What is
//! committed survives the end of the process at any instant. It need not survive the loss of power: then the
//! last commits before it may be missing, though the file stays whole. After a power cut local side effects are
//! gone too, and an `fsync` for each of a thousand small steps would cost more than the steps. What lies outside
//! of the computer is still there: before a step that makes such a thing, and once its saga is complete, the
//! commit waits for the disk.
//!
//! The file holds no secret: steps store none, and the command line is masked by who gives it. It is readable
//! by its owner alone all the same.
//!
//! A run is held by its process through a lock on `runs/ID.lock`, which the kernel releases when the process
//! ends however it ends. Pid, start time and boot id are stored too, for where file locks do not work.

mod error;
mod process;
mod records;
mod schema;
mod store;
mod writer;

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::Value;

pub use error::JournalError;
pub use records::{EventRecord, NodeRecord, RunInfo, RunRecord, RunState, SagaRecord};

use process::{ProcessMark, RunLock};
pub(crate) use store::NewNode;
pub(crate) use writer::Outlives;
use writer::{JobError, Writer};

use crate::ids::{RunId, SagaId};
use crate::state::{NodeEvent, NodeState, SagaEvent, SagaState};

/// How long another process's write is waited for.
const BUSY: Duration = Duration::from_secs(30);

/// The journal of one state directory. Cloning is cheap and shares the connection.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    locks: PathBuf,
    writer: Writer,
}

impl Journal {
    /// Opens the journal of a state directory; makes both when they do not exist.
    ///
    /// # Errors
    /// When the directory or file cannot be made or opened, or the file is no journal, damaged, or from a newer
    /// version of the program.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let path = state_dir.join("journal.db");
        let open_error =
            |source: io::Error| JournalError::Open { path: path.clone(), source: Arc::new(source) };
        std::fs::create_dir_all(state_dir).map_err(open_error)?;
        // SQLite would make it readable by all; its side files take the mode of this one.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(open_error)?;
        let connection = connect(&path).map_err(|unusable| match unusable {
            schema::Unusable::Foreign => JournalError::Foreign { path: path.clone() },
            schema::Unusable::Newer(found) => {
                JournalError::Newer { path: path.clone(), found, known: schema::VERSION }
            }
            schema::Unusable::Sqlite(error) => sqlite_error(&path, Arc::new(error)),
        })?;
        let writer = Writer::start(connection).map_err(open_error)?;
        let locks = state_dir.join("runs");
        Ok(Self { inner: Arc::new(Inner { path, locks, writer }) })
    }

    /// The journal's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Begins a run, and holds it.
    ///
    /// # Errors
    /// When the lock or the record cannot be made.
    pub async fn begin_run(&self, info: RunInfo) -> Result<RunHold, JournalError> {
        // The lock stands before the record, so that nobody takes a run that is just beginning for a dead one.
        let (id, lock) = loop {
            let id = RunId::generate();
            // A sweep of stale locks may be looking at it in this very instant; another id is as good.
            if let Some(lock) = self.lock(id)? {
                break (id, lock);
            }
        };
        let by = ProcessMark::own();
        self.call(move |c| store::insert_run(c, id, &info, &by)).await?;
        Ok(RunHold { journal: self.clone(), id, lock: Mutex::new(Some(lock)) })
    }

    /// Takes hold of a run whose process has ended.
    ///
    /// # Errors
    /// [`JournalError::Held`] when a live process, this one included, holds it.
    pub async fn take_run(&self, id: RunId) -> Result<RunHold, JournalError> {
        let (record, mark) =
            self.find(JournalError::NoSuchRun(id), move |c| store::run(c, id)).await?;
        let held = || JournalError::Held { run: id, pid: record.pid };
        let mut tries = 0;
        let lock = loop {
            if let Some(lock) = self.lock(id)? {
                break lock;
            }
            // Who only looks whether the run is alive has the lock for an instant too.
            tries += 1;
            if tries > 5 {
                return Err(held());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        if mark.is_some_and(|mark| mark.is_other_and_lives()) {
            return Err(held());
        }
        let by = ProcessMark::own();
        self.call(move |c| store::hold_run(c, id, &by)).await?;
        Ok(RunHold { journal: self.clone(), id, lock: Mutex::new(Some(lock)) })
    }

    /// All runs, the oldest first.
    ///
    /// # Errors
    /// When the journal cannot be read, or holds a bad record.
    pub async fn runs(&self) -> Result<Vec<RunRecord>, JournalError> {
        let runs = self.call(store::runs).await?;
        runs.into_iter().map(|(record, mark)| self.with_life(record, mark.as_ref())).collect()
    }

    /// One run.
    ///
    /// # Errors
    /// When there is no such run, or the journal cannot be read.
    pub async fn run(&self, id: RunId) -> Result<RunRecord, JournalError> {
        let (record, mark) =
            self.find(JournalError::NoSuchRun(id), move |c| store::run(c, id)).await?;
        self.with_life(record, mark.as_ref())
    }

    /// The sagas of a run with their nodes, in the order in which they began.
    ///
    /// # Errors
    /// When the journal cannot be read, or holds a bad record.
    pub async fn sagas(&self, run: RunId) -> Result<Vec<SagaRecord>, JournalError> {
        self.call(move |c| store::sagas_of(c, run)).await
    }

    /// One saga with its nodes.
    ///
    /// # Errors
    /// When there is no such saga, or the journal cannot be read.
    pub async fn saga(&self, id: SagaId) -> Result<SagaRecord, JournalError> {
        self.find(JournalError::NoSuchSaga(id), move |c| store::saga(c, id)).await
    }

    /// Removes a run and its events that nobody holds and that has left nothing.
    ///
    /// # Errors
    /// When it is held, or something of it is not undone yet.
    pub async fn forget_run(&self, id: RunId) -> Result<(), JournalError> {
        let hold = self.take_run(id).await?;
        self.find(JournalError::NoSuchRun(id), move |c| store::delete_run(c, id)).await?;
        hold.release(true)
    }

    /// Stores an event of a run, and waits until it is committed. Its number must not be used twice.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn append_event(
        &self,
        run: RunId,
        seq: u64,
        body: String,
    ) -> Result<(), JournalError> {
        self.call(move |c| store::insert_event(c, run, seq, &body)).await
    }

    /// Stores an event of a run without waiting, in order with everything else that is written. What a killed
    /// process had queued last is lost; [`flush`](Self::flush) waits for it.
    pub fn queue_event(&self, run: RunId, seq: u64, body: String) {
        drop(self.inner.writer.queue(Outlives::Process, move |c| {
            store::insert_event(c, run, seq, &body).inspect_err(|error| {
                tracing::warn!(%run, seq, ?error, "an event could not be stored");
            })
        }));
    }

    /// The number after a run's last stored event, for a process that goes on with it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next_event(&self, run: RunId) -> Result<u64, JournalError> {
        self.call(move |c| store::next_event(c, run)).await
    }

    /// Waits until everything queued so far is committed.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn flush(&self) -> Result<(), JournalError> {
        self.call(|_| Ok(())).await
    }

    /// Events of a run from number `from` on, at most `limit` of them.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn events(
        &self,
        run: RunId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<EventRecord>, JournalError> {
        self.call(move |c| store::events(c, run, from, limit)).await
    }

    pub(crate) async fn create_saga(
        &self,
        id: SagaId,
        run: RunId,
        name: String,
        nodes: Vec<NewNode>,
    ) -> Result<(), JournalError> {
        self.call(move |c| store::insert_saga(c, id, run, &name, &nodes)).await
    }

    /// Moves a node, and with the same commit the saga.
    pub(crate) async fn node_event(
        &self,
        saga: SagaId,
        node: &str,
        change: NodeChange,
    ) -> Result<NodeState, JournalError> {
        let NodeChange { event, output, error, then, outlives } = change;
        let name = node.to_owned();
        let missing = JournalError::NoSuchNode { saga, node: node.to_owned() };
        let moved = self.call_and_outlive(outlives, move |c| {
            let next = store::node_event(c, saga, &name, event, output.as_ref(), error.as_deref());
            let next = next.map(Some).or_else(none_if_missing)?;
            if let (Some(then), Some(_)) = (then, &next) {
                store::saga_event(c, saga, then, None)?;
            }
            Ok(next)
        });
        moved.await?.ok_or(missing)
    }

    pub(crate) async fn saga_event(
        &self,
        saga: SagaId,
        event: SagaEvent,
        error: Option<String>,
    ) -> Result<SagaState, JournalError> {
        self.find(JournalError::NoSuchSaga(saga), move |c| {
            store::saga_event(c, saga, event, error.as_deref())
        })
        .await
    }

    /// Removes the lock files that a process left when it died just before its run was written down, or just
    /// after the run had ended.
    pub(crate) async fn sweep_locks(&self) -> Result<(), JournalError> {
        let all = RunLock::all(&self.inner.locks).map_err(|source| JournalError::Open {
            path: self.inner.locks.clone(),
            source: Arc::new(source),
        })?;
        for id in all {
            // Looked up before, so that the lock of a run that is still needed is not even touched; and once
            // more under the lock: a run that begins holds it until its record stands.
            if self.needs_lock(id).await? {
                continue;
            }
            let Some(lock) = self.lock(id)? else { continue };
            if !self.needs_lock(id).await? {
                lock.remove().map_err(|source| self.lock_error(id, source))?;
            }
        }
        Ok(())
    }

    async fn needs_lock(&self, id: RunId) -> Result<bool, JournalError> {
        match self.call(move |c| store::run(c, id).map(Some).or_else(none_if_missing)).await? {
            Some((run, _)) => Ok(run.unsettled > 0 || run.state == RunState::Running),
            None => Ok(false),
        }
    }

    fn lock(&self, id: RunId) -> Result<Option<RunLock>, JournalError> {
        RunLock::try_acquire(&self.inner.locks, id).map_err(|source| self.lock_error(id, source))
    }

    fn lock_error(&self, run: RunId, source: io::Error) -> JournalError {
        JournalError::Lock { run, path: self.inner.locks.clone(), source: Arc::new(source) }
    }

    fn with_life(
        &self,
        mut record: RunRecord,
        mark: Option<&ProcessMark>,
    ) -> Result<RunRecord, JournalError> {
        record.live = RunLock::is_held(&self.inner.locks, record.id)
            .map_err(|source| self.lock_error(record.id, source))?
            || mark.is_some_and(ProcessMark::is_other_and_lives);
        Ok(record)
    }

    /// As [`call`](Self::call), with an error of one's own for a record that does not exist.
    async fn find<T, F>(&self, missing: JournalError, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JobError> + Send + 'static,
    {
        let found = self.call(move |c| work(c).map(Some).or_else(none_if_missing));
        found.await?.ok_or(missing)
    }

    async fn call<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JobError> + Send + 'static,
    {
        self.call_and_outlive(Outlives::Process, work).await
    }

    async fn call_and_outlive<T, F>(&self, outlives: Outlives, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JobError> + Send + 'static,
    {
        let path = || self.inner.path.clone();
        match self.inner.writer.queue(outlives, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(JobError::Sqlite(error))) => Err(sqlite_error(&self.inner.path, error)),
            Ok(Err(JobError::Bad(what))) => Err(JournalError::BadRecord { path: path(), what }),
            Ok(Err(JobError::Refused { what, source })) => {
                Err(JournalError::Refused { what, source })
            }
            // Callers that look for one record use `find`, which names it.
            Ok(Err(JobError::NotFound)) => Err(JournalError::BadRecord {
                path: path(),
                what: "a record is missing".to_owned(),
            }),
            Ok(Err(JobError::Unsettled(run))) => Err(JournalError::Unsettled(run)),
            Err(_) => Err(JournalError::Closed { path: path() }),
        }
    }
}

/// What becomes of a node.
pub(crate) struct NodeChange {
    pub(crate) event: NodeEvent,
    pub(crate) output: Option<Value>,
    pub(crate) error: Option<String>,
    /// What becomes of its saga.
    pub(crate) then: Option<SagaEvent>,
    pub(crate) outlives: Outlives,
}

impl NodeChange {
    /// An event and nothing beside.
    pub(crate) fn of(event: NodeEvent) -> Self {
        Self { event, output: None, error: None, then: None, outlives: Outlives::Process }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Journal").field(&self.inner.path).finish()
    }
}

/// Holds a run for as long as it lives: no other process touches the run's sagas.
#[derive(Debug)]
pub struct RunHold {
    journal: Journal,
    id: RunId,
    lock: Mutex<Option<RunLock>>,
}

impl RunHold {
    /// The run.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The journal that the run is in.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A folder for files that nobody needs once the run has ended. It is not there before somebody makes it;
    /// it goes when the run ends, or is recovered after its process died.
    #[must_use]
    pub fn temporary_folder(&self) -> PathBuf {
        RunLock::temporary_folder(&self.journal.inner.locks, self.id)
    }

    /// Adds the template and the fingerprint, once they are known.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn describe(
        &self,
        template: Option<String>,
        fingerprint: Option<String>,
    ) -> Result<(), JournalError> {
        let id = self.id;
        self.journal
            .call(move |c| store::describe_run(c, id, template.as_deref(), fingerprint.as_deref()))
            .await
    }

    /// Ends the run, and lets go of it. The lock's file goes too, unless the run has left something.
    ///
    /// Nothing may be executed under this hold afterwards.
    ///
    /// # Errors
    /// When the journal cannot be written; the hold is released even so.
    pub async fn finish(&self, state: RunState) -> Result<(), JournalError> {
        let id = self.id;
        let left = self.journal.call(move |c| {
            store::end_run(c, id, state)?;
            store::unsettled_of(c, id)
        });
        let left = left.await;
        self.release(matches!(left, Ok(0)))?;
        left.map(|_| ())
    }

    /// Lets go of the run without ending it, so that another process can take it.
    ///
    /// # Errors
    /// When the journal cannot be written; the hold is released even so.
    pub async fn let_go(&self) -> Result<(), JournalError> {
        let id = self.id;
        let stored = self.journal.call(move |c| store::unhold_run(c, id)).await;
        self.release(false)?;
        stored
    }

    fn release(&self, for_good: bool) -> Result<(), JournalError> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        match lock {
            Some(lock) if for_good => {
                lock.remove().map_err(|source| self.journal.lock_error(self.id, source))
            }
            _ => Ok(()),
        }
    }
}

fn none_if_missing<T>(error: JobError) -> Result<Option<T>, JobError> {
    match error {
        JobError::NotFound => Ok(None),
        other => Err(other),
    }
}

fn connect(path: &Path) -> Result<Connection, schema::Unusable> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Before anything is written, so that a foreign file is left as it is.
    schema::check(&connection)?;
    // Two processes that open a new file at once get in each other's way here, and SQLite does not wait.
    let since = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && since.elapsed() < BUSY =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    }
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

fn sqlite_error(path: &Path, source: Arc<rusqlite::Error>) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            JournalError::Corrupt { path, source }
        }
        _ => JournalError::Database { path, source },
    }
}
