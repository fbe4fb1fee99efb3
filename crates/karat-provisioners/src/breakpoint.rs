//! Waits for a person.

use karat_component::{ComponentError, Prompt, ProvisionContext, Provisioner, ValidateContext};
use karat_config::Config;

/// Stops the build until a person at the terminal presses Enter, so that the machine can be
/// looked at.
#[derive(Clone, Debug, Default, Config)]
pub struct BreakpointConfig {
    /// What to tell the person: why the build stops here.
    #[option(volatile)]
    pub note: String,
    /// Goes on without stopping. A template can keep its breakpoints and switch them by a
    /// variable.
    #[option(volatile)]
    pub disable: bool,
}

/// The provisioner `breakpoint`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breakpoint;

impl Provisioner for Breakpoint {
    const TYPE: &'static str = "breakpoint";
    type Config = BreakpointConfig;
    type Validated = BreakpointConfig;
    const LOCAL: bool = true;

    fn validate(
        &self,
        config: BreakpointConfig,
        _: &mut ValidateContext<'_>,
    ) -> Option<BreakpointConfig> {
        Some(config)
    }

    async fn provision(
        &self,
        config: &BreakpointConfig,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        let note = match config.note.as_str() {
            "" => String::new(),
            note => format!(" with note \"{note}\""),
        };
        if config.disable {
            cx.events.say(format!("Breakpoint provisioner{note} disabled; continuing..."));
            return Ok(());
        }
        cx.events.say(format!("Pausing at breakpoint provisioner{note}."));
        let prompt = cx.services.get::<dyn Prompt>().ok_or_else(|| {
            ComponentError::new("a breakpoint cannot stop here: there is nobody to ask")
                .with_hint("set \"disable = true\" where no person sits at a terminal")
        })?;
        prompt.ask("Press enter to continue. ", &cx.cancel).await.map(drop)
    }
}
