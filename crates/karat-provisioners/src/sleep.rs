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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use karat_component::NoCommunicator;
    use karat_component::testing::{
        self, Component, Recorded, body, ends_when_cancelled, provision_context, provisioner,
    };
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn complies() {
        let component = Component::Provisioner(Arc::new(Sleep));
        testing::options(&component, &body(&json!({ "duration": "1s" })));
        let found = component.errors(&body(&json!({ "duration": "0s" })));
        assert_eq!(found, ["The time to wait has to be longer than 0"]);
    }

    #[tokio::test]
    async fn waits_and_can_be_cancelled() {
        let (events, recorded) = Recorded::new(&[]);
        let none = Arc::new(NoCommunicator);
        let cx = provision_context(none, events, CancellationToken::new());
        let start = std::time::Instant::now();
        provisioner(Sleep, &json!({ "duration": "50ms" })).provision(&cx).await.unwrap();
        assert!(start.elapsed() >= std::time::Duration::from_millis(50));
        assert_eq!(recorded.said(), ["Sleeping for 50ms..."]);
        let long = provisioner(Sleep, &json!({ "duration": "1h" }));
        ends_when_cancelled(&[], |cancel| {
            let cx = provision_context(Arc::new(NoCommunicator), Recorded::new(&[]).0, cancel);
            let long = &long;
            async move { long.provision(&cx).await }
        })
        .await;
    }
}
