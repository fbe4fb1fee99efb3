//! `karat runs`

use clap::Args;
use karat_saga::{Journal, RunState, SagaState};

use crate::cli::runtime;
use crate::env;
use crate::error::Failure;
use crate::report::human::long_duration;
use crate::report::out;

/// Lists the runs of this machine, the newest first.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Prints a line of JSON for each.
    #[arg(long)]
    json: bool,
    /// How many at most; 0 is all.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

pub(crate) fn run(args: RunsArgs) -> Result<(), Failure> {
    let state_dir = env::state_dir();
    if !state_dir.join("journal.db").exists() {
        return Ok(());
    }
    runtime()?.block_on(async {
        let journal = Journal::open(&state_dir)?;
        let mut runs = journal.runs().await?;
        runs.sort_by_key(|run| std::cmp::Reverse(run.started_ms));
        if args.limit > 0 {
            runs.truncate(args.limit);
        }
        for run in runs {
            let sagas = if run.unsettled > 0 { journal.sagas(run.id).await? } else { Vec::new() };
            let kept = sagas.iter().any(|saga| saga.state == SagaState::Aborted);
            let state = match run.state {
                RunState::Running if run.live => "running",
                RunState::Running if kept => "kept",
                RunState::Running => "died",
                state => state.as_str(),
            };
            let template = run.info.template.clone().unwrap_or_default();
            if args.json {
                let json = serde_json::json!({
                    "id": run.id.to_string(),
                    "state": state,
                    "started": run.started_ms,
                    "ended": run.ended_ms,
                    "template": template,
                    "command": run.info.command,
                    "unsettled": run.unsettled,
                });
                out::stdout_line(&json.to_string());
                continue;
            }
            let started = jiff::Timestamp::from_millisecond(run.started_ms).unwrap_or_default();
            let started = started.to_zoned(jiff::tz::TimeZone::system());
            let took = run.ended_ms.map(|end| {
                let millis = u64::try_from(end - run.started_ms).unwrap_or(0);
                long_duration(std::time::Duration::from_millis(millis))
            });
            let left = match (kept, run.unsettled > 0 && !run.live) {
                (true, true) => "  (karat resume, or karat recover --aborted)",
                (false, true) => "  (karat recover)",
                (_, false) => "",
            };
            out::stdout_line(&format!(
                "{}  {}  {state:9}  {:28}  {template}{left}",
                run.id,
                started.strftime("%Y-%m-%d %H:%M:%S"),
                took.unwrap_or_default(),
            ));
        }
        Ok(())
    })
}
