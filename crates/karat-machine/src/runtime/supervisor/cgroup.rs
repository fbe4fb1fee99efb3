//! The control group of a machine: one directory in the unified hierarchy, whose name is the
//! machine's id, so that a later run finds what a dead one left.
//!
//! ```text
//! <unified>/karat-ID/            limits stand here
//!   supervisor/                  the supervisor and the program that carries packets out
//!   machine/                     systemd-nspawn, which makes supervisor/ and payload/ below
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::super::wire::Limits;

/// What the names of machines' cgroups start with.
const CGROUP_PREFIX: &str = "karat-";

/// A machine's directory in the unified hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    /// The same from the hierarchy's top.
    relative: PathBuf,
}

/// Where programs look for the hierarchy.
const USUAL: &str = "/sys/fs/cgroup";

impl Cgroup {
    /// Makes it: at the top of the hierarchy, where limits can hold, else below our own.
    /// A host without a writable unified hierarchy gives none, and a remark.
    pub(super) fn create(id: &str) -> (Option<Self>, Vec<String>) {
        let mut warnings = Vec::new();
        let top = unified_mount().unwrap_or_default();
        for parent in parents() {
            let path = parent.join(format!("{CGROUP_PREFIX}{id}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let relative = path.strip_prefix(&top).unwrap_or(&path).to_owned();
                    let cgroup = Self { path, relative };
                    enable_controllers(&parent);
                    for part in ["supervisor", "machine"] {
                        let _ = fs::create_dir(cgroup.path.join(part));
                    }
                    enable_controllers(&cgroup.path);
                    return (Some(cgroup), Vec::new());
                }
                Err(error) => warnings
                    .push(format!("cannot make the control group \"{}\": {error}", path.display())),
            }
        }
        if warnings.is_empty() {
            warnings.push("this host has no unified control group hierarchy".into());
        }
        (None, warnings)
    }

    /// Moves the calling process into the supervisor's part.
    pub(super) fn enter_supervisor(&self) -> io::Result<()> {
        enter(&self.path.join("supervisor"))
    }

    /// Shows the unified hierarchy, and no other, at its usual place in the calling process's own
    /// mount namespace. On a host with old hierarchies beside it systemd-nspawn would else make
    /// directories in those too, which nothing removes.
    pub(super) fn at_usual_place(self) -> io::Result<Self> {
        let usual = Path::new(USUAL);
        let kind = nix::sys::statfs::statfs(usual)?.filesystem_type();
        if kind != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
            let none = None::<&str>;
            let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("cgroup2"), usual, Some("cgroup2"), plain, none)?;
        }
        Ok(Self { path: usual.join(&self.relative), relative: self.relative })
    }

    /// Where systemd-nspawn belongs.
    pub(super) fn machine(&self) -> PathBuf {
        self.path.join("machine")
    }

    /// Sets limits; gives a remark for each that this host cannot hold.
    pub(super) fn limit(&self, limits: &Limits) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut set = |what: &str, file: &str, value: Option<String>| {
            if let Some(value) = value
                && let Err(error) = fs::write(self.path.join(file), value)
            {
                warnings.push(format!("cannot limit the machine's {what}: {file}: {error}"));
            }
        };
        set("memory", "memory.max", limits.memory_bytes.map(|n| n.to_string()));
        set("processes", "pids.max", limits.processes.map(|n| n.to_string()));
        // Microseconds of processor time in each 100 ms.
        let quota = limits.cpus.map(|n| format!("{} 100000", (n * 100_000.0).round().max(1000.0)));
        set("processors", "cpu.max", quota);
        warnings
    }

    /// Kills what is left in it and removes it with all below.
    pub(super) fn remove(&self) {
        let _ = remove_tree(&self.path);
    }
}

impl Limits {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        self.memory_bytes.is_some() || self.processes.is_some() || self.cpus.is_some()
    }
}

/// Moves the calling process.
pub(super) fn enter(cgroup: &Path) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
}

/// Every controller the directory has, for its children. What is refused stays off.
fn enable_controllers(cgroup: &Path) {
    let Ok(available) = fs::read_to_string(cgroup.join("cgroup.controllers")) else { return };
    for controller in available.split_whitespace() {
        let _ = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// The directories a machine's cgroup may stand in, the best first.
fn parents() -> Vec<PathBuf> {
    let Some(top) = unified_mount() else { return Vec::new() };
    let own = fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("0::/").map(PathBuf::from))
        .map(|relative| top.join(relative));
    let mut parents = vec![top];
    if let Some(own) = own
        && !parents.contains(&own)
    {
        parents.push(own);
    }
    parents
}

fn unified_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then_some(())?;
        before.split(' ').nth(4).map(PathBuf::from)
    })
}

/// Removes the cgroups of the machine with this id, wherever they stand. Gives what it could not.
pub(in crate::runtime) fn remove_cgroups_named(id: &str) -> io::Result<()> {
    for parent in parents() {
        let path = parent.join(format!("{CGROUP_PREFIX}{id}"));
        if path.is_dir() {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

/// The processes of a machine, held still until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    switch: PathBuf,
}

impl Frozen {
    /// Holds all processes of the machine with this id; `None` where this host cannot, or there is
    /// no such machine.
    #[must_use]
    pub fn machine(id: &str) -> Option<Self> {
        let folders = parents().into_iter();
        let folder = folders
            .map(|parent| parent.join(format!("{CGROUP_PREFIX}{id}")).join("machine"))
            .find(|folder| folder.is_dir())?;
        let held = Self { switch: folder.join("cgroup.freeze") };
        fs::write(&held.switch, "1").ok()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let events = fs::read_to_string(folder.join("cgroup.events")).ok()?;
            if events.lines().any(|line| line == "frozen 1") {
                return Some(held);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // A machine that is gone has nothing left to go on.
        let _ = fs::write(&self.switch, "0");
    }
}

/// Kills all processes below a cgroup and removes it. Nothing there is success.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match remove_empty(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            // A killed process is in its cgroup until it is reaped.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
            Ok(()) => return Ok(()),
        }
    }
}

fn remove_empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
