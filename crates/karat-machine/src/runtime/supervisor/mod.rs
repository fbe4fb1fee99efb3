//! The process tree beside a machine.
//!
//! ```text
//! karat ──control socket──► keeper (host's namespaces; ends with karat, removes the cgroup)
//!                             └─► supervisor (process 1 of a new pid namespace, own mounts, own network)
//!                                   ├─► systemd-nspawn ─► systemd and all of the machine
//!                                   ├─► slirp4netns or pasta (host's network)
//!                                   └─► commands, moved into the machine's namespaces
//! ```
//!
//! Everything but the keeper lives in the supervisor's pid namespace, and all mounts in its mount
//! namespace: when the supervisor dies, the kernel ends and unmounts all of it. The keeper kills
//! the supervisor as soon as the other end of the control socket is closed, whatever closed it;
//! when the keeper itself is killed, the supervisor dies of its parent-death signal.

mod boot;
mod cgroup;
mod enter;
mod exec;
mod mounts;
mod net;
mod settings;
mod steer;

pub use cgroup::Frozen;
pub(super) use cgroup::remove_cgroups_named;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::wire::{self, Answer, Call, Failure, Message, News, Op};
use cgroup::Cgroup;
use mounts::Root;

/// The word that makes the `karat` binary behave as a machine's keeper.
pub const SUPERVISOR_COMMAND: &str = "__machine";

type Outcome<T> = Result<T, Failure>;

/// The keeper's whole life: standard input is the control socket, `arguments` is the machine's id.
///
/// The binary calls this before it starts any thread, when its first argument is
/// [`SUPERVISOR_COMMAND`]. Not for people.
pub fn supervisor_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(id) = arguments.into_iter().next().and_then(|id| id.into_string().ok()) else {
        return ExitCode::from(2);
    };
    match keep(&id) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let answer = Message::Answer { id: 0, result: Err(failure) };
            let _ = wire::send(io::stdin().as_fd(), &answer, &[]);
            ExitCode::FAILURE
        }
    }
}

/// Starts the supervisor, waits for its end or that of the parent, and cleans up.
fn keep(id: &str) -> Outcome<u8> {
    // Ctrl-C at the terminal is for karat, which then stops machines in order.
    let _ = nix::unistd::setsid();
    let control = duplicate(0).map_err(|e| Failure::os("cannot take the control socket", &e))?;
    let devnull = File::open("/dev/null").map_err(|e| Failure::os("cannot open /dev/null", &e))?;
    nix::unistd::dup2_stdin(&devnull)?;

    let (cgroup, warnings) = Cgroup::create(id);
    nix::sched::unshare(CloneFlags::CLONE_NEWPID)
        .map_err(|e| Failure::os("cannot make a pid namespace", &e.into()))?;
    // SAFETY: this process has one thread, so the child may do anything.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let code = supervise(control, cgroup, warnings);
            // SAFETY: ends the process without running the parent's exit handlers a second time.
            unsafe { nix::libc::_exit(code) }
        }
        ForkResult::Parent { child } => child,
    };
    let code = wait_for_end(&control, child);
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    Ok(code)
}

/// Waits until the supervisor ends; kills it when the parent's end of the socket is closed.
fn wait_for_end(control: &OwnedFd, child: Pid) -> u8 {
    let ended = rustix::process::Pid::from_raw(child.as_raw()).and_then(|pid| {
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
    });
    let Some(ended) = ended else {
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
        return 1;
    };
    loop {
        // No events asked for: hang-up is always reported, and the messages are not ours to read.
        let mut fds = [
            PollFd::new(control.as_fd(), PollFlags::empty()),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => {
                let _ = kill(child, Signal::SIGKILL);
            }
        }
        let hung_up = fds[0].revents().is_some_and(|e| !e.is_empty());
        let gone = fds[1].revents().is_some_and(|e| !e.is_empty());
        if hung_up && !gone {
            let _ = kill(child, Signal::SIGKILL);
        }
        if hung_up || gone {
            return match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => u8::try_from(code).unwrap_or(1),
                _ => 1,
            };
        }
    }
}

fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: standard input is open for the life of the process.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 10)?)
}

