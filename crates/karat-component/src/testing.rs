//! The compliance harness: what every component has to do, checked from its tests.
//!
//! A component's tests call [`options`] with its type-erased twin for everything that is pure, and
//! [`ends_when_cancelled`] and [`leaves_nothing`] around its real work. Each panics with the reason
//! where a component does not comply.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use karat_config::{Body, OptionType, Schema};
use karat_hcl::diag::{Diagnostics, SourceId, Span};
use karat_saga::{Cancellation, Executor, Journal, Outputs, RunInfo, Saga, Services};
use karat_value::{Type, Value};
use tokio_util::sync::CancellationToken;

use crate::{
    Artifact, BuildInfo, Communicator, ComponentError, DynBuilder, DynDataSource, DynPostProcessor,
    DynProvisioner, Event, EventKind, Events, Generated, Masker, PostProcessContext,
    PrepareContext, PreparedDataSource, PreparedPostProcessor, PreparedProvisioner,
    ProvisionContext, RunSaga,
};

/// How long a component may take to end after it was cancelled.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far a component gets before it is cancelled in the middle.
const HEAD_START: Duration = Duration::from_millis(300);

/// A component of any kind, as far as its options go.
#[derive(Clone, Debug)]
pub enum Component {
    /// A builder.
    Builder(Arc<dyn DynBuilder>),
    /// A provisioner.
    Provisioner(Arc<dyn DynProvisioner>),
    /// A post-processor.
    PostProcessor(Arc<dyn DynPostProcessor>),
    /// A data source.
    DataSource(Arc<dyn DynDataSource>),
}

impl Component {
    /// The schema of its options.
    pub fn schema(&self) -> Schema {
        match self {
            Self::Builder(c) => c.schema(),
            Self::Provisioner(c) => c.schema(),
            Self::PostProcessor(c) => c.schema(),
            Self::DataSource(c) => c.schema(),
        }
    }

    /// Checks a block. Gives whether something came out that can be run, and what was found.
    pub fn check(&self, body: &Body) -> (bool, Diagnostics) {
        let cx = PrepareContext { component: "the component".into(), ..PrepareContext::default() };
        let mut diags = Diagnostics::new();
        let ready = match self {
            Self::Builder(c) => Arc::clone(c).prepare(body, &cx, &mut diags).is_some(),
            Self::Provisioner(c) => Arc::clone(c).prepare(body, &cx, &mut diags).is_some(),
            Self::PostProcessor(c) => Arc::clone(c).prepare(body, &cx, &mut diags).is_some(),
            Self::DataSource(c) => Arc::clone(c).prepare(body, &cx, &mut diags).is_some(),
        };
        (ready, diags)
    }

    /// The errors in a block, each as `summary; detail` with its hints behind it.
    pub fn errors(&self, body: &Body) -> Vec<String> {
        let (_, diags) = self.check(body);
        let errors = diags.iter().filter(|d| d.is_error());
        errors
            .map(|d| {
                let hints: String = d.hints.iter().map(|h| format!(" ({h})")).collect();
                let detail = if d.detail.is_empty() { "" } else { "; " };
                format!("{}{detail}{}{hints}", d.summary, d.detail)
            })
            .collect()
    }
}

/// A block whose options are the members of a JSON object. Every option has a place of its own.
///
/// # Panics
/// When `options` is no object.
pub fn body(options: &serde_json::Value) -> Body {
    let object = options.as_object().expect("options are a JSON object");
    let mut body = Body::new(place(0));
    for (index, (name, value)) in object.iter().enumerate() {
        body.set(name.as_str(), place(index + 1), karat_value::json::from_json(value));
    }
    body
}

fn place(index: usize) -> Span {
    Span::new(SourceId(0), index * 10..index * 10 + 9)
}

