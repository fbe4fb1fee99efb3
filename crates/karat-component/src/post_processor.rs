//! Makes something of an artifact.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use karat_config::{Body, Config, NameRules, Schema};
use karat_hcl::diag::Diagnostics;
use karat_saga::{Outputs, Saga, Services, StepRegistry};
use tokio_util::sync::CancellationToken;

use crate::{
    Artifact, BuildInfo, ComponentError, Events, Generated, PrepareContext, ValidateContext,
};

/// What a post-processor works with.
#[derive(Clone, Debug)]
pub struct PostProcessContext {
    /// Which build.
    pub build: BuildInfo,
    /// The values of `build.*`.
    pub generated: Generated,
    /// Where to say what happens.
    pub events: Events,
    /// Pulled when the post-processor has to end.
    pub cancel: CancellationToken,
    /// What the program offers.
    pub services: Services,
    /// Runs what is made outside of the process.
    pub sagas: Arc<dyn RunSaga>,
}

/// Runs the sagas of post-processors: what is made is written down first, undone after a failure,
/// and by `karat recover` when the process died.
#[async_trait]
pub trait RunSaga: fmt::Debug + Send + Sync {
    /// Runs a saga to its end and gives the outputs of its nodes. Of a run that is gone on with, the
    /// saga that was begun is gone on with too, or the outputs of the one that is complete are given.
    ///
    /// # Errors
    /// Why it failed. Nothing of it is left then.
    async fn run_saga(&self, saga: Saga) -> Result<Outputs, ComponentError>;
}

/// What a post-processor gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processed {
    /// What the next in the chain gets; without one the chain ends.
    pub artifact: Option<Artifact>,
    /// Whether the artifact that it was given is to be kept unless `keep_input_artifact` says
    /// otherwise.
    pub keep: bool,
    /// Whether `keep` holds even against `keep_input_artifact`.
    pub force: bool,
}

/// Makes something of an artifact.
pub trait PostProcessor: fmt::Debug + Send + Sync + 'static {
    /// The type in a template: `post-processor "TYPE"`.
    const TYPE: &'static str;

    /// The rules for the names of its images, where `{{ clean_resource_name }}` is to be had.
    const NAMES: Option<NameRules> = None;

    /// What the user writes.
    type Config: Config + Send;

    /// What `validate` proves and `post_process` relies on.
    type Validated: fmt::Debug + Send + Sync + 'static;

    /// Checks the options against each other. Reports every problem it can find.
    fn validate(
        &self,
        config: Self::Config,
        cx: &mut ValidateContext<'_>,
    ) -> Option<Self::Validated>;

    /// Adds the steps of its sagas, so that a later process can undo them.
    fn register_steps(&self, _registry: &mut StepRegistry) {}

    /// What it would make outside of the process, as far as that is known without an artifact; for
    /// those who only look at the steps. `None` where it makes nothing there.
    ///
    /// # Errors
    /// When it cannot be laid out.
    fn planned(
        &self,
        _validated: &Self::Validated,
        _build: &BuildInfo,
    ) -> Result<Option<Saga>, ComponentError> {
        Ok(None)
    }

    /// Does it. Removes what it made when it fails or is cancelled.
    fn post_process(
        &self,
        validated: &Self::Validated,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> impl Future<Output = Result<Processed, ComponentError>> + Send;
}

/// The object-safe twin of [`PostProcessor`].
pub trait DynPostProcessor: fmt::Debug + Send + Sync {
    /// The type in a template.
    fn type_name(&self) -> &str;

    /// Its options.
    fn schema(&self) -> Schema;

    /// Adds the steps of its sagas.
    fn register_steps(&self, registry: &mut StepRegistry);

    /// Checks an evaluated block, adds what is wrong, and gives what can be run if nothing is.
    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedPostProcessor>>;
}

/// A post-processor with a configuration that was proved.
#[async_trait]
pub trait PreparedPostProcessor: fmt::Debug + Send + Sync {
    /// What it would make outside of the process, as far as that is known without an artifact.
    ///
    /// # Errors
    /// When it cannot be laid out.
    fn planned(&self, build: &BuildInfo) -> Result<Option<Saga>, ComponentError>;

    /// Does it.
    async fn post_process(
        &self,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError>;
}

#[derive(Debug)]
struct Prepared<P: PostProcessor> {
    post_processor: Arc<P>,
    validated: P::Validated,
}

impl<P: PostProcessor> DynPostProcessor for P {
    fn type_name(&self) -> &str {
        P::TYPE
    }

    fn schema(&self) -> Schema {
        Schema { names: P::NAMES, ..P::Config::schema() }
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        PostProcessor::register_steps(self, registry);
    }

    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedPostProcessor>> {
        let validated =
            ValidateContext::check(body, cx, diags, |config, cx| self.validate(config, cx))?;
        Some(Box::new(Prepared { post_processor: self, validated }))
    }
}

#[async_trait]
impl<P: PostProcessor> PreparedPostProcessor for Prepared<P> {
    fn planned(&self, build: &BuildInfo) -> Result<Option<Saga>, ComponentError> {
        self.post_processor.planned(&self.validated, build)
    }

    async fn post_process(
        &self,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        self.post_processor.post_process(&self.validated, cx, artifact).await
    }
}

/// Removes an artifact's files; one that is gone already is no error.
pub(crate) fn remove_files(artifact: &Artifact) -> Result<(), ComponentError> {
    for file in &artifact.files {
        match std::fs::remove_file(file) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                let what = format!("cannot remove the artifact's file \"{}\"", file.display());
                return Err(ComponentError::because(what, e));
            }
        }
    }
    Ok(())
}
