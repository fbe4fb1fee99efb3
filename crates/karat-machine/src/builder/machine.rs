//! Step `machine`: a machine on the base layer, with files in reach; it boots at the first need.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use karat_component::{ProvisionHook, SagaContext};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::validate::Validated;
use super::{base_output, live, open_store};
use crate::runtime::{LazyMachine, MachineRecord, MachineSpec, RuntimeError, recover};

/// Mounts a machine's root. Undoing ends the machine and removes its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MachineStep {
    pub(super) id: String,
    pub(super) state_dir: PathBuf,
    pub(super) token: String,
    hostname: Option<String>,
    boot_timeout: Duration,
    /// Public key of the build, for `communicator = "ssh"`.
    #[serde(default)]
    pub(super) wants_key: bool,
    /// Whether something has to be done in the machine whatever the provisioners are.
    always: bool,
}

impl MachineStep {
    pub(super) fn new(validated: &Validated, cx: &SagaContext) -> Self {
        Self {
            id: format!("karat-{}", short(&cx.token)),
            state_dir: cx.state_dir.clone(),
            token: cx.token.clone(),
            hostname: validated.hostname.clone(),
            boot_timeout: validated.boot_timeout,
            wants_key: matches!(validated.communicator, super::validate::Reach::Ssh(_)),
            always: !validated.users.is_empty() || validated.hostname.is_some(),
        }
    }

    /// The machine's folder.
    pub(super) fn work_dir(&self) -> PathBuf {
        self.state_dir.join("machines").join(&self.id)
    }

    /// Where the key of the build lies: in the machine's folder, which goes with it.
    pub(super) fn key_file(&self) -> PathBuf {
        self.work_dir().join("key")
    }

    /// Whether there is anything to be done in the machine.
    pub(super) fn is_needed(&self, cx: &StepContext) -> Result<bool, StepError> {
        Ok(self.always || !cx.service::<dyn ProvisionHook>()?.is_empty())
    }

    /// The machine, mounted anew if this process does not have it.
    pub(super) async fn machine(&self, cx: &StepContext) -> Result<Arc<LazyMachine>, StepError> {
        if let Some(machine) = live::get(&self.id) {
            return Ok(machine);
        }
        let (_, layer) = base_output(cx)?;
        let store = open_store(&self.state_dir)?;
        let mut lower = store
            .lower_dirs(layer)
            .map_err(|e| StepError::because("could not find the layers of the machine", e))?;
        // The store gives the topmost first, as the kernel wants them.
        lower.reverse();
        let mut spec = MachineSpec::new(&self.id, lower, self.work_dir());
        spec.hostname = self.hostname.clone().unwrap_or_else(|| "localhost".into());
        spec.boot_deadline = self.boot_timeout;
        if self.wants_key {
            spec.metadata.public_keys.push(self.make_key()?);
        } else {
            // Nobody logs in, so cloud-init makes its default account at the image's first start
            // and not now.
            spec.metadata.vendor_data.extend_from_slice(b"users: []\n");
        }
        let machine = LazyMachine::prepare(spec, cx.token()).await.map_err(failed)?;
        let machine = Arc::new(machine);
        live::put(&self.id, Arc::clone(&machine));
        Ok(machine)
    }

    /// Makes the key of the build, and gives its public half.
    fn make_key(&self) -> Result<String, StepError> {
        let (folder, key) = (self.work_dir(), self.key_file());
        let failed = |e: std::io::Error| StepError::because("could not make a key for ssh", e);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        if !key.exists() {
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "karat", "-f"])
                .arg(&key)
                .output()
                .map_err(|e| failed(e).with_hint("install the package openssh-client"))?;
            if !made.status.success() {
                let text = String::from_utf8_lossy(&made.stderr).trim().to_owned();
                return Err(StepError::new(format!("ssh-keygen failed: {text}")));
            }
        }
        let public = std::fs::read_to_string(key.with_extension("pub")).map_err(failed)?;
        Ok(public.trim().to_owned())
    }
}

/// A saga's id is too long for a host's name; its random end tells machines apart.
fn short(token: &str) -> String {
    let plain: String = token.chars().filter(char::is_ascii_alphanumeric).collect();
    plain[plain.len().saturating_sub(16)..].to_lowercase()
}

pub(super) fn failed(error: RuntimeError) -> StepError {
    match error {
        RuntimeError::Cancelled => StepError::cancelled(),
        other => StepError::because("could not start the machine", other),
    }
}

impl Step for MachineStep {
    const KIND: &'static str = "machine.machine";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        if self.is_needed(cx)? {
            self.machine(cx).await?;
        }
        Ok(())
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        if let Some(machine) = live::take(&self.id) {
            let killed = machine.machine().kill().await;
            killed.map_err(|e| StepError::because("could not end the machine", e))?;
        }
        let record = MachineRecord { id: self.id.clone(), work_dir: self.work_dir(), keeper: None };
        let recovered = tokio::task::spawn_blocking(move || recover(&record)).await;
        recovered
            .map_err(|e| StepError::because("could not remove the machine", e))?
            .map_err(|e| StepError::because("could not remove the machine", e))
    }
}
