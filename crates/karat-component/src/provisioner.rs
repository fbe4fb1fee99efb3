//! Changes a running machine.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use karat_config::{Body, Config, Schema};
use karat_hcl::diag::Diagnostics;
use karat_saga::Services;
use tokio_util::sync::CancellationToken;

use crate::{
    BuildInfo, Communicator, ComponentError, Events, Generated, PrepareContext, ValidateContext,
};

/// What a provisioner works with.
#[derive(Clone, Debug)]
pub struct ProvisionContext {
    /// The way to the machine.
    pub communicator: Arc<dyn Communicator>,
    /// Which build.
    pub build: BuildInfo,
    /// The values of `build.*`.
    pub generated: Generated,
    /// Where to say what happens.
    pub events: Events,
    /// Pulled when the provisioner has to end.
    pub cancel: CancellationToken,
    /// What the program offers.
    pub services: Services,
}

/// Changes a running machine, through its communicator alone.
///
/// `validate` is pure. `provision` watches [`ProvisionContext::cancel`] and leaves nothing
/// temporary on the machine, also when it fails.
pub trait Provisioner: fmt::Debug + Send + Sync + 'static {
    /// The type in a template: `provisioner "TYPE"`.
    const TYPE: &'static str;

    /// What the user writes.
    type Config: Config + Send;

    /// What `validate` proves and `provision` relies on.
    type Validated: fmt::Debug + Send + Sync + 'static;

    /// Whether it can do without a communicator, as what runs on the local machine does.
    const LOCAL: bool = false;

    /// Checks the options against each other. Reports every problem it can find.
    fn validate(
        &self,
        config: Self::Config,
        cx: &mut ValidateContext<'_>,
    ) -> Option<Self::Validated>;

    /// Does it.
    fn provision(
        &self,
        validated: &Self::Validated,
        cx: &ProvisionContext,
    ) -> impl Future<Output = Result<(), ComponentError>> + Send;
}

/// The object-safe twin of [`Provisioner`].
pub trait DynProvisioner: fmt::Debug + Send + Sync {
    /// The type in a template.
    fn type_name(&self) -> &str;

    /// Its options.
    fn schema(&self) -> Schema;

    /// Whether it can do without a communicator.
    fn is_local(&self) -> bool;

    /// Checks an evaluated block, adds what is wrong, and gives what can be run if nothing is.
    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedProvisioner>>;
}

/// A provisioner with a configuration that was proved.
#[async_trait]
pub trait PreparedProvisioner: fmt::Debug + Send + Sync {
    /// Does it.
    async fn provision(&self, cx: &ProvisionContext) -> Result<(), ComponentError>;
}

#[derive(Debug)]
struct Prepared<P: Provisioner> {
    provisioner: Arc<P>,
    validated: P::Validated,
}

impl<P: Provisioner> DynProvisioner for P {
    fn type_name(&self) -> &str {
        P::TYPE
    }

    fn schema(&self) -> Schema {
        P::Config::schema()
    }

    fn is_local(&self) -> bool {
        P::LOCAL
    }

    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedProvisioner>> {
        let validated =
            ValidateContext::check(body, cx, diags, |config, cx| self.validate(config, cx))?;
        Some(Box::new(Prepared { provisioner: self, validated }))
    }
}

#[async_trait]
impl<P: Provisioner> PreparedProvisioner for Prepared<P> {
    async fn provision(&self, cx: &ProvisionContext) -> Result<(), ComponentError> {
        self.provisioner.provision(&self.validated, cx).await
    }
}
