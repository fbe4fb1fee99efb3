//! `karat build`

use std::sync::Arc;

use clap::{Args, ValueEnum};
use karat_component::{Event, Events, OnError, Prompt};
use karat_engine::{Engine, RunOptions, RunRequest, RunSummary};
use karat_saga::{Cancellation, Journal, RunId};

use crate::cli::{
    ColourArgs, Global, MachineArgs, SelectArgs, TemplateArgs, WITHOUT_EFFECT, runtime,
};
use crate::data::Fetch;
use crate::error::Failure;
use crate::prompt::{Nobody, Terminal};
use crate::report::human::{Human, Style};
use crate::report::json::Json;
use crate::report::machine::Machine;
use crate::report::{Report, out};
use crate::session::{self, Session};
use crate::signals;

/// Builds the images of a template.
///
/// Builds that need nothing of each other run side by side. What did not change since the last
/// time is not built again. Ctrl-C removes what was made; a second Ctrl-C stops waiting for it.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    colour: ColourArgs,
    /// Builds what is up to date as well, and over what is there.
    #[arg(long)]
    force: bool,
    /// Looks up anew what can be newer: the versions of packages. What comes out the same is not
    /// built again.
    #[arg(long)]
    update: bool,
    /// Builds on AWS in the lab, which is started if none serves: a rehearsal without an account.
    #[arg(long)]
    lab: bool,
    /// Waits for Enter before each step; one build at a time.
    #[arg(long)]
    debug: bool,
    /// What to do when a step fails: clean up, keep everything, ask, or run the
    /// error-cleanup-provisioner and keep everything.
    #[arg(long = "on-error", value_name = "WHAT", default_value = "cleanup")]
    on_error: OnErrorArg,
    /// How many builds run at a time; 0 is no limit.
    #[arg(long = "parallel-builds", value_name = "N", default_value_t = 0)]
    parallel_builds: i64,
    /// Puts the time before each line.
    #[arg(long = "timestamp-ui")]
    timestamp_ui: bool,
    /// Prints each event as a line of JSON.
    #[arg(long)]
    json: bool,
    /// Warns of values in variable files for variables that are not declared.
    #[arg(long = "warn-on-undeclared-var")]
    warn_on_undeclared_var: bool,
    /// Accepted for Packer's sake; there are no prerelease plugins to be ignored.
    #[arg(long = "ignore-prerelease-plugins", help_heading = WITHOUT_EFFECT)]
    _ignore_prerelease_plugins: bool,
    /// Accepted for Packer's sake; the evaluation is the same.
    #[arg(long = "use-sequential-evaluation", help_heading = WITHOUT_EFFECT)]
    _use_sequential_evaluation: bool,
    /// Accepted for Packer's sake; no registry adds steps to a build.
    #[arg(long = "skip-enforcement", help_heading = WITHOUT_EFFECT)]
    _skip_enforcement: bool,
    #[command(flatten)]
    _machine: MachineArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnErrorArg {
    Cleanup,
    Abort,
    Ask,
    RunCleanupProvisioner,
}

impl From<OnErrorArg> for OnError {
    fn from(arg: OnErrorArg) -> Self {
        match arg {
            OnErrorArg::Cleanup => Self::Cleanup,
            OnErrorArg::Abort => Self::Abort,
            OnErrorArg::Ask => Self::Ask,
            OnErrorArg::RunCleanupProvisioner => Self::RunCleanupProvisioner,
        }
    }
}

/// Who is shown what happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    pub(crate) machine_readable: bool,
    pub(crate) json: bool,
    pub(crate) colour: bool,
    pub(crate) timestamps: bool,
}

impl Show {
    pub(crate) fn report(self) -> Arc<dyn Report> {
        if self.json {
            return Arc::new(Json);
        }
        if self.machine_readable {
            return Arc::new(Machine::default());
        }
        self.human(out::is_terminal())
    }

    /// The report of a run that is over.
    pub(crate) fn replay(self) -> Arc<dyn Report> {
        if self.json { Arc::new(Json) } else { self.human(false) }
    }

    fn human(self, live: bool) -> Arc<dyn Report> {
        let colour = self.colour;
        Arc::new(Human::new(Style { colour, timestamps: self.timestamps, live }))
    }

    pub(crate) fn prompt(self) -> Arc<dyn Prompt> {
        if self.json || self.machine_readable {
            Arc::new(Nobody)
        } else {
            Arc::new(Terminal::default())
        }
    }
}

