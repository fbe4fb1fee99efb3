//! Volumes beside the roots of instances: sparse files, filled when a machine first has them, and
//! block devices while one does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use karat_machine::runtime::{Disk, Frozen, is_attached};
use rustix::fs::SeekFrom;

use super::Hub;
use crate::aws::{Begins, Disks};
use crate::core::blocks::BlockStore;
use crate::core::disks::{file_of, folder_of};

/// How often it is looked whether a device is free.
const LOOK: Duration = Duration::from_millis(50);
/// How long a device may take until it is, after the machine that had it has ended.
const FREEING: Duration = Duration::from_secs(120);

/// The disks of all volumes.
pub(super) struct Volumes {
    /// The lab's folder.
    dir: PathBuf,
    /// One thing at a time is done with a disk.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Those that a machine has.
    held: Mutex<BTreeMap<String, Held>>,
}

/// A disk that a machine has.
#[derive(Clone)]
struct Held {
    instance: String,
    disk: Arc<Disk>,
}

impl Volumes {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), turns: Mutex::default(), held: Mutex::default() }
    }

    fn file(&self, volume: &str) -> PathBuf {
        file_of(&self.dir, volume)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, volume: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(volume.to_owned()).or_default())
    }

    /// Gives a disk up. Its device ends as soon as nothing has it open.
    pub(super) fn unplug(&self, volume: &str) {
        self.held().remove(volume);
    }

    /// Gives the disks of an instance up.
    pub(super) fn unplug_all(&self, instance: &str) {
        self.held().retain(|_, held| held.instance != instance);
    }

    /// Waits until no device has a volume's file.
    pub(super) async fn freed(&self, volume: &str) {
        let file = self.file(volume);
        while is_attached(&file) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The same, but not for ever.
    async fn soon_freed(&self, volume: &str) -> Result<(), String> {
        let freed = tokio::time::timeout(FREEING, self.freed(volume)).await;
        freed.map_err(|_| format!("something on this host still uses the disk of {volume}"))
    }
}

impl Hub {
    /// Makes a volume a block device for an instance.
    pub(super) async fn plug(
        self: &Arc<Self>,
        instance: &str,
        volume: &str,
    ) -> Result<Arc<Disk>, String> {
        let turn = self.volumes.turn(volume);
        let _one = turn.lock().await;
        self.volumes.soon_freed(volume).await?;
        let (hub, id) = (Arc::clone(self), volume.to_owned());
        let plugged = tokio::task::spawn_blocking(move || {
            let file = hub.volumes.file(&id);
            if !file.exists() {
                hub.fill(&id, &file)?;
            }
            Disk::attach(&file).map_err(|e| format!("this host gives no block device: {e}"))
        });
        let disk = Arc::new(plugged.await.map_err(|e| e.to_string())??);
        let held = Held { instance: instance.to_owned(), disk: Arc::clone(&disk) };
        self.volumes.held().insert(volume.to_owned(), held);
        Ok(disk)
    }

    /// Writes what a volume begins with. The file appears whole or not at all.
    fn fill(&self, volume: &str, file: &Path) -> Result<(), String> {
        let told = |error: io::Error| format!("cannot write the disk of {volume}: {error}");
        let bytes = self.front.volume_bytes(volume).ok_or("the volume is not there")?;
        let draft = file.with_extension("draft");
        fs::create_dir_all(folder_of(&self.volumes.dir)).map_err(told)?;
        let blocks = match self.front.begins(volume)? {
            Begins::Empty => Vec::new(),
            Begins::Blocks(blocks) => blocks,
            Begins::Files(root, from) => self.lay_out(volume, *root, from)?,
        };
        self.front.blocks.assemble(&blocks, bytes, &draft).map_err(told)?;
        fs::rename(&draft, file).map_err(told)
    }

