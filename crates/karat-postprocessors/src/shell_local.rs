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
