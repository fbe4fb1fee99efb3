//! A place to run maintainer scripts: a root directory in namespaces of its own.
//!
//! A thread made for the purpose leaves the mount, process, IPC, host-name and network namespaces
//! of the rest of the program; namespaces belong to threads on Linux, so nothing else notices. All
//! mounts are made there, and programs are started from there. Their process 1 is a `cat` that
//! reads a pipe of ours: when this process dies, however it dies, `cat` ends, the kernel kills
//! everything in that process namespace, and the mounts go with their namespace. There is no
//! network inside but a loop-back interface that is down.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::run::{PATH, die_with_parent, failed, run_collect};
use crate::{Control, Error, Result};

/// Inside the sandbox: what replaces programs that must not run, first in the search path.
const SHIMS: &str = "/run/karat/bin";

/// What the root directory of a sandbox is.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// This directory itself.
    Directory(PathBuf),
    /// Layers, the topmost first, below a writable directory.
    Overlay {
        /// Lower directories, the topmost first.
        lower: Vec<PathBuf>,
        /// A directory for `upper`, `work`, `merged` and links to the lower ones.
        work: PathBuf,
    },
}

/// How to set up a sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) root: Root,
    /// Directories of the host shown read-only, and where.
    pub(crate) binds: Vec<(PathBuf, &'static str)>,
    /// `SOURCE_DATE_EPOCH` inside.
    pub(crate) epoch: i64,
}

/// A running sandbox, seen from its own thread.
#[derive(Debug)]
pub(crate) struct Sandbox {
    root: PathBuf,
    epoch: i64,
    init: Child,
    control: Control,
    policy: Option<PathBuf>,
}

impl Sandbox {
    /// Sets a sandbox up, runs `work` in its thread, and takes it down whatever happened.
    pub(crate) fn enter<R: Send>(
        setup: Setup,
        control: &Control,
        work: impl FnOnce(&mut Sandbox) -> Result<R> + Send,
    ) -> Result<R> {
        crate::error::require_root()?;
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("sandbox".into());
            let handle = thread
                .spawn_scoped(scope, || {
                    let mut sandbox = Self::start(setup, control)?;
                    let result = work(&mut sandbox);
                    sandbox.stop();
                    result
                })
                .map_err(Error::io("start", "a thread"))?;
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn start(setup: Setup, control: &Control) -> Result<Self> {
        let flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWNET;
        nix::sched::unshare(flags)
            .map_err(|errno| Error::io("leave the namespaces of", "this process")(errno.into()))?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(
            |errno| match errno {
                rustix::io::Errno::INVAL => Error::Invalid(
                    "/ is not a mount point, as in a plain chroot, so mounts cannot be kept from \
                     the rest of the system; mount the folder on itself (mount --bind DIR DIR) \
                     before chroot"
                        .into(),
                ),
                other => Error::sys("make private", "/")(other),
            },
        )?;
        // The builder's name must not get into an image.
        nix::unistd::sethostname("localhost")
            .map_err(|errno| Error::io("set", "the host name")(errno.into()))?;
        let root = match setup.root {
            Root::Directory(dir) => dir,
            Root::Overlay { lower, work } => mount_overlay(&lower, &work)?,
        };
        for name in ["dev", "proc", "sys", "run", "tmp"] {
            let at = root.join(name);
            match fs::create_dir(&at) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("make the directory", &at)(error));
                }
                _ => {}
            }
        }
        for (name, mode) in [("dev", "755"), ("run", "755"), ("tmp", "1777")] {
            let at = root.join(name);
            let options = std::ffi::CString::new(format!("mode={mode}")).unwrap_or_default();
            mount("karat", &at, "tmpfs", MountFlags::NOSUID, &*options)
                .map_err(Error::sys("mount a tmpfs on", &at))?;
        }
        devices(&root)?;
        let at = root.join("sys");
        let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if let Err(error) = mount("karat", &at, "sysfs", quiet | MountFlags::RDONLY, None) {
            tracing::debug!(%error, "no sysfs in the sandbox");
        }
        let init = start_init(&root)?;
        let mut sandbox =
            Self { root, epoch: setup.epoch, init, control: control.clone(), policy: None };
        let result = sandbox.prepare(&setup.binds);
        if result.is_err() {
            sandbox.stop();
        }
        result.map(|()| sandbox)
    }

    fn prepare(&mut self, binds: &[(PathBuf, &'static str)]) -> Result<()> {
        for (from, to) in binds {
            let at = crate::scan::host_path(&self.root, to.as_bytes());
            fs::create_dir_all(&at).map_err(Error::io("make the directory", &at))?;
            mount_bind(from, &at).map_err(Error::sys("mount", &at))?;
        }
        self.shim("start-stop-daemon", "exit 0")?;
        // Asked by invoke-rc.d and deb-systemd-invoke: 101 forbids starting services.
        let at = self.root.join("usr/sbin/policy-rc.d");
        let script = self.root.join("run/karat/policy-rc.d");
        write_script(&script, "exit 101")?;
        if at.symlink_metadata().is_err() && self.root.join("usr/sbin").is_dir() {
            fs::write(&at, b"").map_err(Error::io("make", &at))?;
            self.policy = Some(at.clone());
        }
        if at.exists() {
            mount_bind(&script, &at).map_err(Error::sys("mount", &at))?;
        }
        Ok(())
    }

    /// Puts a shell script in front of the program of the same name.
    pub(crate) fn shim(&self, name: &str, body: &str) -> Result<()> {
        let dir = crate::scan::host_path(&self.root, SHIMS.as_bytes());
        fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
        write_script(&dir.join(name), body)
    }

    /// Takes a shim away.
    pub(crate) fn unshim(&self, name: &str) -> Result<()> {
        let at = crate::scan::host_path(&self.root, SHIMS.as_bytes()).join(name);
        fs::remove_file(&at).map_err(Error::io("remove", &at))
    }

    /// The root directory as this thread sees it.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs inside, with a clean environment.
    pub(crate) fn command(&self, argv: &[&str]) -> Result<Command> {
        let root = std::ffi::CString::new(self.root.as_os_str().as_bytes())
            .map_err(|_| Error::Invalid("the state directory's name has a zero byte".into()))?;
        let mut command = Command::new(argv[0]);
        command
            .args(&argv[1..])
            .env_clear()
            .env("PATH", format!("{SHIMS}:{PATH}"))
            .env("LANG", "C.UTF-8")
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
            .env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        let hook = move || {
            rustix::process::chroot(root.as_c_str())?;
            rustix::process::chdir(c"/")?;
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
            // It only makes things slower where a kernel has no filters.
            let _ = crate::nosync::apply();
            Ok(())
        };
        // SAFETY: the hook runs between fork and exec; it makes four system calls on a string
        // made before and on its own stack, and allocates nothing.
        unsafe { command.pre_exec(hook) };
        Ok(command)
    }

    /// Runs a program inside to its end; its output goes to the caller's report line by line.
    pub(crate) fn run(&self, argv: &[&str]) -> Result<()> {
        let mut command = self.command(argv)?;
        let control = self.control.clone();
        let (status, out, err) =
            run_collect(&mut command, "dpkg", &self.control, &mut |line| control.output(line))?;
        if status.success() {
            return Ok(());
        }
        let mut log = out;
        log.extend_from_slice(&err);
        Err(failed(&command, status, &log))
    }

    fn stop(&mut self) {
        if let Some(at) = self.policy.take() {
            let _ = rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH);
            if let Err(error) = fs::remove_file(&at) {
                tracing::warn!(file = %at.display(), %error, "not removed");
            }
        }
        // Process 1 takes all others in its namespace with it.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_script(at: &Path, body: &str) -> Result<()> {
    fs::write(at, format!("#!/bin/sh\n{body}\n")).map_err(Error::io("write", at))?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("set the mode of", at))
}

