//! Runs scripts on the machine.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | the options |
//! | `validate.rs` | options that were proved |
//! | `run.rs` | sending and running |

mod config;
pub(crate) mod run;
#[cfg(test)]
mod tests;
mod validate;

use karat_component::{ComponentError, ProvisionContext, Provisioner, ValidateContext};

pub use config::ShellConfig;
pub use validate::ShellValidated;

/// The provisioner `shell`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shell;

impl Provisioner for Shell {
    const TYPE: &'static str = "shell";
    type Config = ShellConfig;
    type Validated = ShellValidated;

    fn validate(
        &self,
        config: ShellConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<ShellValidated> {
        Some(ShellValidated::of(config, cx))
    }

    async fn provision(
        &self,
        validated: &ShellValidated,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        run::run(validated, cx).await
    }
}
