//! Commands in the machine: moved into its namespaces, its control group and its root.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork};

use super::super::wire::Exec;
use super::{Failure, Leader, Outcome, Supervisor, boot, cgroup};

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// The call that waits for its end.
    pub(super) call: u64,
    group: Option<PathBuf>,
}

impl Running {
    /// Removes the command's cgroup unless something it started lives on in it.
    pub(super) fn forget_cgroup(&self) {
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

impl Supervisor {
    /// Starts a command; its end is answered later.
    pub(super) fn start_command(
        &mut self,
        call: u64,
        exec: &Exec,
        fds: Vec<OwnedFd>,
    ) -> Outcome<()> {
        let streams: [OwnedFd; 3] =
            fds.try_into().map_err(|_| Failure::new("a command needs three streams"))?;
        let leader =
            self.leader.as_ref().ok_or_else(|| Failure::new("the machine does not run"))?;
        let group = leader.commands.as_ref().map(|c| c.join(format!("karat-command-{call}")));
        let group = group.filter(|path| fs::create_dir(path).is_ok());
        let started = start(leader, exec, streams, group.as_deref());
        match started {
            Ok(pid) => {
                self.running.insert(pid, Running { call, group });
                Ok(())
            }
            Err(failure) => {
                if let Some(group) = group {
                    let _ = fs::remove_dir(group);
                }
                Err(failure)
            }
        }
    }

    /// Signals a command's process group; with 9, everything it started wherever that is.
    pub(super) fn signal_command(&mut self, call: u64, number: i32) {
        let Some((pid, running)) = self.running.iter().find(|(_, r)| r.call == call) else {
            return;
        };
        let Ok(number) = Signal::try_from(number) else { return };
        if number == Signal::SIGKILL
            && let Some(group) = &running.group
        {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        let _ = killpg(*pid, number);
        let _ = kill(*pid, number);
    }
}

/// Forks; gives the command's number once it executes.
fn start(
    leader: &Leader,
    exec: &Exec,
    streams: [OwnedFd; 3],
    group: Option<&Path>,
) -> Outcome<Pid> {
    let (report, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, so the child may do anything.
    let helper = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(report);
            let failure = match become_command(leader, exec, &streams, group, &tell) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            let text = serde_json::to_vec(&failure).unwrap_or_default();
            let _ = nix::unistd::write(&tell, &text);
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { nix::libc::_exit(127) }
        }
    };
    drop(tell);
    drop(streams);
    let mut text = Vec::new();
    let read = fs::File::from(report).read_to_end(&mut text);
    let _ = nix::sys::wait::waitpid(helper, None);
    read.map_err(|e| Failure::os("cannot start the command", &e))?;
    match parse_report(&text) {
        Report::Started(pid) => Ok(pid),
        Report::Failed(pid, failure) => {
            if let Some(pid) = pid {
                let _ = nix::sys::wait::waitpid(pid, None);
            }
            Err(failure)
        }
    }
}

/// What the pipe says at its end.
enum Report {
    Started(Pid),
    /// The number is there if there was a process.
    Failed(Option<Pid>, Failure),
}

/// The helper writes the process's number in four bytes, the process itself why it cannot execute,
/// and either may be first. Where there is no process, the helper writes the reason alone.
fn parse_report(text: &[u8]) -> Report {
    let pid = |number: &[u8; 4]| Pid::from_raw(i32::from_ne_bytes(*number));
    let parse = |text: &[u8]| serde_json::from_slice::<Failure>(text).ok();
    if let Ok(number) = text.try_into() {
        return Report::Started(pid(number));
    }
    if let Some(failure) = parse(text) {
        return Report::Failed(None, failure);
    }
    let first = text.split_first_chunk::<4>();
    let last = text.split_last_chunk::<4>().map(|(rest, number)| (number, rest));
    for (number, rest) in first.into_iter().chain(last) {
        if let Some(failure) = parse(rest) {
            return Report::Failed(Some(pid(number)), failure);
        }
    }
    Report::Failed(None, Failure::new("the command did not start"))
}

/// Does not return when all goes well.
enum Never {}

fn become_command(
    leader: &Leader,
    exec: &Exec,
    streams: &[OwnedFd; 3],
    group: Option<&Path>,
    tell: &OwnedFd,
) -> Outcome<Never> {
    if let Some(group) = group {
        cgroup::enter(group).map_err(|e| Failure::os("cannot enter the control group", &e))?;
    }
    nix::unistd::dup2_stdin(&streams[0])?;
    nix::unistd::dup2_stdout(&streams[1])?;
    nix::unistd::dup2_stderr(&streams[2])?;
    enter_namespaces(leader)?;
    // The command becomes a sibling, not a child, so that the supervisor gets its exit status.
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
    execute(leader, exec)
}

fn enter_namespaces(leader: &Leader) -> Outcome<()> {
    let fail =
        |what: &str, e: io::Error| Failure::os(format!("cannot enter the machine's {what}"), &e);
    let mut namespaces = Vec::new();
    for (name, kind) in [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        let path = format!("/proc/{}/ns/{name}", leader.pid);
        namespaces.push((name, kind, fs::File::open(path).map_err(|e| fail(name, e))?));
    }
    for (name, kind, file) in &namespaces {
        setns(file, *kind).map_err(|e| fail(name, e.into()))?;
    }
    nix::unistd::fchdir(&leader.root).map_err(|e| fail("root", e.into()))?;
    nix::unistd::chroot(".").map_err(|e| fail("root", e.into()))?;
    Ok(())
}

/// The last part, in the machine.
fn execute(leader: &Leader, exec: &Exec) -> Outcome<Never> {
    let user = find_user(exec.user.as_deref().unwrap_or("root"))?;
    nix::unistd::setsid()?;
    boot::unblock_signals().map_err(|e| Failure::os("cannot reset signals", &e))?;
    for number in Signal::iterator() {
        // SAFETY: restores the default; Rust ignores SIGPIPE, which commands do not expect.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    limit_capabilities(leader.bounding_set);
    nix::unistd::setgroups(&user.groups)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)?;
    let cwd = exec.cwd.as_deref().unwrap_or(&user.home);
    if let Err(error) = nix::unistd::chdir(cwd) {
        if exec.cwd.is_some() {
            return Err(Failure::os(
                format!("cannot change to the folder \"{cwd}\""),
                &error.into(),
            ));
        }
        nix::unistd::chdir("/")?;
    }
    let environment = environment(exec, &user)?;
    let arguments = exec.argv.iter().map(|a| c_string(a)).collect::<Outcome<Vec<_>>>()?;
    let program = exec.argv.first().ok_or_else(|| Failure::new("the command is empty"))?;
    let path = environment.iter().find_map(|e| e.to_str().ok()?.strip_prefix("PATH="));
    let mut last = nix::Error::ENOENT;
    for candidate in candidates(program, path.unwrap_or_default()) {
        let Err(error) = nix::unistd::execve(&c_string(&candidate)?, &arguments, &environment);
        if error != nix::Error::ENOENT {
            last = error;
        }
    }
    Err(Failure::os(format!("cannot run \"{program}\" in the machine"), &last.into()))
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':').filter(|d| !d.is_empty()).map(|d| format!("{d}/{program}")).collect()
}

fn c_string(text: &str) -> Outcome<CString> {
    CString::new(text).map_err(|_| Failure::new(format!("{text:?} has a NUL byte in it")))
}

fn environment(exec: &Exec, user: &User) -> Outcome<Vec<CString>> {
    let path = if user.uid.is_root() {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else {
        "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
    };
    let mut all = vec![
        ("PATH", path),
        ("LANG", "C.UTF-8"),
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
    ];
    all.retain(|(name, _)| !exec.env.contains_key(*name));
    all.extend(exec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect()
}

/// Takes from the command what processes of the machine cannot have.
fn limit_capabilities(bounding_set: u64) {
    for capability in 0..=63 {
        if bounding_set & (1 << capability) == 0 {
            // SAFETY: plain system call with numbers only; an unknown capability is refused.
            let result =
                unsafe { nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            if result != 0 {
                break;
            }
        }
    }
}

/// A line of the machine's `/etc/passwd` with the groups from `/etc/group`.
struct User {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: String,
    shell: String,
}

/// Finds a user by name or number; `root` is there even without a file.
fn find_user(wanted: &str) -> Outcome<User> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell, ..] = fields[..] else { return None };
        (name == wanted || uid == wanted).then_some(())?;
        Some(User {
            name: name.to_owned(),
            uid: Uid::from_raw(uid.parse().ok()?),
            gid: Gid::from_raw(gid.parse().ok()?),
            groups: Vec::new(),
            home: home.to_owned(),
            shell: if shell.is_empty() { "/bin/sh".into() } else { shell.to_owned() },
        })
    });
    let mut user = match found {
        Some(user) => user,
        None if wanted == "root" => User {
            name: "root".into(),
            uid: Uid::from_raw(0),
            gid: Gid::from_raw(0),
            groups: Vec::new(),
            home: "/root".into(),
            shell: "/bin/sh".into(),
        },
        None => return Err(Failure::new(format!("the machine has no user \"{wanted}\""))),
    };
    user.groups.push(user.gid);
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    for line in groups.lines() {
        let mut fields = line.split(':');
        let (gid, members) = (fields.nth(2), fields.next());
        if members.is_some_and(|m| m.split(',').any(|m| m == user.name))
            && let Some(gid) = gid.and_then(|g| g.parse().ok())
        {
            user.groups.push(Gid::from_raw(gid));
        }
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_reason_come_in_either_order() {
        // Its first byte is that of a document, too.
        let number = i32::from(b'{').to_ne_bytes();
        let reason = serde_json::to_vec(&Failure::new("no such program")).unwrap();
        assert!(matches!(parse_report(&number), Report::Started(pid) if pid.as_raw() == 123));
        for text in [[&number[..], &reason].concat(), [&reason[..], &number].concat()] {
            let Report::Failed(Some(pid), failure) = parse_report(&text) else {
                panic!("{}", text.escape_ascii());
            };
            assert_eq!((pid.as_raw(), failure.what.as_str()), (123, "no such program"));
        }
        assert!(matches!(parse_report(&reason), Report::Failed(None, _)));
        assert!(matches!(parse_report(b""), Report::Failed(None, _)));
    }
}
