//! What the two ends of a machine's control socket say to each other.
//!
//! The socket is a pair of `SOCK_SEQPACKET` Unix sockets: one message is one JSON document, file
//! descriptors travel beside it. A document too long for one packet travels in a memory file whose
//! descriptor comes first. The protocol lives inside one binary and needs no version.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A document over this many bytes goes through a memory file.
const LARGEST_PACKET: usize = 32 * 1024;
/// More descriptors than any message has.
const MOST_FDS: usize = 8;

/// A question of the parent with the number its answer carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) op: Op,
}

/// What the supervisor can be asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Mount the root. Comes first.
    Prepare(Prepare),
    /// Make the network namespace and bring up what is asked.
    Network(Network),
    /// Start systemd. Answered when the machine's first process exists.
    Boot(Boot),
    /// Start a first process that does nothing, for commands without systemd.
    Enter(Enter),
    /// Run a command; descriptors: stdin, stdout, stderr. Answered at its end.
    Exec(Exec),
    /// Send a signal to a running command; 9 reaches everything it started.
    Signal { exec: u64, signal: i32 },
    /// The root directory as the machine sees it, as a descriptor.
    Root,
    /// A socket inside the machine's network namespace, as a descriptor.
    Socket(Socket),
    /// Ask systemd to power off.
    PowerOff,
    /// Kill everything in the machine, keep the root mounted.
    Kill,
    /// Unmount and end.
    Exit,
}

/// Paths and contents of the root.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepare {
    /// Lowest first.
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) hostname: String,
    /// 32 hexadecimal digits.
    pub(crate) machine_id: String,
    /// Content of `/etc/resolv.conf`; none leaves the layers' own.
    pub(crate) resolv_conf: Option<String>,
    pub(crate) binds: Vec<BindMount>,
    pub(crate) limits: Limits,
}

/// A path of the host shown inside the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BindMount {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// What a machine may use at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) cpus: Option<f64>,
}

/// The network namespace's content.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Addresses added to the loopback interface, as `/32`.
    pub(crate) loopback: Vec<std::net::Ipv4Addr>,
    pub(crate) outbound: Option<Outbound>,
}

/// The program that carries packets out, and the network it shows to the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outbound {
    pub(crate) program: OutboundProgram,
    pub(crate) path: PathBuf,
    /// The /24 network's first three octets.
    pub(crate) prefix: [u8; 3],
}

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OutboundProgram {
    Slirp4netns,
    Pasta,
}

/// How systemd is started. The descriptor with it takes what the machine writes to its console.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) nspawn: PathBuf,
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) machine_id: String,
    /// What the machine sees as its kernel command line.
    pub(crate) cmdline: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
}

/// How the idle first process is started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Enter {
    pub(crate) hostname: String,
}

/// A command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: Option<String>,
    pub(crate) cwd: Option<String>,
}

/// A socket to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Socket {
    /// A listening TCP socket.
    Listen(SocketAddr),
    /// A bound UDP socket.
    Datagram(SocketAddr),
    /// A non-blocking TCP socket whose connection is under way.
    Connect(SocketAddr),
}

/// What the supervisor says: answers, and news nobody asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Answer { id: u64, result: Result<Answer, Failure> },
    News(News),
}

/// The result of an [`Op`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// What could not be had and is only worth a remark.
    Prepared {
        warnings: Vec<String>,
    },
    /// The machine's first process, as this host numbers it inside the supervisor's namespace.
    Started,
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Why an [`Op`] failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) errno: Option<i32>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: None }
    }

    pub(crate) fn os(what: impl Into<String>, error: &io::Error) -> Self {
        Self { what: format!("{}: {error}", what.into()), errno: error.raw_os_error() }
    }
}

impl From<nix::Error> for Failure {
    fn from(error: nix::Error) -> Self {
        Self { what: error.desc().to_owned(), errno: Some(error as i32) }
    }
}

/// What happens by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum News {
    /// systemd has finished starting.
    Ready,
    /// The machine has ended.
    Stopped { code: Option<i32>, signal: Option<i32> },
    /// The program that carries packets out has ended.
    OutboundEnded,
}

/// Sends one message.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[RawFd],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() < LARGEST_PACKET {
        return send_bytes(socket, &bytes, fds);
    }
    let memory = rustix::fs::memfd_create("karat-message", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&bytes)?;
    let mut all = vec![file.as_raw_fd()];
    all.extend_from_slice(fds);
    send_bytes(socket, b"@", &all)
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message; `None` when the other end is gone. Gives `WouldBlock` on a non-blocking
/// socket with nothing to read.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; LARGEST_PACKET];
    let mut space = nix::cmsg_space!([RawFd; MOST_FDS]);
    let mut fds = Vec::new();
    let read = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let received = match received {
            Err(nix::Error::ECONNRESET) => return Ok(None),
            other => other?,
        };
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                for fd in raw {
                    // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
                    fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        received.bytes
    };
    if read == 0 {
        return Ok(None);
    }
    if &buffer[..read] == b"@" && !fds.is_empty() {
        let mut file = std::fs::File::from(fds.remove(0));
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        return Ok(Some((serde_json::from_slice(&bytes)?, fds)));
    }
    Ok(Some((serde_json::from_slice(&buffer[..read])?, fds)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn short_and_long_messages_arrive_with_their_descriptors() {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        for length in [1, 1_000_000] {
            let text = "x".repeat(length);
            let (read, write) = nix::unistd::pipe().unwrap();
            send(a.as_fd(), &text, &[read.as_raw_fd()]).unwrap();
            let (got, fds): (String, _) = receive(b.as_fd()).unwrap().unwrap();
            assert_eq!(got, text);
            nix::unistd::write(&write, b"hi").unwrap();
            let mut hi = [0; 2];
            nix::unistd::read(&fds[0], &mut hi).unwrap();
            assert_eq!(&hi, b"hi");
        }
        drop(a);
        assert!(receive::<String>(b.as_fd()).unwrap().is_none());
    }
}
