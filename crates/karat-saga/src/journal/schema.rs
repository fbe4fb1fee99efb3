//! The tables, and how an older file becomes a current one.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as a journal: "krsj" in ASCII, at offset 68 of the SQLite header.
const APPLICATION_ID: i64 = 0x6b72_736a;

/// One script per version; version N is what the first N scripts make. A released script never changes.
const MIGRATIONS: &[&str] = &["
CREATE TABLE runs (
    id          TEXT PRIMARY KEY,
    started_ms  INTEGER NOT NULL,
    ended_ms    INTEGER,
    pid         INTEGER,
    pid_start   INTEGER,
    boot        TEXT,
    version     TEXT NOT NULL,
    command     TEXT NOT NULL,
    cwd         TEXT NOT NULL,
    template    TEXT,
    fingerprint TEXT,
    state       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sagas (
    id         TEXT PRIMARY KEY,
    run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL,
    error      TEXT,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sagas_by_run ON sagas (run, id);

CREATE TABLE nodes (
    saga       TEXT NOT NULL REFERENCES sagas (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    position   INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    params     TEXT NOT NULL,
    lifetime   TEXT NOT NULL,
    state      TEXT NOT NULL,
    output     TEXT,
    error      TEXT,
    changed_ms INTEGER NOT NULL,
    PRIMARY KEY (saga, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    run   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq   INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    body  TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
"];

/// The newest version that this program reads and writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// What keeps a file from being used as a journal.
pub(crate) enum Unusable {
    Sqlite(rusqlite::Error),
    Foreign,
    Newer(i64),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Brings the file to the current version. Safe when two processes do it at once.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), Unusable> {
    if is_current(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_current(&transaction)? {
        return Ok(());
    }
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for script in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// Refuses a file that is not ours, before anything is written to it.
pub(crate) fn check(connection: &Connection) -> Result<(), Unusable> {
    is_current(connection).map(|_| ())
}

fn is_current(connection: &Connection) -> Result<bool, Unusable> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
        return Err(Unusable::Foreign);
    }
    if !(0..=VERSION).contains(&version) {
        return Err(Unusable::Newer(version));
    }
    Ok(application == APPLICATION_ID && version == VERSION)
}
