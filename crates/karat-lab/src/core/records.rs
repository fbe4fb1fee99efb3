//! Tables in memory, written through to SQLite, taken back on failure.
//!
//! Every record is a JSON document under its kind and key. A request reads and changes tables in
//! memory; [`Table::commit`] writes what changed, [`Table::rollback`] undoes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can stand in a table.
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// Names the table.
    const KIND: &'static str;
    /// What the record is found by.
    fn key(&self) -> String;
}

/// Records by key.
#[derive(Debug)]
pub struct Table<T> {
    rows: BTreeMap<String, T>,
    /// What changed rows were before the request; `None` for new ones.
    before: BTreeMap<String, Option<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), before: BTreeMap::new() }
    }
}

impl<T: Record> Table<T> {
    /// Reads the table.
    ///
    /// # Errors
    /// When the database cannot be read or holds what this version does not understand.
    pub fn load(database: &Database) -> Result<Self, DatabaseError> {
        let mut query =
            database.connection.prepare("SELECT key, json FROM records WHERE kind = ?1")?;
        let mut rows = BTreeMap::new();
        let found = query.query_map([T::KIND], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for row in found {
            let (key, json): (String, String) = row?;
            let record = serde_json::from_str(&json)
                .map_err(|source| DatabaseError::Record { kind: T::KIND, source })?;
            rows.insert(key, record);
        }
        Ok(Self { rows, before: BTreeMap::new() })
    }

    /// The record of a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.rows.get(key)
    }

