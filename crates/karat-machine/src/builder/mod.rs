//! Source `machine`: a local system from packages, an archive or another build's layer, provisioned
//! while it runs, captured as a layer and written as bootable disks.
//!
//! ```text
//! base ─► machine ─► provision ─► capture ─► export
//! ```
//!
//! | file | what |
//! |---|---|
//! | `config.rs`, `validate.rs` | the options; what they are proved to be |
//! | `base.rs` | the layer that the machine starts from |
//! | `machine.rs`, `live.rs` | the running machine |
//! | `provision.rs` | users, communicator, provisioners |
//! | `capture.rs` | the writable layer becomes a layer of the store |
//! | `export.rs` | disks from layers |
//! | `sweep.rs` | what belongs to no run any more |

mod base;
mod capture;
mod config;
mod export;
mod live;
mod machine;
mod provision;
mod sweep;
mod validate;

use std::path::PathBuf;

use karat_component::{
    Artifact, Builder, ComponentError, FingerprintInput, SagaContext, ValidateContext,
};
use karat_layers::{Base, Digest, Store};
use karat_saga::{Outputs, Saga, SagaError, Services, StepError, StepRegistry};

pub use config::{BaseConfig, MachineConfig, UserConfig};
pub use sweep::{copy_locks, keep_locks, sweep};
pub use validate::{Disk, Validated};

use base::{BaseOutput, BaseStep};
use capture::{CaptureOutput, CaptureStep};
use export::{ExportOutput, ExportStep};
use machine::MachineStep;
use provision::ProvisionStep;

/// What the artifacts of `machine` say that they are of.
pub const BUILDER_ID: &str = "karat.machine";

/// Source `machine`.
#[derive(Clone, Copy, Debug)]
pub struct MachineBuilder;

/// Names of the saga's nodes, by which later steps read what earlier ones gave.
mod node {
    pub(super) const BASE: &str = "base";
    pub(super) const MACHINE: &str = "machine";
    pub(super) const PROVISION: &str = "provision";
    pub(super) const CAPTURE: &str = "capture";
    pub(super) const EXPORT: &str = "export";
}

impl Builder for MachineBuilder {
    const TYPE: &'static str = "machine";
    type Config = MachineConfig;
    type Validated = Validated;

    fn validate(&self, config: MachineConfig, cx: &mut ValidateContext<'_>) -> Option<Validated> {
        validate::validate(config, cx)
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        registry.register::<BaseStep>();
        registry.register::<MachineStep>();
        registry.register::<ProvisionStep>();
        registry.register::<CaptureStep>();
        registry.register::<ExportStep>();
    }

    fn saga(&self, validated: &Validated, cx: &SagaContext) -> Result<Saga, SagaError> {
        let machine = MachineStep::new(validated, cx);
        let mut saga = Saga::new(&cx.build.target)
            .step(node::BASE, BaseStep::new(validated, cx))
            .step(node::MACHINE, machine.clone())
            .step(node::PROVISION, ProvisionStep::new(validated, machine.clone()))
            .step(node::CAPTURE, CaptureStep::new(validated, machine));
        if let Some(disk) = &validated.disk {
            saga = saga.step(node::EXPORT, ExportStep::new(validated, disk, cx));
        }
        saga.build()
    }

    fn artifact(
        &self,
        validated: &Validated,
        _: &SagaContext,
        outputs: &Outputs,
    ) -> Result<Option<Artifact>, StepError> {
        let layer: CaptureOutput = outputs.get(node::CAPTURE)?;
        let disks: Option<ExportOutput> =
            validated.disk.as_ref().map(|_| outputs.get(node::EXPORT)).transpose()?;
        Ok(Some(artifact(&layer, disks)))
    }

    async fn fingerprint_inputs(
        &self,
        validated: &Validated,
        cx: &SagaContext,
        _: &Services,
    ) -> Result<Vec<FingerprintInput>, ComponentError> {
        let (validated, cx) = (validated.clone(), cx.clone());
        tokio::task::spawn_blocking(move || base::fingerprint_inputs(&validated, &cx))
            .await
            .map_err(|e| ComponentError::new(e.to_string()))?
    }

    fn reusable(&self, _: &Validated) -> bool {
        true
    }

    /// The layer is in the store of the run's state folder, and the disks are as they were left.
    async fn is_intact(&self, artifact: &Artifact, _: &Services) -> bool {
        let text = |name: &str| artifact.state.get(name).and_then(|v| v.as_str());
        let (Some(store), Some(layer)) = (text("store"), text("layer")) else { return false };
        let there = match (Store::open(store), layer.parse::<Digest>()) {
            (Ok(store), Ok(digest)) => store.has(digest),
            _ => false,
        };
        let stamps: Vec<export::FileStamp> = artifact
            .state
            .get("stamps")
            .and_then(|v| serde_json::from_value(v.clone()).ok())
            .unwrap_or_default();
        there
            && stamps.len() == artifact.files.len()
            && stamps.iter().all(export::FileStamp::is_current)
    }
}

fn artifact(layer: &CaptureOutput, disks: Option<ExportOutput>) -> Artifact {
    let digest = &layer.layer;
    let short = digest.get(..12).unwrap_or(digest);
    let mut artifact = Artifact {
        builder_id: BUILDER_ID.into(),
        id: digest.clone(),
        description: format!("Layer {short}"),
        ..Artifact::default()
    };
    artifact.attributes.insert("layer".into(), digest.as_str().into());
    artifact.state.insert("layer".into(), digest.as_str().into());
    artifact.state.insert("store".into(), layer.store.to_string_lossy().into());
    let Some(disks) = disks else { return artifact };
    let names: Vec<String> = disks.files.iter().map(|f| f.path.display().to_string()).collect();
    artifact.description = format!("Layer {short}, disk {}", names.join(", "));
    artifact.attributes.insert("root_uuid".into(), disks.root_uuid.as_str().into());
    artifact.attributes.insert("disks".into(), names.into());
    let sums: serde_json::Map<String, serde_json::Value> = disks
        .files
        .iter()
        .filter_map(|f| Some((f.path.display().to_string(), f.sha256.clone()?.into())))
        .collect();
    if !sums.is_empty() {
        artifact.attributes.insert("sha256".into(), sums.into());
    }
    if let Ok(stamps) = serde_json::to_value(&disks.files) {
        artifact.state.insert("stamps".into(), stamps);
    }
    artifact.files = disks.files.into_iter().map(|f| f.path).collect::<Vec<PathBuf>>();
    artifact
}

/// The base as a step stores it.
fn is_bootstrap(base: &Base) -> bool {
    matches!(base, Base::Bootstrap(_))
}

/// Where the step's layer stands.
fn open_store(state_dir: &std::path::Path) -> Result<Store, StepError> {
    Store::open(state_dir).map_err(|e| StepError::because("could not open the store of layers", e))
}

/// The layer that an earlier step gave.
fn base_output(cx: &karat_saga::StepContext) -> Result<(BaseOutput, Digest), StepError> {
    let output: BaseOutput = cx.output(node::BASE)?;
    let digest = parse_digest(&output.layer)?;
    Ok((output, digest))
}

fn parse_digest(text: &str) -> Result<Digest, StepError> {
    text.parse().map_err(|_| StepError::new(format!("\"{text}\" is no digest of a layer")))
}
