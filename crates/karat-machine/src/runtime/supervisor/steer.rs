//! Connections to one address and port of the machine, led to a socket that is bound to another.
//!
//! The metadata server answers at 169.254.169.254:80, as other services of the host do at such
//! addresses. Were it bound to that, no server in the machine could listen on port 80 of all
//! addresses, and that is what web servers do. So it is bound to a free port, and a program of the kernel's `sk_lookup` kind, attached to the machine's
//! network namespace, hands it what comes for port 80. Formats: linux/bpf.h.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const SOCKET_MAP: u32 = 15;
const LOOKUP_PROGRAM: u32 = 30;
const LOOKUP_ATTACH: u32 = 36;

// Helpers that a program can call.
const MAP_LOOKUP: i32 = 1;
const RELEASE: i32 = 86;
const ASSIGN: i32 = 124;

// Where the program's context has what.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_ADDRESS: i16 = 40;
const LOCAL_PORT: i16 = 60;

/// Leads new TCP connections to `address` to a listening socket, as long as the result lives.
///
/// # Errors
/// When the kernel cannot do it, as before 5.9, or may not.
pub(super) fn steer(
    address: SocketAddrV4,
    listener: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let map = call(MAP_CREATE, &words(&[SOCKET_MAP, 4, 8, 1]))?;
    let (key, socket) = (0u32, u64::try_from(listener.as_raw_fd()).unwrap_or_default());
    let mut update = words(&[number(map.as_raw_fd()), 0]);
    update.extend((&raw const key as u64).to_ne_bytes());
    update.extend((&raw const socket as u64).to_ne_bytes());
    update.extend(0u64.to_ne_bytes());
    bpf(MAP_UPDATE, &update)?;

    let program = program(address, map.as_raw_fd());
    let licence = c"Dual MIT/GPL";
    let mut load = words(&[LOOKUP_PROGRAM, u32::try_from(program.len() / 8).unwrap_or_default()]);
    load.extend((program.as_ptr() as u64).to_ne_bytes());
    load.extend((licence.as_ptr() as u64).to_ne_bytes());
    // No log, any kernel, no flags, no name, no interface.
    load.extend([0; 4 + 4 + 8 + 4 + 4 + 16 + 4]);
    load.extend(LOOKUP_ATTACH.to_ne_bytes());
    let loaded = call(PROGRAM_LOAD, &load)?;

    let parts = [number(loaded.as_raw_fd()), number(namespace.as_raw_fd()), LOOKUP_ATTACH, 0];
    call(LINK_CREATE, &words(&parts))
}

/// If the connection is for the address: look the socket up, assign and release it. Pass.
fn program(address: SocketAddrV4, map: RawFd) -> Vec<u8> {
    let ip = i32::from_ne_bytes(address.ip().octets());
    let checks = [
        (FAMILY, libc::AF_INET),
        (PROTOCOL, libc::IPPROTO_TCP),
        (LOCAL_ADDRESS, ip),
        (LOCAL_PORT, i32::from(address.port())),
    ];
    let look_up = [
        op(0x62, 10, 0, -4, 0),        // *(u32 *)(r10 - 4) = 0
        op(0xbf, 2, 10, 0, 0),         // r2 = r10
        op(0x07, 2, 0, 0, -4),         // r2 += -4
        op(0x18, 1, 1, 0, map),        // r1 = the map …
        op(0x00, 0, 0, 0, 0),          // … in two parts
        op(0x85, 0, 0, 0, MAP_LOOKUP), // r0 = its entry
        op(0x15, 0, 0, 7, 0),          // if there is none: end
        op(0xbf, 7, 0, 0, 0),          // r7 = r0
        op(0xbf, 1, 6, 0, 0),          // r1 = the context
        op(0xbf, 2, 7, 0, 0),          // r2 = the socket
        op(0xb7, 3, 0, 0, 0),          // r3 = no flags
        op(0x85, 0, 0, 0, ASSIGN),
        op(0xbf, 1, 7, 0, 0), // r1 = the socket
    ];
    let mut code = vec![op(0xbf, 6, 1, 0, 0)]; // r6 = the context
    for (index, (place, wanted)) in (0i16..).zip(checks) {
        code.push(op(0x61, 2, 6, place, 0)); // r2 = *(u32 *)(r6 + place)
        // What is left to jump over: the other checks, the look-up and the release.
        let rest = (3 - index) * 2 + i16::try_from(look_up.len()).unwrap_or_default() + 1;
        code.push(op(0x56, 2, 0, rest, wanted)); // if (u32) r2 is not that: end
    }
    code.extend(look_up);
    code.push(op(0x85, 0, 0, 0, RELEASE));
    code.push(op(0xb7, 0, 0, 0, 1)); // end: r0 = pass
    code.push(op(0x95, 0, 0, 0, 0)); // return r0
    code.concat()
}

/// One instruction: what, which registers, where to, a number.
fn op(code: u8, destination: u8, source: u8, offset: i16, number: i32) -> [u8; 8] {
    let [a, b] = offset.to_ne_bytes();
    let [c, d, e, f] = number.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") {
        source << 4 | destination
    } else {
        destination << 4 | source
    };
    [code, registers, a, b, c, d, e, f]
}

fn words(parts: &[u32]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.to_ne_bytes()).collect()
}

fn number(fd: RawFd) -> u32 {
    u32::try_from(fd).unwrap_or(u32::MAX)
}

/// A call that gives a descriptor.
fn call(command: libc::c_int, attributes: &[u8]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made it for this process; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: libc::c_int, attributes: &[u8]) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads the attributes and what they point to, which all outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
