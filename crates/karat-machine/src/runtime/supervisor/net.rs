//! The machine's network namespace: no name, no interface on the host, no rule and no setting of
//! the host changed. Packets leave through a program that speaks for the machine in user space.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::unistd::Pid;
use rustix::net::{SocketFlags, SocketType, socket_with};

use super::super::wire::{Network, Outbound, OutboundProgram, Socket};
use super::{Failure, Outcome, Supervisor, steer};

/// The namespace as a path, for programs that want one. Seen by the supervisor alone.
pub(super) const NAMESPACE: &str = "/run/karat/network";
const LOG: &str = "/run/karat/outbound.log";
/// The loopback interface of a new namespace.
const LOOPBACK: u32 = 1;

impl Supervisor {
    /// Makes the namespace and brings up what is asked.
    pub(super) fn bring_up_network(&mut self, network: &Network) -> Outcome<()> {
        if self.network_up {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|e| Failure::os("cannot make a network namespace", &e.into()))?;
        self.network_up = true;
        let set = |e: io::Error| Failure::os("cannot set up the loopback interface", &e);
        netlink(&link_up(LOOPBACK)).map_err(set)?;
        for address in &network.loopback {
            netlink(&add_address(LOOPBACK, *address)).map_err(set)?;
        }
        let fail = |e: io::Error| Failure::os("cannot keep the network namespace", &e);
        File::create(NAMESPACE).map_err(fail)?;
        let none = None::<&str>;
        mount(Some("/proc/self/ns/net"), NAMESPACE, none, MsFlags::MS_BIND, none)
            .map_err(|e| fail(e.into()))?;
        if let Some(outbound) = &network.outbound {
            self.outbound = self.start_outbound(outbound)?;
        }
        Ok(())
    }

    /// Starts the program that carries packets out and waits until it does.
    fn start_outbound(&self, outbound: &Outbound) -> Outcome<Option<Pid>> {
        let started = match outbound.program {
            OutboundProgram::Slirp4netns => self.start_slirp(outbound),
            OutboundProgram::Pasta => self.start_pasta(outbound),
        };
        started.map_err(|error| {
            let log = fs::read_to_string(LOG).unwrap_or_default();
            let said = log.trim().lines().last().map(|l| format!("; it said: {l}"));
            Failure::os(
                format!(
                    "\"{}\" did not start{}",
                    outbound.path.display(),
                    said.unwrap_or_default()
                ),
                &error,
            )
        })
    }

    fn start_slirp(&self, outbound: &Outbound) -> io::Result<Option<Pid>> {
        let [a, b, c] = outbound.prefix;
        let (ready, tell) = nix::unistd::pipe()?;
        let mut command = self.in_host_network(outbound)?;
        command
            .args(["--configure", "--mtu=65520", "--disable-host-loopback", "--disable-dns"])
            .arg(format!("--cidr={a}.{b}.{c}.0/24"))
            .arg("--netns-type=path")
            .arg(format!("--ready-fd={}", tell.as_raw_fd()))
            .args([NAMESPACE, "eth0"]);
        let child = command.spawn()?;
        drop(tell);
        let mut word = [0; 1];
        if File::from(ready).read(&mut word)? == 0 {
            return Err(io::Error::other("it ended at once"));
        }
        Ok(Some(pid_of(child.id())))
    }

    fn start_pasta(&self, outbound: &Outbound) -> io::Result<Option<Pid>> {
        let [a, b, c] = outbound.prefix;
        let mut command = self.in_host_network(outbound)?;
        command
            .args(["--config-net", "--netns-only", "--runas", "0", "--no-map-gw", "--quiet"])
            .args(["--mtu", "65520", "-t", "none", "-u", "none", "-T", "none", "-U", "none"])
            .args(["-I", "eth0", "-n", "255.255.255.0", "-4"])
            .args(["-a", &format!("{a}.{b}.{c}.100"), "-g", &format!("{a}.{b}.{c}.2")])
            .args(["--netns", NAMESPACE]);
        // It goes to the background when it works; as our orphan it stays in this namespace.
        let status = command.status()?;
        if status.success() { Ok(None) } else { Err(io::Error::other(status.to_string())) }
    }