    /// The record of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        let row = self.rows.get_mut(key)?;
        self.before.entry(key.to_owned()).or_insert_with(|| Some(row.clone()));
        Some(row)
    }

    /// Adds a record, or replaces the one of the same key.
    pub fn insert(&mut self, record: T) {
        let key = record.key();
        let before = self.rows.insert(key.clone(), record);
        self.before.entry(key).or_insert(before);
    }

    /// Removes a record.
    pub fn remove(&mut self, key: &str) -> Option<T> {
        let row = self.rows.remove(key)?;
        self.before.entry(key.to_owned()).or_insert_with(|| Some(row.clone()));
        Some(row)
    }

    /// All records, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.values()
    }

    /// Keys of the records that hold, to change them one by one.
    pub fn keys_where(&self, holds: impl Fn(&T) -> bool) -> Vec<String> {
        self.rows.iter().filter(|(_, row)| holds(row)).map(|(key, _)| key.clone()).collect()
    }

    /// Writes what changed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn commit(&mut self, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        for key in self.before.keys() {
            match self.rows.get(key) {
                Some(row) => {
                    let json = serde_json::to_string(row)
                        .map_err(|source| DatabaseError::Record { kind: T::KIND, source })?;
                    transaction.execute(
                        "INSERT OR REPLACE INTO records (kind, key, json) VALUES (?1, ?2, ?3)",
                        params![T::KIND, key, json],
                    )?;
                }
                None => {
                    transaction.execute(
                        "DELETE FROM records WHERE kind = ?1 AND key = ?2",
                        params![T::KIND, key],
                    )?;
                }
            }
        }
        Ok(())
    }

    /// The changes stand.
    pub fn settle(&mut self) {
        self.before.clear();
    }

    /// Takes back what changed since they were settled last.
    pub fn rollback(&mut self) {
        for (key, before) in std::mem::take(&mut self.before) {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}

/// Why records cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite says no.
    #[error("cannot use the lab's database")]
    Database(#[from] rusqlite::Error),
    /// A record that this version cannot read.
    #[error("a record of kind \"{kind}\" in the lab's database cannot be used")]
    Record {
        /// Which kind.
        kind: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Of a later version.
    #[error("the lab's database has format {found}, and this program knows {known}")]
    Format {
        /// What it says.
        found: i64,
        /// What we write.
        known: i64,
    },
}

/// The format of the tables and of the records in them.
const FORMAT: i64 = 1;

/// The file that all is kept in.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
}

impl Database {
    /// Opens the file, made if missing.
    ///
    /// # Errors
    /// When it cannot be opened or has another format.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::with(Connection::open(path)?)
    }

    fn with(connection: Connection) -> Result<Self, DatabaseError> {
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A lab is a rehearsal: a power cut may cost the last request, never the file.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS records (
                 kind TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL,
                 PRIMARY KEY (kind, key)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS blocks (
                 snapshot TEXT NOT NULL, number INTEGER NOT NULL, digest BLOB NOT NULL,
                 PRIMARY KEY (snapshot, number)) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS blocks_by_digest ON blocks (digest);",
        )?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => connection.pragma_update(None, "user_version", FORMAT)?,
            FORMAT => {}
            _ => return Err(DatabaseError::Format { found, known: FORMAT }),
        }
        Ok(Self { connection })
    }

    /// A database that is gone with the process.
    ///
    /// # Errors
    /// When SQLite cannot be used.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        Self::with(Connection::open_in_memory()?)
    }

    /// Does `work` in one transaction.
    ///
    /// # Errors
    /// When the work fails or cannot be written; nothing is written then.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let transaction = self.connection.transaction()?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Remembers which block of a snapshot has which content.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_block(
        &self,
        snapshot: &str,
        number: u32,
        digest: &[u8],
    ) -> Result<(), DatabaseError> {
        self.connection.execute(
            "INSERT OR REPLACE INTO blocks (snapshot, number, digest) VALUES (?1, ?2, ?3)",
            params![snapshot, number, digest],
        )?;
        Ok(())
    }

    /// Remembers all blocks of a snapshot that has none yet.
    ///
    /// # Errors
    /// When the database cannot be written; nothing is remembered then.
    pub fn put_blocks(
        &mut self,
        snapshot: &str,
        blocks: &[(u32, Vec<u8>)],
    ) -> Result<(), DatabaseError> {
        self.transaction(|transaction| {
            let mut insert = transaction.prepare(
                "INSERT OR REPLACE INTO blocks (snapshot, number, digest) VALUES (?1, ?2, ?3)",
            )?;
            for (number, digest) in blocks {
                insert.execute(params![snapshot, number, digest])?;
            }
            Ok(())
        })
    }

    /// The content of a block, if it was written.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn block(&self, snapshot: &str, number: u32) -> Result<Option<Vec<u8>>, DatabaseError> {
        let found = self.connection.query_row(
            "SELECT digest FROM blocks WHERE snapshot = ?1 AND number = ?2",
            params![snapshot, number],
            |row| row.get(0),
        );
        Ok(found.optional()?)
    }

    /// All blocks of a snapshot, in order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn blocks(&self, snapshot: &str) -> Result<Vec<(u32, Vec<u8>)>, DatabaseError> {
        let mut query = self
            .connection
            .prepare("SELECT number, digest FROM blocks WHERE snapshot = ?1 ORDER BY number")?;
        let rows = query.query_map([snapshot], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives a snapshot the blocks of another.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn copy_blocks(&self, from: &str, to: &str) -> Result<(), DatabaseError> {
        self.connection.execute(
            "INSERT OR REPLACE INTO blocks (snapshot, number, digest)
             SELECT ?2, number, digest FROM blocks WHERE snapshot = ?1",
            params![from, to],
        )?;
        Ok(())
    }

    /// Forgets the blocks of a snapshot, and gives the contents that no other has.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn drop_blocks(&self, snapshot: &str) -> Result<Vec<Vec<u8>>, DatabaseError> {
        let mut query = self.connection.prepare(
            "SELECT DISTINCT digest FROM blocks AS own WHERE snapshot = ?1 AND NOT EXISTS
             (SELECT 1 FROM blocks AS other WHERE other.digest = own.digest AND snapshot <> ?1)",
        )?;
        let alone = query.query_map([snapshot], |row| row.get(0))?.collect::<Result<_, _>>()?;
        self.connection.execute("DELETE FROM blocks WHERE snapshot = ?1", [snapshot])?;
        Ok(alone)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        id: String,
        size: u32,
    }

    impl Record for Thing {
        const KIND: &'static str = "thing";
        fn key(&self) -> String {
            self.id.clone()
        }
    }

    fn thing(id: &str, size: u32) -> Thing {
        Thing { id: id.into(), size }
    }

    #[test]
    fn what_is_committed_survives_and_what_is_not_is_taken_back() {
        let mut database = Database::in_memory().unwrap();
        let mut table = Table::<Thing>::load(&database).unwrap();
        table.insert(thing("a", 1));
        table.insert(thing("b", 2));
        database.transaction(|t| table.commit(t)).unwrap();
        table.settle();

        table.get_mut("a").unwrap().size = 9;
        table.remove("b");
        table.insert(thing("c", 3));
        table.rollback();
        let sizes: Vec<u32> = table.iter().map(|t| t.size).collect();
        assert_eq!(sizes, [1, 2]);

        table.remove("b");
        table.get_mut("a").unwrap().size = 7;
        database.transaction(|t| table.commit(t)).unwrap();
        let again = Table::<Thing>::load(&database).unwrap();
        assert_eq!(again.iter().cloned().collect::<Vec<_>>(), [thing("a", 7)]);
    }

    #[test]
    fn blocks_that_nothing_else_has_are_named_when_a_snapshot_goes() {
        let database = Database::in_memory().unwrap();
        database.put_block("s1", 0, b"x").unwrap();
        database.put_block("s1", 5, b"y").unwrap();
        database.copy_blocks("s1", "s2").unwrap();
        database.put_block("s2", 5, b"z").unwrap();
        assert_eq!(database.block("s2", 0).unwrap().unwrap(), b"x");
        assert_eq!(database.blocks("s2").unwrap(), [(0, b"x".to_vec()), (5, b"z".to_vec())]);
        assert_eq!(database.drop_blocks("s1").unwrap(), [b"y".to_vec()]);
        assert!(database.blocks("s1").unwrap().is_empty());
    }
}
