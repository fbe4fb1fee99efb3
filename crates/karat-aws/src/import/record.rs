//! What was sent, on this computer's disk: the run that was cut off goes on from there, and an
//! image on top of another needs to send only what differs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The digest of a block's bytes.
pub(super) type Sum = [u8; 32];
/// Digests by the number of the block.
pub(super) type Blocks = BTreeMap<u32, Sum>;

/// A snapshot that is being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// By which AWS knows a call that is made again.
    pub(super) token: String,
    /// Empty until it is known.
    pub(super) snapshot: String,
    /// Whether all blocks were sent.
    pub(super) complete: bool,
    /// Which state of the disk it is of.
    pub(super) written: String,
    pub(super) parent: Option<String>,
    pub(super) encrypt: bool,
    pub(super) key: String,
}

/// Where a record lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    folder: PathBuf,
    key: String,
}

/// A text's digest, to be a file's name.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

impl Record {
    pub(super) fn path(state_dir: &Path, key: &str) -> Place {
        Place { folder: state_dir.join("aws-imports"), key: key.to_owned() }
    }
}

impl Place {
    fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.key))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.sent", self.key))
    }

    fn of_snapshot(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.blocks"))
    }

    pub(super) fn read(&self) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.file()).ok()?).ok()
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let draft = self.file().with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.sync_all()?;
        std::fs::rename(draft, self.file())
    }

    /// Forgets the record; what is known of whole snapshots stays.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_file(self.log());
        let _ = std::fs::remove_file(self.file());
    }

    /// The blocks that were sent. One that was written half is none.
    pub(super) fn sent(&self) -> Blocks {
        read(&self.log())
    }

    pub(super) fn open_log(&self) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(self.log())?;
        // What was cut off in the middle would shift what follows.
        let length = file.metadata()?.len();
        file.set_len(length - length % ENTRY as u64)?;
        Ok(Log(Mutex::new(file)))
    }

    /// The blocks of a whole snapshot that was sent from here.
    pub(super) fn blocks_of(&self, snapshot: &str) -> Option<Blocks> {
        let path = self.of_snapshot(snapshot);
        path.exists().then(|| read(&path))
    }

    pub(super) fn keep_blocks_of(&self, snapshot: &str, blocks: &Blocks) -> io::Result<()> {
        let bytes: Vec<u8> = blocks.iter().flat_map(|(index, sum)| entry(*index, sum)).collect();
        let draft = self.of_snapshot(snapshot).with_extension("draft");
        std::fs::write(&draft, bytes)?;
        std::fs::rename(draft, self.of_snapshot(snapshot))
    }
}

/// Bytes of a line: a number and a digest.
const ENTRY: usize = 36;

fn entry(index: u32, sum: &Sum) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..4].copy_from_slice(&index.to_le_bytes());
    bytes[4..].copy_from_slice(sum);
    bytes
}

fn read(path: &Path) -> Blocks {
    let mut bytes = Vec::new();
    let Ok(mut file) = File::open(path) else { return Blocks::new() };
    if file.read_to_end(&mut bytes).is_err() {
        return Blocks::new();
    }
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    let pair = |entry: &[u8; ENTRY]| {
        let (mut index, mut sum) = ([0; 4], [0; 32]);
        index.copy_from_slice(&entry[..4]);
        sum.copy_from_slice(&entry[4..]);
        (u32::from_le_bytes(index), sum)
    };
    entries.iter().map(pair).collect()
}

/// The list of blocks that were sent.
#[derive(Debug)]
pub(super) struct Log(Mutex<File>);

impl Log {
    pub(super) fn add(&self, index: u32, sum: &Sum) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&entry(index, sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_known_after_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let place = Record::path(folder.path(), "k");
        std::fs::create_dir_all(&place.folder).unwrap();
        let log = place.open_log().unwrap();
        log.add(1, &[1; 32]).unwrap();
        log.add(7, &[7; 32]).unwrap();
        let bytes = std::fs::read(place.log()).unwrap();
        std::fs::write(place.log(), &bytes[..ENTRY + 9]).unwrap();
        place.open_log().unwrap().add(2, &[2; 32]).unwrap();
        let sent = place.sent();
        assert_eq!(sent, Blocks::from([(1, [1; 32]), (2, [2; 32])]));
        place.keep_blocks_of("snap-1", &sent).unwrap();
        place.remove();
        assert_eq!(place.sent(), Blocks::new());
        assert_eq!(place.blocks_of("snap-1"), Some(sent));
        assert_eq!(place.blocks_of("snap-2"), None);
    }
}
