//! Step `provision`: provisioners run in the volume, by `chroot`.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use karat_component::{
    Communicator, CommunicatorError, ExitStatus, Generated, Output, ProvisionHook, RemoteCommand,
    RemoteScript, Stream, dir_target,
};
use karat_saga::{Step, StepContext, StepError};
use karat_value::Value;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::super::node;
use super::super::preflight::Found;
use super::super::provision::facts;
use super::super::scope::Scope;
use super::super::source::SourceImage;
use super::commands::{Commands, quoted};
use super::here::Here;
use super::mounts::{Mounted, inside};
use super::volume::Attached;

/// Reaches a folder of this machine as if it were a machine of its own.
#[derive(Clone)]
struct Chroot {
    commands: Commands,
    root: String,
}

impl fmt::Debug for Chroot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chroot").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Writes what it reads to a file, which appears whole or not at all. The path is the first
/// argument, its mode the second.
const RECEIVE: &str = "mkdir -p \"$(dirname \"$1\")\" && t=\"$1.karat-$$\" && cat > \"$t\" && \
     chmod \"$2\" \"$t\" && if [ -d \"$1\" ]; then rm -f \"$t\"; echo 'it is a folder' >&2; exit 1; \
     else mv -f \"$t\" \"$(readlink -f \"$1\" || echo \"$1\")\"; fi || { rm -f \"$t\"; exit 1; }";

impl Chroot {
    /// A command line for a shell in the folder.
    fn line(&self, line: &str, arguments: &[&str]) -> String {
        let arguments: String = arguments.iter().map(|a| format!(" {}", quoted(a))).collect();
        let name = if arguments.is_empty() { "" } else { " sh" };
        format!("chroot {} /bin/sh -c {}{name}{arguments}", quoted(&self.root), quoted(line))
    }

    async fn run(
        &self,
        command: &str,
        stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
        output: &Output,
        cancel: &CancellationToken,
    ) -> Result<ExitStatus, CommunicatorError> {
        let done = self.commands.run(command, stdin, output, cancel).await;
        done.map_err(|error| match cancel.is_cancelled() {
            true => CommunicatorError::Cancelled,
            false => CommunicatorError::Failed { what: error.to_string() },
        })
    }

    /// Runs a command that moves files; what it complains about is the reason that is told.
    async fn transfer(
        &self,
        (verb, path): (&'static str, &str),
        command: &str,
        stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let complaint = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&complaint);
        let output = Output::new(move |stream, bytes| {
            if stream == Stream::Stderr {
                heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            }
        });
        let status = self.run(command, stdin, &output, cancel).await?;
        if status.success() {
            return Ok(());
        }
        let complaint = complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = String::from_utf8_lossy(&complaint).trim().to_owned();
        let reason = if reason.is_empty() { status.to_string() } else { reason };
        Err(CommunicatorError::Transfer { verb, path: path.to_owned(), reason })
    }
}

