//! One build: evaluate, reuse or run the saga, post-process, record.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use karat_component::{
    Artifact, BuildInfo, DynBuilder, EventKind, Events, Generated, OnError, Outcome,
    PostProcessContext, PreparedBuilder, Prompt, ProvisionHook, RunSaga, SagaContext,
};
use karat_hcl::diag::Diagnostics;
use karat_plan::{Fingerprint, FingerprintBuilder};
use karat_saga::{
    Answer, Ask, Cancellation, CleanupHook, DynStep, Ending, Executor, OnError as SagaOnError,
    Policy, RunHold, Saga, SagaFailure, SagaId, SagaState, StepContext, StepError, StepErrorKind,
};
use karat_template::{Build, Inputs};
use sha2::{Digest, Sha256};

use crate::post::{Chains, PostProcessed};
use crate::post_saga::PostSagas;
use crate::prepare::{Artifacts, Preparer};
use crate::provision::Provisioners;
use crate::record::{Record, Records};
use crate::run::{Engine, RunRequest};

/// One build on its way.
pub(crate) struct Task {
    pub(crate) engine: Engine,
    pub(crate) request: Arc<RunRequest>,
    pub(crate) build: Arc<Build>,
    pub(crate) info: BuildInfo,
    pub(crate) hold: Arc<RunHold>,
    pub(crate) events: Events,
    pub(crate) artifacts: Artifacts,
    /// The saga to go on with, if the run is resumed.
    pub(crate) saga: Option<(SagaId, SagaState)>,
}

/// How a build ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// What the builder made.
    pub(crate) artifact: Option<Artifact>,
    /// What is left that should not be, in words.
    pub(crate) left: Vec<String>,
    pub(crate) aborted: bool,
}

impl Ended {
    fn with(outcome: Outcome) -> Self {
        Self { outcome, artifact: None, left: Vec::new(), aborted: false }
    }

    /// The task is gone without a word.
    pub(crate) fn broken() -> Self {
        Self::with(Outcome::Errored)
    }

    /// One that it needs did not succeed.
    pub(crate) fn skipped(events: &Events, need: &str) -> Self {
        let error = format!("it needs the artifact of {need}, which was not built");
        finished(events, Outcome::Skipped, Instant::now(), Some(error), Vec::new());
        Self::with(Outcome::Skipped)
    }

    /// The run was cancelled before its turn came.
    pub(crate) fn not_started(events: &Events) -> Self {
        let error = Some("cancelled before it was started".to_owned());
        finished(events, Outcome::Cancelled, Instant::now(), error, Vec::new());
        Self::with(Outcome::Cancelled)
    }
}

fn finished(
    events: &Events,
    outcome: Outcome,
    start: Instant,
    error: Option<String>,
    artifacts: Vec<Artifact>,
) {
    let duration = start.elapsed();
    events.emit(EventKind::BuildFinished { outcome, duration, error, artifacts });
}

/// What a build that got to its end made.
struct Made {
    outcome: Outcome,
    /// What the builder made.
    artifact: Option<Artifact>,
    /// What is there after the post-processors.
    artifacts: Vec<Artifact>,
    /// Why post-processors failed.
    errors: Vec<String>,
}

impl Made {
    fn well(outcome: Outcome, artifact: Option<Artifact>, artifacts: Vec<Artifact>) -> Self {
        Self { outcome, artifact, artifacts, errors: Vec::new() }
    }
}

/// Why a build did not get to its end.
enum Stop {
    Template(String),
    Saga(Box<SagaFailure>),
    Other(String),
    Cancelled,
}

impl Task {
    /// Runs the build to its end and says how it went.
    pub(crate) async fn run(self, cancellation: &Cancellation) -> Ended {
        let start = Instant::now();
        self.events.emit(EventKind::BuildStarted {});
        match self.build(cancellation).await {
            Ok(Made { outcome, artifact, artifacts, errors }) => {
                let error = (!errors.is_empty()).then(|| errors.join("\n"));
                let outcome = if error.is_some() { Outcome::Errored } else { outcome };
                finished(&self.events, outcome, start, error, artifacts);
                Ended { artifact, ..Ended::with(outcome) }
            }
            Err(stop) => self.stopped(stop, start),
        }
    }

