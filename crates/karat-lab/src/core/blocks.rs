//! Contents of snapshots: blocks of 512 KiB, each once, in files named by their SHA-256.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::ids;

/// Bytes in a block.
pub const BLOCK_SIZE: usize = 524_288;

/// A folder of blocks.
#[derive(Clone, Debug)]
pub struct BlockStore {
    dir: PathBuf,
}

impl BlockStore {
    /// The folder, made at the first write.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn path(&self, digest: &[u8]) -> PathBuf {
        let name = ids::hex(digest);
        self.dir.join(name.get(..2).unwrap_or("00")).join(name)
    }

    /// Keeps a block under its digest. It appears whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, digest: &[u8], content: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder)?;
        let draft = folder.join(format!(".{}", ids::uuid()));
        let mut file = fs::File::create(&draft)?;
        file.write_all(content)?;
        fs::rename(draft, path)
    }

    /// Reads a block.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn get(&self, digest: &[u8]) -> io::Result<Vec<u8>> {
        fs::read(self.path(digest))
    }

    /// Removes a block; one that is not there is removed already.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, digest: &[u8]) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_stands_once_and_goes_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlockStore::new(dir.path().join("blocks"));
        let block = vec![7; BLOCK_SIZE];
        store.put(b"dd", &block).unwrap();
        store.put(b"dd", &block).unwrap();
        assert_eq!(store.get(b"dd").unwrap(), block);
        store.remove(b"dd").unwrap();
        store.remove(b"dd").unwrap();
        assert!(store.get(b"dd").is_err());
    }
}
