//! The options of the communicator, with Packer's names, defaults and meaning.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use karat_config::Config;
use russh::{cipher, kex};

use crate::tunnel::Forward;

/// Reaches the machine over ssh.
#[derive(Clone, Debug, Config)]
pub struct SshConfig {
    /// Address or name of the machine.
    #[option(default = "")]
    pub ssh_host: String,
    /// Port of the ssh server.
    #[option(default = 22)]
    pub ssh_port: u16,
    /// User to log in as.
    #[option(default = "")]
    pub ssh_username: String,
    /// Password, given both to password and to keyboard-interactive authentication.
    #[option(default = "", secret)]
    pub ssh_password: String,
    /// File with the private key: ed25519, ECDSA or RSA, in OpenSSH's or a PEM format, without a
    /// passphrase.
    #[option(default = "", volatile)]
    pub ssh_private_key_file: String,
    /// File with an OpenSSH user certificate for the private key.
    #[option(default = "", volatile)]
    pub ssh_certificate_file: String,
    /// Whether keys of the ssh agent at `SSH_AUTH_SOCK` are offered.
    #[option(default = false, volatile)]
    pub ssh_agent_auth: bool,
    /// Socket of the ssh agent; the one that `SSH_AUTH_SOCK` names where empty.
    #[option(default = "", volatile)]
    pub ssh_agent_socket: String,
    /// Whether the agent stays out of reach of the machine. By default it is forwarded, where
    /// there is one.
    #[option(default = false, volatile)]
    pub ssh_disable_agent_forwarding: bool,
    /// Ciphers to offer, best first. Empty means the built-in list.
    #[option(volatile)]
    pub ssh_ciphers: Vec<String>,
    /// Key exchange algorithms to offer, best first. Empty means the built-in list.
    #[option(volatile)]
    pub ssh_key_exchange_algorithms: Vec<String>,
    /// Whether commands get a pseudo-terminal.
    #[option(default = false)]
    pub ssh_pty: bool,
    /// How long to wait until the machine can be reached.
    #[option(default = "5m", alias = "ssh_wait_timeout", volatile)]
    pub ssh_timeout: karat_config::Duration,
    /// How often a handshake may fail, authentication included, before waiting is given up.
    #[option(default = 10, volatile)]
    pub ssh_handshake_attempts: u32,
    /// How long to wait after the machine could be reached for the first time. The connection is
    /// closed before and made again after.
    #[option(default = "0s", volatile)]
    pub pause_before_connecting: karat_config::Duration,
    /// Host to go through.
    #[option(default = "", volatile)]
    pub ssh_bastion_host: String,
    /// Port of the bastion's ssh server.
    #[option(default = 22, volatile)]
    pub ssh_bastion_port: u16,
    /// User on the bastion; `ssh_username` where empty.
    #[option(default = "", volatile)]
    pub ssh_bastion_username: String,
    /// Password on the bastion.
    #[option(default = "", secret)]
    pub ssh_bastion_password: String,
    /// Whether the bastion may ask for the password by keyboard-interactive authentication.
    #[option(default = false, volatile)]
    pub ssh_bastion_interactive: bool,
    /// File with the private key for the bastion; `ssh_private_key_file` where neither it, a
    /// password nor the agent is given for the bastion.
    #[option(default = "", volatile)]
    pub ssh_bastion_private_key_file: String,
    /// File with the user certificate for the bastion's private key.
    #[option(default = "", volatile)]
    pub ssh_bastion_certificate_file: String,
    /// Whether keys of the ssh agent are offered to the bastion.
    #[option(default = false, volatile)]
    pub ssh_bastion_agent_auth: bool,
    /// SOCKS5 proxy to go through. Excludes `ssh_bastion_host`.
    #[option(default = "", volatile)]
    pub ssh_proxy_host: String,
    /// Port of the proxy.
    #[option(default = 1080, volatile)]
    pub ssh_proxy_port: u16,
    /// User on the proxy; none where empty.
    #[option(default = "", volatile)]
    pub ssh_proxy_username: String,
    /// Password on the proxy.
    #[option(default = "", secret)]
    pub ssh_proxy_password: String,
    /// How often a sign of life is asked for. A negative duration or `0s` means never.
    #[option(default = "5s", volatile)]
    pub ssh_keep_alive_interval: String,
    /// How long the connection may be silent, answers to keep-alives included, before it counts
    /// as lost. `0s` means for ever.
    #[option(default = "0s", volatile)]
    pub ssh_read_write_timeout: karat_config::Duration,
    /// Ports of the machine that lead here, each as `PORT:HOST:HOSTPORT`.
    #[option(volatile)]
    pub ssh_remote_tunnels: Vec<String>,
    /// Ports here that lead to the machine's side, each as `PORT:HOST:HOSTPORT`.
    #[option(volatile)]
    pub ssh_local_tunnels: Vec<String>,
    /// How files travel: `scp` (through the machine's shell, the fastest) or `sftp` (for machines
    /// without a shell or `tar`).
    #[option(default = "scp", volatile)]
    pub ssh_file_transfer_method: String,
    /// Whether the key that was used is removed from `authorized_keys` at the end.
    #[option(default = false)]
    pub ssh_clear_authorized_keys: bool,
    /// How the machine's host key is checked: `accept-new` (the first one seen is kept for the
    /// run), `known_hosts` (it has to stand in `ssh_known_hosts_file`) or `off`.
    #[option(default = "accept-new", volatile)]
    pub ssh_host_key_checking: String,
    /// The machine's host key: a fingerprint (`SHA256:…`) or a public key (`ssh-ed25519 AAAA…`).
    /// Any other one is refused.
    #[option(default = "", volatile)]
    pub ssh_host_key: String,
    /// File with known host keys, in OpenSSH's format; `~/.ssh/known_hosts` where empty.
    #[option(default = "", volatile)]
    pub ssh_known_hosts_file: String,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self {
            ssh_host: String::new(),
            ssh_port: 22,
            ssh_username: String::new(),
            ssh_password: String::new(),
            ssh_private_key_file: String::new(),
            ssh_certificate_file: String::new(),
            ssh_agent_auth: false,
            ssh_agent_socket: String::new(),
            ssh_disable_agent_forwarding: false,
            ssh_ciphers: Vec::new(),
            ssh_key_exchange_algorithms: Vec::new(),
            ssh_pty: false,
            ssh_timeout: karat_config::Duration(Duration::from_secs(300)),
            ssh_handshake_attempts: 10,
            pause_before_connecting: karat_config::Duration(Duration::ZERO),
            ssh_bastion_host: String::new(),
            ssh_bastion_port: 22,
            ssh_bastion_username: String::new(),
            ssh_bastion_password: String::new(),
            ssh_bastion_interactive: false,
            ssh_bastion_private_key_file: String::new(),
            ssh_bastion_certificate_file: String::new(),
            ssh_bastion_agent_auth: false,
            ssh_proxy_host: String::new(),
            ssh_proxy_port: 1080,
            ssh_proxy_username: String::new(),
            ssh_proxy_password: String::new(),
            ssh_keep_alive_interval: "5s".into(),
            ssh_read_write_timeout: karat_config::Duration(Duration::ZERO),
            ssh_remote_tunnels: Vec::new(),
            ssh_local_tunnels: Vec::new(),
            ssh_file_transfer_method: "scp".into(),
            ssh_clear_authorized_keys: false,
            ssh_host_key_checking: "accept-new".into(),
            ssh_host_key: String::new(),
            ssh_known_hosts_file: String::new(),
        }
    }
}

