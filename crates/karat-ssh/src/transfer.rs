//! Single files, through the machine's shell.
//!
//! A file is written beside its place and put there when it is whole. A large one goes over
//! several channels at once, in parts that the last to arrive puts together: what a server lets
//! wait on one channel (about 2 MB in OpenSSH) is sent in one round trip.

use std::io::Write;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, FutureExt, join_all, select};
use karat_component::{ExitStatus, Stream};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use crate::channel::Input;
use crate::error::SshError;
use crate::session::{FAR, Session};
use crate::shell::{nonce, posix, quote_path};

/// What is held in memory of a file at a time.
pub(crate) const BATCH: usize = 48 << 20;

/// What one channel takes without waiting for the server.
const CHANNEL_WINDOW: usize = 2 << 20;

/// From this size on it is worth asking whether the machine has the file already.
const WORTH_ASKING: usize = 4 << 20;

/// The exit code of our commands when a program is missing on the machine.
pub(crate) const MISSING: i32 = 95;

/// Bytes for the machine and what becomes of them there.
///
/// The shell texts see the place as `$p` and the file with all bytes as `$t`.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Sets `p`, `d` (the folder to write in, ending in `/`) and whatever else is needed.
    pub(crate) place: String,
    /// Puts the file that is whole where it belongs, and removes `$t`.
    pub(crate) finish: String,
    nonce: String,
}

impl Delivery {
    pub(crate) fn new(place: String, finish: String) -> Self {
        Self { place, finish, nonce: nonce() }
    }

    /// A file at `path`: an existing one keeps its owner and, without `mode`, its mode.
    fn file(path: &str, mode: Option<u32>) -> Self {
        let place = format!(
            "p={}; case \"$p\" in */*) d=\"${{p%/*}}/\";; *) d=./;; esac; \
             [ -d \"$d\" ] || {{ echo \"there is no folder $d\" >&2; exit 1; }}; ",
            quote_path(path)
        );
        let keep = mode.map(|m| format!(" && chmod {m:o} \"$p\"")).unwrap_or_default();
        let finish = format!(
            "if [ -d \"$p\" ]; then echo \"it is a folder\" >&2; false; \
             elif [ -e \"$p\" ]; then cat \"$t\" >\"$p\" && rm -f \"$t\"{keep}; \
             else chmod {:o} \"$t\" && mv -f \"$t\" \"$p\"; fi",
            mode.unwrap_or(0o644)
        );
        Self::new(place, finish)
    }

    /// Where it is gathered: beside its place, or in the temporary folder if that is closed.
    fn head(&self) -> String {
        format!(
            "{}if [ -w \"$d\" ]; then t=\"$d.karat-{2}\"; else t=\"${{TMPDIR:-{1}}}/.karat-{2}\"; \
             fi; ",
            self.place, "/tmp", self.nonce
        )
    }

    /// The command that takes everything on one channel.
    fn whole(&self, size: usize, last: bool) -> String {
        let finish = if last { self.finish.as_str() } else { ":" };
        // A part that came before stands in the file already.
        posix(&format!(
            "{}(umask 077; cat >\"$t.n\") && [ $(wc -c <\"$t.n\") -eq {size} ] && \
             {{ if [ -e \"$t\" ]; then cat \"$t.n\" >>\"$t\" && rm -f \"$t.n\"; \
             else mv \"$t.n\" \"$t\"; fi; }} && {{ {finish}; }}; r=$?; \
             [ $r -eq 0 ] || rm -f \"$t\" \"$t.n\"; exit $r",
            self.head()
        ))
    }

    /// The command that takes part `index` of `count`. Whoever comes last finishes.
    fn part(&self, index: usize, count: usize, size: usize, last: bool) -> String {
        let finish = if last { self.finish.as_str() } else { ":" };
        let (mut all, mut names) = (String::new(), String::new());
        for i in 0..count {
            all.push_str(&format!("[ -f \"$D/k{i}\" ] || exit 0; "));
            names.push_str(&format!("\"$D/k{i}\" "));
        }
        posix(&format!(
            "{}D=\"$t.d\"; (umask 077; mkdir -p \"$D\" && cat >\"$D/p{index}\") && \
             [ $(wc -c <\"$D/p{index}\") -eq {size} ] && mv \"$D/p{index}\" \"$D/k{index}\" || \
             {{ rm -rf \"$D\"; exit 97; }}; {all}mkdir \"$D/lock\" 2>/dev/null || exit 0; \
             (umask 077; cat {names}>>\"$t\") && rm -rf \"$D\" && {{ {finish}; }}; r=$?; \
             [ $r -eq 0 ] || rm -rf \"$D\" \"$t\"; exit $r",
            self.head()
        ))
    }

    /// The command that removes whatever was left.
    fn remove(&self) -> String {
        posix(&format!("{}rm -rf \"$t\" \"$t.n\" \"$t.d\"", self.head()))
    }
}

/// Reads until `limit` or the end.
async fn batch(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    limit: usize,
) -> std::io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while buffer.len() < limit {
        if buffer.capacity() == buffer.len() {
            buffer.reserve(buffer.len().clamp(64 * 1024, 8 << 20));
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            break;
        }
    }
    Ok(buffer.freeze())
}

