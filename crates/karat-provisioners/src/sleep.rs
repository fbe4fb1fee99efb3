//! Waits.

use karat_component::{ComponentError, ProvisionContext, Provisioner, ValidateContext};
use karat_config::{Config, Duration};

/// Waits for a time: for a service that takes a while to settle, for instance.
#[derive(Clone, Debug, Config)]
pub struct SleepConfig {
    /// How long to wait, as `90s` or `1h10m`.
    #[option(required)]
    pub duration: Duration,
}

/// The provisioner `sleep`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sleep;

impl Provisioner for Sleep {
    const TYPE: &'static str = "sleep";
    type Config = SleepConfig;
    type Validated = Duration;
    const LOCAL: bool = true;

    fn validate(&self, config: SleepConfig, cx: &mut ValidateContext<'_>) -> Option<Duration> {
        if config.duration.0.is_zero() {
            cx.error("duration", "The time to wait has to be longer than 0");
        }
        Some(config.duration)
    }

    async fn provision(
        &self,
        duration: &Duration,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        cx.events.say(format!("Sleeping for {duration}..."));
        tokio::select! {
            () = tokio::time::sleep(duration.0) => Ok(()),
            () = cx.cancel.cancelled() => Err(ComponentError::cancelled()),
        }
    }
}
