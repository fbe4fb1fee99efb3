//! Runs scripts on the machine that the program runs on.

use karat_component::{ComponentError, ProvisionContext, Provisioner, ValidateContext};
use karat_config::Config;

use crate::local_command::{LocalCommand, LocalCommandConfig, LocalContext};

/// Runs commands and scripts on the machine that `karat` runs on, not on the one that is built.
///
/// Set exactly one of `command`, `inline`, `script` and `scripts`.
#[derive(Clone, Debug, Config)]
pub struct ShellLocalConfig {
    /// What is run, and how.
    #[option(flatten)]
    pub local: LocalCommandConfig,
}

/// The provisioner `shell-local`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShellLocal;

impl Provisioner for ShellLocal {
    const TYPE: &'static str = "shell-local";
    type Config = ShellLocalConfig;
    type Validated = LocalCommand;
    const LOCAL: bool = true;

    fn validate(
        &self,
        config: ShellLocalConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<LocalCommand> {
        LocalCommand::validate(config.local, cx)
    }

    async fn provision(
        &self,
        command: &LocalCommand,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        let local = LocalContext {
            build: &cx.build,
            generated: &cx.generated,
            events: &cx.events,
            cancel: &cx.cancel,
            services: &cx.services,
        };
        command.run(&local).await
    }
}
