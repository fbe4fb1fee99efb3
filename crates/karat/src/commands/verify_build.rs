//! `karat verify-build`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use karat_component::{Artifact, Event, EventKind};
use karat_engine::RunOptions;
use karat_layers::Digest;
use karat_saga::{Cancellation, Journal};

use crate::cli::{ColourArgs, Global, SelectArgs, TemplateArgs, runtime};
use crate::commands::build::{Show, drive};
use crate::data::Fetch;
use crate::error::Failure;
use crate::report::{Report, out};
use crate::session::{self, Session};
use crate::{env, signals};

/// Builds twice from nothing and compares what comes out.
///
/// Layers and disks have to be the same byte for byte. Both builds happen in state folders of their
/// own, so nothing is reused and nothing that stands is touched but the output files of the
/// template.
#[derive(Debug, Args)]
pub(crate) struct VerifyBuildArgs {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    colour: ColourArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

/// Passes events on, and keeps the artifacts.
struct Collect {
    inner: Arc<dyn Report>,
    artifacts: Mutex<Artifacts>,
}

/// The artifacts of each build by its place in the run and its name: several may have one name.
type Artifacts = BTreeMap<(usize, String), Vec<Artifact>>;

impl Report for Collect {
    fn event(&self, event: &Event) {
        self.inner.event(event);
        if let (EventKind::BuildFinished { artifacts, .. }, Some(build)) =
            (&event.kind, &event.build)
        {
            let mut all = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert((event.place.unwrap_or(0), build.to_string()), artifacts.clone());
        }
    }

    fn finish(&self) {
        self.inner.finish();
    }
}

/// Digests by the place and name of a build and by what they are of.
type Sums = BTreeMap<(usize, String, String), String>;

/// How the names of the state folders begin that both builds have of their own.
const PREFIX: &str = "verify-";

/// The state folders of such builds. They stand in the one that all else is in, so that `karat
/// recover` finds what a dead process left in them.
pub(crate) fn folders(state_dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(state_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// What has to be equal: the digests that builders give for what they made.
const DIGESTS: [&str; 3] = ["layer", "sha256", "root_digest"];

pub(crate) fn run(args: VerifyBuildArgs, global: Global) -> Result<(), Failure> {
    let show = Show {
        machine_readable: global.machine_readable,
        json: false,
        colour: args.colour.on() && !global.machine_readable,
        timestamps: false,
    };
    runtime()?.block_on(async {
        let cancellation = Cancellation::new();
        signals::watch(&cancellation, None)?;
        let mut results = Vec::new();
        for turn in ["first", "second"] {
            out::stdout_line(&format!("==> The {turn} build"));
            results.push(once(&args, show, &cancellation).await?);
        }
        compare(&results[0], &results[1])
    })
}

async fn once(
    args: &VerifyBuildArgs,
    show: Show,
    cancellation: &Cancellation,
) -> Result<Sums, Failure> {
    let session = Session::load(&args.template, Fetch::All, false, show.colour)?;
    session.checked()?;
    session.need_builds()?;
    let selected = session.select(&args.select.only, &args.select.except)?;
    let request = session.request(selected, RunOptions { force: true, ..RunOptions::default() });
    std::fs::create_dir_all(env::state_dir())?;
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(env::state_dir())?;
    let mut engine = session::planner(show.prompt());
    // Package locks are inputs, not results: both builds have to read the same ones.
    karat_machine::copy_locks(&env::state_dir(), folder.path())
        .map_err(|e| Failure::new(e.to_string()))?;
    engine.state_dir = folder.path().to_owned();
    engine.journal = Some(Journal::open(folder.path())?);
    session.report(&engine.validate(&request))?;
    let collect = Arc::new(Collect { inner: show.report(), artifacts: Mutex::default() });
    let report: Arc<dyn Report> = Arc::clone(&collect) as Arc<dyn Report>;
    let summary = drive(&engine, request, &session, report, cancellation).await?;
    karat_machine::keep_locks(folder.path(), &env::state_dir())
        .map_err(|e| Failure::new(e.to_string()))?;
    if !summary.success() {
        return Err(Failure::Reported);
    }
    let artifacts =
        std::mem::take(&mut *collect.artifacts.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(move || sums(&artifacts))
        .await
        .map_err(|e| Failure::new(format!("could not read what was built: {e}")))?
}

/// What was built and what identifies its contents. Files are read now: the second build writes
/// over them.
fn sums(artifacts: &Artifacts) -> Result<Sums, Failure> {
    let mut sums = Sums::new();
    for ((place, build), artifacts) in artifacts {
        for artifact in artifacts {
            let mut add = |what: String, sum: String| {
                sums.insert((*place, build.clone(), what), sum);
            };
            for name in DIGESTS {
                if let Some(value) = artifact.attributes.get(name) {
                    add(name.to_owned(), value.to_string());
                }
            }
            // What post-processors write may well name the time.
            let disks = if artifact.builder_id == karat_machine::BUILDER_ID {
                artifact.files.as_slice()
            } else {
                &[]
            };
            for file in disks {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let sum = Digest::of_file(file).map_err(|e| Failure::new(e.to_string()))?;
                add(name.into_owned(), sum.to_string());
            }
        }
    }
    Ok(sums)
}

fn compare(first: &Sums, second: &Sums) -> Result<(), Failure> {
    if first.is_empty() && second.is_empty() {
        return Err(Failure::new("nothing that can be compared was built")
            .hint("sources of the type machine give digests"));
    }
    let mut different = false;
    let all: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    for key @ (_, build, what) in all {
        let word = match (first.get(key), second.get(key)) {
            (Some(one), Some(other)) if one == other => "equal",
            (Some(_), Some(_)) => "DIFFERENT",
            _ => "MADE BY ONE OF THE TWO ONLY",
        };
        different |= word != "equal";
        out::stdout_line(&format!("{build}: {what}: {word}"));
    }
    if different { Err(Failure::new("the two builds are different")) } else { Ok(()) }
}
