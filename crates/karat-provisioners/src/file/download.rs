//! Files and folders from the machine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use karat_component::{
    CommunicatorError, ComponentError, ExitStatus, Output, ProvisionContext, RemoteCommand, Stream,
};

use super::upload::PATIENCE;
use crate::reach::Away;
use crate::shell::run::remote_word;

/// Fetches files and folders, one after the other.
pub(super) async fn all(
    sources: &[String],
    destination: &str,
    cx: &ProvisionContext,
) -> Result<(), ComponentError> {
    for source in sources {
        if source.contains(['*', '?', '[']) {
            for (found, is_folder) in matches(source, cx).await? {
                let found = if is_folder { format!("{found}/") } else { found };
                let into = format!("{}/", destination.trim_end_matches('/'));
                one(&found, &into, is_folder, cx).await?;
            }
        } else {
            one(source, destination, source.ends_with('/'), cx).await?;
        }
    }
    Ok(())
}

async fn one(
    source: &str,
    destination: &str,
    is_folder: bool,
    cx: &ProvisionContext,
) -> Result<(), ComponentError> {
    if cx.cancel.is_cancelled() {
        return Err(ComponentError::cancelled());
    }
    let goal = match (is_folder, destination.ends_with('/')) {
        (true, _) => PathBuf::from(destination),
        (false, true) => Path::new(destination).join(last_part(source)),
        (false, false) if Path::new(destination).is_dir() => {
            return Err(ComponentError::new(format!(
                "\"{destination}\" is a folder, and \"{source}\" a file"
            ))
            .with_hint("write the destination with a \"/\" at its end to put the file into it"));
        }
        (false, false) => PathBuf::from(destination),
    };
    cx.events.say(format!("Downloading {source} => {}", goal.display()));
    let folder = match is_folder {
        true => goal.clone(),
        false => goal.parent().map(Path::to_owned).unwrap_or_default(),
    };
    if !folder.as_os_str().is_empty() {
        tokio::fs::create_dir_all(&folder).await.map_err(|e| {
            ComponentError::because(format!("cannot make the folder \"{}\"", folder.display()), e)
        })?;
    }
    fetch(source, &goal, is_folder, cx).await.map_err(|error| {
        let error = ComponentError::from(error);
        match is_folder || error.is_cancelled() {
            true => error,
            false => error.with_hint("to fetch a folder, write its name with a \"/\" at its end"),
        }
    })
}

async fn fetch(
    source: &str,
    goal: &Path,
    is_folder: bool,
    cx: &ProvisionContext,
) -> Result<(), CommunicatorError> {
    let mut away = Away::new(&*cx.communicator, PATIENCE, &cx.cancel);
    loop {
        let fetched = match is_folder {
            true => cx.communicator.download_dir(source, goal, &cx.cancel).await,
            false => cx.communicator.download(source, goal, &cx.cancel).await,
        };
        match fetched {
            Ok(()) => return Ok(()),
            Err(error) => away.wait(error).await?,
        }
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What a pattern stands for on the machine, and whether each is a folder.
async fn matches(
    pattern: &str,
    cx: &ProvisionContext,
) -> Result<Vec<(String, bool)>, ComponentError> {
    let text: Arc<Mutex<Vec<u8>>> = Arc::default();
    let sink = Arc::clone(&text);
    let line = format!(
        "for f in {}; do if [ -d \"$f\" ]; then printf 'd%s\\0' \"$f\"; elif [ -e \"$f\" ]; then \
         printf 'f%s\\0' \"$f\"; fi; done",
        quoted_pattern(pattern)
    );
    let command = RemoteCommand {
        output: Output::new(move |stream, bytes| {
            if stream == Stream::Stdout {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            }
        }),
        cancel: cx.cancel.clone(),
        ..RemoteCommand::new(line)
    };
    let status = cx.communicator.exec(command).await?;
    let bytes = std::mem::take(&mut *text.lock().unwrap_or_else(PoisonError::into_inner));
    let found: Vec<(String, bool)> = bytes
        .split(|b| *b == 0)
        .filter_map(|entry| {
            let text = String::from_utf8_lossy(entry);
            let (kind, name) = (text.chars().next()?, text.get(1..)?);
            Some((name.to_owned(), kind == 'd'))
        })
        .collect();
    match (status, found.is_empty()) {
        (ExitStatus::Code(0), false) => Ok(found),
        (ExitStatus::Code(_), _) => {
            Err(ComponentError::new(format!("nothing on the machine matches \"{pattern}\"")))
        }
        (status, _) => Err(ComponentError::new(format!(
            "cannot look for \"{pattern}\" on the machine: {status}"
        ))),
    }
}

/// The pattern for a shell: everything but what makes it a pattern is quoted.
fn quoted_pattern(pattern: &str) -> String {
    let mut out = String::new();
    let mut plain = String::new();
    for c in pattern.chars() {
        if matches!(c, '*' | '?' | '[' | ']') {
            if !plain.is_empty() {
                out.push_str(&remote_word(&plain));
                plain.clear();
            }
            out.push(c);
        } else {
            plain.push(c);
        }
    }
    if !plain.is_empty() {
        out.push_str(&remote_word(&plain));
    }
    out
}