    fn stopped(&self, stop: Stop, start: Instant) -> Ended {
        let mut ended = Ended::with(Outcome::Errored);
        let error = match stop {
            Stop::Template(text) | Stop::Other(text) => text,
            Stop::Cancelled => {
                ended.outcome = Outcome::Cancelled;
                "Build was cancelled.".to_owned()
            }
            Stop::Saga(failure) => {
                if failure.is_cancelled() {
                    ended.outcome = Outcome::Cancelled;
                }
                ended.aborted = failure.ending == Ending::Aborted;
                ended.left = failure
                    .left
                    .iter()
                    .map(|l| {
                        format!("{}: step {} ({}): {}", self.build.key, l.node, l.kind, l.error)
                    })
                    .collect();
                failure_text(&failure)
            }
        };
        self.events.error(&error);
        finished(&self.events, ended.outcome, start, Some(error), Vec::new());
        ended
    }

    async fn build(&self, cancellation: &Cancellation) -> Result<Made, Stop> {
        let preparer = self.preparer(false);
        let (builder, prepared) =
            preparer.source().map_err(|d| Stop::Template(preparer.explain(&d)))?;
        let mut cx = self.saga_context();
        let (fingerprint, chains) = self.fingerprints(prepared.as_ref(), &cx).await?;
        let records = Records::new(&self.engine.state_dir);
        if let Some(done) = self.done_before(&records) {
            return Ok(done);
        }
        if let Some(done) =
            self.reuse(&records, builder.as_ref(), prepared.as_ref(), &fingerprint, &chains).await
        {
            let (artifact, Some(artifacts)) = done else {
                return self
                    .post_process(
                        &records,
                        builder,
                        done.0,
                        fingerprint,
                        chains,
                        Outcome::Reused,
                        cancellation,
                    )
                    .await;
            };
            return Ok(Made::well(Outcome::Reused, Some(artifact), artifacts));
        }
        cx.fingerprint = fingerprint.open.is_empty().then(|| fingerprint.digest.clone());
        let Some(artifact) = self.execute(&preparer, prepared.as_ref(), &cx, cancellation).await?
        else {
            return Ok(Made::well(Outcome::Finished, None, Vec::new()));
        };
        // What was only known during the build is known now.
        let (fingerprint, chains) = if fingerprint.open.is_empty() {
            (fingerprint, chains)
        } else {
            self.fingerprints(prepared.as_ref(), &self.settled(cx)).await?
        };
        self.post_process(
            &records,
            builder,
            artifact,
            fingerprint,
            chains,
            Outcome::Finished,
            cancellation,
        )
        .await
    }

    /// What the build made, if the run that is resumed had got to its end already.
    fn done_before(&self, records: &Records) -> Option<Made> {
        self.saga.filter(|(_, state)| *state == SagaState::Succeeded)?;
        let record = records.load(&self.request.template_path, &self.build.key)?;
        let same = record.run == self.hold.id().to_string();
        same.then(|| Made::well(Outcome::Reused, Some(record.artifact), record.artifacts))
    }

    fn preparer(&self, frozen: bool) -> Preparer {
        let (template, world) = if frozen {
            (&self.request.frozen, &self.engine.frozen_world)
        } else {
            (&self.request.template, &self.engine.world)
        };
        Preparer {
            components: Arc::clone(&self.engine.components),
            template: Arc::clone(template),
            world: Arc::clone(world),
            build: Arc::clone(&self.build),
            info: self.info.clone(),
            artifacts: Arc::new(self.artifacts.clone()),
            planning: frozen,
            warnings: Arc::default(),
        }
    }

    /// Names the temporary things of this build in this run: the same one when the run is resumed,
    /// so that the same steps are laid out.
    fn token(&self) -> String {
        let digest = Sha256::digest(format!("{}\n{}", self.info.run_uuid, self.build.key));
        digest.iter().take(13).map(|byte| format!("{byte:02x}")).collect()
    }

    fn saga_context(&self) -> SagaContext {
        SagaContext {
            build: self.info.clone(),
            token: self.token(),
            state_dir: self.engine.state_dir.clone(),
            cache_dir: self.engine.cache_dir.clone(),
            fingerprint: None,
        }
    }

