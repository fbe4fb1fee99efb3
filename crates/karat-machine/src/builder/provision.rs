//! Step `provision`: users, host name, then the provisioners; then the machine powers off.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use karat_component::{
    BuildInfo, Communicator, Events, Generated, NoCommunicator, Output, ProvisionHook,
};
use karat_saga::{Step, StepContext, StepError};
use karat_ssh::{SeenHostKeys, Session, SshCommunicator, SshConfig};
use karat_value::Value;
use serde::{Deserialize, Serialize};

use super::machine::{MachineStep, failed};
use super::validate::{Reach, User, Validated};
use crate::MachineCommunicator;
use crate::runtime::{Exec, Forward, LazyMachine};

/// Runs the provisioners. What they did is in the machine's folder, which the machine's own step
/// removes, so there is nothing to undo here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ProvisionStep {
    machine: MachineStep,
    hostname: Option<String>,
    users: Vec<User>,
    shutdown_timeout: Duration,
    /// How to log in may hold secrets, so it is not stored.
    #[serde(skip)]
    reach: Option<Reach>,
    #[serde(skip)]
    secrets: Vec<(String, String)>,
}

impl ProvisionStep {
    pub(super) fn new(validated: &Validated, machine: MachineStep) -> Self {
        let hashes = validated.users.iter();
        let hashes = hashes.filter_map(|u| Some((u.name.clone(), u.password_hash.clone()?)));
        Self {
            machine,
            hostname: validated.hostname.clone(),
            users: validated.users.clone(),
            shutdown_timeout: validated.shutdown_timeout,
            secrets: hashes.collect(),
            reach: Some(validated.communicator.clone()),
        }
    }

    async fn set_up(&self, machine: &LazyMachine, cx: &StepContext) -> Result<(), StepError> {
        if let Some(name) = &self.hostname {
            let files = [("/etc/hostname", format!("{name}\n")), ("/etc/hosts", hosts(name))];
            for (path, text) in files {
                let put = machine.put(&mut text.as_bytes(), path, Some(0o644), cx.token()).await;
                put.map_err(failed)?;
            }
        }
        if self.users.is_empty() {
            return Ok(());
        }
        let script = user_script(&self.users, &self.secrets);
        let mut exec = Exec::new(["/bin/sh", "-e"]);
        exec.stdin = Some(Box::new(std::io::Cursor::new(script.into_bytes())));
        let events = cx.service::<Events>()?;
        exec.output = Output::lines(&events);
        exec.cancel = cx.token().clone();
        let status = machine.exec(exec).await.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(StepError::new(format!("could not make the users: {status}")))
    }

    async fn connect(
        &self,
        machine: &Arc<LazyMachine>,
        cx: &StepContext,
    ) -> Result<(Arc<dyn Communicator>, Generated, Option<Forward>), StepError> {
        let build = cx.service::<BuildInfo>()?;
        let mut generated = Generated::from([
            ("ID".into(), Value::string(self.machine.id.as_str())),
            ("PackerRunUUID".into(), Value::string(build.run_uuid.as_str())),
            ("Host".into(), Value::string("localhost")),
            ("User".into(), Value::string("root")),
            ("ConnType".into(), Value::string("machine")),
        ]);
        match self.reach.as_ref().unwrap_or(&Reach::Direct) {
            Reach::Direct => {
                Ok((Arc::new(MachineCommunicator(Arc::clone(machine))), generated, None))
            }
            Reach::None => {
                generated.insert("ConnType".into(), Value::string("none"));
                Ok((Arc::new(NoCommunicator), generated, None))
            }
            Reach::Ssh(ssh) => {
                let (communicator, config, forward) = self.log_in(machine, ssh, cx).await?;
                let text = |value: &str| Value::string(value);
                generated.insert("ConnType".into(), text("ssh"));
                generated.insert("Host".into(), text(&config.ssh_host));
                generated.insert("Port".into(), Value::number(i64::from(config.ssh_port)));
                generated.insert("User".into(), text(&config.ssh_username));
                generated.insert("SSHPrivateKeyFile".into(), text(&config.ssh_private_key_file));
                Ok((communicator, generated, Some(forward)))
            }
        }
    }