/// One thing that is wrong with an [`SshConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The option at fault.
    pub option: &'static str,
    /// What is wrong.
    pub summary: String,
    /// What to do about it; empty where the summary says it.
    pub hint: String,
}

impl ConfigProblem {
    fn new(option: &'static str, summary: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { option, summary: summary.into(), hint: hint.into() }
    }
}

impl SshConfig {
    /// Everything that is wrong with the options, without looking at any file or host.
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if self.ssh_username.is_empty() {
            found.push(ConfigProblem::new(
                "ssh_username",
                "an ssh_username must be specified",
                "name the user to log in as, for example ssh_username = \"root\"",
            ));
        }
        if !self.ssh_certificate_file.is_empty() && self.ssh_private_key_file.is_empty() {
            found.push(ConfigProblem::new(
                "ssh_certificate_file",
                "ssh_certificate_file needs the key that it certifies",
                "set ssh_private_key_file",
            ));
        }
        if !self.ssh_bastion_host.is_empty() && !self.ssh_proxy_host.is_empty() {
            found.push(ConfigProblem::new(
                "ssh_bastion_host",
                "please specify either ssh_bastion_host or ssh_proxy_host, not both",
                "",
            ));
        }
        if !matches!(self.ssh_file_transfer_method.as_str(), "scp" | "sftp") {
            found.push(ConfigProblem::new(
                "ssh_file_transfer_method",
                format!("\"{}\" is no way to transfer files", self.ssh_file_transfer_method),
                "use \"scp\" or \"sftp\"",
            ));
        }
        if !matches!(self.ssh_host_key_checking.as_str(), "accept-new" | "known_hosts" | "off") {
            found.push(ConfigProblem::new(
                "ssh_host_key_checking",
                format!("\"{}\" is no way to check host keys", self.ssh_host_key_checking),
                "use \"accept-new\", \"known_hosts\" or \"off\"",
            ));
        }
        if let Err(e) = self.keep_alive_interval() {
            found.push(ConfigProblem::new("ssh_keep_alive_interval", e, ""));
        }
        for (option, list) in [
            ("ssh_remote_tunnels", &self.ssh_remote_tunnels),
            ("ssh_local_tunnels", &self.ssh_local_tunnels),
        ] {
            for text in list {
                if let Err(e) = Forward::from_str(text) {
                    found.push(ConfigProblem::new(
                        option,
                        e.to_string(),
                        "write it as PORT:HOST:HOSTPORT, for example \"8080:localhost:80\"",
                    ));
                }
            }
        }
        for name in &self.ssh_ciphers {
            if cipher::Name::try_from(name.as_str()).is_err() {
                found.push(unknown_algorithm("ssh_ciphers", "cipher", name, CIPHERS));
            }
        }
        for name in &self.ssh_key_exchange_algorithms {
            if kex::Name::try_from(name.as_str()).is_err() {
                found.push(unknown_algorithm(
                    "ssh_key_exchange_algorithms",
                    "key exchange algorithm",
                    name,
                    KEXES,
                ));
            }
        }
        found
    }

    /// The interval between keep-alives; `None` where they are switched off.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn keep_alive_interval(&self) -> Result<Option<Duration>, String> {
        let text = self.ssh_keep_alive_interval.trim();
        if text.is_empty() {
            return Ok(Some(Duration::from_secs(5)));
        }
        // A negative one switches it off, and is checked all the same.
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let parsed = karat_config::Duration::from_str(rest).map_err(|e| e.to_string())?;
        Ok((!negative && !parsed.0.is_zero()).then_some(parsed.0))
    }

    /// Whether files go by sftp alone.
    pub(crate) fn sftp_only(&self) -> bool {
        self.ssh_file_transfer_method == "sftp"
    }

    /// How the target is named in messages.
    pub(crate) fn address(&self) -> String {
        host_port(&self.ssh_host, self.ssh_port)
    }

    /// The agent's socket, if there is one.
    pub(crate) fn agent_socket(&self) -> Option<PathBuf> {
        path(&self.ssh_agent_socket).or_else(|| {
            std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()).map(PathBuf::from)
        })
    }

    /// Everything needed to log in on the machine itself.
    pub(crate) fn login(&self) -> Login {
        Login {
            host: self.ssh_host.clone(),
            port: self.ssh_port,
            username: self.ssh_username.clone(),
            password: self.ssh_password.clone(),
            interactive: true,
            key_file: path(&self.ssh_private_key_file),
            key_option: "ssh_private_key_file",
            certificate_file: path(&self.ssh_certificate_file),
            certificate_option: "ssh_certificate_file",
            agent: self.ssh_agent_auth,
            agent_socket: self.agent_socket(),
        }
    }

    /// Everything needed to log in on the bastion, if there is one.
    pub(crate) fn bastion(&self) -> Option<Login> {
        if self.ssh_bastion_host.is_empty() {
            return None;
        }
        let own = self.ssh_bastion_agent_auth
            || !self.ssh_bastion_password.is_empty()
            || !self.ssh_bastion_private_key_file.is_empty();
        let (key_file, certificate_file) = if own {
            (path(&self.ssh_bastion_private_key_file), path(&self.ssh_bastion_certificate_file))
        } else {
            (path(&self.ssh_private_key_file), path(&self.ssh_certificate_file))
        };
        let username = if self.ssh_bastion_username.is_empty() {
            &self.ssh_username
        } else {
            &self.ssh_bastion_username
        };
        Some(Login {
            host: self.ssh_bastion_host.clone(),
            port: self.ssh_bastion_port,
            username: username.clone(),
            password: self.ssh_bastion_password.clone(),
            interactive: self.ssh_bastion_interactive || !self.ssh_bastion_password.is_empty(),
            key_file,
            key_option: if own { "ssh_bastion_private_key_file" } else { "ssh_private_key_file" },
            certificate_file,
            certificate_option: if own {
                "ssh_bastion_certificate_file"
            } else {
                "ssh_certificate_file"
            },
            agent: self.ssh_bastion_agent_auth || (!own && self.ssh_agent_auth),
            agent_socket: self.agent_socket(),
        })
    }

    /// The algorithms to offer.
    pub(crate) fn preferred(&self) -> russh::Preferred {
        let mut preferred = russh::Preferred::default();
        let named = |names: &[String]| -> Vec<cipher::Name> {
            names.iter().filter_map(|n| cipher::Name::try_from(n.as_str()).ok()).collect()
        };
        preferred.cipher = if self.ssh_ciphers.is_empty() {
            // With hardware AES, which nearly every machine has, GCM costs the least.
            vec![
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
                cipher::AES_192_CTR,
                cipher::AES_128_CTR,
            ]
            .into()
        } else {
            named(&self.ssh_ciphers).into()
        };
        if !self.ssh_key_exchange_algorithms.is_empty() {
            let mut list: Vec<kex::Name> = self
                .ssh_key_exchange_algorithms
                .iter()
                .filter_map(|n| kex::Name::try_from(n.as_str()).ok())
                .collect();
            list.extend([
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]);
            preferred.kex = list.into();
        }
        preferred
    }
}