/// Checks everything about a component's options that can be checked without running it; `valid`
/// is a block that it accepts.
///
/// - Every option is documented, and no two have one name.
/// - `valid` is accepted, twice with the same outcome, without a file being read.
/// - A misspelt option is an error that names the right one.
/// - A value of the wrong type is an error at its place.
/// - A value that is not known yet is no error, of any option and of all at once.
/// - No text makes it panic.
///
/// # Panics
/// With the reason where the component does not comply.
pub fn options(component: &Component, valid: &Body) {
    let schema = component.schema();
    documented(&schema);
    accepts(component, valid);
    for option in &schema.options {
        misspelt(component, valid, &option.name);
        if matches!(option.ty, OptionType::Attribute(_)) {
            unknown(component, valid, &[&option.name]);
        }
        if let OptionType::Attribute(ty) = &option.ty {
            wrong_type(component, valid, &option.name, ty);
            hostile(component, valid, &option.name, ty);
        }
    }
    let all: Vec<&str> = schema
        .options
        .iter()
        .filter(|o| matches!(o.ty, OptionType::Attribute(_)))
        .map(|o| o.name.as_str())
        .collect();
    unknown(component, valid, &all);
}

fn documented(schema: &Schema) {
    assert!(!schema.doc.is_empty(), "the component has no documentation");
    let mut names = BTreeSet::new();
    for option in &schema.options {
        assert!(!option.doc.is_empty(), "\"{}\" has no documentation", option.name);
        for name in std::iter::once(&option.name).chain(&option.aliases) {
            assert!(names.insert(name.clone()), "two options are called \"{name}\"");
        }
    }
}

fn accepts(component: &Component, valid: &Body) {
    let before = reads();
    let ready = component.check(valid).0;
    let read = reads().zip(before).map(|(after, before)| after - before);
    assert!(ready, "the valid block is refused: {:?}", component.errors(valid));
    // Looking at the count is itself a read or two; a file would be some more.
    if let Some(count) = read {
        let own = own_reads();
        assert!(count <= own, "validate reads files: {count} reads, {own} of them the harness's");
    }
    let texts = || format!("{:?}", component.check(valid).1);
    assert_eq!(texts(), texts(), "validate gives different outcomes for the same block");
}

/// How often this thread has read from a file so far, where the system tells.
fn reads() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("syscr: "))?;
    line.trim().parse().ok()
}

fn own_reads() -> u64 {
    let before = reads();
    reads().zip(before).map_or(0, |(after, before)| after - before)
}

fn misspelt(component: &Component, valid: &Body, name: &str) {
    let known: Vec<String> = component.schema().options.iter().map(|o| o.name.clone()).collect();
    let wrong = format!("{name}x");
    if known.contains(&wrong) {
        return;
    }
    let mut body = valid.clone();
    body.set(wrong.as_str(), place(900), Value::string("x"));
    let (_, diags) = component.check(&body);
    let found = diags
        .iter()
        .find(|d| d.is_error() && d.primary.as_ref().is_some_and(|label| label.span == place(900)));
    let found = found.unwrap_or_else(|| panic!("the unknown option \"{wrong}\" is accepted"));
    assert!(
        found.hints.iter().any(|h| h.contains(&format!("\"{name}\""))),
        "the error about \"{wrong}\" does not suggest \"{name}\": {found:?}"
    );
}

fn unknown(component: &Component, valid: &Body, names: &[&str]) {
    let mut body = valid.clone();
    for name in names {
        // Two options that exclude each other may both be unknown, but not one beside a known.
        body.set(*name, place(901), Value::dynamic());
    }
    let (ready, diags) = component.check(&body);
    let blamed: Vec<_> = diags
        .iter()
        .filter(|d| d.is_error())
        .filter(|d| {
            let at = d.primary.as_ref().map(|label| label.span);
            at.is_none_or(|span| span == place(901) || span == valid.span)
        })
        .collect();
    assert!(blamed.is_empty(), "{names:?} not known yet is taken for wrong: {blamed:?}");
    assert!(
        ready || diags.has_errors(),
        "with {names:?} not known yet it is refused, and no error says why"
    );
}

fn wrong_type(component: &Component, valid: &Body, name: &str, ty: &Type) {
    let wrong = match ty {
        Type::Dynamic => return,
        Type::String | Type::Bool | Type::Number => {
            Value::object_of([("harness", Value::string("x"))])
        }
        _ => Value::string("harness"),
    };
    let mut body = valid.clone();
    body.set(name, place(902), wrong);
    let (ready, diags) = component.check(&body);
    assert!(!ready, "\"{name}\" of a wrong type is accepted");
    assert!(
        diags.iter().any(|d| {
            d.is_error() && d.primary.as_ref().is_some_and(|label| label.span == place(902))
        }),
        "no error stands at the value of \"{name}\", which has a wrong type: {diags:?}"
    );
}

