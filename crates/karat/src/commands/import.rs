//! `karat import`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use karat_aws::{Container, Import};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::{assignment, runtime};
use crate::error::Failure;
use crate::report::out;
use crate::{env, signals};

/// Makes an image on a cloud of a disk of this computer.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    Aws(AwsArgs),
}

/// Makes an AMI of a disk, without a machine.
///
/// The disk's blocks go into a snapshot side by side, those that hold nothing aside, and the snapshot
/// becomes the image. A run that was cut off goes on when it is started again.
#[derive(Debug, Args)]
struct AwsArgs {
    /// Name of the image.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where it goes; otherwise the region of the environment or the profile. The first gets the
    /// blocks, the others get copies. May be given several times.
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// What the image says of itself.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// `x86_64` or `arm64`.
    #[arg(long, value_name = "NAME", default_value = "x86_64")]
    architecture: String,
    /// `legacy-bios`, `uefi` or `uefi-preferred`; otherwise what the disk's partitions say.
    #[arg(long = "boot-mode", value_name = "MODE", default_value = "")]
    boot_mode: String,
    /// Sends only the blocks that differ from this snapshot's.
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<String>,
    /// Encrypts the image.
    #[arg(long)]
    encrypt: bool,
    /// The key to encrypt with, an id, an alias or an ARN; otherwise AWS's own. A key is for the
    /// first region, or for the one that is named. May be given several times.
    #[arg(long = "kms-key", value_name = "[REGION=]KEY")]
    kms_key: Vec<String>,
    /// Tag of the image and its snapshots. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    tag: Vec<String>,
    /// Removes what a run that was cut off has sent, and sends nothing.
    #[arg(long)]
    forget: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    /// The disk: raw, qcow2, VMDK, VHD, VHDX, or an OVA with one disk. All but the first two are read
    /// with qemu-img.
    #[arg(value_name = "DISK")]
    disk: PathBuf,
}

pub(crate) fn run(args: ImportArgs) -> Result<(), Failure> {
    let ImportCommand::Aws(args) = args.command;
    aws(args)
}

/// The key of the first region, and those of others.
fn keys(
    given: &[String],
    regions: &[String],
) -> Result<(String, BTreeMap<String, String>), Failure> {
    let (mut own, mut others) = (String::new(), BTreeMap::new());
    for text in given {
        let (region, key) = text.split_once('=').unwrap_or(("", text));
        if region.is_empty() || regions.first().is_some_and(|first| first == region) {
            key.clone_into(&mut own);
        } else if regions.iter().any(|known| known == region) {
            others.insert(region.to_owned(), key.to_owned());
        } else {
            return Err(Failure::new(format!("-kms-key {text}: no copy goes to \"{region}\""))
                .hint("name the region with -region, too"));
        }
    }
    Ok((own, others))
}

fn aws(args: AwsArgs) -> Result<(), Failure> {
    for (what, given, known) in [
        ("architecture", &args.architecture, &["x86_64", "arm64"][..]),
        ("boot-mode", &args.boot_mode, &["", "legacy-bios", "uefi", "uefi-preferred"][..]),
    ] {
        if !known.contains(&given.as_str()) {
            return Err(Failure::new(format!("-{what} has no \"{given}\""))
                .hint(format!("use one of {}", known.join(" ").trim())));
        }
    }
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    let tags: BTreeMap<String, String> = args.tag.iter().map(pair).collect();
    let (key, keys) = keys(&args.kms_key, &args.region)?;
    // Only a name that says something says that a disk is something else.
    let format = args.disk.extension().and_then(|end| Container::from_name(end.to_str()?));
    let import = Import {
        disk: args.disk,
        format,
        name: args.name,
        description: args.description,
        regions: args.region,
        architecture: args.architecture,
        boot_mode: args.boot_mode,
        encrypt: args.encrypt || !args.kms_key.is_empty(),
        key,
        keys,
        parent: args.parent,
        tags,
        state_dir: env::state_dir(),
        token: String::new(),
    };
    let say = |text: String| out::stderr_line(&text);
    runtime()?.block_on(async {
        let cancel = CancellationToken::new();
        let _listener = signals::cancel_on_signal(cancel.clone())?;
        if args.forget {
            if !import.forget(&say, &cancel).await? {
                say("There is nothing to be removed.".into());
            }
            return Ok(());
        }
        let done = import.run(&say, &cancel).await?;
        if args.json {
            let text = json!({
                "images": done.images,
                "snapshot": done.snapshot,
                "blocks": done.blocks,
                "sent": done.sent,
                "resumed": done.resumed,
                "same": done.same,
                "zero": done.zero,
            });
            out::stdout_line(&serde_json::to_string_pretty(&text)?);
            return Ok(());
        }
        out::stdout_line(&format!(
            "{} blocks sent of {}; {} sent before, {} of the parent, {} empty.",
            done.sent, done.blocks, done.resumed, done.same, done.zero
        ));
        for (region, id) in &done.images {
            out::stdout_line(&format!("{region}: {id}"));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_for_regions() {
        let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let regions = texts(&["us-east-1", "eu-west-1"]);
        let (own, others) = keys(&texts(&["alias/a", "eu-west-1=alias/b"]), &regions).unwrap();
        assert_eq!((own.as_str(), others["eu-west-1"].as_str()), ("alias/a", "alias/b"));
        let (own, others) = keys(&texts(&["us-east-1=alias/a"]), &regions).unwrap();
        assert_eq!((own.as_str(), others.len()), ("alias/a", 0));
        assert!(keys(&texts(&["eu-west-2=alias/c"]), &regions).is_err());
    }
}
