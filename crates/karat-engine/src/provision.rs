//! Runs a build's provisioners when its builder says that the machine can be reached.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use karat_component::{
    BuildInfo, Communicator, ComponentError, EventKind, Events, Generated, PreparedProvisioner,
    ProvisionContext, ProvisionHook,
};
use karat_hcl::diag::Diagnostics;
use karat_saga::{CleanupHook, Services, StepContext, StepError};
use karat_template::ProvisionerBlock;
use tokio_util::sync::CancellationToken;

/// Evaluates and proves a provisioner once the values of `build.*` are known.
pub(crate) type PrepareProvisioner = dyn Fn(&ProvisionerBlock, &Generated) -> Result<Box<dyn PreparedProvisioner>, Diagnostics>
    + Send
    + Sync;

/// The provisioners of one build.
pub(crate) struct Provisioners {
    pub(crate) build: BuildInfo,
    pub(crate) blocks: Vec<ProvisionerBlock>,
    pub(crate) error_cleanup: Option<ProvisionerBlock>,
    pub(crate) prepare: Arc<PrepareProvisioner>,
    pub(crate) explain: Arc<dyn Fn(&Diagnostics) -> String + Send + Sync>,
    pub(crate) is_local: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    pub(crate) events: Events,
    pub(crate) services: Services,
    /// The machine that was reached last, for the error-cleanup-provisioner.
    pub(crate) last: Mutex<Option<ProvisionContext>>,
}

impl Provisioners {
    async fn run_all(&self, cx: &ProvisionContext) -> Result<(), ComponentError> {
        for (index, block) in self.blocks.iter().enumerate() {
            if cx.cancel.is_cancelled() {
                return Err(ComponentError::cancelled());
            }
            let result = self.run_one("provisioner", index, block, cx).await;
            match result {
                Err(error) if block.continue_on_error && !error.is_cancelled() => {
                    cx.events.error(format!(
                        "Provisioner {} failed, and the build goes on since continue_on_error is \
                         set: {}",
                        label(block),
                        error.chain()
                    ));
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn run_one(
        &self,
        kind: &str,
        index: usize,
        block: &ProvisionerBlock,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        let component = block.component.type_name.clone();
        if cx.communicator.kind() == "none" && !(self.is_local)(&component) {
            return Err(ComponentError::new(format!(
                "provisioner \"{component}\" needs a machine that can be reached, and the \
                 communicator of {} is \"none\"",
                self.build.target
            ))
            .with_hint("set \"communicator\" in the source, or use \"shell-local\""));
        }
        cx.events.emit(EventKind::ComponentStarted {
            kind: kind.into(),
            component: component.clone(),
            index,
        });
        let start = Instant::now();
        let result = self.with_retries(block, cx).await;
        cx.events.emit(EventKind::ComponentFinished {
            kind: kind.into(),
            component,
            index,
            duration: start.elapsed(),
            error: result.as_ref().err().map(ComponentError::chain),
        });
        result
    }

    /// As in Packer, each try waits for `pause_before` anew, and after the last one the *first*
    /// error is what the build fails with. Unlike Packer, the error of the last one is told as
    /// well, `timeout` holds together with `pause_before`, and a retry after a timeout starts
    /// afresh.
    async fn with_retries(
        &self,
        block: &ProvisionerBlock,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        let mut first = None;
        for attempt in 0..=block.max_retries {
            if attempt > 0 {
                cx.events.say(format!(
                    "Provisioner {} failed; trying again (retry {attempt} of {})",
                    label(block),
                    block.max_retries
                ));
            }
            match self.attempt(block, cx).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => {
                    if attempt < block.max_retries || first.is_some() {
                        cx.events.error(error.chain());
                    }
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.expect("the loop runs at least once and ends only with an error"))
    }

    async fn attempt(
        &self,
        block: &ProvisionerBlock,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        if let Some(pause) = block.pause_before {
            let text = karat_config::Duration(pause);
            cx.events.say(format!("Pausing {text} before the next provisioner..."));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cx.cancel.cancelled() => return Err(ComponentError::cancelled()),
            }
        }
        let prepared = (self.prepare)(block, &cx.generated)
            .map_err(|diags| ComponentError::new((self.explain)(&diags)))?;
        let mut own = cx.clone();
        own.cancel = cx.cancel.child_token();
        let Some(timeout) = block.timeout else { return prepared.provision(&own).await };
        cx.events.say(format!(
            "Setting a {} timeout for the next provisioner...",
            karat_config::Duration(timeout)
        ));
        self.with_timeout(prepared.as_ref(), &own, timeout).await
    }

    /// When the time is over, the provisioner is told to end and gets a moment to do so.
    async fn with_timeout(
        &self,
        prepared: &dyn PreparedProvisioner,
        cx: &ProvisionContext,
        timeout: Duration,
    ) -> Result<(), ComponentError> {
        const GRACE: Duration = Duration::from_secs(10);
        let mut work = prepared.provision(cx);
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(timeout) => {}
        }
        cx.cancel.cancel();
        // What it says now does not matter: it took too long.
        let _ = tokio::time::timeout(GRACE, work).await;
        Err(ComponentError::new(format!(
            "the provisioner did not end within its timeout of {}",
            karat_config::Duration(timeout)
        )))
    }
}

fn label(block: &ProvisionerBlock) -> String {
    match &block.name {
        Some(name) => format!("\"{}\" ({name})", block.component.type_name),
        None => format!("\"{}\"", block.component.type_name),
    }
}

#[async_trait]
impl ProvisionHook for Provisioners {
    async fn provision(
        &self,
        communicator: Arc<dyn Communicator>,
        generated: Generated,
        cancel: &CancellationToken,
    ) -> Result<(), StepError> {
        let cx = ProvisionContext {
            communicator,
            build: self.build.clone(),
            generated,
            events: self.events.clone(),
            cancel: cancel.clone(),
            services: self.services.clone(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.clone());
        Ok(self.run_all(&cx).await?)
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[async_trait]
impl CleanupHook for Provisioners {
    /// Runs the error-cleanup-provisioner while the machine still stands, if it was ever reached.
    async fn before_cleanup(&self, cx: &StepContext, _: &StepError) -> Result<(), StepError> {
        let Some(block) = &self.error_cleanup else { return Ok(()) };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut provision) = last else { return Ok(()) };
        provision.cancel = cx.token().clone();
        provision.events.say("The build failed. Running the error-cleanup-provisioner...");
        Ok(self.run_one("error-cleanup-provisioner", 0, block, &provision).await?)
    }
}
