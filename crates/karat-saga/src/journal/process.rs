//! Who holds a run: a lock on a file, which the kernel drops with the process, and the process's identity.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::ids::RunId;

/// Names a process beyond the reuse of its pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessMark {
    pub(crate) pid: u32,
    /// Clock ticks between boot and the start of the process: field 22 of `/proc/PID/stat`, see proc(5).
    pub(crate) start: u64,
    /// `/proc/sys/kernel/random/boot_id`: another value after every boot.
    pub(crate) boot: String,
}

impl ProcessMark {
    /// This process.
    pub(crate) fn own() -> Self {
        let pid = std::process::id();
        // Where /proc is not mounted the lock alone decides.
        Self { pid, start: start_of(pid).unwrap_or(0), boot: boot_id() }
    }

    /// Whether the process named lives, and is another than this one.
    pub(crate) fn is_other_and_lives(&self) -> bool {
        self.pid != std::process::id()
            && self.boot == boot_id()
            && start_of(self.pid).is_some_and(|start| start == self.start)
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // A zombie has ended; only its parent has not noticed.
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The lock of one run, held until dropped.
///
/// The file is closed on `exec`, so child programs do not inherit it. A process forked without `exec` shares the
/// lock: should this process die, it keeps the run held for as long as it lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    file: File,
    path: PathBuf,
}

impl RunLock {
    /// Takes the lock; `None` when another holds it.
    pub(crate) fn try_acquire(dir: &Path, run: RunId) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("{run}.lock"));
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            // Its last holder may have removed the file between our opening and locking it.
            let locked = file.metadata()?;
            match std::fs::metadata(&path) {
                Ok(named) if named.ino() == locked.ino() && named.dev() == locked.dev() => {
                    return Ok(Some(Self { file, path }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether another holds the lock. Leaves no file. Who tries to take the lock in the same instant is kept
    /// from it, so takers try more than once.
    pub(crate) fn is_held(dir: &Path, run: RunId) -> io::Result<bool> {
        let file = match File::open(dir.join(format!("{run}.lock"))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                flock(&file, FlockOperation::Unlock)?;
                Ok(false)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the run's temporary files go.
    pub(crate) fn temporary_folder(dir: &Path, run: RunId) -> PathBuf {
        temporary_folder(&dir.join(format!("{run}.lock")))
    }

    /// The runs that have a lock file, held or not.
    pub(crate) fn all(dir: &Path) -> io::Result<Vec<RunId>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".lock"));
            all.extend(id.and_then(|id| id.parse::<RunId>().ok()));
        }
        Ok(all)
    }

    /// Releases the lock and removes its file, when the run will not be held again. What is in the run's
    /// folder for temporary files goes with it.
    pub(crate) fn remove(self) -> io::Result<()> {
        match std::fs::remove_dir_all(temporary_folder(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Removed while locked: who has opened it meanwhile finds that the name is gone, and tries again.
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The run's folder for temporary files, beside its lock.
fn temporary_folder(lock: &Path) -> PathBuf {
    lock.with_extension("tmp")
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Closing alone would not release it while a child that another thread has just forked, and that has
        // not reached its `exec`, still has the file open.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(path = %self.path.display(), %error, "a run could not be unlocked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_is_released_by_dropping() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId::generate();
        assert!(!RunLock::is_held(dir.path(), run).unwrap());
        let held = RunLock::try_acquire(dir.path(), run).unwrap().unwrap();
        assert!(RunLock::is_held(dir.path(), run).unwrap());
        assert!(RunLock::try_acquire(dir.path(), run).unwrap().is_none());
        drop(held);
        assert!(!RunLock::is_held(dir.path(), run).unwrap());
        let files = RunLock::temporary_folder(dir.path(), run);
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("script"), "true").unwrap();
        RunLock::try_acquire(dir.path(), run).unwrap().unwrap().remove().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_process_is_known_by_more_than_its_pid() {
        let own = ProcessMark::own();
        assert!(own.start > 0 && !own.boot.is_empty());
        assert!(!own.is_other_and_lives());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mark = ProcessMark { pid: child.id(), start: start_of(child.id()).unwrap(), ..own };
        assert!(mark.is_other_and_lives());
        assert!(!ProcessMark { start: mark.start + 1, ..mark.clone() }.is_other_and_lives());
        let mut rebooted = mark.clone();
        rebooted.boot.push('x');
        assert!(!rebooted.is_other_and_lives());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!mark.is_other_and_lives());
    }
}
