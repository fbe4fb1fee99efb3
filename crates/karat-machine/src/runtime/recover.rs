//! Removing what a dead run left of a machine.
//!
//! When karat dies, the kernel ends the machine's processes and with them mounts, namespaces and
//! interfaces; the keeper removes the control group. What can be left is the machine's folder,
//! and, should the keeper have been killed too, an empty control group.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::{Result, RuntimeError};
use super::spec::MachineSpec;
use super::supervisor::remove_cgroups_named;

/// What must be known of a machine to remove what is left of it. Stored before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// The machine's id.
    pub id: String,
    /// Its folder.
    pub work_dir: PathBuf,
    /// The keeper's process, once it runs, with its start time in clock ticks since boot, so that
    /// another process with the number is left alone.
    pub keeper: Option<(u32, u64)>,
}

impl MachineRecord {
    /// The record of a machine that is about to start.
    pub fn planned(spec: &MachineSpec) -> Self {
        Self::of(spec, None)
    }

    pub(super) fn of(spec: &MachineSpec, keeper: Option<u32>) -> Self {
        let keeper = keeper.and_then(|pid| Some((pid, start_time(pid)?)));
        Self { id: spec.id.clone(), work_dir: spec.work_dir.clone(), keeper }
    }
}

/// Ends and removes all that is left of a machine: processes, control group, folder. May be called
/// again, and for a machine of which nothing is left.
///
/// # Errors
/// When something cannot be removed; the rest is removed all the same.
pub fn recover(record: &MachineRecord) -> Result<()> {
    if let Some((pid, started)) = record.keeper
        && start_time(pid) == Some(started)
        && let Ok(number) = i32::try_from(pid)
    {
        let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
        wait_gone(pid, started);
    }
    let cgroups = remove_cgroups_named(&record.id)
        .map_err(|e| RuntimeError::file("remove", "the machine's control group", e));
    let folder =
        remove_dir(&record.work_dir).map_err(|e| RuntimeError::file("remove", &record.work_dir, e));
    cgroups.and(folder)
}

/// When a process was started; field 22 of `/proc/PID/stat`, `None` when it is no more.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn wait_gone(pid: u32, started: u64) {
    for _ in 0..500 {
        if start_time(pid) != Some(started) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes a folder with all in it, files that were made immutable too.
fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            release(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Takes the immutable and append-only flags from all below a folder.
fn release(path: &Path) {
    const HELD: nix::libc::c_long = 0x10 | 0x20; // FS_IMMUTABLE_FL, FS_APPEND_FL
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    if (metadata.is_file() || metadata.is_dir())
        && let Ok(file) = fs::File::open(path)
    {
        let mut flags: nix::libc::c_long = 0;
        // SAFETY: the kernel reads and writes one number behind a pointer to one.
        unsafe {
            if nix::libc::ioctl(file.as_raw_fd(), nix::libc::FS_IOC_GETFLAGS, &raw mut flags) == 0
                && flags & HELD != 0
            {
                flags &= !HELD;
                nix::libc::ioctl(file.as_raw_fd(), nix::libc::FS_IOC_SETFLAGS, &raw const flags);
            }
        }
    }
    if metadata.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        entries.flatten().for_each(|entry| release(&entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_stable_and_gone_with_its_process() {
        let own = start_time(std::process::id()).unwrap();
        assert_eq!(start_time(std::process::id()), Some(own));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }

    #[test]
    fn recovering_nothing_is_success_and_a_strange_process_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("m");
        fs::create_dir_all(work.join("upper")).unwrap();
        let record = MachineRecord {
            id: "no-such-machine".into(),
            work_dir: work.clone(),
            keeper: Some((std::process::id(), 1)),
        };
        recover(&record).unwrap();
        assert!(!work.exists());
        recover(&record).unwrap();
    }
}
