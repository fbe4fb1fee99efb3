//! The machine's root: an overlay mounted where only the supervisor sees it.
//!
//! The topmost lower layer is made here, in memory, and holds the few files that belong to this
//! start of the machine and to no image: `/etc/resolv.conf`, `/etc/hostname`, `/etc/machine-id`.
//! Read, they are there; but they are not in the writable layer, so they are not captured, and
//! whoever replaces them replaces them for good.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, openat};

use super::super::wire::Prepare;
use super::{Failure, Outcome};

/// Everything of the supervisor stands here, in memory, seen by nobody else.
const PLACE: &str = "/run/karat";
/// Where the root is mounted.
pub(super) const MERGED: &str = "/run/karat/root";
/// The layer of this start.
const SEED: &str = "/run/karat/seed";

/// A mounted root.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) merged: OwnedFd,
    upper: OwnedFd,
    pub(super) binds: Vec<Bind>,
}

/// A path of the host, made reachable for the machine's start.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) staged: PathBuf,
    pub(super) target: PathBuf,
    pub(super) read_only: bool,
}

/// Cuts the calling process's mount namespace off from the one it was made from.
pub(super) fn make_private() -> io::Result<()> {
    let none = None::<&str>;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}

impl Root {
    /// Mounts it. The calling process is in a mount namespace of its own.
    pub(super) fn mount(prepare: &Prepare) -> Outcome<Self> {
        let none = None::<&str>;
        // Opened before /run is covered: any of them may stand below it.
        let lower = prepare.lower.iter().map(|p| open_dir(p)).collect::<Outcome<Vec<_>>>()?;
        let upper = open_dir(&prepare.upper)?;
        let work = open_dir(&prepare.work)?;
        let sources = prepare
            .binds
            .iter()
            .map(|bind| open_path(&bind.source))
            .collect::<Outcome<Vec<_>>>()?;

        mount_quiet("proc", "/proc", "proc", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)?;
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount_quiet("tmpfs", "/run", "tmpfs", quiet, Some("mode=0755"))?;
        make_dirs(&[PLACE, MERGED, SEED, "/run/karat/l", "/run/karat/binds"])?;

        let seed = Path::new(SEED);
        let layers: Vec<&OwnedFd> = lower.iter().collect();
        write_seed(seed, prepare, &layers, &upper)?;
        mount_overlay(seed, &lower, &upper, &work)?;
        let mut binds = Vec::new();
        for (index, (bind, source)) in prepare.binds.iter().zip(&sources).enumerate() {
            binds.push(stage(index, bind, source)?);
        }
        Ok(Self { merged: open_dir(Path::new(MERGED))?, upper, binds })
    }

    /// Unmounts it, so that the writable layer is complete on the host.
    pub(super) fn unmount(self) -> Outcome<()> {
        drop(self.merged);
        let unmounted = match umount2(MERGED, MntFlags::empty()) {
            Err(nix::Error::EBUSY) => umount2(MERGED, MntFlags::MNT_DETACH),
            other => other,
        };
        forget_seed(Path::new(SEED), &self.upper);
        unmounted.map_err(|e| Failure::os("cannot unmount the root", &e.into()))
    }
}

fn mount_quiet(
    source: &str,
    target: &str,
    kind: &str,
    flags: MsFlags,
    data: Option<&str>,
) -> Outcome<()> {
    mount(Some(source), target, Some(kind), flags, data)
        .map_err(|e| Failure::os(format!("cannot mount {kind} at {target}"), &e.into()))
}

fn make_dirs(paths: &[&str]) -> Outcome<()> {
    for path in paths {
        fs::create_dir_all(path).map_err(|e| Failure::os(format!("cannot make {path}"), &e))?;
    }
    Ok(())
}

fn open_dir(path: &Path) -> Outcome<OwnedFd> {
    open_flags(path, OFlags::PATH | OFlags::DIRECTORY)
}

fn open_path(path: &Path) -> Outcome<OwnedFd> {
    open_flags(path, OFlags::PATH)
}

fn open_flags(path: &Path, flags: OFlags) -> Outcome<OwnedFd> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::os(format!("cannot open \"{}\"", path.display()), &e.into()))
}

