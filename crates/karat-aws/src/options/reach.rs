//! How the machine is reached.

use karat_component::ValidateContext;
use karat_config::{Config, Duration};
use karat_ssh::SshConfig;
use karat_winrm::WinrmConfig;

/// Reaches the machine.
#[derive(Clone, Debug, Config)]
pub struct ReachConfig {
    /// How the machine is reached: `ssh`, `winrm` or `none`.
    #[option(default = "ssh")]
    pub communicator: String,
    /// How to log in by ssh. Without a password, a key or an agent a key pair is made for the
    /// build.
    #[option(flatten)]
    pub ssh: SshConfig,
    /// A key pair of EC2 that is there already; its private key is `ssh_private_key_file`, or in
    /// the agent.
    #[option(default = "")]
    pub ssh_keypair_name: String,
    /// The name of the key pair that is made for the build.
    #[option(default = "", volatile)]
    pub temporary_key_pair_name: String,
    /// The kind of the key pair that is made for the build: `ed25519` or `rsa`.
    #[option(default = "ed25519", volatile)]
    pub temporary_key_pair_type: String,
    /// Bits of the key that is made for the build. AWS decides: an RSA key has 2048.
    #[option(volatile, deprecated = "AWS makes the key, and decides")]
    pub temporary_key_pair_bits: Option<i64>,
    /// The address that is connected to: `public_ip`, `private_ip`, `public_dns`, `private_dns`
    /// or `ipv6`; or `session_manager`, which needs neither an address nor an open port: the
    /// machine's agent and an instance profile that lets it talk to the session manager will do.
    /// Without it the public address where there is one, else the private one.
    #[option(default = "", volatile)]
    pub ssh_interface: String,
    /// How long to wait before a session of the session manager is opened. An agent that is not
    /// there yet is waited for anyway.
    #[option(default = "0s", volatile)]
    pub pause_before_ssm: Duration,
    /// The local port of the session manager. None is opened.
    #[option(default = 0, volatile, deprecated = "no local port is opened")]
    pub session_manager_port: u16,
    /// How long the password that Windows makes is waited for, where `winrm_password` is empty.
    #[option(default = "20m", volatile)]
    pub windows_password_timeout: Duration,
    /// How to log in by WinRM. Without a password the one that Windows made for its administrator
    /// is asked for; it is encrypted with the machine's key pair, an RSA key.
    #[option(flatten)]
    pub winrm: WinrmConfig,
}

/// Which of its addresses a machine is reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Interface {
    Any,
    PublicIp,
    PrivateIp,
    PublicName,
    PrivateName,
    Ipv6,
    SessionManager,
}

/// How to log in to a Windows machine.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub(crate) config: WinrmConfig,
    /// How long its password is waited for.
    pub(crate) patience: std::time::Duration,
    /// The private key of a key pair that is there already.
    pub(crate) key_file: String,
}

impl Windows {
    /// Whether the password that Windows makes is asked for.
    pub(crate) fn asks(&self) -> bool {
        self.config.winrm_password.is_empty()
    }
}

/// How one logs in.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    Ssh(Box<SshConfig>),
    Winrm(Box<Windows>),
}

impl Login {
    /// The port that is connected to.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Ssh(ssh) => ssh.ssh_port,
            Self::Winrm(windows) => windows.config.port(),
        }
    }
}

/// How the machine is reached.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Nothing where provisioners run here alone.
    pub(crate) login: Option<Login>,
    pub(crate) interface: Interface,
    /// A key pair that is there already.
    pub(crate) key_name: Option<String>,
    /// The key pair to be made: its name, if it has one, and its kind.
    pub(crate) temporary_key: Option<TemporaryKey>,
    /// How long to wait before a session is opened.
    pub(crate) pause: std::time::Duration,
}

/// A key pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemporaryKey {
    pub(crate) name: Option<String>,
    pub(crate) rsa: bool,
}

