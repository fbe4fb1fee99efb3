//! `karat gc`

use clap::Args;
use karat_engine::Records;
use karat_layers::{Digest, Store};
use karat_saga::Journal;

use crate::cli::runtime;
use crate::env;
use crate::error::Failure;
use crate::report::out;

/// Removes layers that no build needs any more.
///
/// Kept are the layers that each build of each template made last, and those below them.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Also forgets the builds of templates that are gone.
    #[arg(long)]
    prune: bool,
}

pub(crate) fn run(args: GcArgs) -> Result<(), Failure> {
    let state_dir = env::state_dir();
    if !state_dir.join("layers").exists() {
        out::stdout_line("Nothing to remove.");
        return Ok(());
    }
    let live = runtime()?.block_on(async {
        let journal = Journal::open(&state_dir)?;
        Ok::<_, Failure>(journal.runs().await?.into_iter().find(|run| run.live))
    })?;
    if let Some(run) = live {
        return Err(Failure::new(format!("run {} is under way", run.id))
            .hint("wait for it: its layers may not be removed"));
    }
    let records = Records::new(&state_dir);
    if args.prune {
        records.prune().map_err(|e| Failure::new(format!("cannot forget builds: {e}")))?;
    }
    let store = Store::open(&state_dir)?;
    let keep: Vec<Digest> = records
        .all()
        .iter()
        .filter_map(|record| record.artifact.attributes.get("layer")?.as_str()?.parse().ok())
        .filter(|digest| store.has(*digest))
        .collect();
    let removed = store.gc(&keep)?;
    out::stdout_line(&format!(
        "Removed {} layers, {}.",
        removed.layers.len(),
        indicatif::HumanBytes(removed.bytes)
    ));
    Ok(())
}
