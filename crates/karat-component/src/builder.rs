//! Makes one machine image on one platform.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use karat_config::{Body, Config, NameRules, Schema};
use karat_hcl::diag::Diagnostics;
use karat_saga::{Outputs, Saga, SagaError, Services, StepError, StepRegistry};
use karat_value::Value;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{Artifact, Communicator, ComponentError, PrepareContext, ValidateContext};

/// What `-on-error` asks for when a step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Undo everything.
    #[default]
    Cleanup,
    /// Leave everything as it is.
    Abort,
    /// Ask what to do.
    Ask,
    /// Run the error-cleanup-provisioner, then leave everything as it is.
    RunCleanupProvisioner,
}

/// Which build of which template is running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInfo {
    /// As the user sees it: `TYPE.NAME` or `BUILD.TYPE.NAME`.
    pub target: String,
    /// The `name` of the build block; empty without one.
    pub build_name: String,
    /// The builder's type.
    pub source_type: String,
    /// The name that the source is declared by, which scripts get as `PACKER_BUILD_NAME`.
    pub source_name: String,
    /// The name that the build block gives the source; else the declared one.
    pub local_name: String,
    /// The folder of the template, as the user typed it.
    pub template_dir: PathBuf,
    /// The template itself.
    pub template_path: PathBuf,
    /// Whether it is a legacy JSON template.
    #[serde(default)]
    pub legacy: bool,
    /// The run's UUID, which Packer calls `PackerRunUUID`.
    pub run_uuid: String,
    /// Whether `-force` was given.
    pub force: bool,
    /// Whether `-debug` was given.
    pub debug: bool,
    /// Whether what can be newer (packages, say) is looked up anew.
    #[serde(default)]
    pub update: bool,
    /// What to do when a step fails.
    pub on_error: OnError,
    /// The run's folder for temporary files, which goes with the run however that ends. It may have to be
    /// made. `None` outside of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_folder: Option<PathBuf>,
}

impl BuildInfo {
    /// What to do about a local file that is not there, in the template's own language.
    pub fn path_hint(&self) -> String {
        let folder = if self.legacy { "{{template_dir}}" } else { "${path.root}" };
        format!(
            "Paths start at the folder that the command is run in; \"{folder}/…\" starts at the template."
        )
    }
}

/// What a builder lays out its steps with: everything that has to be chosen before the first side
/// effect.
#[derive(Clone, Debug)]
pub struct SagaContext {
    /// Which build.
    pub build: BuildInfo,
    /// A fresh token to make the names of temporary things unique.
    pub token: String,
    /// Karat's state folder.
    pub state_dir: PathBuf,
    /// Karat's cache folder.
    pub cache_dir: PathBuf,
    /// The build's fingerprint, if all that goes into it is known.
    pub fingerprint: Option<String>,
}

/// One thing that goes into a build's fingerprint beside its configuration and its input files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintInput {
    /// What it is, in words for `karat plan` ("package lock").
    pub name: String,
    /// Its digest; `None` where it is only known after the build began.
    pub digest: Option<String>,
}

/// The values that `build.*` has in provisioners and post-processors.
pub type Generated = BTreeMap<String, Value>;

/// Builds one machine image on one platform.
///
/// - `validate`, `saga` and `artifact` are pure: no files, network, credentials, clock.
/// - All side effects are in the steps, which are in the journal before they happen.
/// - One of the steps connects to the machine and calls the [`ProvisionHook`].
pub trait Builder: fmt::Debug + Send + Sync + 'static {
    /// The type in a template: `source "TYPE" "name"`.
    const TYPE: &'static str;

    /// The rules for the names of its images, where `{{ clean_resource_name }}` is to be had.
    const NAMES: Option<NameRules> = None;

    /// What the user writes.
    type Config: Config + Send;

    /// What `validate` proves and everything after it relies on.
    type Validated: fmt::Debug + Send + Sync + 'static;

    /// Checks the options against each other. Reports every problem it can find.
    fn validate(
        &self,
        config: Self::Config,
        cx: &mut ValidateContext<'_>,
    ) -> Option<Self::Validated>;

    /// The names beyond the common ones that `build.*` has.
    fn generated(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether there is a machine to be provisioned; without, only what runs on the local machine
    /// can.
    fn has_machine(&self, _validated: &Self::Validated) -> bool {
        true
    }

    /// Adds the builder's steps, so that a stored saga can be undone without the template.
    fn register_steps(&self, registry: &mut StepRegistry);

    /// Lays out the steps.
    fn saga(&self, validated: &Self::Validated, cx: &SagaContext) -> Result<Saga, SagaError>;

    /// What the steps made; `None` if a success makes nothing.
    fn artifact(
        &self,
        validated: &Self::Validated,
        cx: &SagaContext,
        outputs: &Outputs,
    ) -> Result<Option<Artifact>, StepError>;

    /// What goes into the fingerprint beside configuration and input files. May read the state
    /// folder and the network, and has no lasting effect.
    fn fingerprint_inputs(
        &self,
        _validated: &Self::Validated,
        _cx: &SagaContext,
        _services: &Services,
    ) -> impl Future<Output = Result<Vec<FingerprintInput>, ComponentError>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Whether what an earlier build with an equal fingerprint made may be taken instead of
    /// building again.
    fn reusable(&self, _validated: &Self::Validated) -> bool {
        false
    }

    /// Whether an artifact that an earlier build made is still there and whole.
    fn is_intact(
        &self,
        artifact: &Artifact,
        _services: &Services,
    ) -> impl Future<Output = bool> + Send {
        let there = artifact.files.iter().all(|f| f.exists());
        async move { there }
    }

    /// Removes an artifact that nothing keeps.
    fn destroy(
        &self,
        artifact: &Artifact,
        _services: &Services,
    ) -> impl Future<Output = Result<(), ComponentError>> + Send {
        let result = crate::post_processor::remove_files(artifact);
        async move { result }
    }
}

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The object-safe twin of [`Builder`].
pub trait DynBuilder: fmt::Debug + Send + Sync {
    /// The type in a template.
    fn type_name(&self) -> &str;

