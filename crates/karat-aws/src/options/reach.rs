//! How the machine is reached.

use karat_component::ValidateContext;
use karat_config::{Config, Duration};
use karat_ssh::SshConfig;

use super::not_yet;

/// Reaches the machine.
#[derive(Clone, Debug, Config)]
pub struct ReachConfig {
    /// How the machine is reached: `ssh` or `none`. `winrm` is not supported yet.
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
    /// How long a Windows machine's password is waited for. Not supported yet.
    #[option(default = "20m", volatile)]
    pub windows_password_timeout: Duration,
    /// User of a Windows machine. Not supported yet.
    #[option(default = "")]
    pub winrm_username: String,
    /// Password on a Windows machine. Not supported yet.
    #[option(default = "", secret)]
    pub winrm_password: String,
    /// Address of a Windows machine. Not supported yet.
    #[option(default = "")]
    pub winrm_host: String,
    /// Whether proxies are passed by. Not supported yet.
    #[option(default = false, volatile)]
    pub winrm_no_proxy: bool,
    /// Port of a Windows machine's WinRM. Not supported yet.
    #[option(default = 0)]
    pub winrm_port: u16,
    /// How long a Windows machine is waited for. Not supported yet.
    #[option(default = "30m", volatile)]
    pub winrm_timeout: Duration,
    /// Whether WinRM goes over TLS. Not supported yet.
    #[option(default = false)]
    pub winrm_use_ssl: bool,
    /// Whether certificates of WinRM are taken unchecked. Not supported yet.
    #[option(default = false, volatile)]
    pub winrm_insecure: bool,
    /// Whether NTLM is used. Not supported yet.
    #[option(default = false, volatile)]
    pub winrm_use_ntlm: bool,
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

/// How the machine is reached.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Nothing where provisioners run here alone.
    pub(crate) ssh: Option<SshConfig>,
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
        self.not_yet(cx);
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        if !matches!(&*self.temporary_key_pair_type, "rsa" | "ed25519") {
            cx.error("temporary_key_pair_type", "temporary_key_pair_type is rsa or ed25519")
                .detail(format!("\"{}\" is neither.", self.temporary_key_pair_type));
        }
        let ssh = match self.communicator.as_str() {
            "none" => None,
            "ssh" | "" => Some(self.ssh.clone()),
            "winrm" => {
                let text = "communicator \"winrm\" is not supported yet";
                cx.error("communicator", text)
                    .hint("Windows has an ssh server, too: set communicator = \"ssh\"");
                None
            }
            other => {
                cx.error("communicator", format!("unknown communicator \"{other}\""))
                    .hint("write \"ssh\" or \"none\"");
                None
            }
        };
        let own = self.ssh.ssh_agent_auth
            || !self.ssh.ssh_password.is_empty()
            || !self.ssh.ssh_private_key_file.is_empty();
        if !self.ssh_keypair_name.is_empty()
            && self.ssh.ssh_private_key_file.is_empty()
            && !self.ssh.ssh_agent_auth
            && cx.is_known("ssh_private_key_file")
            && cx.is_known("ssh_agent_auth")
        {
            cx.error("ssh_keypair_name", "the private key of ssh_keypair_name is missing")
                .hint("set ssh_private_key_file, or ssh_agent_auth = true");
        }
        for problem in ssh.iter().flat_map(SshConfig::problems) {
            let error = cx.error(problem.option, problem.summary);
            if !problem.hint.is_empty() {
                error.hint(problem.hint);
            }
        }
        let wants_key = ssh.is_some()
            && self.ssh_keypair_name.is_empty()
            && (!own
                || !self.temporary_key_pair_name.is_empty()
                    && self.ssh.ssh_private_key_file.is_empty());
        Reach {
            temporary_key: wants_key.then(|| TemporaryKey {
                name: text(&self.temporary_key_pair_name),
                rsa: self.temporary_key_pair_type == "rsa",
            }),
            key_name: text(&self.ssh_keypair_name),
            pause: self.pause_before_ssm.0,
            interface,
            ssh,
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

    fn not_yet(&self, cx: &mut ValidateContext<'_>) {
        let hint = "WinRM is not supported yet; use ssh";
        let minutes = |d: &Duration| d.0.as_secs() / 60;
        for (option, given) in [
            ("windows_password_timeout", minutes(&self.windows_password_timeout) != 20),
            ("winrm_username", !self.winrm_username.is_empty()),
            ("winrm_password", !self.winrm_password.is_empty()),
            ("winrm_host", !self.winrm_host.is_empty()),
            ("winrm_no_proxy", self.winrm_no_proxy),
            ("winrm_port", self.winrm_port != 0),
            ("winrm_timeout", minutes(&self.winrm_timeout) != 30),
            ("winrm_use_ssl", self.winrm_use_ssl),
            ("winrm_insecure", self.winrm_insecure),
            ("winrm_use_ntlm", self.winrm_use_ntlm),
        ] {
            not_yet(cx, option, given, hint);
        }
    }
}