    fn in_host_network(&self, outbound: &Outbound) -> io::Result<Command> {
        let host = self.host_network.try_clone()?;
        let mut command = Command::new(&outbound.path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(LOG)?);
        // SAFETY: one system call on a descriptor that lives as long as the closure.
        unsafe {
            command.pre_exec(move || Ok(setns(&host, CloneFlags::CLONE_NEWNET)?));
        }
        Ok(command)
    }

    /// Makes a socket; this process is in the machine's network namespace.
    pub(super) fn make_socket(&mut self, what: &Socket) -> Outcome<OwnedFd> {
        match what {
            Socket::Listen(SocketAddr::V4(address))
                if address.ip().is_link_local() && self.network_up =>
            {
                // Where the kernel cannot steer, the port is taken for the machine's own servers.
                let listener = match self.listen_beside(*address) {
                    Ok(listener) => Ok(listener),
                    Err(_) => TcpListener::bind(address),
                };
                listener.map(OwnedFd::from).map_err(|e| {
                    Failure::os(format!("cannot listen on {address} in the machine"), &e)
                })
            }
            Socket::Listen(address) => TcpListener::bind(address)
                .map(OwnedFd::from)
                .map_err(|e| Failure::os(format!("cannot listen on {address} in the machine"), &e)),
            Socket::Datagram(address) => UdpSocket::bind(address)
                .map(OwnedFd::from)
                .map_err(|e| Failure::os(format!("cannot bind {address} in the machine"), &e)),
            Socket::Connect(address) => connect(*address)
                .map_err(|e| Failure::os(format!("cannot connect to {address}"), &e)),
        }
    }
}

impl Supervisor {
    /// Listens on another port of the address, to which connections to this one are led.
    fn listen_beside(&mut self, address: SocketAddrV4) -> io::Result<TcpListener> {
        let listener = TcpListener::bind((*address.ip(), 0))?;
        let namespace = File::open("/proc/self/ns/net")?;
        let steering = steer::steer(address, listener.as_fd(), namespace.as_fd())?;
        self.steering.push(steering);
        Ok(listener)
    }
}

fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => rustix::net::AddressFamily::INET,
        SocketAddr::V6(_) => rustix::net::AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or_default())
}

/// A netlink request of the routing family: `RTM_NEWLINK` that sets an interface up.
/// Layout: linux/netlink.h, linux/rtnetlink.h.
fn link_up(index: u32) -> Vec<u8> {
    const RTM_NEWLINK: u16 = 16;
    let up = nix::libc::IFF_UP as u32;
    let mut body = vec![0, 0, 0, 0]; // family, padding, type
    body.extend(index.to_ne_bytes());
    body.extend(up.to_ne_bytes()); // flags
    body.extend(up.to_ne_bytes()); // which flags change
    request(RTM_NEWLINK, 0, &body)
}

/// `RTM_NEWADDR` with one `/32` address.
fn add_address(index: u32, address: Ipv4Addr) -> Vec<u8> {
    const RTM_NEWADDR: u16 = 20;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const CREATE_NEW: u16 = 0x400 | 0x200;
    let family = nix::libc::AF_INET as u8;
    let mut body = vec![family, 32, 0, 0]; // family, prefix, flags, scope: everywhere
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(8u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(address.octets());
    }
    request(RTM_NEWADDR, CREATE_NEW, &body)
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    const REQUEST_WITH_ACK: u16 = 1 | 4;
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST_WITH_ACK | flags).to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend(body);
    message
}

fn netlink(message: &[u8]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    sendto(socket.as_raw_fd(), message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 512];
    let read = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // The header is 16 bytes; the code of an acknowledgement follows, negative for an error.
    let code = answer[..read].get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("a short answer from the kernel")),
    }
}
