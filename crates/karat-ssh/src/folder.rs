//! Whole folders, each as one stream.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use karat_component::{Stream, dir_target};
use tokio_util::io::SyncIoBridge;
use tokio_util::sync::CancellationToken;

use crate::channel::Input;
use crate::error::SshError;
use crate::session::{FAR, Session};
use crate::shell::{nonce, posix, quote_path};
use crate::transfer::{BATCH, Delivery, MISSING};

/// One thing in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Relative to the folder; empty for the folder itself.
    pub(crate) name: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) is_dir: bool,
    pub(crate) mode: u32,
    pub(crate) size: u64,
}

/// Everything in a folder, folders before their contents, in the order of names. Links are
/// followed, as Packer does; one that leads back to where it lies is an error.
pub(crate) fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut above = Vec::new();
    descend(root, PathBuf::new(), &mut above, &mut entries)?;
    Ok(entries)
}

fn descend(
    path: &Path,
    name: PathBuf,
    above: &mut Vec<(u64, u64)>,
    entries: &mut Vec<Entry>,
) -> io::Result<()> {
    let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let meta = fs::metadata(path).map_err(at)?;
    let id = (meta.dev(), meta.ino());
    if above.contains(&id) {
        return Err(at(io::Error::other("the link leads back to a folder above it")));
    }
    entries.push(Entry {
        name: name.clone(),
        path: path.to_owned(),
        is_dir: meta.is_dir(),
        mode: meta.mode() & 0o7777,
        size: if meta.is_dir() { 0 } else { meta.len() },
    });
    if !meta.is_dir() {
        return Ok(());
    }
    above.push(id);
    let mut names: Vec<_> = fs::read_dir(path)
        .map_err(at)?
        .map(|e| e.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    for child in names {
        descend(&path.join(&child), name.join(&child), above, entries)?;
    }
    above.pop();
    Ok(())
}

/// Writes entries as a tar archive. Owners are left out: the files belong to who logs in.
fn archive(entries: &[Entry], to: impl io::Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(to);
    for entry in entries.iter().filter(|e| !e.name.as_os_str().is_empty()) {
        let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", entry.path.display()));
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_mtime(0);
        if entry.is_dir {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, &entry.name, io::empty()).map_err(at)?;
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(entry.size);
            // A file that grew meanwhile is cut at the size that was announced.
            let file = fs::File::open(&entry.path).map_err(at)?.take(entry.size);
            builder.append_data(&mut header, &entry.name, file).map_err(at)?;
        }
    }
    builder.finish()
}