pub(crate) fn run(args: BuildArgs, global: Global) -> Result<(), Failure> {
    if args.lab {
        super::lab::rehearse()?;
    }
    let show = Show {
        machine_readable: global.machine_readable,
        json: args.json,
        colour: args.colour.on() && !global.machine_readable && !args.json,
        timestamps: args.timestamp_ui,
    };
    let options = RunOptions {
        parallel: usize::try_from(args.parallel_builds).unwrap_or(0),
        on_error: args.on_error.into(),
        debug: args.debug,
        force: args.force,
        update: args.update,
    };
    let runtime = runtime()?;
    runtime.block_on(async {
        let session =
            Session::load(&args.template, Fetch::All, args.warn_on_undeclared_var, show.colour)?;
        session.checked()?;
        session.need_builds()?;
        let selected = session.select(&args.select.only, &args.select.except)?;
        if selected.builds.is_empty() {
            return Err(Failure::new("No builds to run")
                .hint("-only and -except leave none; `karat inspect` shows their names"));
        }
        let request = session.request(selected, options);
        let engine = session::engine(show.prompt())?;
        session.report(&engine.validate(&request))?;
        let cancellation = Cancellation::new();
        let report = show.report();
        signals::watch(&cancellation, Some(Arc::clone(&report)))?;
        let summary = drive(&engine, request, &session, report, &cancellation).await?;
        conclude(&summary, &cancellation)
    })
}

/// Runs a request; every event goes to the report and to the journal.
pub(crate) async fn drive(
    engine: &Engine,
    request: RunRequest,
    session: &Session,
    report: Arc<dyn Report>,
    cancellation: &Cancellation,
) -> Result<RunSummary, Failure> {
    let sink = sink(engine, session, &report, 0);
    let summary = engine.run(request, sink, cancellation).await;
    report.finish();
    tell_fault_points(engine);
    Ok(summary?)
}

/// Prints the points that were passed, if `KARAT_FAULT=list` asked for them.
fn tell_fault_points(engine: &Engine) {
    if engine.faults.wants_list() {
        out::stderr_line("\nPoints for KARAT_FAULT, in the order in which they were passed:");
        for point in engine.faults.seen() {
            out::stderr_line(&format!("  {point}"));
        }
    }
}

/// Goes on with a run; its events are numbered on from those that are stored.
pub(crate) async fn drive_resumed(
    engine: &Engine,
    request: RunRequest,
    run: RunId,
    session: &Session,
    report: Arc<dyn Report>,
    cancellation: &Cancellation,
) -> Result<RunSummary, Failure> {
    let from = match &engine.journal {
        Some(journal) => journal.next_event(run).await?,
        None => 0,
    };
    let sink = sink(engine, session, &report, from);
    let summary = engine.resume(request, run, sink, cancellation).await;
    report.finish();
    tell_fault_points(engine);
    Ok(summary?)
}

fn sink(
    engine: &Engine,
    session: &Session,
    report: &Arc<dyn Report>,
    from: u64,
) -> impl FnOnce(&str) -> Events + use<> {
    let (journal, report) = (engine.journal.clone(), Arc::clone(report));
    let masker = session.masker.clone();
    move |run: &str| {
        let run: Option<RunId> = run.parse().ok();
        Events::new(masker, move |mut event| {
            report.event(&event);
            event.seq += from;
            if let (Some(run), Some(journal)) = (run, &journal) {
                keep(journal, run, &event);
            }
        })
    }
}

fn keep(journal: &Journal, run: RunId, event: &Event) {
    // How far something got is of no use afterwards, and there is much of it.
    if matches!(event.kind, karat_component::EventKind::Progress { .. }) {
        return;
    }
    if let Ok(text) = serde_json::to_string(event) {
        journal.queue_event(run, event.seq, text);
    }
}

/// Says what is left and how to remove it, and gives the outcome.
pub(crate) fn conclude(summary: &RunSummary, cancellation: &Cancellation) -> Result<(), Failure> {
    let run = &summary.run;
    if summary.aborted {
        out::stderr_line(&format!(
            "\nEverything was kept. Go on:  karat resume {run}\nClean up:                  karat recover --aborted {run}"
        ));
    } else if !summary.left.is_empty() {
        out::stderr_line("\nThis is left and could not be removed:");
        for left in &summary.left {
            out::stderr_line(&format!("  {left}"));
        }
        out::stderr_line("Remove it:  karat recover");
    } else if cancellation.cancel_token().is_cancelled() {
        out::stderr_line("\nCleanly cancelled builds after being interrupted.");
    }
    if summary.success() { Ok(()) } else { Err(Failure::Reported) }
}