#[async_trait]
impl Communicator for Chroot {
    fn kind(&self) -> &'static str {
        "chroot"
    }

    async fn exec(&self, mut command: RemoteCommand) -> Result<ExitStatus, CommunicatorError> {
        let line = self.line(&command.line, &[]);
        let stdin = command.stdin.as_mut().map(|s| &mut **s as &mut (dyn AsyncRead + Send + Unpin));
        self.run(&line, stdin, &command.output, &command.cancel).await
    }

    async fn run_script(&self, script: RemoteScript) -> Result<ExitStatus, CommunicatorError> {
        let sent = async {
            for file in &script.files {
                let mut content: &[u8] = &file.content;
                self.upload(&mut content, &file.path, Some(file.mode), &script.cancel).await?;
            }
            Ok(())
        };
        let result = match sent.await {
            Ok(()) => {
                let line = self.line(&script.line, &[]);
                self.run(&line, None, &script.output, &script.cancel).await
            }
            Err(error) => Err(error),
        };
        if script.clean {
            let paths: Vec<&str> = script.files.iter().map(|f| f.path.as_str()).collect();
            let line = self.line("rm -f -- \"$@\"", &paths);
            // It is removed after a cancellation as well.
            let cancel = CancellationToken::new();
            let first = paths.first().copied().unwrap_or_default();
            let removed = self.transfer(("remove", first), &line, None, &cancel).await;
            if result.is_ok() && !paths.is_empty() {
                removed?;
            }
        }
        result
    }

    async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let path = inside("", to);
        let mode = format!("{:o}", mode.unwrap_or(0o644));
        let line = self.line(RECEIVE, &[&path, &mode]);
        self.transfer(("upload", to), &line, Some(content), cancel).await
    }

    async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let target = dir_target(from, to);
        let path = quoted(&inside(&self.root, &target.to_string_lossy()));
        let what = ("upload", to);
        self.transfer(what, &format!("mkdir -p {path}"), None, cancel).await?;
        let from = quoted(&format!("{}/.", from.display()));
        // Links are followed, as they are to other machines.
        self.transfer(what, &format!("cp -RL --preserve=mode {from} {path}"), None, cancel).await
    }

    async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let failed = |error: std::io::Error| CommunicatorError::Transfer {
            verb: "download",
            path: from.to_owned(),
            reason: error.to_string(),
        };
        let draft = to.with_extension(format!("karat-{}", std::process::id()));
        let file = std::fs::File::create(&draft).map_err(failed)?;
        let (sink, complaint) =
            (Arc::new(Mutex::new((file, None))), Arc::new(Mutex::new(Vec::new())));
        let (writes, heard) = (Arc::clone(&sink), Arc::clone(&complaint));
        let output = Output::new(move |stream, bytes| {
            use std::io::Write as _;
            if stream == Stream::Stderr {
                heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                return;
            }
            let mut sink = writes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = sink.0.write_all(bytes) {
                sink.1.get_or_insert(error);
            }
        });
        let line = self.line("exec cat -- \"$1\"", &[&inside("", from)]);
        let done = self.run(&line, None, &output, cancel).await;
        let unwritten = sink.lock().unwrap_or_else(PoisonError::into_inner).1.take();
        let result = match (done, unwritten) {
            (Err(error), _) => Err(error),
            (_, Some(error)) => Err(failed(error)),
            (Ok(status), None) if !status.success() => {
                let complaint = complaint.lock().unwrap_or_else(PoisonError::into_inner);
                Err(CommunicatorError::Transfer {
                    verb: "download",
                    path: from.to_owned(),
                    reason: String::from_utf8_lossy(&complaint).trim().to_owned(),
                })
            }
            _ => std::fs::rename(&draft, to).map_err(failed),
        };
        if result.is_err() {
            // What is half there is of no use.
            let _ = std::fs::remove_file(&draft);
        }
        result
    }

    async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), CommunicatorError> {
        let target = dir_target(Path::new(from), &to.to_string_lossy());
        let (path, what) = (quoted(&target.to_string_lossy()), ("download", from));
        self.transfer(what, &format!("mkdir -p {path}"), None, cancel).await?;
        let from = quoted(&format!("{}/.", inside(&self.root, from)));
        self.transfer(what, &format!("cp -RL --preserve=mode {from} {path}"), None, cancel).await
    }

    async fn reconnect(&self, _: &CancellationToken) -> Result<(), CommunicatorError> {
        Ok(())
    }
}

/// Runs the provisioners in the volume. What they did goes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProvisionInside {
    pub(crate) scope: Scope,
    pub(crate) wrapper: String,
}

impl Step for ProvisionInside {
    const KIND: &'static str = "aws.provision-inside";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let hook = cx.service::<dyn ProvisionHook>()?;
        if hook.is_empty() {
            return Ok(());
        }
        let mounted: Mounted = cx.output(node::MOUNT)?;
        let attached: Attached = cx.output(node::ATTACH)?;
        let (here, found): (Here, Found) = (cx.output(node::HERE)?, cx.output(node::PREFLIGHT)?);
        let source: SourceImage = cx.output(node::SOURCE)?;
        let mut generated: Generated = facts(&here.instance, &source, &found.region, cx)?;
        generated.insert("ConnType".into(), Value::string("chroot"));
        generated.insert("Device".into(), Value::string(attached.device.as_str()));
        generated.insert("MountPath".into(), Value::string(mounted.path.as_str()));
        let commands = Commands::new(cx, &self.wrapper);
        let communicator = Arc::new(Chroot { commands, root: mounted.path });
        hook.provision(communicator, generated, cx.token()).await
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}
