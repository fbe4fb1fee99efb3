//! `karat version`

use clap::Args;

use crate::cli::Global;
use crate::error::Failure;
use crate::report::{machine, out};

/// Prints the version.
///
/// Under the name packer it is Packer's first, which is what scripts look for.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {}

pub(crate) fn run(_: VersionArgs, global: Global) -> Result<(), Failure> {
    let (own, packer) = (env!("CARGO_PKG_VERSION"), karat_template::PACKER_VERSION);
    let (version, text) = if global.as_packer {
        (packer, format!("Packer v{packer} (Karat v{own})"))
    } else {
        (own, format!("Karat v{own} (does what Packer v{packer} does)"))
    };
    if global.machine_readable {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        machine::record(now, "", "version", &[version]);
        // Misspelt in the original, and matched by scripts.
        machine::record(now, "", "version-prelease", &[""]);
        machine::record(now, "", "version-commit", &[""]);
        machine::record(now, "", "ui", &["say", &text]);
        return Ok(());
    }
    out::stdout_line(&text);
    Ok(())
}
