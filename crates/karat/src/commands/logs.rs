//! `karat logs`

use clap::Args;
use karat_component::Event;
use karat_saga::Journal;

use crate::cli::{ColourArgs, runtime};
use crate::commands::build::Show;
use crate::commands::recover::run_id;
use crate::env;
use crate::error::Failure;
use crate::report::out;

/// Shows again what a run printed.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Prints each event as a line of JSON.
    #[arg(long)]
    json: bool,
    /// Puts the time before each line.
    #[arg(long = "timestamp-ui")]
    timestamp_ui: bool,
    #[command(flatten)]
    colour: ColourArgs,
    /// The run, as `karat runs` shows it; the last one without.
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

/// How many events are read at a time.
const BATCH: usize = 1000;

pub(crate) fn run(args: LogsArgs) -> Result<(), Failure> {
    let state_dir = env::state_dir();
    let nothing = || Failure::new("there are no runs yet").hint("`karat build` makes one");
    if !state_dir.join("journal.db").exists() {
        return Err(nothing());
    }
    runtime()?.block_on(async {
        let journal = Journal::open(&state_dir)?;
        let id = match &args.run {
            Some(text) => run_id(text)?,
            None => journal.runs().await?.into_iter().map(|r| r.id).max().ok_or_else(nothing)?,
        };
        journal.run(id).await?;
        let show = Show {
            machine_readable: false,
            json: args.json,
            colour: args.colour.on(),
            timestamps: args.timestamp_ui,
        };
        let report = show.replay();
        let mut from = 0;
        loop {
            let events = journal.events(id, from, BATCH).await?;
            let Some(last) = events.last() else { break };
            from = last.seq + 1;
            for event in &events {
                match serde_json::from_str::<Event>(&event.body) {
                    Ok(event) => report.event(&event),
                    Err(error) => {
                        out::stderr_line(&format!("Event {} cannot be read: {error}", event.seq));
                    }
                }
            }
        }
        report.finish();
        Ok(())
    })
}
