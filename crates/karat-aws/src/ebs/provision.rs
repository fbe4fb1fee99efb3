//! Step `provision`: connects to the machine and runs the provisioners.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_component::{BuildInfo, Communicator, Events, Generated, NoCommunicator, ProvisionHook};
use karat_saga::{Step, StepContext, StepError};
use karat_ssh::{SeenHostKeys, Session, SshCommunicator, SshConfig, Way};
use karat_value::Value;
use karat_winrm::WinrmCommunicator;
use serde::{Deserialize, Serialize};

use super::dead_man::DeadMan;
use super::key::KeyPair;
use super::node;
use super::preflight::Found;
use super::scope::{Scope, message, pause, say};
use super::session::Through;
use super::source::SourceImage;
use super::states::Machine;
use crate::client::Aws;
use crate::options::{Interface, Login, Windows};

/// How long a machine's console is waited for to print its host keys.
const CONSOLE: Duration = Duration::from_secs(15);

/// Connects and runs the provisioners. What they did is on the machine, which goes with its own
/// step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Provision {
    pub(crate) scope: Scope,
    pub(crate) interface: Interface,
    /// Whether a machine is connected to at all.
    pub(crate) connects: bool,
    /// Whether by WinRM.
    #[serde(default)]
    pub(crate) by_winrm: bool,
    /// Whether the password that Windows makes is asked for.
    #[serde(default)]
    pub(crate) asks_password: bool,
    /// How long to wait before a session of the session manager is opened.
    #[serde(default)]
    pub(crate) pause: Duration,
    /// After which time without a word from here the machine ends.
    #[serde(default)]
    pub(crate) ends_after: Option<Duration>,
    /// How to log in may hold secrets, so it is not stored.
    #[serde(skip)]
    pub(crate) login: Option<Login>,
}

impl Interface {
    /// The machine's address; empty where it has none of this kind.
    pub(crate) fn address(self, machine: &Machine) -> &str {
        match self {
            Self::PublicIp => &machine.public_ip,
            Self::PrivateIp => &machine.private_ip,
            Self::PublicName => &machine.public_name,
            Self::PrivateName => &machine.private_name,
            Self::Ipv6 => &machine.ipv6,
            Self::SessionManager => &machine.id,
            Self::Any => match machine.public_ip.is_empty() {
                true => &machine.private_ip,
                false => &machine.public_ip,
            },
        }
    }
}

impl Provision {
    fn login(&self) -> Result<&Login, StepError> {
        self.login.as_ref().ok_or_else(|| {
            StepError::new("how to log in is not stored, so this build cannot be resumed")
                .with_hint("build anew")
        })
    }

    /// How to log in by ssh, with what is known of the machine.
    fn config(
        &self,
        given: &SshConfig,
        machine: &Machine,
        cx: &StepContext,
    ) -> Result<SshConfig, StepError> {
        let mut config = given.clone();
        // Sessions are asked for by the machine's id.
        if config.ssh_host.is_empty() || self.interface == Interface::SessionManager {
            config.ssh_host = self.interface.address(machine).to_owned();
        }
        if config.ssh_host.is_empty() {
            return Err(StepError::new(format!(
                "{} has no address of the kind that ssh_interface asks for",
                machine.id
            ))
            .with_hint("set associate_public_ip_address = true, or another ssh_interface"));
        }
        if cx.outputs().raw(node::KEY).is_some() {
            let key: KeyPair = cx.output(node::KEY)?;
            config.ssh_private_key_file = key.file.to_string_lossy().into_owned();
        }
        Ok(config)
    }

    async fn connect(
        &self,
        given: &SshConfig,
        machine: &Machine,
        cx: &StepContext,
    ) -> Result<(Session, SshConfig), StepError> {
        let config = self.config(given, machine, cx)?;
        let way = self.way(cx).await?;
        let by = if way.is_some() { " by the session manager" } else { "" };
        say(cx, format!("Connecting to {}{by}", config.ssh_host));
        let events = cx.service::<Events>()?.as_ref().clone();
        let seen = SeenHostKeys::default();
        let session = Session::connect_by(config.clone(), way, seen, events, cx.token()).await;
        let session = session.map_err(|e| {
            if cx.is_cancelled() {
                return StepError::cancelled();
            }
            StepError::because(format!("could not log in to {}", machine.id), e).with_hint(
                match self.interface {
                    Interface::SessionManager => "ssh_username is the image's own user; the image needs AWS's agent, and the instance profile the policy AmazonSSMManagedInstanceCore",
                    _ => "ssh_username is the image's own user; the subnet needs a way here, and ssh_timeout may be too short",
                },
            )
        })?;
        self.verify(&session, machine, &config, cx).await?;
        Ok((session, config))
    }