    /// The context as it is after the build, when nothing is to be looked up any more.
    fn settled(&self, mut cx: SagaContext) -> SagaContext {
        cx.build.update = false;
        cx
    }

    async fn fingerprints(
        &self,
        prepared: &dyn PreparedBuilder,
        cx: &SagaContext,
    ) -> Result<(Fingerprint, String), Stop> {
        let extra = prepared
            .fingerprint_inputs(cx, &self.engine.services)
            .await
            .map_err(|e| Stop::Other(e.chain()))?;
        let preparer = self.preparer(true);
        tokio::task::spawn_blocking(move || fingerprints(&preparer, &extra))
            .await
            .map_err(|e| Stop::Other(e.to_string()))?
            .map_err(Stop::Template)
    }

    /// What an earlier build made, if it may be taken: the builder's artifact, and what the
    /// post-processors left if they need not run again either.
    async fn reuse(
        &self,
        records: &Records,
        builder: &dyn DynBuilder,
        prepared: &dyn PreparedBuilder,
        fingerprint: &Fingerprint,
        chains: &str,
    ) -> Option<(Artifact, Option<Vec<Artifact>>)> {
        // A saga that is resumed has to come to its end, whatever was made meanwhile.
        let unfinished = self.saga.is_some_and(|(_, state)| !state.is_settled());
        if self.info.force || unfinished || !prepared.reusable() || !fingerprint.open.is_empty() {
            return None;
        }
        let record = records.load(&self.request.template_path, &self.build.key)?;
        if record.fingerprint.digest != fingerprint.digest
            || !builder.is_intact(&record.artifact, &self.engine.services).await
        {
            return None;
        }
        let whole = record.chains == chains
            && record.artifacts.iter().flat_map(|a| &a.files).all(|f| f.exists());
        Some((record.artifact, whole.then_some(record.artifacts)))
    }

    async fn execute(
        &self,
        preparer: &Preparer,
        prepared: &dyn PreparedBuilder,
        cx: &SagaContext,
        cancellation: &Cancellation,
    ) -> Result<Option<Artifact>, Stop> {
        let hook = Arc::new(self.provisioners(preparer));
        let mut services = self
            .engine
            .services
            .clone()
            .with(Arc::new(self.events.clone()))
            .with(Arc::new(self.info.clone()))
            .with::<dyn ProvisionHook>(Arc::clone(&hook) as Arc<dyn ProvisionHook>);
        let prompt = self.engine.services.get::<dyn Prompt>();
        if let Some(prompt) = &prompt {
            services = services.with::<dyn Prompt>(Arc::clone(prompt));
        }
        let policy = Policy {
            on_error: self.on_error(prompt.as_ref()),
            cleanup_hook: Some(hook as Arc<dyn CleanupHook>),
            ..Policy::default()
        };
        let executor = Executor::new(Arc::clone(&self.hold), services)
            .with_faults(self.engine.faults.clone())
            .with_policy(policy);
        let saga = prepared.saga(cx).map_err(|e| Stop::Other(e.to_string()))?;
        let completed = match self.saga {
            Some((id, state)) if state != SagaState::Succeeded => {
                let registry = self.engine.components.steps();
                let executor = executor.with_stand_in(self.stand_in(&saga));
                executor.resume(id, &registry, cancellation).await
            }
            _ => executor.execute(self.watched(saga, prompt)?, cancellation).await,
        };
        let completed = completed.map_err(Stop::Saga)?;
        for left in &completed.left {
            self.events.error(format!(
                "What step {} made could not be removed: {}. `karat recover` tries again.",
                left.node, left.error
            ));
        }
        prepared.artifact(cx, &completed.outputs).map_err(|e| Stop::Other(e.chain()))
    }

    /// Gives, for a step of the journal, the one laid out now if it is the same: it holds what is
    /// not stored.
    fn stand_in(
        &self,
        saga: &Saga,
    ) -> impl Fn(&str, Arc<dyn DynStep>) -> Arc<dyn DynStep> + Send + Sync + use<> {
        let nodes = saga.nodes().iter();
        let fresh: BTreeMap<String, Arc<dyn DynStep>> =
            nodes.map(|node| (node.name.clone(), Arc::clone(&node.step))).collect();
        let events = self.events.clone();
        move |name, stored| {
            let same = |step: &&Arc<dyn DynStep>| {
                step.kind() == stored.kind()
                    && matches!((step.stored_params(), stored.stored_params()),
                        (Ok(a), Ok(b)) if a == b)
            };
            let step = fresh.get(name).filter(same).map_or_else(|| Arc::clone(&stored), Arc::clone);
            Arc::new(Watched { step, events: events.clone(), prompt: None })
        }
    }

