//! The one thread that uses the connection.
//!
//! All builds of a process write through it. What waits when it becomes free goes into one transaction, so many
//! sagas side by side cost few commits; the caller is told after the commit. A job that fails undoes only itself.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::ids::RunId;
use crate::state::Refused;

/// The most jobs in one transaction, so that nobody waits long for a commit.
const BATCH: usize = 512;

/// Why a job did not do its work.
#[derive(Debug)]
pub(crate) enum JobError {
    Sqlite(Arc<rusqlite::Error>),
    Bad(String),
    Refused { what: String, source: Refused },
    NotFound,
    Unsettled(RunId),
}

impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// Tells the caller, once it is known whether the transaction was committed.
type Tell = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
/// Does the work, or learns that no transaction could be begun.
type Job = Box<dyn FnOnce(Result<&Connection, Arc<rusqlite::Error>>) -> Tell + Send>;

/// The sending end. Dropping it lets the thread write what waits, and end.
pub(crate) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("karat-journal".to_owned())
            .spawn(move || serve(&connection, &queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job. Jobs are done in the order in which they are queued. `None` is received when the thread
    /// has ended.
    pub(crate) fn queue<T, F>(&self, work: F) -> oneshot::Receiver<Result<T, JobError>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JobError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let done = connection.map_err(JobError::Sqlite).and_then(|c| savepoint(c, work));
            Box::new(move |committed| {
                let answer = done.and_then(|value| match committed {
                    Ok(()) => Ok(value),
                    Err(error) => Err(JobError::Sqlite(error)),
                });
                // Who no longer waits does not want to know.
                let _ = tell.send(answer);
            })
        });
        if let Some(jobs) = &self.jobs {
            // When the thread is gone the job is dropped with its sender, which the receiver notices.
            let _ = jobs.send(job);
        }
        told
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told to those who waited.
            let _ = thread.join();
        }
    }
}

fn savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, JobError>,
) -> Result<T, JobError> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    let done = work(connection);
    // A full disk makes SQLite roll the whole transaction back by itself.
    if connection.is_autocommit() {
        return done.and(Err(JobError::Bad("the transaction was rolled back".to_owned())));
    }
    if done.is_err() {
        connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    done
}

fn serve(connection: &Connection, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        batch(connection, first, queue);
    }
}

/// Does what waits in one transaction.
fn batch(connection: &Connection, first: Job, queue: &Receiver<Job>) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = Arc::new(error);
        first(Err(Arc::clone(&error)))(Err(error));
        return;
    }
    let mut tells = Vec::new();
    let mut job = Some(first);
    while let Some(work) = job.take() {
        tells.push(work(Ok(connection)));
        if connection.is_autocommit() {
            break;
        }
        if tells.len() < BATCH {
            job = queue.try_recv().ok();
        }
    }
    let committed = if connection.is_autocommit() {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
            Some("the transaction was rolled back".to_owned()),
        ))
    } else {
        connection.execute_batch("COMMIT")
    };
    let committed = committed.map_err(|error| {
        if !connection.is_autocommit() {
            // Nothing more can be done than to leave the transaction; the next one tells if that fails.
            let _ = connection.execute_batch("ROLLBACK");
        }
        Arc::new(error)
    });
    for tell in tells {
        tell(committed.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection whose file may not grow, as on a full disk.
    fn full() -> (tempfile::TempDir, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("x.db")).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        (dir, connection)
    }

    fn insert(writer: &Writer, bytes: usize) -> oneshot::Receiver<Result<(), JobError>> {
        writer.queue(move |c| {
            c.execute("INSERT INTO t VALUES (zeroblob(?1))", [i64::try_from(bytes).unwrap()])?;
            Ok(())
        })
    }

    fn count(writer: &Writer) -> i64 {
        let counted =
            writer.queue(|c| Ok(c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?));
        counted.blocking_recv().unwrap().unwrap()
    }

    #[test]
    fn a_failed_job_undoes_only_itself() {
        let (_dir, connection) = full();
        let writer = Writer::start(connection).unwrap();
        let jobs: Vec<_> = (0..100)
            .map(|n| {
                writer.queue(move |c| {
                    c.execute("INSERT INTO t VALUES (?1)", [n])?;
                    if n % 2 == 0 { Ok(n) } else { Err(JobError::NotFound) }
                })
            })
            .collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.blocking_recv().unwrap().is_ok(), n % 2 == 0);
        }
        assert_eq!(count(&writer), 50);
    }

    /// Whoever is told that a job was done finds its work, and nobody waits forever.
    #[test]
    fn a_full_disk_is_told_to_everyone_it_concerns() {
        let (_dir, connection) = full();
        connection.pragma_update(None, "max_page_count", 60).unwrap();
        let writer = Writer::start(connection).unwrap();
        let jobs: Vec<_> = (0..200).map(|_| insert(&writer, 3000)).collect();
        let done =
            jobs.into_iter().map(|job| job.blocking_recv().unwrap()).filter(Result::is_ok).count();
        assert!(done < 200);
        assert_eq!(count(&writer), i64::try_from(done).unwrap());
        assert!(insert(&writer, 1_000_000).blocking_recv().unwrap().is_err());
        assert_eq!(count(&writer), i64::try_from(done).unwrap());
    }
}
