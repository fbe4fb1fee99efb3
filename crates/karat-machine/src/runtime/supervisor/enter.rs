//! A machine without systemd: an idle first process in namespaces of its own, for fast work on
//! packages and files.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{ForkResult, Pid, fork};

use super::super::wire::Enter;
use super::{Failure, Leader, Outcome, Supervisor, cgroup, mounts, settings};

impl Supervisor {
    /// Starts the idle process and makes it the machine's leader.
    pub(super) fn start_idle(&mut self, enter: &Enter) -> Outcome<()> {
        if self.runner.is_some() {
            return Err(Failure::new("the machine runs already"));
        }
        let place = self.cgroup.as_ref().map(|c| c.machine().join("payload"));
        if let Some(place) = &place {
            let _ = fs::create_dir(place);
            let _ = fs::create_dir(place.join("init"));
        }
        let (report, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread, so the child may do anything.
        let helper = match unsafe { fork() }? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop(report);
                if let Err(failure) = self.become_idle(enter, place.as_deref(), &tell) {
                    let text = serde_json::to_vec(&failure).unwrap_or_default();
                    let _ = nix::unistd::write(&tell, &text);
                }
                // SAFETY: ends the child without running the parent's exit handlers.
                unsafe { nix::libc::_exit(1) }
            }
        };
        drop(tell);
        let mut text = Vec::new();
        let read = io::Read::read_to_end(&mut fs::File::from(report), &mut text);
        let _ = nix::sys::wait::waitpid(helper, None);
        read.map_err(|e| Failure::os("cannot enter the machine", &e))?;
        let Some((number, failure)) = text.split_first_chunk::<4>() else {
            return Err(parse(&text));
        };
        let pid = Pid::from_raw(i32::from_ne_bytes(*number));
        if failure != b"!" {
            let _ = nix::sys::wait::waitpid(pid, None);
            return Err(parse(failure));
        }
        self.leader = Some(Leader::find(pid, place)?);
        self.runner = Some(pid);
        Ok(())
    }

    /// Makes the namespaces; the process 1 of them tells `!` when its mounts stand.
    fn become_idle(
        &self,
        enter: &Enter,
        place: Option<&Path>,
        tell: &std::os::fd::OwnedFd,
    ) -> Outcome<()> {
        if let Some(place) = place {
            let _ = cgroup::enter(&place.join("init"));
        }
        unshare(
            CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWCGROUP,
        )?;
        let flags = nix::libc::CLONE_PARENT | nix::libc::SIGCHLD;
        // SAFETY: as fork(2) in a process with one thread: no new stack, nothing shared.
        let forked = unsafe { nix::libc::syscall(nix::libc::SYS_clone, flags, 0, 0, 0, 0) };
        if forked < 0 {
            return Err(Failure::os("cannot fork", &io::Error::last_os_error()));
        }
        if forked > 0 {
            let number = i32::try_from(forked).unwrap_or_default();
            let _ = nix::unistd::write(tell, &number.to_ne_bytes());
            // SAFETY: ends the helper without running exit handlers.
            unsafe { nix::libc::_exit(0) }
        }
        nix::unistd::sethostname(&enter.hostname)?;
        let binds = self.root.as_ref().map(|root| root.binds.as_slice()).unwrap_or_default();
        furnish(Path::new(mounts::MERGED), binds)?;
        // Its children are nobody's business: the kernel reaps them.
        // SAFETY: no handler of ours is installed.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
        let _ = nix::unistd::setsid();
        nix::unistd::write(tell, b"!")?;
        // SAFETY: the report pipe and the control socket must not stay open in this process.
        unsafe { nix::libc::close_range(3, u32::MAX, 0) };
        loop {
            nix::unistd::pause();
        }
    }
}

fn parse(text: &[u8]) -> Failure {
    serde_json::from_slice(text)
        .unwrap_or_else(|_| Failure::new("the machine's first process did not start"))
}

fn mount_at(kind: &str, target: &Path, flags: MsFlags, data: Option<&str>) -> Outcome<()> {
    fs::create_dir_all(target)
        .map_err(|e| Failure::os(format!("cannot make \"{}\"", target.display()), &e))?;
    mount(Some(kind), target, Some(kind), flags, data)
        .map_err(|e| Failure::os(format!("cannot mount {kind} in the machine"), &e.into()))
}

/// Mounts what programs expect below the root and makes it the root of this mount namespace.
fn furnish(root: &Path, binds: &[mounts::Bind]) -> Outcome<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    mount(Some(root), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let closed = plain | MsFlags::MS_NOEXEC;
    mount_at("proc", &root.join("proc"), closed, None)?;
    protect_proc(root);
    // Where that fails the settings can be read and not written.
    let _ = settings::copy(&root.join("proc/sys"));
    mount_at("sysfs", &root.join("sys"), closed | MsFlags::MS_RDONLY, None)?;
    mount_at("tmpfs", &root.join("dev"), MsFlags::MS_NOSUID, Some("mode=0755"))?;
    mount_at("tmpfs", &root.join("run"), plain, Some("mode=0755"))?;
    mount_at("tmpfs", &root.join("tmp"), plain, Some("mode=1777"))?;
    mount_at("tmpfs", &root.join("dev/shm"), plain, Some("mode=1777"))?;
    mount_at(
        "devpts",
        &root.join("dev/pts"),
        MsFlags::MS_NOSUID,
        Some("newinstance,ptmxmode=0666,mode=0620,gid=5"),
    )?;
    make_devices(&root.join("dev"))
        .map_err(|e| Failure::os("cannot make the machine's devices", &e))?;
    let lock = root.join("run/lock");
    let _ = fs::create_dir(&lock);
    let _ = fs::set_permissions(&lock, fs::Permissions::from_mode(0o1777));
    for bind in binds {
        show(root, bind)?;
    }
    nix::unistd::chdir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// The host's settings can be read and not written.
fn protect_proc(root: &Path) {
    let none = None::<&str>;
    for name in ["sys", "sysrq-trigger", "irq", "bus"] {
        let path = root.join("proc").join(name);
        if mount(Some(&path), &path, none, MsFlags::MS_BIND, none).is_ok() {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let _ = mount(none, &path, none, flags, none);
        }
    }
    // Those of its own network are the machine's. The copy of a mount is read-only as well at first.
    let own = root.join("proc/sys").join(settings::OWN);
    if mount(Some(&own), &own, none, MsFlags::MS_BIND, none).is_ok() {
        let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let _ = mount(none, &own, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | plain, none);
    }
}

fn make_devices(dev: &Path) -> io::Result<()> {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let path = dev.join(name);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    }
    for (to, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        symlink(to, dev.join(name))?;
    }
    Ok(())
}

fn show(root: &Path, bind: &mounts::Bind) -> Outcome<()> {
    let relative = bind.target.strip_prefix("/").unwrap_or(&bind.target);
    let target = root.join(relative);
    let fail = |e: io::Error| {
        Failure::os(format!("cannot show \"{}\" in the machine", bind.target.display()), &e)
    };
    if !target.exists() {
        if bind.staged.is_dir() {
            fs::create_dir_all(&target).map_err(fail)?;
        } else {
            fs::create_dir_all(target.parent().unwrap_or(root)).map_err(fail)?;
            fs::File::create(&target).map_err(fail)?;
        }
    }
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&bind.staged), &target, none, flags, none).map_err(|e| fail(e.into()))?;
    if bind.read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &target, none, flags, none).map_err(|e| fail(e.into()))?;
    }
    Ok(())
}
