//! Files and folders to the machine.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use karat_component::{CommunicatorError, ComponentError, ProvisionContext};

use super::progress::Counted;
use crate::reach::Away;

/// How long a machine that is just rebooting is waited for.
pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// Writes a text to a file on the machine.
pub(super) async fn content(
    content: &str,
    destination: &str,
    cx: &ProvisionContext,
) -> Result<(), ComponentError> {
    cx.events.say(format!("Uploading content => {destination}"));
    let mut away = Away::new(&*cx.communicator, PATIENCE, &cx.cancel);
    loop {
        let mut bytes = content.as_bytes();
        match cx.communicator.upload(&mut bytes, destination, None, &cx.cancel).await {
            Ok(()) => return Ok(()),
            Err(error) => away.wait(error).await?,
        }
    }
}

/// Sends files and folders, one after the other.
pub(super) async fn all(
    sources: &[String],
    destination: &str,
    cx: &ProvisionContext,
) -> Result<(), ComponentError> {
    let mut goals: BTreeMap<String, &str> = BTreeMap::new();
    let mut plan = Vec::new();
    for source in sources {
        let meta = tokio::fs::metadata(source).await.map_err(|e| missing(source, e, cx))?;
        let goal = match meta.is_dir() {
            true => destination.to_owned(),
            false => file_goal(source, destination),
        };
        if !meta.is_dir()
            && let Some(other) = goals.insert(goal.clone(), source)
        {
            return Err(ComponentError::new(format!(
                "\"{other}\" and \"{source}\" would both become \"{goal}\""
            ))
            .with_hint(
                "write the destination with a \"/\" at its end to put files into a folder",
            ));
        }
        plan.push((source, goal, meta));
    }
    for (source, goal, meta) in plan {
        if cx.cancel.is_cancelled() {
            return Err(ComponentError::cancelled());
        }
        cx.events.say(format!("Uploading {source} => {goal}"));
        send(source, &goal, &meta, cx).await?;
    }
    Ok(())
}

async fn send(
    source: &str,
    goal: &str,
    meta: &std::fs::Metadata,
    cx: &ProvisionContext,
) -> Result<(), CommunicatorError> {
    let mut away = Away::new(&*cx.communicator, PATIENCE, &cx.cancel);
    loop {
        let sent = match meta.is_dir() {
            true => cx.communicator.upload_dir(Path::new(source), goal, &cx.cancel).await,
            false => file(source, goal, meta, cx).await,
        };
        match sent {
            Ok(()) => return Ok(()),
            Err(error) => away.wait(error).await?,
        }
    }
}

async fn file(
    source: &str,
    goal: &str,
    meta: &std::fs::Metadata,
    cx: &ProvisionContext,
) -> Result<(), CommunicatorError> {
    let failed = |e: std::io::Error| CommunicatorError::Transfer {
        verb: "upload",
        path: source.to_owned(),
        reason: e.to_string(),
    };
    let from = tokio::fs::File::open(source).await.map_err(failed)?;
    let mode = meta.permissions().mode() & 0o777;
    let mut from = Counted::new(from, &format!("uploading {source}"), meta.len(), &cx.events);
    cx.communicator.upload(&mut from, goal, Some(mode), &cx.cancel).await
}

fn missing(source: &str, error: std::io::Error, cx: &ProvisionContext) -> ComponentError {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => cx.build.path_hint(),
        _ => "The file has to be readable for the user who runs the command.".to_owned(),
    };
    ComponentError::because(format!("cannot read the source \"{source}\""), error).with_hint(hint)
}

/// A file that goes into a folder keeps its name.
fn file_goal(source: &str, destination: &str) -> String {
    match Path::new(source).file_name() {
        Some(name) if destination.ends_with('/') => {
            format!("{destination}{}", name.to_string_lossy())
        }
        _ => destination.to_owned(),
    }
}
