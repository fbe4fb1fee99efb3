//! The one thread that uses the connection.
//!
//! All builds of a process write through it. What waits when it becomes free goes into one transaction, so many
//! sagas side by side cost few commits; the caller is told after the commit. A job that fails undoes only itself.

use std::collections::VecDeque;
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
type Work = Box<dyn FnOnce(Result<&Connection, Arc<rusqlite::Error>>) -> Tell + Send>;

/// What a commit outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlives {
    /// The end of the process.
    Process,
    /// The loss of power, too: whoever is told waits for the disk.
    Power,
}

struct Job {
    work: Work,
    outlives: Outlives,
}

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
    pub(crate) fn queue<T, F>(
        &self,
        outlives: Outlives,
        work: F,
    ) -> oneshot::Receiver<Result<T, JobError>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, JobError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
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
            let _ = jobs.send(Job { work, outlives });
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
    let mut waiting = VecDeque::new();
    while let Some(first) = waiting.pop_front().or_else(|| queue.recv().ok()) {
        waiting.push_front(first);
        waiting.extend(queue.try_iter().take(BATCH.saturating_sub(waiting.len())));
        batch(connection, &mut waiting);
    }
}

/// Does what waits in one transaction. What is still there afterwards takes another one.
fn batch(connection: &Connection, waiting: &mut VecDeque<Job>) {
    let power = waiting.iter().any(|job| job.outlives == Outlives::Power);
    // It cannot be changed within a transaction.
    let synchronous = if power { "full" } else { "normal" };
    let begun = connection
        .pragma_update(None, "synchronous", synchronous)
        .and_then(|()| connection.execute_batch("BEGIN IMMEDIATE"));
    if let Err(error) = begun {
        let error = Arc::new(error);
        if let Some(first) = waiting.pop_front() {
            (first.work)(Err(Arc::clone(&error)))(Err(error));
        }
        return;
    }
    let mut tells = Vec::new();
    while let Some(job) = waiting.pop_front() {
        tells.push((job.work)(Ok(connection)));
        if connection.is_autocommit() {
            break;
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
        writer.queue(Outlives::Process, move |c| {
            c.execute("INSERT INTO t VALUES (zeroblob(?1))", [i64::try_from(bytes).unwrap()])?;
            Ok(())
        })
    }

    fn count(writer: &Writer) -> i64 {
        let counted = writer.queue(Outlives::Process, |c| {
            Ok(c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?)
        });
        counted.blocking_recv().unwrap().unwrap()
    }

    #[test]
    fn what_outlives_the_loss_of_power_is_committed_to_the_disk() {
        let (_dir, connection) = full();
        let writer = Writer::start(connection).unwrap();
        let committed_with = |outlives| {
            let asked = writer.queue(outlives, |c| {
                Ok(c.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))?)
            });
            asked.blocking_recv().unwrap().unwrap()
        };
        // SQLite's numbers: 1 is NORMAL, which leaves the log in write-ahead mode to the kernel; 2 is FULL.
        let kinds = [Outlives::Process, Outlives::Power, Outlives::Process];
        assert_eq!(kinds.map(committed_with), [1, 2, 1]);
    }

    #[test]
    fn a_failed_job_undoes_only_itself() {
        let (_dir, connection) = full();
        let writer = Writer::start(connection).unwrap();
        let jobs: Vec<_> = (0..100)
            .map(|n| {
                writer.queue(Outlives::Process, move |c| {
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
