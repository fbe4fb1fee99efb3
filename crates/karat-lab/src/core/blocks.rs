//! Contents of snapshots: blocks of 512 KiB, each once, in files named by their SHA-256.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ring::digest;

use super::ids;

/// Bytes in a block.
pub const BLOCK_SIZE: usize = 524_288;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

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

    /// Whether a block is there.
    #[must_use]
    pub fn has(&self, digest: &[u8]) -> bool {
        self.path(digest).exists()
    }

    /// Keeps the blocks of a disk that have something in them; `used` are the parts of it that were
    /// written, ascending: offset and length in bytes. Gives numbers and digests.
    ///
    /// # Errors
    /// When the disk cannot be read or a block cannot be written.
    pub fn take_apart(&self, disk: &Path, used: &[(u64, u64)]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        use std::os::unix::fs::FileExt;
        let file = fs::File::open(disk)?;
        let length = file.metadata()?.len();
        let size = BLOCK_SIZE as u64;
        let numbers: BTreeSet<u64> = used
            .iter()
            .filter(|(_, length)| *length > 0)
            .flat_map(|(start, length)| start / size..=(start + length - 1) / size)
            .collect();
        let (mut block, zero) = (vec![0; BLOCK_SIZE], vec![0; BLOCK_SIZE]);
        let mut blocks = Vec::new();
        for number in numbers {
            let at = number * size;
            let rest = usize::try_from(length.saturating_sub(at)).unwrap_or(BLOCK_SIZE);
            let (part, beyond) = block.split_at_mut(rest.min(BLOCK_SIZE));
            file.read_exact_at(part, at)?;
            beyond.fill(0);
            if block == zero {
                continue;
            }
            let digest = digest::digest(&digest::SHA256, &block).as_ref().to_vec();
            self.put(&digest, &block)?;
            let number = u32::try_from(number).map_err(|_| io::ErrorKind::FileTooLarge)?;
            blocks.push((number, digest));
        }
        Ok(blocks)
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

    /// Lays blocks out as a disk of `size` bytes with holes where nothing was written.
    ///
    /// # Errors
    /// When a block is missing or the file cannot be written.
    pub fn assemble(&self, blocks: &[(u32, Vec<u8>)], size: u64, target: &Path) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let file = fs::File::create(target)?;
        file.set_len(size)?;
        for (number, digest) in blocks {
            let at = u64::from(*number) * BLOCK_SIZE as u64;
            file.write_all_at(&self.get(digest)?, at)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlockStore::new(dir.path().join("blocks"));
        let block = vec![7; BLOCK_SIZE];
        store.put(b"dd", &block).unwrap();
        store.put(b"dd", &block).unwrap();
        let disk = dir.path().join("disk");
        store.assemble(&[(1, b"dd".to_vec())], 3 * BLOCK_SIZE as u64, &disk).unwrap();
        let bytes = fs::read(&disk).unwrap();
        assert_eq!(bytes.len(), 3 * BLOCK_SIZE);
        assert_eq!((bytes[0], bytes[BLOCK_SIZE], bytes[2 * BLOCK_SIZE]), (0, 7, 0));
        let used = [(0, 1), (BLOCK_SIZE as u64, 2 * BLOCK_SIZE as u64)];
        let blocks = store.take_apart(&disk, &used).unwrap();
        let digest = digest::digest(&digest::SHA256, &block).as_ref().to_vec();
        assert_eq!(blocks, [(1, digest.clone())]);
        assert!(store.has(&digest));
        store.remove(b"dd").unwrap();
        store.remove(b"dd").unwrap();
        assert!(store.get(b"dd").is_err());
    }
}