    /// The saga with steps that say when they begin, and wait for the person with `-debug`.
    fn watched(&self, saga: Saga, prompt: Option<Arc<dyn Prompt>>) -> Result<Saga, Stop> {
        let prompt = prompt.filter(|_| self.info.debug);
        let mut builder = Saga::new(&self.build.key);
        for node in saga.nodes() {
            let step = Watched {
                step: Arc::clone(&node.step),
                events: self.events.clone(),
                prompt: prompt.clone(),
            };
            builder = builder.boxed(&node.name, Box::new(step));
        }
        builder.build().map_err(|e| Stop::Other(e.to_string()))
    }

    fn on_error(&self, prompt: Option<&Arc<dyn Prompt>>) -> SagaOnError {
        match (self.info.on_error, prompt) {
            (OnError::Cleanup, _) => SagaOnError::Cleanup,
            (OnError::Abort, _) => SagaOnError::Abort,
            (OnError::RunCleanupProvisioner, _) => SagaOnError::RunCleanupProvisioner,
            (OnError::Ask, Some(prompt)) => SagaOnError::Ask(Arc::new(AskPerson {
                prompt: Arc::clone(prompt),
                events: self.events.clone(),
            })),
            (OnError::Ask, None) => SagaOnError::Cleanup,
        }
    }

