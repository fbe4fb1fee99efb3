//! The machine's copy of the kernel's settings.
//!
//! `/proc/sys` belongs to the host, so a machine may only read it, but for the settings of its own
//! network. Scripts that harden a system set others at once (`sysctl -p`), as they would on a
//! machine of their own. So a copy in memory lies over each folder of `/proc/sys` but `net`: what
//! is written is read back, and ends with the machine; the host's values stay.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{ForkResult, fork};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Leader, Outcome};

/// Settings that are the machine's own already.
pub(super) const OWN: &str = "net";

/// What tells something new at each look, so a copy would be wrong; it stays as it is.
const LIVE: [&str; 10] = [
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random",
];

/// One file or folder of the copy.
struct Copied {
    path: PathBuf,
    mode: u32,
    /// `None` for a folder.
    content: Option<Vec<u8>>,
}

/// Lays the copy over `/proc/sys` in the mount namespace of a process. What cannot be copied stays
/// read-only, as it was.
///
/// The calling process has one thread.
pub(super) fn copy_in(leader: &Leader) -> Outcome<()> {
    // SAFETY: the calling process has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            let _ = nix::sys::wait::waitpid(child, None);
        }
        ForkResult::Child => {
            let _ = enter(leader).and_then(|()| copy(Path::new("/proc/sys")));
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { nix::libc::_exit(0) }
        }
    }
    Ok(())
}

fn enter(leader: &Leader) -> io::Result<()> {
    let open = |name: &str| fs::File::open(format!("/proc/{}/ns/{name}", leader.pid));
    // Some settings are those of these namespaces.
    let spaces = [
        (open("ipc")?, CloneFlags::CLONE_NEWIPC),
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    for (space, kind) in spaces {
        setns(space, kind)?;
    }
    nix::unistd::fchdir(&leader.root)?;
    nix::unistd::chroot(".")?;
    Ok(())
}

/// Lays a copy over each folder of settings.
pub(super) fn copy(sys: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sys)?.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && entry.file_name() != OWN {
            cover(sys, &entry.path())?;
        }
    }
    Ok(())
}

fn cover(sys: &Path, dir: &Path) -> io::Result<()> {
    // Together with what is mounted in it: each boot has a boot_id of its own.
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let live: Vec<(PathBuf, OwnedFd)> = LIVE
        .iter()
        .map(|name| sys.join(name))
        .filter(|path| path.starts_with(dir) && path.exists())
        .map(|path| open_tree(CWD, &path, clone).map(|tree| (path, tree)))
        .collect::<Result<_, _>>()?;
    let mut copied = Vec::new();
    read(dir, &live, &mut copied);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let kind = Some("tmpfs");
    mount(kind, dir, kind, flags, Some("mode=0555,size=4m,nr_inodes=4k"))?;
    let filled = fill(copied, live);
    if filled.is_err() {
        // Half a copy would be worse than none.
        let _ = umount2(dir, MntFlags::MNT_DETACH);
    }
    filled
}

fn fill(copied: Vec<Copied>, live: Vec<(PathBuf, OwnedFd)>) -> io::Result<()> {
    for one in copied {
        match one.content {
            None => fs::create_dir(&one.path)?,
            Some(content) => {
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&one.path)?;
                file.write_all(&content)?;
            }
        }
        fs::set_permissions(&one.path, Permissions::from_mode(one.mode))?;
    }
    for (path, tree) in live {
        move_mount(&tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    Ok(())
}

/// Reads what is below a folder. Some settings can only be written; their copies are empty.
fn read(dir: &Path, live: &[(PathBuf, OwnedFd)], copied: &mut Vec<Copied>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
        let is_live = live.iter().any(|(own, _)| *own == path);
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            copied.push(Copied { path: path.clone(), mode, content: None });
            if !is_live {
                read(&path, live, copied);
            }
        } else {
            let can_be_read = mode & 0o400 != 0 && !is_live;
            let content =
                if can_be_read { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            copied.push(Copied { path, mode, content: Some(content) });
        }
    }
}
