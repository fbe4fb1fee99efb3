//! The options of the communicator, with Packer's names, defaults and meaning.

use karat_component::Generated;
use karat_config::Config;
use karat_value::Value;

/// Reaches a Windows machine over WinRM.
#[derive(Clone, Debug, Config)]
pub struct WinrmConfig {
    /// User to log in as.
    #[option(default = "")]
    pub winrm_username: String,
    /// Password of the user.
    #[option(default = "", secret)]
    pub winrm_password: String,
    /// Address or name of the machine.
    #[option(default = "")]
    pub winrm_host: String,
    /// Whether the proxies of the environment are passed by.
    #[option(default = false, volatile)]
    pub winrm_no_proxy: bool,
    /// Port of the machine's WinRM; 5985, with TLS 5986, where 0.
    #[option(default = 0)]
    pub winrm_port: u16,
    /// How long to wait until the machine can be reached.
    #[option(default = "30m", volatile)]
    pub winrm_timeout: karat_config::Duration,
    /// Whether WinRM goes over TLS. Without it the password and all that is sent can be read on the
    /// way.
    #[option(default = false)]
    pub winrm_use_ssl: bool,
    /// Whether any certificate is taken: one that the machine made for itself, say.
    #[option(default = false, volatile)]
    pub winrm_insecure: bool,
    /// Whether to log in by NTLM, which does not show the password. Otherwise by HTTP's Basic.
    #[option(default = false, volatile)]
    pub winrm_use_ntlm: bool,
}

/// What is wrong with the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WinrmProblem {
    /// The option at fault.
    pub option: &'static str,
    /// What is wrong.
    pub summary: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

impl WinrmConfig {
    /// What is wrong with them.
    pub fn problems(&self) -> Vec<WinrmProblem> {
        let mut found = Vec::new();
        if self.winrm_username.is_empty() {
            found.push(WinrmProblem {
                option: "winrm_username",
                summary: "winrm_username must be specified.",
                hint: "name the user to log in as, for example winrm_username = \"Administrator\"",
            });
        }
        found
    }

    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        match (self.winrm_port, self.winrm_use_ssl) {
            (0, true) => 5986,
            (0, false) => 5985,
            (given, _) => given,
        }
    }

    /// Adds what `build.*` has of the login.
    pub fn tell(&self, generated: &mut Generated) {
        for (name, value) in [
            ("ConnType", "winrm"),
            ("Host", &self.winrm_host),
            ("User", &self.winrm_username),
            ("Password", &self.winrm_password),
            ("WinRMPassword", &self.winrm_password),
        ] {
            generated.insert(name.into(), Value::string(value));
        }
        generated.insert("Port".into(), Value::number(i64::from(self.port())));
    }

    /// Where requests go.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.winrm_use_ssl { "https" } else { "http" };
        let host = &self.winrm_host;
        let bare = host.contains(':') && !host.starts_with('[');
        let host = if bare { format!("[{host}]") } else { host.clone() };
        format!("{scheme}://{host}:{}/wsman", self.port())
    }
}
