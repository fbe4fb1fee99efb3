//! An instance's ports at its public address, which is a loopback address of this host: nothing has
//! to be set up for it, and nothing is left.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use karat_machine::runtime::{Exec, Machine};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Hub;

/// In a range of more ports than this, only those that the machine listens at are served.
const NARROW: u16 = 64;

/// Which of the open ports are to be served: all of narrow ranges; of wide ones those that
/// `listened` has. Says also whether there are wide ones.
pub(super) fn wanted(open: &[(u16, u16)], listened: &BTreeSet<u16>) -> (BTreeSet<u16>, bool) {
    let mut ports = BTreeSet::new();
    let mut wide = false;
    for &(from, to) in open {
        if to.saturating_sub(from) < NARROW {
            ports.extend(from.max(1)..=to);
        } else {
            wide = true;
            ports.extend(listened.iter().filter(|port| (from..=to).contains(port)));
        }
    }
    (ports, wide)
}

/// The ports that a machine listens at.
pub(super) async fn listened(machine: &Machine) -> BTreeSet<u16> {
    let asked = machine.output_of(Exec::new(["cat", "/proc/net/tcp", "/proc/net/tcp6"])).await;
    asked.map(|(_, text)| listening(&text)).unwrap_or_default()
}

/// The ports of listening sockets in the kernel's table, but for those of the machine's own
/// loopback and its metadata server.
fn listening(table: &str) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    // Metadata and resolver, and the sixth version's loopback.
    const OWN: [&str; 3] = ["FEA9FEA9", "FDA9FEA9", "00000000000000000000000001000000"];
    let own =
        |address: &str| OWN.contains(&address) || address.len() == 8 && address.ends_with("7F");
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (address, port) = fields.next()?.split_once(':')?;
            let state = fields.nth(1)?;
            (state == LISTEN && !own(address)).then(|| u16::from_str_radix(port, 16).ok())?
        })
        .collect()
}

/// Serves a port until the task is aborted.
pub(super) async fn serve(
    hub: Arc<Hub>,
    id: String,
    machine: Machine,
    address: Ipv4Addr,
    port: u16,
) {
    let listener = match TcpListener::bind((address, port)).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(id, %address, port, %error, "cannot listen for an instance");
            return;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        let Ok((outer, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if !hub.front.may_reach(&id, peer.ip(), port) {
            reset(&outer);
            continue;
        }
        let machine = machine.clone();
        connections.spawn(async move {
            let mut outer = outer;
            let Ok(mut inner) = machine.connect(port).await else {
                reset(&outer);
                return;
            };
            let _ = outer.set_nodelay(true);
            let _ = inner.set_nodelay(true);
            let _ = copy_bidirectional(&mut outer, &mut inner).await;
        });
    }
}

/// The caller sees what it would see at a closed port: a reset.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// The address of an instance, if it has one on this host.
pub(super) fn address(text: Option<&str>) -> Option<Ipv4Addr> {
    match text?.parse().ok()? {
        IpAddr::V4(address) if address.is_loopback() => Some(address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_ranges_are_served_where_somebody_listens() {
        let listened = BTreeSet::from([22, 80]);
        assert_eq!(wanted(&[(22, 22)], &listened), (BTreeSet::from([22]), false));
        assert_eq!(wanted(&[(0, 65535)], &listened), (listened.clone(), true));
        assert_eq!(wanted(&[(100, 101)], &listened).0, BTreeSet::from([100, 101]));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st\n   \
             0: 00000000:0016 00000000:0000 0A 00000000:00000000\n   \
             1: 0100007F:0019 00000000:0000 0A 00000000:00000000\n   \
             2: 00000000:1F90 0100007F:C0DE 01 00000000:00000000\n   \
             3: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n";
        assert_eq!(listening(table), BTreeSet::from([22, 80]));
    }
}
