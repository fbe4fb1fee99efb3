//! Fetches values for a template.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use karat_config::{Body, Config, Schema};
use karat_hcl::diag::Diagnostics;
use karat_saga::Services;
use karat_value::{Type, Value};
use tokio_util::sync::CancellationToken;

use crate::{ComponentError, PrepareContext, ValidateContext};

/// Fetches values for a template. Reads only: it changes nothing anywhere.
pub trait DataSource: fmt::Debug + Send + Sync + 'static {
    /// The type in a template: `data "TYPE" "name"`.
    const TYPE: &'static str;

    /// Whether fetching it reads nothing outside the process. Then commands that only show a
    /// template show its value too.
    const OFFLINE: bool = false;

    /// What the user writes.
    type Config: Config + Send;

    /// What `validate` proves and `fetch` relies on.
    type Validated: fmt::Debug + Send + Sync + 'static;

    /// The type of what `fetch` gives: an object. While a template is only validated the value is
    /// an unknown of this type.
    fn output(&self) -> Type;

    /// Checks the options against each other. Reports every problem it can find.
    fn validate(
        &self,
        config: Self::Config,
        cx: &mut ValidateContext<'_>,
    ) -> Option<Self::Validated>;

    /// Fetches the values.
    fn fetch(
        &self,
        validated: &Self::Validated,
        services: &Services,
        cancel: &CancellationToken,
    ) -> impl Future<Output = Result<Value, ComponentError>> + Send;
}

/// The object-safe twin of [`DataSource`].
pub trait DynDataSource: fmt::Debug + Send + Sync {
    /// The type in a template.
    fn type_name(&self) -> &str;

    /// Its options.
    fn schema(&self) -> Schema;

    /// The type of its value.
    fn output(&self) -> Type;

    /// Whether fetching it reads nothing outside the process.
    fn is_offline(&self) -> bool;

    /// Checks an evaluated block, adds what is wrong, and gives what can be run if nothing is.
    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedDataSource>>;
}

/// A data source with a configuration that was proved.
#[async_trait]
pub trait PreparedDataSource: fmt::Debug + Send + Sync {
    /// Fetches the values.
    async fn fetch(
        &self,
        services: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError>;
}

#[derive(Debug)]
struct Prepared<D: DataSource> {
    source: Arc<D>,
    validated: D::Validated,
}

impl<D: DataSource> DynDataSource for D {
    fn type_name(&self) -> &str {
        D::TYPE
    }

    fn schema(&self) -> Schema {
        D::Config::schema()
    }

    fn output(&self) -> Type {
        DataSource::output(self)
    }

    fn is_offline(&self) -> bool {
        D::OFFLINE
    }

    fn prepare(
        self: Arc<Self>,
        body: &Body,
        cx: &PrepareContext,
        diags: &mut Diagnostics,
    ) -> Option<Box<dyn PreparedDataSource>> {
        let validated =
            ValidateContext::check(body, cx, diags, |config, cx| self.validate(config, cx))?;
        Some(Box::new(Prepared { source: self, validated }))
    }
}

#[async_trait]
impl<D: DataSource> PreparedDataSource for Prepared<D> {
    async fn fetch(
        &self,
        services: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        self.source.fetch(&self.validated, services, cancel).await
    }
}