fn hostile(component: &Component, valid: &Body, name: &str, ty: &Type) {
    let long = "x".repeat(100_000);
    let texts = [
        "",
        " ",
        "\0",
        "\n",
        "/",
        "..",
        "~",
        "'",
        "\"",
        "{{",
        "{{ .A",
        "{{ nosuch }}",
        "%",
        "%s",
        "=",
        "日本語",
        "\u{1f980}",
        "-1",
        "1e999",
        "$(x)",
        "*",
        "[",
        long.as_str(),
    ];
    for text in texts {
        let value = Value::string(text);
        let values = match ty {
            Type::List(_) | Type::Set(_) => vec![
                Value::tuple(vec![value.clone()]),
                Value::tuple(vec![value, Value::untyped_null()]),
                Value::tuple(Vec::new()),
            ],
            Type::Map(_) => vec![
                Value::object_of([("a", value.clone())]),
                Value::object_of([(text, value)]),
                Value::object_of::<&str>([]),
            ],
            _ => vec![value],
        };
        for value in values {
            let mut body = valid.clone();
            body.set(name, place(903), value);
            // That it returns is what is checked, and that refusing comes with a reason.
            let (ready, diags) = component.check(&body);
            assert!(ready || diags.has_errors(), "\"{name}\" = {text:?} is refused silently");
        }
    }
}

/// Events that were sent, for a test to look at.
#[derive(Clone, Debug, Default)]
pub struct Recorded(Arc<Mutex<Vec<Event>>>);

impl Recorded {
    /// A stream of events and what it records. Everything in `secrets` is masked.
    pub fn new(secrets: &[&str]) -> (Events, Self) {
        let masker = Masker::new();
        for secret in secrets {
            masker.add(secret);
        }
        let recorded = Self::default();
        let sink = recorded.clone();
        let events = Events::new(masker, move |event| {
            sink.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        });
        (events, recorded)
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was told in words: headings, lines below them, failures.
    pub fn said(&self) -> Vec<String> {
        let texts = self.events().into_iter().filter_map(|event| match event.kind {
            EventKind::Say { text } | EventKind::Message { text } | EventKind::Error { text } => {
                Some(text)
            }
            _ => None,
        });
        texts.collect()
    }

    /// The lines that commands printed.
    pub fn output(&self) -> Vec<String> {
        let lines = self.events().into_iter().filter_map(|event| match event.kind {
            EventKind::Output { line, .. } => Some(line),
            _ => None,
        });
        lines.collect()
    }

    /// Checks that no event holds a text.
    ///
    /// # Panics
    /// When one does.
    pub fn assert_without(&self, secret: &str) {
        for event in self.events() {
            let text = serde_json::to_string(&event).expect("events are JSON");
            assert!(!text.contains(secret), "a secret is in an event: {text}");
        }
    }
}

/// What lies in some folders.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<PathBuf>);

impl Snapshot {
    /// Everything below `folders`, by path.
    pub fn of(folders: &[&Path]) -> Self {
        let mut all = BTreeSet::new();
        for folder in folders {
            collect(folder, &mut all);
        }
        Self(all)
    }

    /// Checks that nothing was added since.
    ///
    /// # Panics
    /// Names what was.
    pub fn assert_nothing_new(&self, folders: &[&Path]) {
        let now = Self::of(folders);
        let new: Vec<_> = now.0.difference(&self.0).collect();
        assert!(new.is_empty(), "it left behind {new:?}");
    }
}

fn collect(folder: &Path, all: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&path, all);
        }
        all.insert(path);
    }
}

/// Runs work that would take long, cancels it in the middle, and again before it began. Both times
/// it has to end soon, to say that it was cancelled, and to add nothing to `folders`.
///
/// # Panics
/// With the reason where it does not.
pub async fn ends_when_cancelled<T, F>(folders: &[&Path], work: impl Fn(CancellationToken) -> F)
where
    T: std::fmt::Debug,
    F: Future<Output = Result<T, ComponentError>>,
{
    for head_start in [HEAD_START, Duration::ZERO] {
        let before = Snapshot::of(folders);
        let token = CancellationToken::new();
        if head_start.is_zero() {
            token.cancel();
        }
        let running = work(token.clone());
        tokio::pin!(running);
        let early = tokio::time::timeout(head_start, &mut running).await;
        token.cancel();
        let ended = match early {
            Ok(result) if head_start.is_zero() => Ok(result),
            Ok(result) => panic!("it did not take long enough to be cancelled: {result:?}"),
            Err(_) => tokio::time::timeout(PATIENCE, running).await,
        };
        let Ok(result) = ended else { panic!("cancelled, it goes on for more than {PATIENCE:?}") };
        match result {
            Err(error) if error.is_cancelled() => {}
            other => panic!("cancelled, it does not say so: {other:?}"),
        }
        before.assert_nothing_new(folders);
    }
}