/// What runs in the machine's namespaces, and how it is reached.
#[derive(Debug)]
struct Leader {
    /// The machine's process 1 as the supervisor sees it.
    pid: Pid,
    /// Its root directory.
    root: OwnedFd,
    /// Where cgroups of commands are made.
    commands: Option<PathBuf>,
    /// The capabilities its processes can have.
    bounding_set: u64,
}

/// Process 1 of the machine's outer pid namespace.
#[derive(Debug)]
struct Supervisor {
    control: OwnedFd,
    cgroup: Option<Cgroup>,
    warnings: Vec<String>,
    host_network: OwnedFd,
    root: Option<Root>,
    hostname: String,
    outbound: Option<Pid>,
    /// systemd-nspawn or, without systemd, the idle first process itself.
    runner: Option<Pid>,
    notify: Option<boot::Notify>,
    /// The call that waits for the leader.
    booting: Option<u64>,
    leader: Option<Leader>,
    running: HashMap<Pid, exec::Running>,
    network_up: bool,
    /// What leads connections elsewhere, as long as it is open.
    steering: Vec<OwnedFd>,
}

fn supervise(control: OwnedFd, cgroup: Option<Cgroup>, warnings: Vec<String>) -> i32 {
    // The parent is outside this pid namespace, so its death before this line shows only as a
    // closed control socket, which the loop sees.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let parent = control.try_clone();
    match Supervisor::new(control, cgroup, warnings).and_then(|mut s| s.run()) {
        Ok(()) => 0,
        Err(error) => {
            if let Ok(parent) = parent {
                let failure = Failure::os("cannot prepare the machine's surroundings", &error);
                let answer = Message::Answer { id: 0, result: Err(failure) };
                let _ = wire::send(parent.as_fd(), &answer, &[]);
            }
            1
        }
    }
}

impl Supervisor {
    fn new(control: OwnedFd, cgroup: Option<Cgroup>, warnings: Vec<String>) -> io::Result<Self> {
        if let Some(cgroup) = &cgroup {
            cgroup.enter_supervisor()?;
        }
        let host_network = File::open("/proc/self/ns/net")?.into();
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        mounts::make_private()?;
        let cgroup = cgroup.map(Cgroup::at_usual_place).transpose()?;
        Ok(Self {
            control,
            cgroup,
            warnings,
            host_network,
            root: None,
            hostname: String::new(),
            outbound: None,
            runner: None,
            notify: None,
            booting: None,
            leader: None,
            running: HashMap::new(),
            network_up: false,
            steering: Vec::new(),
        })
    }

