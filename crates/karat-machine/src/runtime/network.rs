//! The machine's network as the parent arranges it: which program carries packets out, which
//! addresses the machine gets, and how the host reaches a port in it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::client::Client;
use super::error::{Result, RuntimeError};
use super::spec::Network;
use super::wire::{Op, Outbound, OutboundProgram, Socket};

/// Networks a machine may get; the first that the host itself does not use. All machines may
/// have the same one, as each is alone in its namespace.
const PREFIXES: [[u8; 3]; 5] =
    [[10, 0, 2], [10, 213, 77], [172, 29, 213], [192, 168, 213], [100, 100, 213]];

/// The last octet of the machine's address.
const HOST: u8 = 100;

/// Finds a program in `PATH` and in the places where system programs are.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    std::env::split_paths(&path)
        .chain(more.iter().map(PathBuf::from))
        .map(|dir| dir.join(OsStr::new(name)))
        .find(|path| path.is_file())
}

/// Chooses the program and the network; none for a closed one.
pub(super) fn choose_outbound(network: Network) -> Result<Option<Outbound>> {
    const SLIRP: (OutboundProgram, &str) = (OutboundProgram::Slirp4netns, "slirp4netns");
    const PASTA: (OutboundProgram, &str) = (OutboundProgram::Pasta, "pasta");
    let (candidates, program, package): (&[_], _, _) = match network {
        Network::Closed => return Ok(None),
        Network::Slirp4netns => (&[SLIRP], "slirp4netns", "slirp4netns"),
        Network::Pasta => (&[PASTA], "pasta", "passt"),
        Network::Outbound => (&[SLIRP, PASTA], "slirp4netns\" or \"pasta", "slirp4netns or passt"),
    };
    let found = candidates
        .iter()
        .find_map(|(program, name)| find_program(name).map(|path| (*program, path)));
    let (program, path) = found.ok_or(RuntimeError::Missing { program, package })?;
    if !PathBuf::from("/dev/net/tun").exists() {
        return Err(RuntimeError::Specification {
            what:
                "the machine's network needs /dev/net/tun, which is missing: try `modprobe tun`, \
                   or give the container that device"
                    .into(),
        });
    }
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    Ok(Some(Outbound { program, path, prefix: free_prefix(&routes) }))
}

/// The machine's own address in a network.
pub(super) fn own_address(outbound: &Outbound) -> Ipv4Addr {
    let [a, b, c] = outbound.prefix;
    Ipv4Addr::new(a, b, c, HOST)
}

/// The first network that no route of the host but the default one covers. The kernel's table has
/// addresses in hexadecimal, in the machine's byte order.
fn free_prefix(routes: &str) -> [u8; 3] {
    let used: Vec<(u32, u32)> = routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok();
            Some((u32::from_ne_bytes(number(1)?.to_be().to_ne_bytes()), number(7)?.to_be()))
        })
        .filter(|(_, mask)| *mask != 0)
        .collect();
    let free = |prefix: &&[u8; 3]| {
        let network = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], 0]);
        used.iter().all(|(to, mask)| {
            let mask = mask & 0xffff_ff00;
            network & mask != to & mask
        })
    };
    *PREFIXES.iter().find(free).unwrap_or(&PREFIXES[0])
}

/// Makes a listening TCP socket in the machine's network namespace.
pub(super) async fn listen(client: &Client, address: SocketAddr) -> Result<TcpListener> {
    let fd = socket(client, Socket::Listen(address)).await?;
    let listener = std::net::TcpListener::from(fd);
    listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener))
        .map_err(|e| RuntimeError::file("use", "a socket of the machine", e))
}

/// Makes a bound UDP socket in the machine's network namespace.
pub(super) async fn datagram(
    client: &Client,
    address: SocketAddr,
) -> Result<tokio::net::UdpSocket> {
    let fd = socket(client, Socket::Datagram(address)).await?;
    let socket = std::net::UdpSocket::from(fd);
    socket
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UdpSocket::from_std(socket))
        .map_err(|e| RuntimeError::file("use", "a socket of the machine", e))
}

/// Connects to a port in the machine, from within its network namespace.
pub(super) async fn connect(client: &Client, address: SocketAddr) -> Result<TcpStream> {
    let fd = socket(client, Socket::Connect(address)).await?;
    let fail = |e: io::Error| RuntimeError::file("connect to", address.to_string(), e);
    let stream = TcpStream::from_std(std::net::TcpStream::from(fd)).map_err(fail)?;
    stream.writable().await.map_err(fail)?;
    if let Some(error) = stream.take_error().map_err(fail)? {
        return Err(fail(error));
    }
    Ok(stream)
}

async fn socket(client: &Client, what: Socket) -> Result<std::os::fd::OwnedFd> {
    let (_, fds) = client.call(Op::Socket(what), &[]).await?;
    fds.into_iter().next().ok_or(RuntimeError::Gone)
}

/// An address of the host whose connections end at a port in the machine, as long as this lives.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Forward {
    pub(super) async fn start(
        client: Arc<Client>,
        listen: SocketAddr,
        to: SocketAddr,
    ) -> Result<Self> {
        let fail = |e: io::Error| RuntimeError::file("listen on", listen.to_string(), e);
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut outer, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let client = Arc::clone(&client);
                connections.spawn(async move {
                    let Ok(mut inner) = connect(&client, to).await else {
                        // The caller sees what it would see at the port: a reset.
                        let _ = rustix::net::sockopt::set_socket_linger(
                            &outer,
                            Some(std::time::Duration::ZERO),
                        );
                        return;
                    };
                    let _ = outer.set_nodelay(true);
                    let _ = inner.set_nodelay(true);
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where the host connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_the_host_uses_is_left_alone() {
        let head =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let default = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(free_prefix(&format!("{head}{default}")), [10, 0, 2]);
        let same = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(free_prefix(&format!("{head}{default}{same}")), [10, 213, 77]);
        let all_ten = "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        assert_eq!(free_prefix(&format!("{head}{all_ten}")), [172, 29, 213]);
        let smaller = "eth0\t8002000A\t00000000\t0001\t0\t0\t0\t80FFFFFF\t0\t0\t0\n";
        assert_eq!(free_prefix(&format!("{head}{smaller}")), [10, 213, 77]);
    }
}
