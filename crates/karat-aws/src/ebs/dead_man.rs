//! The dead-man switch: a machine that hears nothing from this program for a while shuts itself
//! down, which terminates it.
//!
//! The timer is a unit of systemd that lies in memory only, or else a `shutdown` that waits; an image
//! of the machine has nothing of either. It is set when the machine is reached, set anew while
//! provisioners run (after a reboot, too), and taken away before the machine is captured.

use std::sync::Arc;
use std::time::Duration;

use karat_component::{Communicator, RemoteCommand};
use tokio_util::sync::CancellationToken;

/// The longest that setting or removing the timer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The timer on one machine.
#[derive(Debug)]
pub(crate) struct DeadMan {
    machine: Arc<dyn Communicator>,
    after: Duration,
}

impl DeadMan {
    pub(crate) fn new(machine: Arc<dyn Communicator>, after: Duration) -> Self {
        Self { machine, after }
    }

    /// A script that needs root, for a login user who may be another.
    async fn script(&self, text: &str) -> bool {
        let script =
            format!("s=; [ \"$(id -u)\" = 0 ] || s=\"sudo -n\"; u=karat-terminate; {text}");
        let cancel = CancellationToken::new();
        let line = format!("sh -c '{script}' >/dev/null 2>&1 </dev/null");
        let command = RemoteCommand { cancel: cancel.clone(), ..RemoteCommand::new(line) };
        let done = tokio::time::timeout(LIMIT, self.machine.exec(command)).await;
        if done.is_err() {
            cancel.cancel();
        }
        matches!(done, Ok(Ok(status)) if status.success())
    }

    /// Sets the timer, or sets it anew. Tells whether the machine took it.
    pub(crate) async fn set(&self) -> bool {
        let (seconds, minutes) = (self.after.as_secs(), self.after.as_secs().div_ceil(60));
        let text = format!(
            "$s systemctl stop $u.timer; \
             $s systemd-run --unit=$u --on-active={seconds} --timer-property=AccuracySec=1s \
             systemctl poweroff || $s shutdown -P +{minutes}"
        );
        self.script(&text).await
    }

    /// Sets it anew again and again.
    pub(crate) async fn keep(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(self.after / 3).await;
            // While the machine boots it does not take it; the next time it will.
            self.set().await;
        }
    }

    /// Takes it away.
    pub(crate) async fn remove(&self) {
        self.script("$s systemctl stop $u.timer || $s shutdown -c").await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use async_trait::async_trait;
    use karat_component::{CommunicatorError, ExitStatus, RemoteScript};
    use tokio::io::AsyncRead;

    use super::*;

    /// Runs commands on this computer, where the programs that matter are others.
    #[derive(Debug)]
    struct Here(PathBuf);

    fn program(folder: &Path, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let (path, log) = (folder.join(name), folder.join("log"));
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{text}\n", log.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[async_trait]
    impl Communicator for Here {
        fn kind(&self) -> &'static str {
            "here"
        }

        async fn exec(&self, command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
            let path = format!("{}:/usr/bin:/bin", self.0.display());
            let status = tokio::process::Command::new("/bin/sh")
                .args(["-c", &command.line])
                .env("PATH", path)
                .status()
                .await
                .unwrap();
            Ok(ExitStatus::Code(status.code().unwrap()))
        }

        async fn run_script(&self, _: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
            unreachable!("scripts are not needed")
        }

        async fn upload(
            &self,
            _: &mut (dyn AsyncRead + Send + Unpin),
            _: &str,
            _: Option<u32>,
            _: &CancellationToken,
        ) -> Result<(), CommunicatorError> {
            unreachable!("files are not needed")
        }

        async fn upload_dir(
            &self,
            _: &Path,
            _: &str,
            _: &CancellationToken,
        ) -> Result<(), CommunicatorError> {
            unreachable!("files are not needed")
        }

        async fn download(
            &self,
            _: &str,
            _: &Path,
            _: &CancellationToken,
        ) -> Result<(), CommunicatorError> {
            unreachable!("files are not needed")
        }

        async fn download_dir(
            &self,
            _: &str,
            _: &Path,
            _: &CancellationToken,
        ) -> Result<(), CommunicatorError> {
            unreachable!("files are not needed")
        }

        async fn reconnect(&self, _: &CancellationToken) -> Result<(), CommunicatorError> {
            unreachable!("nothing goes away")
        }
    }

    /// A dead-man switch where programs end with these codes, and what they were called with.
    fn switch(codes: [i32; 3]) -> (DeadMan, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        for (name, code) in ["systemctl", "systemd-run", "shutdown"].into_iter().zip(codes) {
            program(folder.path(), name, &format!("exit {code}"));
        }
        program(folder.path(), "sudo", "shift; exec \"$@\"");
        let here = Arc::new(Here(folder.path().to_owned()));
        (DeadMan::new(here, Duration::from_secs(90)), folder)
    }

    fn calls(folder: &tempfile::TempDir) -> Vec<String> {
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        text.lines().filter(|l| !l.starts_with("sudo")).map(str::to_owned).collect()
    }

    const RUN: &str = "systemd-run --unit=karat-terminate --on-active=90 \
        --timer-property=AccuracySec=1s systemctl poweroff";

    #[tokio::test]
    async fn the_timer_is_set_and_taken_away() {
        let (switch, folder) = switch([0, 0, 0]);
        assert!(switch.set().await);
        switch.remove().await;
        let stop = "systemctl stop karat-terminate.timer";
        assert_eq!(calls(&folder), [stop, RUN, stop]);
    }

    #[tokio::test]
    async fn a_machine_without_systemd_waits_otherwise() {
        let (switch, folder) = switch([1, 1, 0]);
        assert!(switch.set().await);
        switch.remove().await;
        let all = calls(&folder);
        assert_eq!((all[2].as_str(), all[4].as_str()), ("shutdown -P +2", "shutdown -c"));
    }

    #[tokio::test]
    async fn a_machine_that_takes_no_timer_is_known() {
        let (switch, _folder) = switch([1, 1, 1]);
        assert!(!switch.set().await);
    }
}