impl ReachConfig {
    /// Checks the options against each other.
    pub(crate) fn validate(self, cx: &mut ValidateContext<'_>) -> Reach {
        let interface = self.interface(cx);
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        if !matches!(&*self.temporary_key_pair_type, "rsa" | "ed25519") {
            cx.error("temporary_key_pair_type", "temporary_key_pair_type is rsa or ed25519")
                .detail(format!("\"{}\" is neither.", self.temporary_key_pair_type));
        }
        let login = match self.communicator.as_str() {
            "none" => None,
            "ssh" | "" => Some(Login::Ssh(Box::new(self.ssh.clone()))),
            "winrm" => Some(Login::Winrm(Box::new(Windows {
                config: self.winrm.clone(),
                patience: self.windows_password_timeout.0,
                key_file: self.ssh.ssh_private_key_file.clone(),
            }))),
            other => {
                cx.error("communicator", format!("unknown communicator \"{other}\""))
                    .hint("write \"ssh\", \"winrm\" or \"none\"");
                None
            }
        };
        let own = self.ssh.ssh_agent_auth
            || !self.ssh.ssh_password.is_empty()
            || !self.ssh.ssh_private_key_file.is_empty();
        if matches!(login, Some(Login::Ssh(_)))
            && !self.ssh_keypair_name.is_empty()
            && self.ssh.ssh_private_key_file.is_empty()
            && !self.ssh.ssh_agent_auth
            && cx.is_known("ssh_private_key_file")
            && cx.is_known("ssh_agent_auth")
        {
            cx.error("ssh_keypair_name", "the private key of ssh_keypair_name is missing")
                .hint("set ssh_private_key_file, or ssh_agent_auth = true");
        }
        let own_key = !self.ssh_keypair_name.is_empty();
        let key_file = !self.ssh.ssh_private_key_file.is_empty();
        let wants_key = match &login {
            None => false,
            Some(Login::Ssh(ssh)) => {
                for problem in ssh.problems() {
                    let error = cx.error(problem.option, problem.summary);
                    if !problem.hint.is_empty() {
                        error.hint(problem.hint);
                    }
                }
                let named = !self.temporary_key_pair_name.is_empty();
                !own_key && (!own || named && !key_file)
            }
            Some(Login::Winrm(windows)) => {
                for problem in windows.config.problems() {
                    cx.error(problem.option, problem.summary).hint(problem.hint);
                }
                if interface == Interface::SessionManager {
                    cx.error("ssh_interface", "the session manager leads to ssh alone")
                        .hint("use an address for WinRM, or communicator = \"ssh\"");
                }
                let asks = windows.asks();
                if asks && own_key && !key_file && cx.is_known("winrm_password") {
                    cx.error(
                        "ssh_keypair_name",
                        "the machine's password is encrypted with this key pair",
                    )
                    .hint("set ssh_private_key_file to its private key, or winrm_password");
                }
                asks && !own_key
            }
        };
        // EC2 encrypts the password of Windows for RSA keys alone.
        let rsa = self.temporary_key_pair_type == "rsa" || matches!(login, Some(Login::Winrm(_)));
        Reach {
            temporary_key: wants_key
                .then(|| TemporaryKey { name: text(&self.temporary_key_pair_name), rsa }),
            key_name: text(&self.ssh_keypair_name),
            pause: self.pause_before_ssm.0,
            interface,
            login,
        }
    }

    fn interface(&self, cx: &mut ValidateContext<'_>) -> Interface {
        match self.ssh_interface.as_str() {
            "" => Interface::Any,
            "public_ip" => Interface::PublicIp,
            "private_ip" => Interface::PrivateIp,
            "public_dns" => Interface::PublicName,
            "private_dns" => Interface::PrivateName,
            "ipv6" => Interface::Ipv6,
            "session_manager" => Interface::SessionManager,
            other => {
                cx.error("ssh_interface", format!("Unknown interface type: {other}")).hint(
                    "use public_ip, private_ip, public_dns, private_dns, ipv6 or session_manager",
                );
                Interface::Any
            }
        }
    }
}