/// Runs work that fails. It has to fail, to say why, and to add nothing to `folders`. Gives the
/// error.
///
/// # Panics
/// With the reason where it does not.
pub async fn leaves_nothing<T: std::fmt::Debug>(
    folders: &[&Path],
    work: impl Future<Output = Result<T, ComponentError>>,
) -> ComponentError {
    let before = Snapshot::of(folders);
    let error = match work.await {
        Ok(done) => panic!("it did not fail: {done:?}"),
        Err(error) => error,
    };
    assert!(!error.is_cancelled(), "nobody cancelled it");
    assert!(!error.to_string().is_empty(), "it does not say why it failed");
    before.assert_nothing_new(folders);
    error
}

/// A build for tests: the source `null.test` in a run with a fixed id.
pub fn build_info() -> BuildInfo {
    BuildInfo {
        target: "null.test".into(),
        source_type: "null".into(),
        source_name: "test".into(),
        local_name: "test".into(),
        run_uuid: "00000000-0000-4000-8000-000000000000".into(),
        ..BuildInfo::default()
    }
}

/// A provisioner of a valid block.
///
/// # Panics
/// With what is wrong with the block.
pub fn provisioner(
    component: impl DynProvisioner + 'static,
    options: &serde_json::Value,
) -> Box<dyn PreparedProvisioner> {
    let mut diags = Diagnostics::new();
    let cx = PrepareContext { component: component.type_name().into(), ..Default::default() };
    let prepared = Arc::new(component).prepare(&body(options), &cx, &mut diags);
    prepared.unwrap_or_else(|| panic!("the block is refused: {diags:?}"))
}

/// A post-processor of a valid block.
///
/// # Panics
/// With what is wrong with the block.
pub fn post_processor(
    component: impl DynPostProcessor + 'static,
    options: &serde_json::Value,
) -> Box<dyn PreparedPostProcessor> {
    let mut diags = Diagnostics::new();
    let cx = PrepareContext { component: component.type_name().into(), ..Default::default() };
    let prepared = Arc::new(component).prepare(&body(options), &cx, &mut diags);
    prepared.unwrap_or_else(|| panic!("the block is refused: {diags:?}"))
}

/// A data source of a valid block.
///
/// # Panics
/// With what is wrong with the block.
pub fn data_source(
    component: impl DynDataSource + 'static,
    options: &serde_json::Value,
) -> Box<dyn PreparedDataSource> {
    let mut diags = Diagnostics::new();
    let cx = PrepareContext { component: component.type_name().into(), ..Default::default() };
    let prepared = Arc::new(component).prepare(&body(options), &cx, &mut diags);
    prepared.unwrap_or_else(|| panic!("the block is refused: {diags:?}"))
}

/// What a provisioner works with in a test.
pub fn provision_context(
    communicator: Arc<dyn Communicator>,
    events: Events,
    cancel: CancellationToken,
) -> ProvisionContext {
    ProvisionContext {
        communicator,
        build: build_info(),
        generated: Generated::new(),
        events,
        cancel,
        services: Services::new(),
    }
}

/// What a post-processor works with in a test. Its sagas have journals of their own.
pub fn post_process_context(events: Events, cancel: CancellationToken) -> PostProcessContext {
    let sagas = Sagas { events: events.clone(), cancel: cancel.clone() };
    PostProcessContext {
        build: build_info(),
        generated: Generated::new(),
        events,
        cancel,
        services: Services::new(),
        sagas: Arc::new(sagas),
    }
}

/// Runs each saga as a run of its own.
#[derive(Debug)]
struct Sagas {
    events: Events,
    cancel: CancellationToken,
}

