//! Whether this host can run machines, and which addresses they can have.

use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

/// Why machines cannot run here; `None` when they can, as far as can be seen from outside.
pub(crate) fn lacks(dir: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("machines need root".into());
    }
    for (programs, package) in [
        (&["systemd-nspawn"][..], "systemd-container"),
        (&["slirp4netns", "pasta"][..], "slirp4netns"),
        (&["unshare"][..], "util-linux"),
    ] {
        if !programs.iter().any(|name| is_program(name)) {
            let names = programs.join("\" or \"");
            return Some(format!("the program \"{names}\" is missing: install {package}"));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing".into());
    }
    const OVERLAY: i64 = 0x794c_7630;
    if rustix::fs::statfs(dir).is_ok_and(|found| found.f_type == OVERLAY) {
        return Some(format!(
            "\"{}\" is on an overlay, which cannot hold the disks of machines: set \
             KARAT_STATE_DIR to a folder on another file system",
            dir.display()
        ));
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "true"]);
    unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !unshare.status().is_ok_and(|status| status.success()) {
        return Some("this host does not let root make namespaces".into());
    }
    None
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(name).is_file())
}

/// A network of loopback addresses that no other lab on this host has, as long as this lives.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) network: Ipv4Addr,
    _held: Option<UnixListener>,
}

/// Takes the first free network from one of the form 127.N.0.0 on.
pub(crate) fn take_addresses(first: Ipv4Addr) -> Addresses {
    let [a, from, _, _] = first.octets();
    for number in from..=254 {
        let network = Ipv4Addr::new(a, number, 0, 0);
        // A name in the kernel's table goes with the process that has it.
        let name = SocketAddr::from_abstract_name(format!("karat-lab-{network}"));
        if let Ok(held) = name.and_then(|name| UnixListener::bind_addr(&name)) {
            return Addresses { network, _held: Some(held) };
        }
    }
    Addresses { network: first, _held: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_labs_have_different_networks() {
        let first = take_addresses(Ipv4Addr::new(127, 210, 0, 0));
        let second = take_addresses(Ipv4Addr::new(127, 210, 0, 0));
        assert_ne!(first.network, second.network);
        assert_eq!(second.network.octets()[0], 127);
    }
}
