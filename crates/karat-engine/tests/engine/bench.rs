//! A run of a template in memory, with a journal in a folder that goes away.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use karat_component::{Components, Event, Events, Masker, Outcome, Prompt};
use karat_engine::{BuildPlan, Engine, RunOptions, RunRequest, RunSummary};
use karat_functions::{MemoryWorld, World};
use karat_hcl::diag::Diagnostics;
use karat_plan::{Graph, Selection};
use karat_saga::{Cancellation, Faults, Journal, RunId, Services};
use karat_template::{Build, Evaluated, Given, Load, NoData, load};

use super::fake::{Log, Note, Remote, Script, Thing, Wrap};

/// State that outlives a run.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<Log>,
    pub(crate) options: RunOptions,
    pub(crate) faults: Faults,
    pub(crate) answers: Vec<&'static str>,
    pub(crate) vars: Vec<String>,
    pub(crate) only: Vec<String>,
    pub(crate) except: Vec<String>,
    pub(crate) cancellation: Cancellation,
    journal: Journal,
}

/// What came of a run.
pub(crate) struct Ran {
    pub(crate) summary: RunSummary,
    pub(crate) events: Vec<Event>,
    /// What the components did in this run.
    pub(crate) log: Vec<String>,
}

impl Ran {
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.summary.builds.iter().map(|(_, outcome)| *outcome).collect()
    }

    /// The errors of builds that did not succeed.
    pub(crate) fn errors(&self) -> String {
        let of = |event: &Event| match &event.kind {
            karat_component::EventKind::BuildFinished { error, .. } => error.clone(),
            _ => None,
        };
        self.events.iter().filter_map(of).collect::<Vec<_>>().join("\n")
    }

    /// The ids of the artifacts that a build ended with.
    pub(crate) fn artifacts(&self) -> Vec<String> {
        let of = |event: &Event| match &event.kind {
            karat_component::EventKind::BuildFinished { artifacts, .. } => {
                artifacts.iter().map(|a| a.id.clone()).collect()
            }
            _ => Vec::new(),
        };
        self.events.iter().flat_map(of).collect()
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            journal: Journal::open(dir.path()).unwrap(),
            log: Arc::default(),
            options: RunOptions::default(),
            faults: Faults::none(),
            answers: Vec::new(),
            vars: Vec::new(),
            only: Vec::new(),
            except: Vec::new(),
            cancellation: Cancellation::new(),
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn engine(&self) -> Engine {
        let answers = self.answers.iter().map(|a| (*a).to_owned()).collect::<VecDeque<_>>();
        let prompt = Script { answers: Mutex::new(answers), log: Arc::clone(&self.log) };
        Engine {
            components: Arc::new(
                Components::new()
                    .builder(Thing)
                    .provisioner(Note)
                    .provisioner(Remote)
                    .post_processor(Wrap),
            ),
            journal: Some(self.journal.clone()),
            state_dir: self.dir.path().into(),
            cache_dir: self.path("cache"),
            services: Services::new()
                .with(Arc::clone(&self.log))
                .with::<dyn Prompt>(Arc::new(prompt)),
            world: Arc::new(MemoryWorld::default()),
            frozen_world: Arc::new(MemoryWorld::default()),
            faults: self.faults.clone(),
        }
    }

    fn evaluated(&self, text: &str) -> Evaluated {
        let world = MemoryWorld::default().with_file("t.pkr.hcl", text);
        let world: &(dyn World + Send + Sync) = &world;
        let request = Load { path: "t.pkr.hcl".into(), ..Load::default() };
        let mut loaded = load(&request, world);
        let given = Given { flags: self.vars.clone(), warn_undeclared: false };
        let evaluated = loaded.evaluate(&given, world, &NoData);
        let problems: Vec<String> = loaded.diags.iter().map(|d| format!("{d:?}")).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        evaluated
    }

    fn request(&self, text: &str) -> (RunRequest, Masker) {
        let template = self.evaluated(text);
        let masker = Masker::new();
        template.secrets().iter().for_each(|secret| masker.add(secret));
        let selection = Selection::new(&self.only, &self.except).unwrap();
        let mut diags = Diagnostics::new();
        let all = template.builds();
        let graph = Graph::new(all, &mut diags);
        assert!(!diags.has_errors(), "{diags:?}");
        let chosen = (0..all.len()).filter(|i| selection.selects(&all[*i]));
        let builds: Vec<Build> =
            graph.with_needs(chosen).into_iter().map(|i| selection.trim(all[i].clone())).collect();
        let request = RunRequest {
            graph: Graph::new(&builds, &mut diags),
            builds,
            frozen: Arc::new(self.evaluated(text)),
            template: Arc::new(template),
            template_path: "t.pkr.hcl".into(),
            template_dir: Path::new(".").into(),
            options: self.options,
            command: vec!["karat".into(), "build".into()],
        };
        (request, masker)
    }

    /// What validation finds, each problem in one line.
    pub(crate) fn validate(&self, text: &str) -> Vec<String> {
        let (request, _) = self.request(text);
        self.engine().validate(&request).iter().map(|d| d.summary.clone()).collect()
    }

    pub(crate) async fn plan(&self, text: &str) -> Vec<BuildPlan> {
        let (request, _) = self.request(text);
        self.engine().plan(&request).await.unwrap()
    }

    pub(crate) async fn run(&self, text: &str) -> Ran {
        self.go(text, None).await
    }

    pub(crate) async fn resume(&self, text: &str, run: &str) -> Ran {
        self.go(text, Some(run.parse().unwrap())).await
    }

    async fn go(&self, text: &str, run: Option<RunId>) -> Ran {
        let (request, masker) = self.request(text);
        let before = self.log.lines().len();
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let from = match run {
            Some(run) => self.journal.next_event(run).await.unwrap(),
            None => 0,
        };
        let (journal, seen) = (self.journal.clone(), Arc::clone(&events));
        let sink = move |run: &str| {
            let run: RunId = run.parse().unwrap();
            Events::new(masker, move |mut event| {
                event.seq += from;
                journal.queue_event(run, event.seq, serde_json::to_string(&event).unwrap());
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            })
        };
        let engine = self.engine();
        let summary = match run {
            None => engine.run(request, sink, &self.cancellation).await,
            Some(run) => engine.resume(request, run, sink, &self.cancellation).await,
        };
        let events = events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = self.log.lines().split_off(before);
        Ran { summary: summary.unwrap(), events, log }
    }

    /// The events of a run as they are stored.
    pub(crate) async fn stored(&self, run: &str) -> Vec<Event> {
        let run = run.parse().unwrap();
        let stored = self.journal.events(run, 0, 100_000).await.unwrap();
        stored.iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect()
    }

    /// The states of a run's sagas and nodes, in words.
    pub(crate) async fn states(&self, run: &str) -> Vec<String> {
        let sagas = self.journal.sagas(run.parse().unwrap()).await.unwrap();
        sagas.iter().map(|saga| format!("{} {:?}", saga.name, saga.state)).collect()
    }
}
