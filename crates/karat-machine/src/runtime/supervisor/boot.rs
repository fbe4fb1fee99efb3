//! Starting systemd in the machine by `systemd-nspawn --boot`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::super::wire::{Answer, Boot, News};
use super::{Failure, Leader, Outcome, Supervisor, cgroup, mounts, net, settings};

const NOTIFY: &str = "/run/karat/notify";

/// Where systemd-nspawn tells how far it is.
#[derive(Debug)]
pub(super) struct Notify {
    pub(super) socket: UnixDatagram,
}

impl Supervisor {
    /// Starts it. The answer to the call follows when it tells the machine's first process.
    pub(super) fn start_nspawn(&mut self, boot: &Boot, console: &OwnedFd) -> Outcome<()> {
        if self.runner.is_some() {
            return Err(Failure::new("the machine runs already"));
        }
        let root = self.root.as_ref().ok_or_else(|| Failure::new("the root is not mounted"))?;
        let _ = fs::remove_file(NOTIFY);
        let socket = UnixDatagram::bind(NOTIFY)
            .and_then(|s| s.set_nonblocking(true).map(|()| s))
            .map_err(|e| Failure::os("cannot make the notification socket", &e))?;

        let mut command = Command::new(&boot.nspawn);
        command
            .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--settings=no"])
            .args(["--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            .args(["--console=read-only", "--notify-ready=yes"])
            // Container runtimes in the image need the keyring and BPF.
            .args(["--capability=CAP_NET_ADMIN", "--system-call-filter=@keyring bpf"])
            .arg(format!("--network-namespace-path={}", net::NAMESPACE))
            .arg(format!("--directory={}", mounts::MERGED))
            .arg(format!("--machine={}", boot.name))
            .arg(format!("--hostname={}", boot.hostname))
            .arg(format!("--uuid={}", boot.machine_id));
        for (name, value) in &boot.env {
            command.arg(format!("--setenv={name}={value}"));
        }
        for bind in &root.binds {
            let option = if bind.read_only { "--bind-ro" } else { "--bind" };
            let escape = |path: &std::path::Path| {
                path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:")
            };
            command.arg(format!("{option}={}:{}", escape(&bind.staged), escape(&bind.target)));
        }
        command.args(&boot.cmdline);
        let clone = |fd: &OwnedFd| {
            fd.try_clone().map(Stdio::from).map_err(|e| Failure::os("cannot use the console", &e))
        };
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NOTIFY_SOCKET", NOTIFY)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            // The settings of its own network are the machine's.
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
            // The lock would stand beside images of other programs; this root is ours alone.
            .env("SYSTEMD_NSPAWN_LOCK", "0")
            .stdin(Stdio::null())
            .stdout(clone(console)?)
            .stderr(clone(console)?);
        let place = self.cgroup.as_ref().map(cgroup::Cgroup::machine);
        // SAFETY: this process has one thread, so the child may do anything before it executes.
        unsafe {
            command.pre_exec(move || {
                unblock_signals()?;
                place.as_deref().map_or(Ok(()), cgroup::enter)
            });
        }
        let child = command
            .spawn()
            .map_err(|e| Failure::os(format!("cannot start \"{}\"", boot.nspawn.display()), &e))?;
        self.runner = Some(Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()));
        self.notify = Some(Notify { socket });
        Ok(())
    }

    /// Reads what systemd-nspawn tells.
    pub(super) fn read_notifications(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        while let Some(notify) = &self.notify {
            let Ok(read) = notify.socket.recv(&mut buffer) else { return Ok(()) };
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            for line in text.lines() {
                if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    self.leader_known(pid.trim())?;
                } else if line == "READY=1" {
                    self.tell(News::Ready)?;
                }
            }
        }
        Ok(())
    }

    fn leader_known(&mut self, pid: &str) -> io::Result<()> {
        let Some(call) = self.booting else { return Ok(()) };
        let result = pid
            .parse()
            .map(Pid::from_raw)
            .map_err(|_| Failure::new(format!("\"{pid}\" is no process number")))
            .and_then(|pid| {
                let commands = self.cgroup.as_ref().map(|c| c.machine().join("payload"));
                let found = Leader::find(pid, commands).and_then(|leader| {
                    settings::copy_in(&leader)?;
                    Ok(leader)
                });
                match found {
                    // One that ends at once (there is no init) can be gone before it is looked at.
                    // systemd-nspawn ends after it, and that is then the answer to the call.
                    Err(_) if has_ended(pid) => Ok(None),
                    found => found.map(Some),
                }
            });
        match result {
            Ok(None) => Ok(()),
            Ok(leader) => {
                self.leader = leader;
                self.booting = None;
                self.answer(call, Ok(Answer::Started), &[])
            }
            Err(failure) => {
                self.booting = None;
                self.answer(call, Err(failure), &[])
            }
        }
    }
}

/// Whether a process that could not be looked into has ended. One that is about to is waited for:
/// it gives up its root and namespaces before it shows as ended.
fn has_ended(pid: Pid) -> bool {
    let since = Instant::now();
    loop {
        let ended = fs::read_to_string(format!("/proc/{pid}/status")).map_or(true, |status| {
            status
                .lines()
                .find_map(|line| line.strip_prefix("State:"))
                .is_some_and(|state| state.trim_start().starts_with(['Z', 'X']))
        });
        if ended || since.elapsed() > Duration::from_secs(1) {
            return ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Leader {
    /// Looks at the machine's process 1.
    pub(super) fn find(pid: Pid, commands: Option<std::path::PathBuf>) -> Outcome<Self> {
        let fail = |e: io::Error| Failure::os("cannot look into the machine", &e);
        let root = openat(
            CWD,
            format!("/proc/{pid}/root"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| fail(e.into()))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(fail)?;
        let bounding_set = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(u64::MAX);
        Ok(Self { pid, root, commands, bounding_set })
    }
}

/// The supervisor blocks the signal of ended children; what it starts must not inherit that.
pub(super) fn unblock_signals() -> io::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