    /// Its options.
    fn schema(&self) -> Schema;

    /// The names beyond the common ones that `build.*` has.
    fn generated(&self) -> &[&'static str];

    /// Adds the builder's steps.
    fn register_steps(&self, registry: &mut StepRegistry);

    /// Checks an evaluated block, adds what is wrong, and gives what can be run if nothing is.
    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedBuilder>>;

    /// Whether an artifact of this builder is still there and whole.
    fn is_intact<'a>(
        &'a self,
        artifact: &'a Artifact,
        services: &'a Services,
    ) -> BoxFuture<'a, bool>;

    /// Removes an artifact that nothing keeps.
    fn destroy<'a>(
        &'a self,
        artifact: &'a Artifact,
        services: &'a Services,
    ) -> BoxFuture<'a, Result<(), ComponentError>>;
}

/// A builder with a configuration that was proved.
#[async_trait]
pub trait PreparedBuilder: fmt::Debug + Send + Sync {
    /// Lays out the steps.
    fn saga(&self, cx: &SagaContext) -> Result<Saga, SagaError>;

    /// What the steps made.
    fn artifact(&self, cx: &SagaContext, outputs: &Outputs) -> Result<Option<Artifact>, StepError>;

    /// What goes into the fingerprint beside configuration and input files.
    async fn fingerprint_inputs(
        &self,
        cx: &SagaContext,
        services: &Services,
    ) -> Result<Vec<FingerprintInput>, ComponentError>;

    /// Whether an equal fingerprint means that nothing needs to be built.
    fn reusable(&self) -> bool;

    /// Whether there is a machine to be provisioned.
    fn has_machine(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Prepared<B: Builder> {
    builder: Arc<B>,
    validated: B::Validated,
}

impl<B: Builder> DynBuilder for B {
    fn type_name(&self) -> &str {
        B::TYPE
    }

    fn schema(&self) -> Schema {
        Schema { names: B::NAMES, ..B::Config::schema() }
    }

    fn generated(&self) -> &[&'static str] {
        Builder::generated(self)
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        Builder::register_steps(self, registry);
    }

    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedBuilder>> {
        let validated =
            ValidateContext::check(body, cx, diags, |config, cx| self.validate(config, cx))?;
        Some(Box::new(Prepared { builder: self, validated }))
    }

    fn is_intact<'a>(
        &'a self,
        artifact: &'a Artifact,
        services: &'a Services,
    ) -> BoxFuture<'a, bool> {
        Box::pin(Builder::is_intact(self, artifact, services))
    }

    fn destroy<'a>(
        &'a self,
        artifact: &'a Artifact,
        services: &'a Services,
    ) -> BoxFuture<'a, Result<(), ComponentError>> {
        Box::pin(Builder::destroy(self, artifact, services))
    }
}

#[async_trait]
impl<B: Builder> PreparedBuilder for Prepared<B> {
    fn saga(&self, cx: &SagaContext) -> Result<Saga, SagaError> {
        self.builder.saga(&self.validated, cx)
    }

    fn artifact(&self, cx: &SagaContext, outputs: &Outputs) -> Result<Option<Artifact>, StepError> {
        self.builder.artifact(&self.validated, cx, outputs)
    }

    async fn fingerprint_inputs(
        &self,
        cx: &SagaContext,
        services: &Services,
    ) -> Result<Vec<FingerprintInput>, ComponentError> {
        self.builder.fingerprint_inputs(&self.validated, cx, services).await
    }

    fn reusable(&self) -> bool {
        self.builder.reusable(&self.validated)
    }

    fn has_machine(&self) -> bool {
        self.builder.has_machine(&self.validated)
    }
}

/// What a builder calls when its machine can be reached. A service of the saga.
#[async_trait]
pub trait ProvisionHook: Send + Sync {
    /// Runs the build's provisioners in order. When one fails, the error-cleanup-provisioner runs
    /// before this returns.
    ///
    /// # Errors
    /// Names the provisioner that failed.
    async fn provision(
        &self,
        communicator: Arc<dyn Communicator>,
        generated: Generated,
        cancel: &CancellationToken,
    ) -> Result<(), StepError>;

    /// Whether there is anything to run, so that a builder need not connect if not.
    fn is_empty(&self) -> bool;
}

/// Asks the person at the terminal. A service of the saga.
#[async_trait]
pub trait Prompt: fmt::Debug + Send + Sync {
    /// Shows `question` and gives the answer, without its line end.
    ///
    /// # Errors
    /// When nobody can answer: no terminal, or `-machine-readable`.
    async fn ask(
        &self,
        question: &str,
        cancel: &CancellationToken,
    ) -> Result<String, ComponentError>;
}
