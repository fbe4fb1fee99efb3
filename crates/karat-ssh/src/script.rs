//! A script in one exchange: sent, run and removed by one command.
//!
//! The command's input is the line that runs the script, then the files. The line comes that way
//! since it carries the environment: on the command line every user of the machine could read it.
//! The input ends after the files; the script itself reads nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use futures::future::{Either, FutureExt, select};
use karat_component::{ExitStatus, RemoteFile, Stream};
use tokio_util::sync::CancellationToken;

use crate::channel::Input;
use crate::error::SshError;
use crate::session::Session;
use crate::shell::{nonce, posix, quote_path};

/// The code with which our part of the command ends when it could not write the files.
const NOT_WRITTEN: i32 = 99;

/// What is to be sent and run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script<'a> {
    pub(crate) files: &'a [RemoteFile],
    pub(crate) line: &'a str,
    pub(crate) clean: bool,
}

impl Session {
    /// Sends files, runs a command line by a POSIX shell and removes the files if `clean` is set.
    ///
    /// A connection cut in the middle of the files runs nothing. With `ssh_pty` the files go
    /// first and the line second, since a terminal does not carry bytes unchanged.
    ///
    /// # Errors
    /// As [`Session::exec`], and when the files could not be written.
    pub async fn run_script(
        &self,
        files: &[RemoteFile],
        line: &str,
        clean: bool,
        cancel: &CancellationToken,
        sink: impl FnMut(Stream, &[u8]) + Send,
    ) -> Result<ExitStatus, SshError> {
        let script = Script { files, line, clean };
        if !self.config().ssh_pty {
            return self.send_and_run(script, cancel, sink).await;
        }
        let first = Script { line: ":", clean: false, ..script };
        let sent = self.send_and_run(first, cancel, |_, _| {}).await?;
        if !sent.success() {
            return Ok(sent);
        }
        let mut text = format!("({line}\n); r=$?; ");
        if clean {
            text.push_str(&remove(files));
        }
        text.push_str("exit $r");
        self.run(posix(&text), Input::Nothing, true, true, cancel, sink).await
    }

    async fn send_and_run(
        &self,
        script: Script<'_>,
        cancel: &CancellationToken,
        mut sink: impl FnMut(Stream, &[u8]) + Send,
    ) -> Result<ExitStatus, SshError> {
        let token = format!("karat-{}", nonce());
        let (command, input) = script.exchange(&token);
        let mut ours = Ours::new(&token);
        let process = Arc::clone(&ours.process);
        let running = self
            .run(command, Input::Bytes(input), false, true, cancel, |stream, bytes| {
                let rest = if stream == Stream::Stderr { ours.take(bytes) } else { None };
                sink(stream, rest.as_deref().unwrap_or(bytes));
            })
            .boxed();
        // A server of root's own session signals nothing, so that is done beside it.
        let ended = match select(running, self.end_group(&process, cancel).boxed()).await {
            Either::Left((ended, _)) => ended,
            Either::Right(((), running)) => running.await,
        };
        let failure = ours.failure;
        if matches!(ended, Err(SshError::Cancelled)) && script.clean {
            // The command's own clean-up may have been killed with it.
            let forget = CancellationToken::new();
            let _ = self.capture(posix(&remove(script.files)), Input::Nothing, &forget).await;
        }
        let status = ended?;
        match failure {
            Some(reason) if status == ExitStatus::Code(NOT_WRITTEN) => {
                let path = script.files.first().map_or("", |f| f.path.as_str());
                let reason = String::from_utf8_lossy(&reason).trim().to_owned();
                let reason = if reason.is_empty() { "it was cut off".into() } else { reason };
                Err(SshError::transfer("upload", path, reason))
            }
            _ => Ok(status),
        }
    }
}

impl Session {
    /// When cancelled, ends the process group of the script.
    async fn end_group(&self, process: &AtomicU32, cancel: &CancellationToken) {
        cancel.cancelled().await;
        let process = process.load(Ordering::Relaxed);
        if process == 0 {
            return;
        }
        let forget = CancellationToken::new();
        let script = posix(&format!(
            "g=$(cut -d\" \" -f5 /proc/{process}/stat 2>/dev/null) || g={process}; \
             kill -TERM -$g 2>/dev/null || kill -TERM {process}; sleep 2; \
             kill -KILL -$g 2>/dev/null"
        ));
        let _ = self.capture(script, Input::Nothing, &forget).await;
    }
}

/// What our part of the command says among the script's own words.
#[derive(Debug)]
struct Ours {
    token: Vec<u8>,
    /// The shell's process number; 0 until it has told.
    process: Arc<AtomicU32>,
    /// Why the files could not be written.
    failure: Option<Vec<u8>>,
}