/// The archive in memory, compressed if time on the wire is dear and it gets smaller.
fn packed(entries: &[Entry], far: bool) -> io::Result<(Vec<u8>, bool)> {
    let mut plain = Vec::new();
    archive(entries, &mut plain)?;
    if !far {
        return Ok((plain, false));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    io::Write::write_all(&mut encoder, &plain)?;
    let small = encoder.finish()?;
    if small.len() < plain.len() / 5 * 4 { Ok((small, true)) } else { Ok((plain, false)) }
}

const NEEDS_TAR: &str = "command -v tar >/dev/null 2>&1 || exit 95; ";

impl Session {
    /// Copies a local folder to the machine, links followed. A source that ends in `/` copies its
    /// contents into `to`, one that does not copies the folder itself below `to`.
    ///
    /// # Errors
    /// [`SshError::Transfer`] with what failed, here or there.
    pub async fn upload_dir(
        &self,
        from: &Path,
        to: &str,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let target = dir_target(from, to).to_string_lossy().into_owned();
        let failed = |e: &dyn std::fmt::Display| SshError::transfer("upload", &target, e);
        let root = from.to_owned();
        let entries = tokio::task::spawn_blocking(move || walk(&root))
            .await
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        if !entries.first().is_some_and(|root| root.is_dir) {
            return Err(failed(&format!("{} is not a folder", from.display())));
        }
        if self.config().sftp_only() {
            return self.sftp_upload_dir(&entries, &target, cancel).await;
        }
        let size: u64 = entries.iter().map(|e| e.size + 1024).sum();
        let sent = if size <= BATCH as u64 {
            self.send_packed(&entries, &target, cancel).await
        } else {
            self.send_streamed(&entries, &target, cancel).await
        };
        match sent {
            Err(SshError::Missing) => self.sftp_upload_dir(&entries, &target, cancel).await,
            other => other,
        }
    }

    async fn send_packed(
        &self,
        entries: &[Entry],
        target: &str,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let far = self.live().await.round_trip() >= FAR;
        let list = entries.to_vec();
        let (bytes, small) = tokio::task::spawn_blocking(move || packed(&list, far))
            .await
            .map_err(|e| SshError::transfer("upload", target, e))?
            .map_err(|e| SshError::transfer("upload", target, e))?;
        let unpack = if small {
            "gzip -dc <\"$t\" | tar -xmof - -C \"$p\""
        } else {
            "tar -xmof \"$t\" -C \"$p\""
        };
        let gzip = if small { "command -v gzip >/dev/null 2>&1 || exit 95; " } else { "" };
        let place = format!(
            "p={}; {NEEDS_TAR}{gzip}mkdir -p \"$p\" || exit 1; d=\"$p/\"; ",
            quote_path(target)
        );
        let delivery = Delivery::new(place, format!("{unpack} && rm -f \"$t\""));
        self.deliver(&delivery, &Bytes::from(bytes), true, target, cancel).await
    }

    /// Unpacks on the machine while the archive is still being made here; moved to its place when
    /// it is whole.
    async fn send_streamed(
        &self,
        entries: &[Entry],
        target: &str,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let script = posix(&format!(
            "p={}; {NEEDS_TAR}mkdir -p \"$p\" || exit 1; x=\"$p/.karat-{}\"; mkdir \"$x\" && \
             tar -xmof - -C \"$x\" && (cd \"$x\" && tar -cf - .) | (cd \"$p\" && tar -xmof -); \
             r=$?; rm -rf \"$x\"; exit $r",
            quote_path(target),
            nonce()
        ));
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let list = entries.to_vec();
        let writer = tokio::task::spawn_blocking(move || {
            let mut near = SyncIoBridge::new(near);
            let result = archive(&list, &mut near);
            if result.is_ok() {
                let _ = near.shutdown();
            }
            result
        });
        let done = self.capture(script, Input::Reader(&mut far), cancel).await;
        drop(far);
        let written = writer.await.map_err(|e| SshError::transfer("upload", target, e))?;
        let done = done?;
        if done.status == karat_component::ExitStatus::Code(MISSING) {
            return Err(SshError::Missing);
        }
        written.map_err(|e| SshError::transfer("upload", target, e))?;
        if !done.status.success() {
            return Err(SshError::transfer("upload", target, done.complaint()));
        }
        Ok(())
    }

    /// Fetches a folder, links followed; the rule of the trailing `/` is that of
    /// [`Session::upload_dir`].
    ///
    /// # Errors
    /// [`SshError::Transfer`] with what failed, here or there.
    pub async fn download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let target = dir_target(Path::new(from), &to.to_string_lossy());
        if self.config().sftp_only() {
            return self.sftp_download_dir(from, &target, cancel).await;
        }
        let failed = |e: &dyn std::fmt::Display| SshError::transfer("download", from, e);
        fs::create_dir_all(&target).map_err(|e| failed(&format!("{}: {e}", target.display())))?;
        let gathered = tempfile::Builder::new()
            .prefix(".karat-")
            .tempdir_in(&target)
            .map_err(|e| failed(&format!("{}: {e}", target.display())))?;
        let inside = gathered.path().to_owned();
        let (pieces, source) = std::sync::mpsc::sync_channel::<Vec<u8>>(256);
        let unpacker = tokio::task::spawn_blocking(move || {
            let mut archive = tar::Archive::new(Pieces { source, now: io::Cursor::default() });
            archive.set_preserve_mtime(false);
            archive.unpack(&inside)
        });
        let script = posix(&format!("{NEEDS_TAR}cd {} && tar -chf - .", quote_path(from)));
        let mut stderr = Vec::new();
        let status = self
            .run(script, Input::Nothing, false, false, cancel, |stream, bytes| match stream {
                // Nobody takes it any more when unpacking has failed.
                Stream::Stdout => drop(pieces.send(bytes.to_vec())),
                Stream::Stderr => stderr.extend_from_slice(bytes),
            })
            .await;
        drop(pieces);
        let unpacked = unpacker.await.map_err(|e| failed(&e))?;
        let status = status?;
        if status == karat_component::ExitStatus::Code(MISSING) {
            return self.sftp_download_dir(from, &target, cancel).await;
        }
        if !status.success() {
            let done = crate::session::Captured { status, stdout: Vec::new(), stderr };
            return Err(failed(&done.complaint()));
        }
        unpacked.map_err(|e| failed(&e))?;
        merge(gathered.path(), &target).map_err(|e| failed(&e))
    }
}

/// Moves everything in `from` into `to`, over what is there.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() && target.is_dir() {
            merge(&entry.path(), &target)?;
        } else {
            fs::rename(entry.path(), &target)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", target.display())))?;
        }
    }
    Ok(())
}

/// Reads what comes in pieces from elsewhere.
struct Pieces {
    source: std::sync::mpsc::Receiver<Vec<u8>>,
    now: io::Cursor<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.now.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            match self.source.recv() {
                Ok(piece) => self.now = io::Cursor::new(piece),
                Err(_) => return Ok(0),
            }
        }
    }
}
