//! Components that write down what is done to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use karat_component::{
    Artifact, Builder, ComponentError, Generated, NoCommunicator, PostProcessContext,
    PostProcessor, Processed, Prompt, ProvisionContext, ProvisionHook, Provisioner, SagaContext,
    ValidateContext,
};
use karat_config::{Config, Duration};
use karat_saga::{Outputs, Saga, SagaError, Services, Step, StepContext, StepError, StepRegistry};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// What was done, in order. A service of the run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u32>>,
}

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    /// Waits until there is a line that starts so.
    pub(crate) async fn reached(&self, start: &str) {
        while !self.lines().iter().any(|line| line.starts_with(start)) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a name; gives how often it was counted before.
    fn count(&self, name: &str) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.to_owned()).or_insert(0);
        *count += 1;
        *count - 1
    }
}

/// Makes a layer of a text, as if it were an image.
#[derive(Debug, Config)]
#[expect(dead_code, reason = "some options are only for the fingerprint")]
pub(crate) struct ThingConfig {
    /// What the layer is made of.
    value: String,
    /// The layer's name, where it does not depend on the value.
    layer: Option<String>,
    /// What another build made.
    from: Option<String>,
    /// A secret that goes into it.
    #[option(secret)]
    password: Option<String>,
    /// The step that fails: `make`, `provision` or `finish`.
    fail: Option<String>,
    /// How many times it fails before it works.
    #[option(default = 99)]
    times: i64,
    /// Whether it makes nothing.
    nil: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Thing;

impl Builder for Thing {
    const TYPE: &'static str = "thing";
    type Config = ThingConfig;
    type Validated = ThingConfig;

    fn validate(&self, config: ThingConfig, _: &mut ValidateContext<'_>) -> Option<ThingConfig> {
        Some(config)
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        registry.register::<ThingStep>();
    }

    fn saga(&self, config: &ThingConfig, cx: &SagaContext) -> Result<Saga, SagaError> {
        let mut saga = Saga::new(&cx.build.target);
        for name in ["make", "provision", "finish"] {
            let fails = config.fail.as_deref() == Some(name);
            let step = ThingStep {
                build: cx.build.target.clone(),
                name: name.into(),
                fails: if fails { u32::try_from(config.times).unwrap_or(0) } else { 0 },
                why: config.value.clone(),
            };
            saga = saga.step(name, step);
        }
        saga.build()
    }

    fn artifact(
        &self,
        config: &ThingConfig,
        _: &SagaContext,
        _: &Outputs,
    ) -> Result<Option<Artifact>, StepError> {
        let layer = config.layer.clone().unwrap_or_else(|| format!("layer of {}", config.value));
        let layer = config.from.iter().fold(layer, |layer, from| format!("{layer} on {from}"));
        let mut artifact = Artifact {
            builder_id: "thing".into(),
            id: layer.clone(),
            description: format!("made {}", config.value),
            ..Artifact::default()
        };
        artifact.attributes.insert("layer".into(), layer.into());
        Ok((!config.nil).then_some(artifact))
    }

    fn reusable(&self, _: &ThingConfig) -> bool {
        true
    }

    async fn destroy(
        &self,
        artifact: &Artifact,
        services: &Services,
    ) -> Result<(), ComponentError> {
        log(services).add(format!("destroy {}", artifact.id));
        Ok(())
    }
}

fn log(services: &Services) -> Arc<Log> {
    services.get::<Log>().expect("the tests offer a log")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ThingStep {
    build: String,
    name: String,
    fails: u32,
    #[serde(skip)]
    why: String,
}

impl Step for ThingStep {
    const KIND: &'static str = "thing.step";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let log = cx.service::<Log>()?;
        let name = format!("{} {}", self.name, self.build);
        log.add(&name);
        if log.count(&name) < self.fails {
            return Err(StepError::new(format!("{name} failed with {}", self.why)));
        }
        if self.name == "provision" {
            let hook = cx.service::<dyn ProvisionHook>()?;
            let generated = Generated::from([("ID".into(), karat_value::Value::string("thing-1"))]);
            hook.provision(Arc::new(NoCommunicator), generated, cx.token()).await?;
        }
        Ok(())
    }

    async fn undo(&self, cx: &StepContext, _: Option<()>) -> Result<(), StepError> {
        cx.service::<Log>()?.add(format!("undo {} {}", self.name, self.build));
        Ok(())
    }
}

/// Writes its text into the log.
#[derive(Debug, Config)]
#[expect(dead_code, reason = "some options are only for the fingerprint")]
pub(crate) struct NoteConfig {
    /// The text.
    text: String,
    /// How many times it fails before it works.
    #[option(default = 0)]
    fails: i64,
    /// How long it takes.
    takes: Option<Duration>,
    /// A file that is read.
    #[option(input)]
    file: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Note;

impl Provisioner for Note {
    const TYPE: &'static str = "note";
    const LOCAL: bool = true;
    type Config = NoteConfig;
    type Validated = NoteConfig;