    fn provisioners(&self, preparer: &Preparer) -> Provisioners {
        let (for_prepare, for_explain) = (preparer.clone(), preparer.clone());
        let components = Arc::clone(&self.engine.components);
        Provisioners {
            build: self.info.clone(),
            blocks: self.build.provisioners.clone(),
            error_cleanup: self.build.error_cleanup.clone(),
            prepare: Arc::new(move |block, generated| {
                for_prepare.provisioner(block, Some(generated))
            }),
            explain: Arc::new(move |diags| for_explain.explain(diags)),
            is_local: Arc::new(move |name| {
                components.provisioners().get(name).is_some_and(|c| c.is_local())
            }),
            events: self.events.clone(),
            services: self.engine.services.clone(),
            last: Default::default(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a record is made of")]
    async fn post_process(
        &self,
        records: &Records,
        builder: Arc<dyn DynBuilder>,
        artifact: Artifact,
        fingerprint: Fingerprint,
        chains: String,
        outcome: Outcome,
        cancellation: &Cancellation,
    ) -> Result<Made, Stop> {
        if cancellation.cancel_token().is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let preparer = self.preparer(false);
        let explain = preparer.clone();
        let runner = Chains {
            chains: self.build.chains.clone(),
            prepare: Arc::new(move |block, generated| {
                preparer.post_processor(block, Some(generated))
            }),
            explain: Arc::new(move |diags| explain.explain(diags)),
            builder,
        };
        let cx = PostProcessContext {
            build: self.info.clone(),
            generated: self.generated(&artifact),
            events: self.events.clone(),
            cancel: cancellation.cancel_token().child_token(),
            services: self.engine.services.clone(),
            sagas: self.post_sagas(0, cancellation),
        };
        let sagas = |index| self.post_sagas(index, cancellation);
        let PostProcessed { artifacts, mut errors, cancelled } =
            runner.run(artifact.clone(), &cx, &sagas).await;
        if cancelled {
            return Err(Stop::Cancelled);
        }
        if errors.is_empty() {
            let record = Record::new(
                (&self.request.template_path, &self.build.key),
                fingerprint,
                artifact.clone(),
                chains,
                artifacts.clone(),
                self.hold.id().to_string(),
            );
            if record.holds_secret(self.events.masker()) {
                self.events.message(
                    "What was made names a secret, so it is not written down, and is built anew \
                     the next time.",
                );
            } else if let Err(error) = records.store(&self.request.template_path, &record) {
                errors.push(format!("cannot write down what was built: {error}"));
            }
        }
        Ok(Made { outcome, artifact: Some(artifact), artifacts, errors })
    }

    /// What runs the sagas of a post-processor, by its place among all of the build.
    fn post_sagas(&self, index: usize, cancellation: &Cancellation) -> Arc<dyn RunSaga> {
        let services = self
            .engine
            .services
            .clone()
            .with(Arc::new(self.events.clone()))
            .with(Arc::new(self.info.clone()));
        Arc::new(PostSagas {
            name: format!("{} post-processor {}", self.build.key, index + 1),
            hold: Arc::clone(&self.hold),
            executor: Executor::new(Arc::clone(&self.hold), services)
                .with_faults(self.engine.faults.clone()),
            components: Arc::clone(&self.engine.components),
            events: self.events.clone(),
            cancellation: cancellation.clone(),
        })
    }

    fn generated(&self, artifact: &Artifact) -> Generated {
        let mut generated = Generated::new();
        generated.insert("ID".into(), karat_value::Value::string(artifact.id.as_str()));
        let run = karat_value::Value::string(self.info.run_uuid.as_str());
        generated.insert("PackerRunUUID".into(), run);
        for (name, value) in &artifact.state {
            if let Some(name) = name.strip_prefix("generated.") {
                generated.insert(name.to_owned(), karat_value::json::from_json(value));
            }
        }
        generated
    }
}

fn failure_text(failure: &SagaFailure) -> String {
    if failure.is_cancelled() {
        return "Build was cancelled.".to_owned();
    }
    let mut text = match failure.step_error() {
        Some(error) => error.chain(),
        None => {
            let cause = std::error::Error::source(failure).map(ToString::to_string);
            format!("{failure}: {}", cause.unwrap_or_default())
        }
    };
    if let Some(hint) = failure.step_error().and_then(StepError::hint) {
        text.push_str(&format!("\nHint: {hint}"));
    }
    if let Some(error) = &failure.hook_error {
        text.push_str(&format!("\nThen the error-cleanup-provisioner failed: {}", error.chain()));
    }
    text
}

/// The fingerprint of a build, and the digest of its post-processors.
pub(crate) fn fingerprints(
    preparer: &Preparer,
    extra: &[karat_component::FingerprintInput],
) -> Result<(Fingerprint, String), String> {
    let fail = |d: Diagnostics| preparer.explain(&d);
    let sources = preparer.template.sources();
    let mut main = FingerprintBuilder::new(sources);
    let builder = preparer.builder().map_err(fail)?;
    main.input("program", env!("CARGO_PKG_VERSION"));
    main.input("source type", preparer.build.source_type.as_str());
    let inputs = |text| Inputs {
        world: preparer.world.as_ref(),
        artifacts: &preparer.artifacts,
        generated: None,
        text,
    };
    let schema = builder.schema();
    let body =
        preparer.template.source_body(&preparer.build, &schema, &inputs(None)).map_err(fail)?;
    main.component("source", &schema, &body);
    for input in extra {
        match &input.digest {
            Some(digest) => main.input(&input.name, digest.as_str()),
            None => main.open(&input.name),
        }
    }
    for artifact in &preparer.build.artifacts {
        let key = &artifact.key;
        let name = format!("artifact of {}.{}.{}", key.build, key.source_type, key.source_name);
        if !preparer.artifacts.contains_key(key) {
            main.open(name);
        }
    }
    for (index, block) in preparer.build.provisioners.iter().enumerate() {
        let type_name = &block.component.type_name;
        let Some(schema) = preparer.provisioner_schema(type_name) else { continue };
        let body = preparer
            .template
            .provisioner_body(&preparer.build, block, &schema, &inputs(None))
            .map_err(fail)?;
        let name = format!("provisioner {} \"{type_name}\"", index + 1);
        main.input(&name, type_name.as_str());
        main.component(&name, &schema, &body);
    }
    add_files(&mut main);

    let mut post = FingerprintBuilder::new(sources);
    let blocks = preparer.build.chains.iter().enumerate();
    for (chain, place, block) in
        blocks.flat_map(|(c, chain)| chain.iter().enumerate().map(move |(p, b)| (c, p, b)))
    {
        let type_name = &block.component.type_name;
        let Some(schema) = preparer.post_processor_schema(type_name) else { continue };
        let body = preparer
            .template
            .post_processor_body(&preparer.build, block, &schema, &inputs(None))
            .map_err(fail)?;
        let name = format!("post-processor {}.{} \"{type_name}\"", chain + 1, place + 1);
        post.input(&name, format!("{:?}", block.keep_input_artifact));
        post.component(&name, &schema, &body);
    }
    add_files(&mut post);
    Ok((main.finish(), post.finish().digest))
}

/// A file that cannot be read now may be made by the build itself, so its state counts and is no
/// error here.
fn add_files(builder: &mut FingerprintBuilder<'_>) {
    for (name, path) in builder.files().to_vec() {
        match crate::inputs::digest(Path::new(&path)) {
            Ok(digest) => builder.input(name, digest),
            Err((_, error)) => builder.input(name, format!("unreadable: {:?}", error.kind())),
        }
    }
}

/// A step that says when it begins.
#[derive(Debug)]
struct Watched {
    step: Arc<dyn DynStep>,
    events: Events,
    prompt: Option<Arc<dyn Prompt>>,
}

impl Watched {
    fn tell(&self, cx: &StepContext, state: &str) {
        let (node, state) = (cx.node().to_owned(), state.to_owned());
        self.events.emit(EventKind::Step { node, state });
    }

    /// The error as it may be stored: errors go into the journal.
    fn masked(&self, error: StepError) -> StepError {
        let masker = self.events.masker();
        let chain = error.chain();
        let text = masker.mask(&chain);
        let hint = error.hint().map(|hint| masker.mask(hint));
        if text == chain && hint.as_deref() == error.hint() {
            return error;
        }
        let masked = match error.kind() {
            StepErrorKind::Cancelled => StepError::cancelled(),
            StepErrorKind::TimedOut => StepError::timed_out(text),
            StepErrorKind::Failed | StepErrorKind::Panicked => StepError::new(text),
        };
        hint.into_iter().fold(masked, StepError::with_hint)
    }
}

#[async_trait::async_trait]
impl DynStep for Watched {
    fn kind(&self) -> &'static str {
        self.step.kind()
    }

    fn is_remote(&self) -> bool {
        self.step.is_remote()
    }

    fn stored_lifetime(&self) -> karat_saga::Lifetime {
        self.step.stored_lifetime()
    }

    fn stored_params(&self) -> Result<serde_json::Value, serde_json::Error> {
        self.step.stored_params()
    }

    async fn run_erased(&self, cx: &StepContext) -> Result<serde_json::Value, StepError> {
        if let Some(prompt) = &self.prompt {
            let question =
                format!("Pausing before step '{}'. Press enter to continue. ", cx.node());
            // Where nobody can be asked there is nobody to wait for.
            if let Err(error) = prompt.ask(&question, cx.token()).await
                && error.is_cancelled()
            {
                return Err(error.into());
            }
        }
        self.tell(cx, "running");
        let result = self.step.run_erased(cx).await;
        self.tell(cx, if result.is_ok() { "done" } else { "failed" });
        result.map_err(|error| self.masked(error))
    }

    async fn undo_erased(
        &self,
        cx: &StepContext,
        done: Option<serde_json::Value>,
    ) -> Result<(), StepError> {
        self.tell(cx, "undoing");
        let result = self.step.undo_erased(cx, done).await;
        self.tell(cx, if result.is_ok() { "undone" } else { "undo failed" });
        result.map_err(|error| self.masked(error))
    }
}

/// `-on-error=ask`.
struct AskPerson {
    prompt: Arc<dyn Prompt>,
    events: Events,
}

#[async_trait::async_trait]
impl Ask for AskPerson {
    async fn ask(&self, cx: &StepContext, error: &StepError) -> Answer {
        self.events.error(format!("Step \"{}\" failed: {}", cx.node(), error.chain()));
        let question = "[c] Clean up and exit, [a] abort without cleanup, or [r] retry step (build may fail even if retry succeeds)? ";
        loop {
            match self.prompt.ask(question, cx.token()).await.as_deref().map(str::trim) {
                Ok("c") | Err(_) => return Answer::Cleanup,
                Ok("a") => return Answer::Abort,
                Ok("r") => return Answer::Retry,
                Ok(_) => self.events.say("Incorrect input. Answer c, a or r."),
            }
        }
    }
}
