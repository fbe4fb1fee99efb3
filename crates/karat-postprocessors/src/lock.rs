//! A lock beside a file that several builds change, also of several processes.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use karat_component::ComponentError;
use tokio_util::sync::CancellationToken;

use crate::written::cannot_write;

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Holds `FILE.lock` until it is dropped, which removes it.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until nobody else holds the lock; the folder has to be there. A process that was
    /// killed holds none.
    pub(crate) fn take(file: &Path, cancel: &CancellationToken) -> Result<Self, ComponentError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |e| cannot_write(&path, e);
        loop {
            if cancel.is_cancelled() {
                return Err(ComponentError::cancelled());
            }
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                // Who held it before has removed it: another may lock a new one of this name.
                Ok(()) if is_still(&file, &path).map_err(failed)? => {
                    return Ok(Self { path, _file: file });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
        }
    }
}

fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock itself goes, so that nobody can lock a file without a name and keep it.
        let _ = std::fs::remove_file(&self.path);
    }
}