    /// The way to the machine where it is not its address.
    async fn way(&self, cx: &StepContext) -> Result<Option<Arc<dyn Way>>, StepError> {
        if self.interface != Interface::SessionManager {
            return Ok(None);
        }
        if !self.pause.is_zero() {
            pause(cx, self.pause).await?;
        }
        let aws = self.scope.aws().await?;
        let through = Through::new(aws, cx.token());
        let through = through.map_err(|reason| {
            StepError::new(format!("could not prepare for the session manager: {reason}"))
        })?;
        Ok(Some(Arc::new(through)))
    }

    /// Compares the key that the machine showed with those that it printed on its console, which
    /// AWS hands over on another way.
    async fn verify(
        &self,
        session: &Session,
        machine: &Machine,
        config: &SshConfig,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let given = !config.ssh_host_key.is_empty() || config.ssh_host_key_checking != "accept-new";
        if given {
            return Ok(());
        }
        let aws = self.scope.aws().await?;
        let shown = session.fingerprint().await;
        let shown = shown.split_whitespace().last().unwrap_or_default().to_owned();
        let start = tokio::time::Instant::now();
        loop {
            let printed = self.printed(&aws, &machine.id).await;
            if printed.contains(&shown) {
                message(cx, "the host key is the one that the machine printed on its console");
                return Ok(());
            }
            if !printed.is_empty() {
                session.close().await;
                return Err(StepError::new(format!(
                    "{} showed the host key {shown}, and printed {} on its console",
                    config.ssh_host,
                    printed.join(", ")
                ))
                .with_hint(
                    "somebody may stand between; ssh_host_key_checking = \"off\" does not look",
                ));
            }
            if start.elapsed() >= CONSOLE {
                message(
                    cx,
                    "the host key could not be verified: the machine printed none on its console",
                );
                return Ok(());
            }
            pause(cx, Duration::from_secs(3)).await?;
        }
    }

    /// Fingerprints of the host keys that the machine printed. None where it did not, or where the
    /// console cannot be read.
    async fn printed(&self, aws: &Aws, id: &str) -> Vec<String> {
        let mut found = Vec::new();
        for latest in [true, false] {
            let mut ask = aws.ec2.get_console_output().instance_id(id);
            if latest {
                // Not every type of machine can.
                ask = ask.latest(true);
            }
            let Ok(answer) = ask.send().await else { continue };
            let text = STANDARD.decode(answer.output().unwrap_or_default()).unwrap_or_default();
            found = fingerprints(&String::from_utf8_lossy(&text));
            if !found.is_empty() {
                break;
            }
        }
        found
    }

    fn generated(&self, machine: &Machine, cx: &StepContext) -> Result<Generated, StepError> {
        let found: Found = cx.output(node::PREFLIGHT)?;
        facts(&machine.id, &cx.output(node::SOURCE)?, &found.region, cx)
    }

    async fn over_ssh(
        &self,
        ssh: &SshConfig,
        machine: &Machine,
        mut generated: Generated,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let hook = cx.service::<dyn ProvisionHook>()?;
        let (session, config) = self.connect(ssh, machine, cx).await?;
        let text = |value: &str| Value::string(value);
        generated.insert("ConnType".into(), text("ssh"));
        generated.insert("Host".into(), text(&config.ssh_host));
        generated.insert("Port".into(), Value::number(i64::from(config.ssh_port)));
        generated.insert("User".into(), text(&config.ssh_username));
        generated.insert("Password".into(), text(&config.ssh_password));
        generated.insert("SSHPrivateKeyFile".into(), text(&config.ssh_private_key_file));
        generated.insert("SSHAgentAuth".into(), Value::bool(config.ssh_agent_auth));
        let communicator: Arc<dyn Communicator> = Arc::new(SshCommunicator(session.clone()));
        // A given address can be any machine's.
        let after = self.ends_after.filter(|_| ssh.ssh_host.is_empty());
        let switch = after.map(|after| DeadMan::new(Arc::clone(&communicator), after));
        let work = hook.provision(communicator, generated, cx.token());
        match &switch {
            Some(switch) => guarded(switch, work, cx).await?,
            None => work.await?,
        }
        if config.ssh_clear_authorized_keys {
            let cleared = session.clear_authorized_keys(cx.token()).await;
            cleared.map_err(|e| {
                StepError::because("could not remove the build's key from authorized_keys", e)
            })?;
        }
        session.close().await;
        Ok(())
    }