    /// Serves calls until told to exit or the parent is gone.
    fn run(&mut self) -> io::Result<()> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        loop {
            let (calls, deaths, notes) = self.wait(&children)?;
            if notes {
                self.read_notifications()?;
            }
            if deaths {
                while let Ok(Some(_)) = children.read_signal() {}
                self.reap()?;
            }
            if calls && !self.serve_one()? {
                return Ok(());
            }
        }
    }

    fn wait(&self, children: &SignalFd) -> io::Result<(bool, bool, bool)> {
        let mut fds = vec![
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(notify) = &self.notify {
            fds.push(PollFd::new(notify.socket.as_fd(), PollFlags::POLLIN));
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let ready = |i: usize| {
            fds.get(i).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        Ok((ready(0), ready(1), ready(2)))
    }

    /// Answers one call; `false` at the end.
    fn serve_one(&mut self) -> io::Result<bool> {
        let Some((call, fds)) = wire::receive::<Call>(self.control.as_fd())? else {
            return Ok(false);
        };
        let id = call.id;
        if matches!(call.op, Op::Exit) {
            let result = self.unmount();
            self.answer(id, result.map(|()| Answer::Done), &[])?;
            return Ok(false);
        }
        match self.carry_out(id, call.op, fds) {
            Ok(None) => {}
            Ok(Some((answer, fd))) => {
                let raw: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
                self.answer(id, Ok(answer), &raw)?;
            }
            Err(failure) => self.answer(id, Err(failure), &[])?,
        }
        Ok(true)
    }

    /// Does what is asked; `None` when the answer comes later.
    fn carry_out(
        &mut self,
        id: u64,
        op: Op,
        mut fds: Vec<OwnedFd>,
    ) -> Outcome<Option<(Answer, Option<OwnedFd>)>> {
        let done = Ok(Some((Answer::Done, None)));
        match op {
            Op::Prepare(prepare) => {
                if let Some(cgroup) = &self.cgroup {
                    self.warnings.extend(cgroup.limit(&prepare.limits));
                } else if prepare.limits.any() {
                    self.warnings.push("no cgroup could be made, so no limit holds".into());
                }
                self.hostname.clone_from(&prepare.hostname);
                self.root = Some(Root::mount(&prepare)?);
                let warnings = std::mem::take(&mut self.warnings);
                Ok(Some((Answer::Prepared { warnings }, None)))
            }
            Op::Network(network) => {
                self.bring_up_network(&network)?;
                done
            }
            Op::Boot(boot) => {
                let console = fds.pop().ok_or_else(|| Failure::new("no console was given"))?;
                self.start_nspawn(&boot, &console)?;
                self.booting = Some(id);
                Ok(None)
            }
            Op::Enter(enter) => {
                self.start_idle(&enter)?;
                Ok(Some((Answer::Started, None)))
            }
            Op::Exec(exec) => {
                self.start_command(id, &exec, fds)?;
                Ok(None)
            }
            Op::Signal { exec, signal } => {
                self.signal_command(exec, signal);
                done
            }
            Op::Root => {
                let root = match (&self.leader, &self.root) {
                    (Some(leader), _) => leader.root.try_clone(),
                    (None, Some(root)) => root.merged.try_clone(),
                    (None, None) => return Err(Failure::new("the root is not mounted")),
                };
                let root = root.map_err(|e| Failure::os("cannot open the root", &e))?;
                Ok(Some((Answer::Done, Some(root))))
            }
            Op::Socket(socket) => Ok(Some((Answer::Done, Some(self.make_socket(&socket)?)))),
            Op::PowerOff => {
                if let Some(leader) = &self.leader {
                    // systemd's own signal for an orderly power-off: SIGRTMIN+4.
                    let signal = nix::libc::SIGRTMIN() + 4;
                    // SAFETY: plain system call with numbers only.
                    unsafe { nix::libc::kill(leader.pid.as_raw(), signal) };
                }
                done
            }
            Op::Kill => {
                for pid in self.leader.iter().map(|l| l.pid).chain(self.runner) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
                done
            }
            Op::Exit => Ok(None),
        }
    }

    fn answer(&self, id: u64, result: Outcome<Answer>, fds: &[RawFd]) -> io::Result<()> {
        wire::send(self.control.as_fd(), &Message::Answer { id, result }, fds)
    }

    fn tell(&self, news: News) -> io::Result<()> {
        wire::send(self.control.as_fd(), &Message::News(news), &[])
    }

    /// Takes the exit statuses of all children, own and adopted.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(running) = self.running.remove(&pid) {
                running.forget_cgroup();
                self.answer(running.call, Ok(Answer::Ended { code, signal }), &[])?;
            } else if self.runner == Some(pid) {
                self.machine_ended(code, signal)?;
            } else if self.outbound == Some(pid) {
                self.outbound = None;
                self.tell(News::OutboundEnded)?;
            }
        }
    }

    fn machine_ended(&mut self, code: Option<i32>, signal: Option<i32>) -> io::Result<()> {
        self.runner = None;
        self.leader = None;
        self.notify = None;
        if let Some(call) = self.booting.take() {
            let how = match (code, signal) {
                (Some(code), _) => format!("with exit code {code}"),
                (_, Some(signal)) => format!("by signal {signal}"),
                _ => "for no known reason".into(),
            };
            let failure =
                Failure::new(format!("systemd-nspawn ended {how} before the machine ran"));
            self.answer(call, Err(failure), &[])?;
        }
        self.tell(News::Stopped { code, signal })
    }

    fn unmount(&mut self) -> Outcome<()> {
        for pid in self.leader.iter().map(|l| l.pid).chain(self.runner) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        // Whatever is left holds the mount busy; all of it is in this pid namespace.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        self.leader = None;
        while waitpid(None, None).is_ok() {}
        self.root.take().map_or(Ok(()), Root::unmount)
    }
}
