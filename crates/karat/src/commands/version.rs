//! `karat version`

use clap::Args;

use crate::cli::Global;
use crate::error::Failure;
use crate::report::{machine, out};

/// Prints the version.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {}

pub(crate) fn run(_: VersionArgs, global: Global) -> Result<(), Failure> {
    let (own, packer) = (env!("CARGO_PKG_VERSION"), karat_template::PACKER_VERSION);
    if global.machine_readable {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        machine::record(now, "", "version", &[own]);
        // Misspelt in the original, and matched by scripts.
        machine::record(now, "", "version-prelease", &[""]);
        machine::record(now, "", "version-commit", &[""]);
        machine::record(now, "", "ui", &["say", &format!("Karat v{own}")]);
        return Ok(());
    }
    out::stdout_line(&format!("Karat v{own} (does what Packer v{packer} does)"));
    Ok(())
}