impl Session {
    /// Writes a file on the machine. What was cut off never stands at its place. An existing file
    /// keeps its owner and, without `mode`, its mode; a new one without `mode` gets 0644.
    ///
    /// # Errors
    /// [`SshError::Transfer`] with the machine's words, or that it cannot be reached.
    pub async fn upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        if self.config().sftp_only() {
            return self.sftp_upload(content, to, mode, cancel).await;
        }
        let delivery = Delivery::file(to, mode);
        let failed = |e: std::io::Error| SshError::transfer("upload", to, e);
        let mut now = batch(content, BATCH).await.map_err(failed)?;
        // A batch that is not full was the last.
        if now.len() >= WORTH_ASKING && now.len() < BATCH {
            let there = self.is_there(to, &now, mode, cancel).boxed();
            let sent = self.deliver(&delivery, &now, true, to, cancel).boxed();
            return match select(there, sent).await {
                // What was on its way is dropped, and what came of it removed.
                Either::Left((Ok(true), _)) => {
                    let _ = self.capture(delivery.remove(), Input::Nothing, cancel).await;
                    Ok(())
                }
                Either::Left((_, sent)) => sent.await,
                Either::Right((done, _)) => done,
            };
        }
        loop {
            let next = if now.len() < BATCH {
                Bytes::new()
            } else {
                batch(content, BATCH).await.map_err(failed)?
            };
            self.deliver(&delivery, &now, next.is_empty(), to, cancel).await?;
            if next.is_empty() {
                return Ok(());
            }
            now = next;
        }
    }

    /// Whether the machine has a file of these very bytes at this place. If so, it gets `mode`.
    async fn is_there(
        &self,
        path: &str,
        content: &Bytes,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<bool, SshError> {
        let size = content.len();
        let script = posix(&format!(
            "p={}; [ -f \"$p\" ] && [ $(wc -c <\"$p\") -eq {size} ] && sha256sum <\"$p\"",
            quote_path(path)
        ));
        let content = content.clone();
        let ours = tokio::task::spawn_blocking(move || {
            use std::fmt::Write as _;
            Sha256::digest(&content).iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        });
        let theirs = self.capture(script, Input::Nothing, cancel).await?;
        if !theirs.status.success() || theirs.stdout.len() < 64 {
            return Ok(false);
        }
        if ours.await.is_ok_and(|ours| theirs.stdout.starts_with(ours.as_bytes())) {
            if let Some(mode) = mode {
                let script = posix(&format!("chmod {mode:o} {}", quote_path(path)));
                return Ok(self.capture(script, Input::Nothing, cancel).await?.status.success());
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Sends bytes over as many channels as it pays for, and has them finished if they are the
    /// `last`.
    pub(crate) async fn deliver(
        &self,
        delivery: &Delivery,
        content: &Bytes,
        last: bool,
        path: &str,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let live = self.live().await;
        let parts = if live.round_trip() < FAR {
            1
        } else {
            content.len().div_ceil(CHANNEL_WINDOW).clamp(1, live.spare())
        };
        let commands: Vec<(String, Bytes)> = if parts == 1 {
            vec![(delivery.whole(content.len(), last), content.clone())]
        } else {
            let size = content.len().div_ceil(parts);
            (0..parts)
                .map(|i| {
                    let piece = content.slice(i * size..((i + 1) * size).min(content.len()));
                    (delivery.part(i, parts, piece.len(), last), piece)
                })
                .collect()
        };
        let mut sending = Vec::new();
        for (command, piece) in commands {
            sending.push(self.capture(command, Input::Bytes(piece), cancel).boxed());
        }
        let all = join_all(sending).await;
        let mut wrong = None;
        let lost = all
            .iter()
            .any(|one| one.as_ref().map_or(true, |done| done.status == ExitStatus::Disconnected));
        for one in all {
            match one {
                Ok(done) if done.status.success() => {}
                Ok(done) if done.status == ExitStatus::Code(MISSING) => {
                    wrong = Some(SshError::Missing);
                }
                Ok(done) => {
                    wrong.get_or_insert(SshError::transfer("upload", path, done.complaint()));
                }
                Err(e) => {
                    wrong.get_or_insert(e);
                }
            }
        }
        let Some(wrong) = wrong else { return Ok(()) };
        if !lost && !live.is_closed() {
            let forget = CancellationToken::new();
            let _ = self.capture(delivery.remove(), Input::Nothing, &forget).await;
        }
        Err(wrong)
    }

    /// Fetches a file. What was cut off never stands at its place.
    ///
    /// # Errors
    /// [`SshError::Transfer`] with the machine's words, or that it cannot be reached.
    pub async fn download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        if self.config().sftp_only() {
            return self.sftp_download(from, to, cancel).await;
        }
        let failed = |e: &dyn std::fmt::Display| SshError::transfer("download", from, e);
        let mut file = beside(to).map_err(|e| failed(&e))?;
        let command = posix(&format!(
            "p={}; [ -d \"$p\" ] && {{ echo \"it is a folder\" >&2; exit 1; }}; cat <\"$p\"",
            quote_path(from)
        ));
        let (mut wrong, mut stderr) = (None, Vec::new());
        let status = self
            .run(command, Input::Nothing, false, false, cancel, |stream, bytes| match stream {
                Stream::Stdout if wrong.is_none() => wrong = file.write_all(bytes).err(),
                Stream::Stdout => {}
                Stream::Stderr => stderr.extend_from_slice(bytes),
            })
            .await?;
        if let Some(e) = wrong {
            return Err(failed(&format!("{}: {e}", to.display())));
        }
        if !status.success() {
            let done = crate::session::Captured { status, stdout: Vec::new(), stderr };
            return Err(failed(&done.complaint()));
        }
        file.persist(to).map_err(|e| failed(&format!("{}: {}", to.display(), e.error)))?;
        Ok(())
    }
}

/// A file beside `to` that becomes it when it is whole, with the mode of any new file.
pub(crate) fn beside(to: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".karat-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", folder.display())))
}