/// The path by which this process reaches what a descriptor stands for.
fn by_fd(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Mounts the overlay by short relative names, so that neither the length nor the characters of
/// the layers' paths matter.
fn mount_overlay(seed: &Path, lower: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd) -> Outcome<()> {
    let links = Path::new("/run/karat/l");
    let link = |name: &str, to: &Path| {
        symlink(to, links.join(name)).map_err(|e| Failure::os("cannot prepare the layers", &e))
    };
    link("s", seed)?;
    link("u", &by_fd(upper))?;
    link("w", &by_fd(work))?;
    let mut names = vec!["s".to_owned()];
    for (index, layer) in lower.iter().enumerate().rev() {
        let name = index.to_string();
        link(&name, &by_fd(layer))?;
        names.push(name);
    }
    // What an interrupted mount of the same directories left is removed: it only guards against a
    // crash of the whole host, after which no machine is continued.
    let _ = fs::remove_dir_all(by_fd(work).join("work"));
    let back = std::env::current_dir().unwrap_or_else(|_| "/".into());
    nix::unistd::chdir(links)?;
    let plain = format!(
        "lowerdir={},upperdir=u,workdir=w,redirect_dir=off,metacopy=off,index=off,xino=off",
        names.join(":")
    );
    let source = Some("overlay");
    let data = format!("{plain},volatile");
    let result = mount(source, MERGED, source, MsFlags::empty(), Some(data.as_str()))
        // Kernels before 5.10 do not know how to leave out the syncs.
        .or_else(|_| mount(source, MERGED, source, MsFlags::empty(), Some(plain.as_str())));
    let _ = nix::unistd::chdir(&back);
    result.map_err(|e| {
        let hint = match e {
            nix::Error::ENODEV => " (the kernel has no overlayfs: try `modprobe overlay`)",
            nix::Error::EINVAL => {
                " (the writable layer must stand on a file system such as ext4, xfs, btrfs or \
                 tmpfs, not on another overlay)"
            }
            nix::Error::EPERM => " (root and the right to mount are needed)",
            _ => "",
        };
        Failure {
            what: format!("cannot mount the machine's layers: {}{hint}", e.desc()),
            errno: Some(e as i32),
        }
    })
}

/// Fills the layer of this start. Directories in it look as those below, since the topmost one's
/// owner, mode and times show.
fn write_seed(seed: &Path, prepare: &Prepare, lower: &[&OwnedFd], upper: &OwnedFd) -> Outcome<()> {
    let topmost = |relative: &str| {
        std::iter::once(upper)
            .chain(lower.iter().rev().copied())
            .map(|fd| by_fd(fd).join(relative))
            .find_map(|path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir))
    };
    let fail = |e: io::Error| Failure::os("cannot write the files of this start", &e);
    let etc = topmost("etc");
    // A root that is all empty has no /etc to put them in.
    if let Some(etc) = &etc {
        let dir = seed.join("etc");
        fs::create_dir(&dir).map_err(fail)?;
        fs::write(dir.join("hostname"), format!("{}\n", prepare.hostname)).map_err(fail)?;
        fs::write(dir.join("machine-id"), format!("{}\n", prepare.machine_id)).map_err(fail)?;
        fs::set_permissions(dir.join("machine-id"), fs::Permissions::from_mode(0o444))
            .map_err(fail)?;
        if let Some(text) = &prepare.resolv_conf {
            fs::write(dir.join("resolv.conf"), text).map_err(fail)?;
        }
        look_like(&dir, etc).map_err(fail)?;
    }
    // The overlay's own root shows the writable layer's, which is new and therefore plain.
    let below = lower
        .iter()
        .rev()
        .find_map(|fd| fs::metadata(by_fd(fd)).ok())
        .ok_or_else(|| Failure::new("a machine needs at least one layer"))?;
    look_like(seed, &below).map_err(fail)?;
    let empty = fs::read_dir(by_fd(upper)).map_err(fail)?.next().is_none();
    if empty {
        look_like(&by_fd(upper), &below).map_err(fail)?;
    }
    Ok(())
}

/// Removes from the writable layer copies of this start's files. systemd opens
/// `/etc/machine-id` for writing, which copies it there, unchanged. A host name that somebody
/// wrote is meant for the image, also when it is that of this start.
fn forget_seed(seed: &Path, upper: &OwnedFd) {
    let own = by_fd(upper).join("etc");
    if !fs::symlink_metadata(&own).is_ok_and(|m| m.is_dir()) {
        return;
    }
    let Ok(entries) = fs::read_dir(seed.join("etc")) else { return };
    for entry in entries.flatten() {
        let copy = own.join(entry.file_name());
        let is_file = fs::symlink_metadata(&copy).is_ok_and(|m| m.is_file());
        if is_file
            && entry.file_name() != "hostname"
            && fs::read(&copy).ok() == fs::read(entry.path()).ok()
        {
            let _ = fs::remove_file(copy);
        }
    }
}

fn look_like(path: &Path, model: &fs::Metadata) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(model.uid()), Some(model.gid()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(model.mode() & 0o7777))?;
    let time = Timespec { tv_sec: model.mtime(), tv_nsec: model.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::empty())?;
    Ok(())
}

/// Makes a path of the host reachable below [`PLACE`].
fn stage(index: usize, bind: &super::super::wire::BindMount, source: &OwnedFd) -> Outcome<Bind> {
    let staged = PathBuf::from(format!("/run/karat/binds/{index}"));
    let fail = |e: io::Error| {
        Failure::os(format!("cannot show \"{}\" to the machine", bind.source.display()), &e)
    };
    let is_dir = fs::metadata(by_fd(source)).map_err(fail)?.is_dir();
    if is_dir {
        fs::create_dir(&staged).map_err(fail)?;
    } else {
        File::create(&staged).map_err(fail)?;
    }
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&by_fd(source)), &staged, none, flags, none).map_err(|e| fail(e.into()))?;
    let _ = source.as_fd();
    Ok(Bind { staged, target: bind.target.clone(), read_only: bind.read_only })
}