#[async_trait]
impl RunSaga for Sagas {
    async fn run_saga(&self, saga: Saga) -> Result<Outputs, ComponentError> {
        let folder = tempfile::tempdir().expect("there is room for a journal");
        let journal = Journal::open(folder.path()).expect("a journal begins");
        let hold = journal.begin_run(RunInfo::default()).await.expect("a run begins");
        let services = Services::new().with(Arc::new(self.events.clone()));
        let cancellation = Cancellation::new();
        let executor = Executor::new(Arc::new(hold), services);
        let run = executor.execute(saga, &cancellation);
        tokio::pin!(run);
        let done = tokio::select! {
            done = &mut run => done,
            () = self.cancel.cancelled() => {
                cancellation.cancel();
                run.await
            }
        };
        done.map(|done| done.outputs).map_err(|failure| ComponentError::from(&*failure))
    }
}

/// An artifact of these files.
pub fn artifact(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Artifact {
    Artifact {
        builder_id: "test.builder".into(),
        id: "test-id".into(),
        description: "made by a test".into(),
        files: files.into_iter().map(Into::into).collect(),
        ..Artifact::default()
    }
}

#[cfg(test)]
mod tests {
    use karat_config::Config;
    use serde_json::json;

    use super::*;
    use crate::{Provisioner, ValidateContext};

    /// Does what its test asks for.
    #[derive(Debug, Config)]
    struct Options {
        /// What to do wrong.
        #[option(required)]
        wrong: String,
    }

    #[derive(Debug)]
    struct Example {
        /// Takes what is not known yet for wrong.
        blames: bool,
    }

    impl Provisioner for Example {
        const TYPE: &'static str = "example";
        type Config = Options;
        type Validated = String;

        fn validate(&self, config: Options, cx: &mut ValidateContext<'_>) -> Option<String> {
            match config.wrong.as_str() {
                "reads" => {
                    let _ = std::fs::read("/proc/self/status");
                }
                "panics" | "" => assert!(!config.wrong.is_empty(), "a text is missing"),
                "refuses" => return None,
                _ if self.blames && !cx.is_known("wrong") => {
                    cx.block_error("it is not known");
                }
                _ => {}
            }
            Some(config.wrong)
        }

        async fn provision(
            &self,
            wrong: &String,
            cx: &ProvisionContext,
        ) -> Result<(), ComponentError> {
            if wrong == "leaves" {
                std::fs::write(cx.build.template_dir.join("rest"), "x").unwrap();
            }
            if wrong == "ignores" {
                tokio::time::sleep(Duration::from_millis(600)).await;
                return Ok(());
            }
            cx.cancel.cancelled().await;
            Err(ComponentError::cancelled())
        }
    }

    fn check(wrong: &str, blames: bool) {
        let component = Component::Provisioner(Arc::new(Example { blames }));
        options(&component, &body(&json!({ "wrong": wrong })));
    }

    #[test]
    #[should_panic(expected = "validate reads files")]
    fn reading_files_is_found() {
        check("reads", false);
    }

    #[test]
    #[should_panic(expected = "a text is missing")]
    fn a_panic_is_found() {
        check("panics", false);
    }

    #[test]
    #[should_panic(expected = "the valid block is refused")]
    fn refusing_silently_is_found() {
        check("refuses", false);
    }

    #[test]
    #[should_panic(expected = "is taken for wrong")]
    fn blaming_what_is_not_known_is_found() {
        check("right", true);
    }

    async fn cancelled(wrong: &str) {
        let dir = tempfile::tempdir().unwrap();
        let prepared = provisioner(Example { blames: false }, &json!({ "wrong": wrong }));
        ends_when_cancelled(&[dir.path()], |cancel| {
            let machine = Arc::new(crate::NoCommunicator);
            let mut cx = provision_context(machine, Events::discard(), cancel);
            cx.build.template_dir = dir.path().to_owned();
            let prepared = &prepared;
            async move { prepared.provision(&cx).await }
        })
        .await;
    }

    #[tokio::test]
    async fn what_ends_and_leaves_nothing_is_right() {
        cancelled("nothing").await;
    }

    #[tokio::test]
    #[should_panic(expected = "it left behind")]
    async fn what_is_left_is_found() {
        cancelled("leaves").await;
    }

    #[tokio::test]
    #[should_panic(expected = "it does not say so")]
    async fn not_listening_is_found() {
        cancelled("ignores").await;
    }
}