    fn validate(&self, config: NoteConfig, _: &mut ValidateContext<'_>) -> Option<NoteConfig> {
        Some(config)
    }

    async fn provision(
        &self,
        config: &NoteConfig,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        let log = log(&cx.services);
        let attempt = log.count(&format!("{} {}", cx.build.target, config.text));
        log.add(format!("note {}", config.text));
        cx.events.message(format!("noted {}", config.text));
        if let Some(takes) = config.takes {
            tokio::select! {
                () = tokio::time::sleep(takes.0) => {}
                () = cx.cancel.cancelled() => {
                    log.add(format!("ended early {}", config.text));
                    return Err(ComponentError::cancelled());
                }
            }
            log.add(format!("slept {}", config.text));
        }
        if i64::from(attempt) < config.fails {
            let number = attempt + 1;
            return Err(ComponentError::new(format!("error {number} of {}", config.text)));
        }
        Ok(())
    }
}

/// Cannot do without a machine.
#[derive(Debug, Config)]
pub(crate) struct RemoteConfig {}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote;

impl Provisioner for Remote {
    const TYPE: &'static str = "remote";
    type Config = RemoteConfig;
    type Validated = ();

    fn validate(&self, _: RemoteConfig, _: &mut ValidateContext<'_>) -> Option<()> {
        Some(())
    }

    async fn provision(&self, (): &(), cx: &ProvisionContext) -> Result<(), ComponentError> {
        log(&cx.services).add("remote");
        Ok(())
    }
}

/// Makes an artifact of another.
#[derive(Debug, Config)]
pub(crate) struct WrapConfig {
    /// The new artifact's name.
    makes: Option<String>,
    /// Whether it fails.
    fail: bool,
    /// Whether it keeps what it was given unless told otherwise.
    keep: bool,
    /// Whether that holds even when told otherwise.
    force: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrap;

impl PostProcessor for Wrap {
    const TYPE: &'static str = "wrap";
    type Config = WrapConfig;
    type Validated = WrapConfig;

    fn validate(&self, config: WrapConfig, _: &mut ValidateContext<'_>) -> Option<WrapConfig> {
        Some(config)
    }

    async fn post_process(
        &self,
        config: &WrapConfig,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let name = config.makes.clone();
        let label = name.as_deref().unwrap_or("nothing");
        log(&cx.services).add(format!("wrap {} as {label}", artifact.id));
        if config.fail {
            return Err(ComponentError::new(format!("cannot wrap {}", artifact.id)));
        }
        let made = name.map(|id| Artifact { id, ..artifact });
        Ok(Processed { artifact: made, keep: config.keep, force: config.force })
    }
}

/// Answers from a list, and writes the questions down.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) answers: Mutex<VecDeque<String>>,
    pub(crate) log: Arc<Log>,
}

#[async_trait]
impl Prompt for Script {
    async fn ask(&self, question: &str, _: &CancellationToken) -> Result<String, ComponentError> {
        self.log.add(format!("ask {}", question.trim()));
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        answer.ok_or_else(|| ComponentError::new("nobody answers"))
    }
}

/// All events in one text.
pub(crate) fn said(events: &[karat_component::Event]) -> String {
    use std::fmt::Write as _;
    events.iter().fold(String::new(), |mut text, event| {
        let _ = writeln!(text, "{:?}", event.kind);
        text
    })
}