/// Mounts the layers. Short relative names keep the options within one page and free of characters
/// that the option syntax reserves.
fn mount_overlay(lower: &[PathBuf], work: &Path) -> Result<PathBuf> {
    for name in ["upper", "work", "merged", "l"] {
        let at = work.join(name);
        fs::create_dir_all(&at).map_err(Error::io("make the directory", &at))?;
    }
    // The upper directory's own mode and owner become those of the root.
    if let Some(top) = lower.first() {
        copy_root_attributes(top, &work.join("upper"))?;
    }
    let mut names = Vec::new();
    for (index, dir) in lower.iter().enumerate() {
        let at = work.join("l").join(index.to_string());
        symlink(dir, &at).map_err(Error::io("make the link", &at))?;
        names.push(format!("l/{index}"));
    }
    // The working directory is this thread's own since it left the mount namespace.
    rustix::process::chdir(work).map_err(Error::sys("enter", work))?;
    let base = format!("lowerdir={},upperdir=upper,workdir=work", names.join(":"));
    let plain = ",redirect_dir=off,metacopy=off,index=off,xino=off";
    let mut last = rustix::io::Errno::INVAL;
    // Older kernels lack `volatile`, which saves syncing a tree that is thrown away on a crash.
    for options in [format!("{base}{plain},volatile"), format!("{base}{plain}"), base] {
        let options = std::ffi::CString::new(options).unwrap_or_default();
        match mount("karat", "merged", "overlay", MountFlags::empty(), &*options) {
            Ok(()) => {
                rustix::process::chdir("/").map_err(Error::sys("enter", "/"))?;
                return Ok(work.join("merged"));
            }
            Err(error) => last = error,
        }
    }
    Err(Error::sys("mount an overlay of layers on", work.join("merged"))(last))
}

fn copy_root_attributes(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(from).map_err(Error::io("read", from))?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))
        .map_err(Error::io("set the owner of", to))?;
    fs::set_permissions(to, meta.permissions()).map_err(Error::io("set the mode of", to))
}

fn devices(root: &Path) -> Result<()> {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let at = root.join("dev").join(name);
        fs::write(&at, b"").map_err(Error::io("make", &at))?;
        mount_bind(Path::new("/dev").join(name), &at).map_err(Error::sys("mount", &at))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let at = root.join("dev").join(name);
        symlink(target, &at).map_err(Error::io("make the link", &at))?;
    }
    let at = root.join("dev/shm");
    fs::create_dir(&at).map_err(Error::io("make the directory", &at))?;
    fs::set_permissions(&at, fs::Permissions::from_mode(0o1777))
        .map_err(Error::io("set the mode of", &at))
}

/// Starts process 1, which mounts `/proc` (only a member of the namespace can) and then waits.
fn start_init(root: &Path) -> Result<Child> {
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            r#"mount -t proc proc "$1/proc" && echo ready && exec cat >/dev/null"#,
            "init",
        ])
        .arg(root)
        .env_clear()
        .env("PATH", PATH)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    die_with_parent(&mut command);
    let mut child = command.spawn().map_err(Error::io("start", "/bin/sh"))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(Error::io("read", "a pipe"))?;
    }
    if line.trim() == "ready" {
        return Ok(child);
    }
    let status = child.wait().map_err(Error::io("wait for", "/bin/sh"))?;
    Err(failed(&command, status, b"mounting /proc in the sandbox failed"))
}
