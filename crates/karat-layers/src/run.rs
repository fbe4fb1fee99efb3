//! Runs programs of the host: scrubbed environment, output kept for errors, cancellation.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::{Control, Error, Result};

/// The search path that programs are given.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many bytes at the end of the output an error shows.
const TAIL: usize = 4000;

/// Runs a program to its end and returns what it wrote to standard output. Ends it when cancelled,
/// and the kernel ends it when this thread dies.
pub(crate) fn run(
    command: &mut Command,
    package: &'static str,
    control: &Control,
) -> Result<Vec<u8>> {
    let (status, out, err) = run_collect(command, package, control, &mut |_| {})?;
    if status.success() {
        return Ok(out);
    }
    let mut log = err;
    if log.is_empty() {
        log = out;
    }
    Err(failed(command, status, &log))
}

/// The error for a program that ended badly.
pub(crate) fn failed(command: &Command, status: std::process::ExitStatus, log: &[u8]) -> Error {
    let from = log.len().saturating_sub(TAIL);
    Error::Command {
        command: describe(command),
        status: status.to_string(),
        log: String::from_utf8_lossy(&log[from..]).into_owned(),
    }
}

fn describe(command: &Command) -> String {
    let mut out = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        if out.len() > 160 {
            out.push_str(" …");
            break;
        }
        out.push(' ');
        out.push_str(&arg.to_string_lossy());
    }
    out
}

/// Asks the kernel to kill the child when the thread that started it ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let hook = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have died between fork and prctl. In a new process namespace the parent
        // is not visible and shows as no one.
        match rustix::process::getppid() {
            Some(now) if now != parent => Err(std::io::Error::from(ErrorKind::BrokenPipe)),
            _ => Ok(()),
        }
    };
    // SAFETY: the hook runs between fork and exec; it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(hook) };
}

/// Runs a program, passing each line of its output to `line` as it comes. Uses no other thread, so
/// it works in a thread that has entered a process namespace.
pub(crate) fn run_collect(
    command: &mut Command,
    package: &'static str,
    control: &Control,
    line: &mut dyn FnMut(&str),
) -> Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>)> {
    control.check()?;
    die_with_parent(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy().into_owned();
        match error.kind() {
            ErrorKind::NotFound => Error::MissingProgram { program, package },
            _ => Error::io("start", program)(error),
        }
    })?;
    let mut pipes = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Pipe>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Pipe>),
    ];
    let mut outputs = [Vec::new(), Vec::new()];
    let mut shown = [0usize; 2];
    let mut buffer = vec![0u8; 64 << 10];
    let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    while pipes.iter().any(Option::is_some) {
        if control.is_cancelled() {
            // Killing an ended child is no harm; waiting avoids a zombie.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Cancelled);
        }
        let mut ready = [false; 2];
        {
            let mut which = Vec::with_capacity(2);
            let mut fds = Vec::with_capacity(2);
            for (index, pipe) in pipes.iter().enumerate() {
                if let Some(pipe) = pipe {
                    which.push(index);
                    fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
                }
            }
            match poll(&mut fds, Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::sys("wait for", "a program's output")(error)),
            }
            for (index, fd) in which.into_iter().zip(&fds) {
                ready[index] = !fd.revents().is_empty();
            }
        }
        for index in 0..2 {
            if !ready[index] {
                continue;
            }
            let Some(pipe) = &mut pipes[index] else { continue };
            match pipe.read(&mut buffer) {
                Ok(0) => pipes[index] = None,
                Ok(count) => {
                    outputs[index].extend_from_slice(&buffer[..count]);
                    while let Some(end) =
                        outputs[index][shown[index]..].iter().position(|byte| *byte == b'\n')
                    {
                        let from = shown[index];
                        line(&String::from_utf8_lossy(&outputs[index][from..from + end]));
                        shown[index] = from + end + 1;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", "a program's output")(error)),
            }
        }
        // A daemon that a script left behind may hold the pipe for ever.
        if pipes.iter().any(Option::is_some)
            && !ready.contains(&true)
            && let Ok(Some(_)) = child.try_wait()
        {
            break;
        }
    }
    let status = loop {
        match child.try_wait().map_err(Error::io("wait for", "a program"))? {
            Some(status) => break status,
            None if control.is_cancelled() => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::Cancelled);
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let [out, err] = outputs;
    Ok((status, out, err))
}

trait Pipe: Read + std::os::fd::AsFd {}
impl<T: Read + std::os::fd::AsFd> Pipe for T {}