    async fn over_winrm(
        &self,
        windows: &Windows,
        machine: &Machine,
        mut generated: Generated,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let hook = cx.service::<dyn ProvisionHook>()?;
        let aws = self.scope.aws().await?;
        let address = self.interface.address(machine);
        let (session, config) = windows.connect(&aws, machine, address, cx).await?;
        config.tell(&mut generated);
        hook.provision(Arc::new(WinrmCommunicator(session)), generated, cx.token()).await
    }
}

/// What `build.*` has of a build, whatever reaches the machine.
pub(crate) fn facts(
    machine: &str,
    source: &SourceImage,
    region: &str,
    cx: &StepContext,
) -> Result<Generated, StepError> {
    let build = cx.service::<BuildInfo>()?;
    let mut generated = Generated::from([
        ("ID".into(), Value::string(machine)),
        ("PackerRunUUID".into(), Value::string(build.run_uuid.as_str())),
        ("ConnType".into(), Value::string("none")),
    ]);
    for (name, value) in source.facts(region) {
        generated.insert(name.into(), Value::string(value));
    }
    Ok(generated)
}

/// Does the work while the machine's timer is set anew.
async fn guarded(
    switch: &DeadMan,
    work: impl Future<Output = Result<(), StepError>>,
    cx: &StepContext,
) -> Result<(), StepError> {
    if !cx.unless_cancelled(switch.set()).await? {
        message(
            cx,
            "the machine takes no timer: if this program is killed, it runs on until karat recover removes it",
        );
        return work.await;
    }
    tokio::select! {
        done = work => done?,
        never = switch.keep() => match never {},
    }
    switch.remove().await;
    Ok(())
}

/// Fingerprints on a console: those that cloud-init prints between its marks.
fn fingerprints(console: &str) -> Vec<String> {
    let marked = console.split_once("-----BEGIN SSH HOST KEY FINGERPRINTS-----");
    let Some((_, rest)) = marked else { return Vec::new() };
    let block = rest.split_once("-----END SSH HOST KEY FINGERPRINTS-----").map_or(rest, |(b, _)| b);
    let words = block.split_whitespace().filter(|w| w.starts_with("SHA256:"));
    words.map(|w| w.trim_end_matches('=').to_owned()).collect()
}

impl Step for Provision {
    const KIND: &'static str = "aws.provision";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let hook = cx.service::<dyn ProvisionHook>()?;
        if hook.is_empty() {
            return Ok(());
        }
        let machine: Machine = cx.output(node::INSTANCE)?;
        let generated = self.generated(&machine, cx)?;
        if !self.connects {
            return hook.provision(Arc::new(NoCommunicator), generated, cx.token()).await;
        }
        match self.login()? {
            Login::Ssh(ssh) => self.over_ssh(ssh, &machine, generated, cx).await,
            Login::Winrm(windows) => self.over_winrm(windows, &machine, generated, cx).await,
        }
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_tells_the_host_keys() {
        let console = "[   9.1] cloud-init[612]: ec2: \r\n\
            ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----\r\n\
            ec2: 256 SHA256:q5b3uX8W9kQ5bK0mYfY7gk8o0eXqWmB0JbW9n3o4n2E root@ip-10-0-0-1 (ECDSA)\r\n\
            ec2: 256 SHA256:7Yb1c root@ip-10-0-0-1 (ED25519)\r\n\
            ec2: -----END SSH HOST KEY FINGERPRINTS-----\r\n SHA256:other";
        let found = fingerprints(console);
        assert_eq!(found, ["SHA256:q5b3uX8W9kQ5bK0mYfY7gk8o0eXqWmB0JbW9n3o4n2E", "SHA256:7Yb1c"]);
        assert!(fingerprints("nothing").is_empty());
    }

    #[test]
    fn the_public_address_goes_first() {
        let mut machine = Machine { private_ip: "10.0.0.1".into(), ..Machine::default() };
        assert_eq!(Interface::Any.address(&machine), "10.0.0.1");
        machine.public_ip = "198.51.100.1".into();
        assert_eq!(Interface::Any.address(&machine), "198.51.100.1");
        assert_eq!(Interface::Ipv6.address(&machine), "");
    }
}