const CIPHERS: &str = "aes256-gcm@openssh.com, chacha20-poly1305@openssh.com, aes256-ctr, \
                       aes192-ctr, aes128-ctr";
const KEXES: &str = "mlkem768x25519-sha256, curve25519-sha256, curve25519-sha256@libssh.org, \
                     ecdh-sha2-nistp256, ecdh-sha2-nistp384, ecdh-sha2-nistp521, \
                     diffie-hellman-group-exchange-sha256, diffie-hellman-group14-sha256, \
                     diffie-hellman-group16-sha512, diffie-hellman-group18-sha512";

fn unknown_algorithm(option: &'static str, what: &str, name: &str, known: &str) -> ConfigProblem {
    ConfigProblem::new(option, format!("\"{name}\" is no known {what}"), format!("known: {known}"))
}

/// A way to log in on one host.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) interactive: bool,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) key_option: &'static str,
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) certificate_option: &'static str,
    pub(crate) agent: bool,
    pub(crate) agent_socket: Option<PathBuf>,
}

impl Login {
    pub(crate) fn address(&self) -> String {
        host_port(&self.host, self.port)
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A path of the template; `~/` is the user's home.
pub(crate) fn path(text: &str) -> Option<PathBuf> {
    if text.is_empty() {
        return None;
    }
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(config: &SshConfig) -> Vec<&'static str> {
        config.problems().iter().map(|p| p.option).collect()
    }

    #[test]
    fn a_wrong_option_is_named() {
        let good = SshConfig { ssh_username: "u".into(), ..SshConfig::default() };
        assert_eq!(options(&good), [""; 0]);
        let bad = SshConfig {
            ssh_ciphers: vec!["rot13".into()],
            ssh_key_exchange_algorithms: vec!["x".into()],
            ssh_remote_tunnels: vec!["80:x".into()],
            ssh_file_transfer_method: "ftp".into(),
            ssh_host_key_checking: "maybe".into(),
            ssh_keep_alive_interval: "five".into(),
            ssh_bastion_host: "b".into(),
            ssh_proxy_host: "p".into(),
            ssh_certificate_file: "c".into(),
            ..SshConfig::default()
        };
        assert_eq!(
            options(&bad),
            [
                "ssh_username",
                "ssh_certificate_file",
                "ssh_bastion_host",
                "ssh_file_transfer_method",
                "ssh_host_key_checking",
                "ssh_keep_alive_interval",
                "ssh_remote_tunnels",
                "ssh_ciphers",
                "ssh_key_exchange_algorithms"
            ]
        );
    }

    #[test]
    fn a_negative_keep_alive_is_off() {
        let with = |text: &str| {
            SshConfig { ssh_keep_alive_interval: text.into(), ..SshConfig::default() }
                .keep_alive_interval()
        };
        assert_eq!(with("-1s"), Ok(None));
        assert_eq!(with("0s"), Ok(None));
        assert_eq!(with("7s"), Ok(Some(Duration::from_secs(7))));
        assert!(with("soon").is_err());
    }

    #[test]
    fn the_bastion_inherits_the_key_unless_it_has_its_own_login() {
        let config = SshConfig {
            ssh_username: "u".into(),
            ssh_private_key_file: "/k".into(),
            ssh_bastion_host: "b".into(),
            ..SshConfig::default()
        };
        let bastion = config.bastion().unwrap();
        assert_eq!((bastion.username.as_str(), bastion.key_file), ("u", Some("/k".into())));
        let own = SshConfig { ssh_bastion_password: "p".into(), ..config };
        assert_eq!(own.bastion().unwrap().key_file, None);
    }
}