    /// Keeps the blocks of a volume for its snapshot.
    pub(super) async fn capture_volume(self: Arc<Self>, volume: String, snapshot: String) {
        let turn = self.volumes.turn(&volume);
        let one = turn.lock().await;
        // What is no snapshot's may be removed before it is this one's.
        for _ in 0..3 {
            let blocks = self.blocks_of(&volume).await;
            if let Err(why) = &blocks {
                tracing::warn!(volume, snapshot, why, "a volume is not captured");
            }
            if self.front.blocks_captured(&snapshot, blocks) {
                break;
            }
        }
        drop(one);
        self.sweep_volumes();
    }

    async fn blocks_of(&self, volume: &str) -> Result<Vec<(u32, Vec<u8>)>, String> {
        let held = self.volumes.held().get(volume).cloned();
        if held.is_none() {
            self.volumes.soon_freed(volume).await?;
        }
        let (file, store) = (self.volumes.file(volume), self.front.blocks.clone());
        let reading = tokio::task::spawn_blocking(move || read(held.as_ref(), &file, &store));
        let read = reading.await.map_err(|e| e.to_string())?;
        read.map_err(|error| format!("cannot read the disk of {volume}: {error}"))
    }

    /// Makes the disk of a volume as long as the volume is.
    pub(super) async fn grow_volume(self: Arc<Self>, volume: String) {
        let turn = self.volumes.turn(&volume);
        let _one = turn.lock().await;
        let Some(bytes) = self.front.volume_bytes(&volume) else { return };
        let file = self.volumes.file(&volume);
        let grown = || -> io::Result<()> {
            let opened = match File::options().write(true).open(&file) {
                // No machine has had it yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            if opened.metadata()?.len() < bytes {
                opened.set_len(bytes)?;
            }
            self.volumes.held().get(&volume).map_or(Ok(()), |held| held.disk.grow())
        };
        if let Err(error) = grown() {
            tracing::warn!(volume, %error, "the disk of a volume does not grow");
        }
    }

    /// Removes the disks of volumes that are gone.
    pub(super) fn sweep_volumes(&self) {
        self.front.forget_volumes();
        let used = self.front.volumes_in_use();
        let files = fs::read_dir(folder_of(&self.volumes.dir)).into_iter().flatten().flatten();
        for file in files {
            let name = file.file_name().to_string_lossy().into_owned();
            let volume = name.split('.').next().unwrap_or_default();
            if !used.contains(volume)
                && let Err(error) = fs::remove_file(file.path())
            {
                tracing::warn!(volume, %error, "the disk of a volume is not removed");
            }
        }
        let mut turns = self.volumes.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|volume, _| used.contains(volume));
    }
}

/// Keeps the blocks of a disk. A machine that has it is held still meanwhile, with all that it wrote
/// on the disk, so that the blocks are those of one moment.
fn read(held: Option<&Held>, file: &Path, store: &BlockStore) -> io::Result<Vec<(u32, Vec<u8>)>> {
    let begun = Instant::now();
    let still = held.map(|held| Frozen::machine(&held.instance));
    if let Some(held) = held {
        if still.as_ref().is_some_and(Option::is_none) {
            tracing::warn!(id = held.instance, "a machine goes on while its volume is captured");
        }
        held.disk.flush()?;
    }
    let blocks = store.take_apart(file, &written(file)?)?;
    drop(still);
    tracing::debug!(file = %file.display(), took = ?begun.elapsed(), "a volume is captured");
    Ok(blocks)
}

/// The parts of a file that are no holes: offset and length.
fn written(path: &Path) -> io::Result<Vec<(u64, u64)>> {
    let file = File::open(path)?;
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => return Ok(parts),
            start => start?,
        };
        at = rustix::fs::seek(&file, SeekFrom::Hole(start))?;
        parts.push((start, at - start));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 30).unwrap();
        assert_eq!(written(&path).unwrap(), []);
        file.write_all_at(b"x", 512 << 20).unwrap();
        let parts = written(&path).unwrap();
        let within = |(start, len): &(u64, u64)| (*start..start + len).contains(&(512 << 20));
        assert!(parts.iter().any(within), "{parts:?}");
        assert!(parts.iter().map(|(_, len)| len).sum::<u64>() < 1 << 24, "{parts:?}");
    }
}