    async fn log_in(
        &self,
        machine: &Arc<LazyMachine>,
        ssh: &SshConfig,
        cx: &StepContext,
    ) -> Result<(Arc<dyn Communicator>, SshConfig, Forward), StepError> {
        let booted = machine.booted().await.map_err(failed)?;
        let mut config = ssh.clone();
        let port = config.ssh_port;
        let forward = booted.forward(([127, 0, 0, 1], 0).into(), port).await.map_err(failed)?;
        let address = forward.address();
        config.ssh_host = address.ip().to_string();
        config.ssh_port = address.port();
        let has_own = !config.ssh_private_key_file.is_empty()
            || !config.ssh_password.is_empty()
            || config.ssh_agent_auth;
        if !has_own {
            config.ssh_private_key_file = self.machine.key_file().to_string_lossy().into_owned();
        }
        let events = cx.service::<Events>()?.as_ref().clone();
        let seen = SeenHostKeys::default();
        let session = Session::connect(config.clone(), seen, events, cx.token()).await;
        let session = session.map_err(|e| {
            if cx.is_cancelled() {
                return StepError::cancelled();
            }
            StepError::because("could not log in to the machine", e)
        })?;
        Ok((Arc::new(SshCommunicator(session)), config, forward))
    }
}

fn hosts(name: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n\n::1\tlocalhost ip6-localhost \
         ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

/// Makes the accounts; one that exists is brought to what is asked.
fn user_script(users: &[User], secrets: &[(String, String)]) -> String {
    let mut script = String::new();
    for user in users {
        let User { name, shell, .. } = user;
        for group in &user.groups {
            let _ =
                writeln!(script, "getent group {group} >/dev/null || groupadd --system {group}");
        }
        let _ = writeln!(
            script,
            "if id {name} >/dev/null 2>&1; then usermod --shell {0} {name}; else useradd \
             --create-home --shell {0} {name}; fi",
            quote(shell)
        );
        if !user.groups.is_empty() {
            let _ = writeln!(script, "usermod --append --groups {} {name}", user.groups.join(","));
        }
        if let Some((_, hash)) = secrets.iter().find(|(n, _)| n == name) {
            let _ = writeln!(script, "printf '%s:%s\\n' {name} {} | chpasswd -e", quote(hash));
        }
        if !user.authorized_keys.is_empty() {
            let keys = quote(&user.authorized_keys.join("\n"));
            let _ = writeln!(
                script,
                "home=$(getent passwd {name} | cut -d: -f6)\ninstall -d -m 700 -o {name} -g \
                 \"$(id -gn {name})\" \"$home/.ssh\"\nprintf '%s\\n' {keys} \
                 >\"$home/.ssh/authorized_keys\"\nchmod 600 \"$home/.ssh/authorized_keys\"\nchown \
                 {name}: \"$home/.ssh/authorized_keys\""
            );
        }
        if user.sudo {
            let _ = writeln!(
                script,
                "install -d -m 755 /etc/sudoers.d\nprintf '%s ALL=(ALL) NOPASSWD:ALL\\n' {name} \
                 >/etc/sudoers.d/90-{name}\nchmod 440 /etc/sudoers.d/90-{name}"
            );
        }
    }
    script
}

/// A word for a shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl Step for ProvisionStep {
    const KIND: &'static str = "machine.provision";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        if !self.machine.is_needed(cx)? {
            return Ok(());
        }
        let events = cx.service::<Events>()?;
        let hook = cx.service::<dyn ProvisionHook>()?;
        let machine = self.machine.machine(cx).await?;
        for warning in machine.machine().warnings() {
            events.message(format!("Warning: {warning}"));
        }
        self.set_up(&machine, cx).await?;
        let _forward = if hook.is_empty() {
            None
        } else {
            let (communicator, generated, forward) = self.connect(&machine, cx).await?;
            hook.provision(communicator, generated, cx.token()).await?;
            forward
        };
        if let Some(report) = machine.report() {
            if !report.failed_units.is_empty() {
                events.message(format!(
                    "Units that failed while the machine ran: {}",
                    report.failed_units.join(", ")
                ));
            }
            events.say("Powering the machine off");
        }
        let stopped = machine.machine().stop(self.shutdown_timeout).await;
        let stopped = stopped.map_err(|e| StepError::because("could not stop the machine", e))?;
        if !stopped.orderly && machine.report().is_some() {
            events.message("Warning: the machine did not power off in time and was stopped hard");
        }
        Ok(())
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_user_cannot_leave_their_quotes() {
        assert_eq!(quote("it's"), "'it'\\''s'");
        let user = User {
            name: "web".into(),
            groups: vec!["docker".into()],
            shell: "/bin/sh".into(),
            authorized_keys: vec!["ssh-ed25519 AAAA it's".into()],
            sudo: true,
            password_hash: None,
        };
        let script = user_script(&[user], &[("web".into(), "$6$x'y".into())]);
        assert!(script.contains("chpasswd -e"));
        let checked = std::process::Command::new("/bin/sh").args(["-n", "-c", &script]).status();
        assert!(checked.unwrap().success(), "{script}");
    }
}
