//! Step `capture`: what the provisioners changed becomes a layer of the store.

use std::path::PathBuf;

use karat_component::{BuildInfo, Events};
use karat_layers::{Capture, Digest, Normalise};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::base::blocking;
use super::machine::MachineStep;
use super::validate::Validated;
use super::{base_output, live, open_store};

/// Captures the writable layer. The layer stays in the store; undoing removes what is half done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CaptureStep {
    machine: MachineStep,
    normalise: Normalise,
}

/// The layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CaptureOutput {
    /// Its digest.
    pub(super) layer: String,
    /// The state folder whose store holds it.
    pub(super) store: PathBuf,
}

impl CaptureStep {
    pub(super) fn new(validated: &Validated, machine: MachineStep) -> Self {
        Self { machine, normalise: validated.normalise }
    }

    /// The upper directory moves into the store, so a second call finds the layer by this.
    fn key(&self) -> Digest {
        Digest::of(format!("capture {}", self.machine.token))
    }
}

impl Step for CaptureStep {
    const KIND: &'static str = "machine.capture";
    type Output = CaptureOutput;

    async fn run(&self, cx: &StepContext) -> Result<CaptureOutput, StepError> {
        let (base, parent) = base_output(cx)?;
        let store_dir = self.machine.state_dir.clone();
        if !self.machine.is_needed(cx)? {
            return Ok(CaptureOutput { layer: base.layer, store: store_dir });
        }
        // The upper directory may not be mounted while it is read.
        if let Some(machine) = live::take(&self.machine.id) {
            let killed = machine.machine().kill().await;
            killed.map_err(|e| StepError::because("could not unmount the machine", e))?;
        }
        let events = cx.service::<Events>()?;
        let build = cx.service::<BuildInfo>()?;
        let store = open_store(&self.machine.state_dir)?;
        let capture = Capture {
            upper: self.machine.work_dir().join("upper"),
            parent,
            normalise: self.normalise,
            key: Some(self.key()),
            provenance: json!({ "build": build.target, "run": build.run_uuid }),
        };
        let (key, token) = (self.key(), self.machine.token.clone());
        let layer =
            blocking(cx, &events, "could not capture the layer", move |control| {
                match store.lookup_key(key)? {
                    Some(digest) => store.layer(digest),
                    None => store.capture(&token, capture, control),
                }
            })
            .await?;
        Ok(CaptureOutput { layer: layer.digest.to_string(), store: store_dir })
    }

    async fn undo(&self, _: &StepContext, _: Option<CaptureOutput>) -> Result<(), StepError> {
        let store = open_store(&self.machine.state_dir)?;
        store
            .sweep(&self.machine.token)
            .map(drop)
            .map_err(|e| StepError::because("could not remove what is half done in the store", e))
    }
}
