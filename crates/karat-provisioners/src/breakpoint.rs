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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use karat_component::NoCommunicator;
    use karat_component::testing::{
        self, Component, Recorded, body, ends_when_cancelled, provision_context, provisioner,
    };
    use karat_saga::Services;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Answers after a while, or never.
    #[derive(Debug)]
    struct Person {
        answers: bool,
    }

    #[async_trait]
    impl Prompt for Person {
        async fn ask(
            &self,
            question: &str,
            cancel: &CancellationToken,
        ) -> Result<String, ComponentError> {
            assert_eq!(question, "Press enter to continue. ");
            if self.answers {
                return Ok(String::new());
            }
            cancel.cancelled().await;
            Err(ComponentError::cancelled())
        }
    }

    fn context(person: Option<Person>, cancel: CancellationToken) -> (ProvisionContext, Recorded) {
        let (events, recorded) = Recorded::new(&[]);
        let mut cx = provision_context(Arc::new(NoCommunicator), events, cancel);
        if let Some(person) = person {
            cx.services = Services::new().with::<dyn Prompt>(Arc::new(person));
        }
        (cx, recorded)
    }

    #[test]
    fn complies() {
        let component = Component::Provisioner(Arc::new(Breakpoint));
        testing::options(&component, &body(&json!({ "note": "look" })));
    }

    #[tokio::test]
    async fn waits_for_a_person() {
        let stop = provisioner(Breakpoint, &json!({ "note": "look" }));
        let person = Some(Person { answers: true });
        let (cx, recorded) = context(person, CancellationToken::new());
        stop.provision(&cx).await.unwrap();
        assert_eq!(recorded.said(), ["Pausing at breakpoint provisioner with note \"look\"."]);
        let (cx, _) = context(None, CancellationToken::new());
        let error = stop.provision(&cx).await.unwrap_err();
        assert!(error.hint().unwrap().contains("disable = true"));
        ends_when_cancelled(&[], |cancel| {
            let (cx, _) = context(Some(Person { answers: false }), cancel);
            let stop = &stop;
            async move { stop.provision(&cx).await }
        })
        .await;
    }

    #[tokio::test]
    async fn disabled_it_goes_on() {
        let (cx, recorded) = context(None, CancellationToken::new());
        let options = json!({ "note": "xx", "disable": true });
        provisioner(Breakpoint, &options).provision(&cx).await.unwrap();
        let text = "Breakpoint provisioner with note \"xx\" disabled; continuing...";
        assert_eq!(recorded.said(), [text]);
    }
}
