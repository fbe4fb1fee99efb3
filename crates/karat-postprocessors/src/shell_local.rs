//! Runs scripts on the machine that the program runs on.

use karat_component::{
    Artifact, ComponentError, PostProcessContext, PostProcessor, Processed, ValidateContext,
};
use karat_config::Config;
use karat_provisioners::local_command::{LocalCommand, LocalCommandConfig, LocalContext};

/// Runs commands and scripts on the machine that `karat` runs on, after the machine was built.
///
/// Set exactly one of `command`, `inline`, `script` and `scripts`. The artifact goes on to the
/// next post-processor as it is, and is kept.
#[derive(Clone, Debug, Config)]
pub struct ShellLocalConfig {
    /// What is run, and how.
    #[option(flatten)]
    pub local: LocalCommandConfig,
}

/// The post-processor `shell-local`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShellLocal;

impl PostProcessor for ShellLocal {
    const TYPE: &'static str = "shell-local";
    type Config = ShellLocalConfig;
    type Validated = LocalCommand;

    fn validate(
        &self,
        config: ShellLocalConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<LocalCommand> {
        LocalCommand::validate(config.local, cx)
    }

    async fn post_process(
        &self,
        command: &LocalCommand,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let local = LocalContext {
            build: &cx.build,
            generated: &cx.generated,
            events: &cx.events,
            cancel: &cx.cancel,
            services: &cx.services,
        };
        command.run(&local).await?;
        Ok(Processed { artifact: Some(artifact), keep: true, force: true })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use karat_component::testing::{
        self, Component, Recorded, artifact, body, ends_when_cancelled, leaves_nothing,
        post_process_context, post_processor,
    };
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn complies() {
        let component = Component::PostProcessor(Arc::new(ShellLocal));
        testing::options(&component, &body(&json!({ "inline": ["true"] })));
    }

    #[tokio::test]
    async fn the_artifact_goes_on_and_is_kept() {
        let (events, recorded) = Recorded::new(&[]);
        let cx = post_process_context(events, CancellationToken::new());
        let options = json!({ "inline": ["echo $PACKER_BUILD_NAME"] });
        let given = artifact(["disk"]);
        let prepared = post_processor(ShellLocal, &options);
        let processed = prepared.post_process(&cx, given.clone()).await.unwrap();
        assert_eq!(processed, Processed { artifact: Some(given), keep: true, force: true });
        assert_eq!(recorded.output(), ["test"]);
        let failing = post_processor(ShellLocal, &json!({ "inline": ["exit 4"] }));
        let work = async { failing.post_process(&cx, artifact(["disk"])).await };
        let error = leaves_nothing(&[], work).await;
        assert!(error.to_string().contains("non-zero exit status: 4"), "{error}");
    }

    #[tokio::test]
    async fn ends_at_once_when_cancelled() {
        let prepared = post_processor(ShellLocal, &json!({ "inline": ["sleep 100"] }));
        ends_when_cancelled(&[], |cancel| {
            let cx = post_process_context(Recorded::new(&[]).0, cancel);
            let prepared = &prepared;
            async move { prepared.post_process(&cx, Artifact::default()).await }
        })
        .await;
    }
}