impl Ours {
    fn new(token: &str) -> Self {
        Self { token: token.as_bytes().to_vec(), process: Arc::default(), failure: None }
    }

    /// Takes our words out of a piece; `None` where there are none.
    fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if let Some(reason) = &mut self.failure {
            reason.extend_from_slice(bytes);
            return Some(Vec::new());
        }
        let at = find(bytes, &self.token)?;
        let mut rest = bytes[..at].to_vec();
        let mut after = &bytes[at + self.token.len()..];
        if self.process.load(Ordering::Relaxed) == 0 {
            let end = find(after, b"\n").unwrap_or(after.len());
            let number = std::str::from_utf8(&after[..end]).unwrap_or_default().trim();
            self.process.store(number.parse().unwrap_or(0), Ordering::Relaxed);
            after = after.get(end + 1..).unwrap_or_default();
            match find(after, &self.token) {
                Some(0) => after = &after[self.token.len()..],
                _ => {
                    rest.extend_from_slice(after);
                    return Some(rest);
                }
            }
        }
        self.failure = Some(after.to_vec());
        Some(rest)
    }
}

impl Script<'_> {
    /// The command and its input.
    fn exchange(&self, token: &str) -> (String, Bytes) {
        let lines = self.line.split('\n').count();
        let size: usize = self.files.iter().map(|f| f.content.len()).sum();
        let mut input = BytesMut::with_capacity(self.line.len() + 1 + size);
        input.extend_from_slice(self.line.as_bytes());
        input.extend_from_slice(b"\n");
        for file in self.files {
            input.extend_from_slice(&file.content);
        }
        // `read` takes no byte more than the line, so that the files follow at the right place.
        let mut text = format!(
            "IFS=; c=; i=0; n=\"$(printf \"\\nx\")\"; n=\"${{n%x}}\"; \
             while [ $i -lt {lines} ] && read -r l; do c=\"$c$l$n\"; i=$((i+1)); done; unset IFS; "
        );
        text.push_str(&format!("printf \"%s %s\\n\" {token} $$ >&2; "));
        text.push_str(&format!("e=$( (umask 077; {}) 2>&1 ) || {{ ", self.write(size)));
        text.push_str(&remove(self.files));
        text.push_str(&format!("printf \"%s %s\" {token} \"$e\" >&2; exit {NOT_WRITTEN}; }}; "));
        if self.clean {
            // Told to end, it still cleans up.
            text.push_str(&format!("k() {{ {}}}; ", remove(self.files)));
            for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
                text.push_str(&format!("trap \"k; exit {code}\" {signal}; "));
            }
        }
        text.push_str("(eval \"$c\") </dev/null; r=$?; ");
        if self.clean {
            text.push_str(&remove(self.files));
        }
        text.push_str("exit $r");
        (posix(&text), input.freeze())
    }

    /// Shell text that writes the files from the input and checks that they are whole.
    fn write(&self, size: usize) -> String {
        let mut parts = Vec::new();
        match self.files {
            [] => parts.push("cat >/dev/null".to_owned()),
            [only] => {
                let path = quote_path(&only.path);
                // A file of that name may belong to somebody else, or be a link.
                parts.push(format!("rm -f {path}"));
                parts.push(format!("cat >{path}"));
                parts.push(format!("[ $(wc -c <{path}) -eq {size} ]"));
                parts.push(format!("chmod {:o} {path}", only.mode));
            }
            [first, ..] => {
                let whole = quote_path(&format!("{}.files", first.path));
                parts.push(format!("cat >{whole}"));
                parts.push(format!("[ $(wc -c <{whole}) -eq {size} ]"));
                let mut at = 1;
                for file in self.files {
                    let path = quote_path(&file.path);
                    let length = file.content.len();
                    parts.push(format!("rm -f {path}"));
                    parts.push(format!("tail -c +{at} {whole} | head -c {length} >{path}"));
                    parts.push(format!("chmod {:o} {path}", file.mode));
                    at += length;
                }
            }
        }
        parts.join(" && ")
    }
}

/// Shell text that removes the files, and the one they came in.
fn remove(files: &[RemoteFile]) -> String {
    let mut paths: Vec<String> = files.iter().map(|f| quote_path(&f.path)).collect();
    match files {
        [] => return ":; ".to_owned(),
        [_] => {}
        [first, ..] => paths.push(quote_path(&format!("{}.files", first.path))),
    }
    format!("rm -f {}; ", paths.join(" "))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}
