//! Files by sftp, for machines that have neither a shell for us nor `tar`.
//!
//! Requests are sent without waiting for the answers of those before: many writes of one file,
//! many files of a folder.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use crate::error::SshError;
use crate::folder::Entry;
use crate::session::Session;
use crate::shell::nonce;
use crate::transfer::beside;

/// Bytes in one request; every server takes this much.
const PIECE: usize = 32 * 1024 - 1024;

/// Requests that may be under way for one file: 8 MB.
const PIECES: usize = 256;

/// Files that are under way at once.
const FILES: usize = 32;

/// A server that answers nothing for this long is given up.
const TIMEOUT: u64 = 120;

struct Sftp {
    raw: RawSftpSession,
}

/// The path as sftp wants it: relative ones start at the home.
fn place(path: &str) -> &str {
    match path.strip_prefix("~/") {
        Some("") => ".",
        Some(rest) => rest,
        None => path,
    }
}

fn mode(mode: u32) -> FileAttributes {
    FileAttributes { permissions: Some(mode), ..FileAttributes::empty() }
}

fn is(error: &SftpError, code: StatusCode) -> bool {
    matches!(error, SftpError::Status(status) if status.status_code == code)
}

impl Session {
    async fn sftp(&self, cancel: &CancellationToken) -> Result<Sftp, SshError> {
        let (channel, _) = self.channel(cancel).await?;
        let stream = channel.subsystem("sftp").await?;
        let config = Config {
            max_concurrent_reads: PIECES,
            max_concurrent_writes: PIECES,
            request_timeout_secs: TIMEOUT,
            ..Config::default()
        };
        let raw = RawSftpSession::new_with_config(stream, config);
        raw.init().await.map_err(|e| SshError::Refused {
            address: self.config().address(),
            what: format!("sftp ({e})"),
        })?;
        Ok(Sftp { raw })
    }

    /// Answers that will never come are not waited for.
    async fn while_connected(
        &self,
        work: BoxFuture<'_, Result<(), SshError>>,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let live = self.alive(cancel).await?;
        let lost = async {
            while !live.is_closed() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = lost => Err(SshError::Lost {
                address: self.config().address(),
                reason: live.end(),
            }),
            () = cancel.cancelled() => Err(SshError::Cancelled),
        }
    }

    pub(crate) async fn sftp_upload(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let work = async {
            let sftp = self.sftp(cancel).await?;
            sftp.write_file(content, place(to), mode)
                .await
                .map_err(|e| SshError::transfer("upload", to, e))
        };
        self.while_connected(work.boxed(), cancel).await
    }

    pub(crate) async fn sftp_download(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let work = async {
            let sftp = self.sftp(cancel).await?;
            sftp.read_file(place(from), to, false)
                .await
                .map_err(|e| SshError::transfer("download", from, e))
        };
        self.while_connected(work.boxed(), cancel).await
    }

    pub(crate) async fn sftp_upload_dir(
        &self,
        entries: &[Entry],
        target: &str,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let work = async {
            let sftp = self.sftp(cancel).await?;
            let root = place(target);
            sftp.make_parents(root).await.map_err(|e| SshError::transfer("upload", target, e))?;
            let (mut folders, mut files) = (Vec::new(), Vec::new());
            for entry in entries {
                let path = Path::new(root).join(&entry.name).display().to_string();
                if entry.is_dir {
                    folders.push(sftp.folder(path, entry.mode).boxed());
                } else {
                    files.push(sftp.send(path, entry).boxed());
                }
            }
            // Folders stand before what is in them, and a server works in the order of requests.
            stream::iter(folders).buffered(FILES).try_collect::<Vec<()>>().await?;
            stream::iter(files).buffer_unordered(FILES).try_collect::<Vec<()>>().await?;
            Ok(())
        };
        self.while_connected(work.boxed(), cancel).await
    }

    pub(crate) async fn sftp_download_dir(
        &self,
        from: &str,
        to: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), SshError> {
        let failed = |e: String| SshError::transfer("download", from, e);
        let work = async {
            let sftp = self.sftp(cancel).await?;
            let mut folders = vec![(place(from).to_owned(), to.to_owned())];
            let mut files = Vec::new();
            while let Some((there, here)) = folders.pop() {
                tokio::fs::create_dir_all(&here)
                    .await
                    .map_err(|e| failed(format!("{}: {e}", here.display())))?;
                for (name, is_dir) in sftp.list(&there).await.map_err(failed)? {
                    let pair = (format!("{there}/{name}"), here.join(&name));
                    if is_dir { folders.push(pair) } else { files.push(pair) }
                }
            }
            let mut fetched = Vec::new();
            for (there, here) in &files {
                fetched.push(sftp.fetch(there, here).boxed());
            }
            stream::iter(fetched).buffer_unordered(FILES).try_collect::<Vec<()>>().await?;
            Ok(())
        };
        self.while_connected(work.boxed(), cancel).await
    }
}

impl Sftp {
    async fn folder(&self, path: String, bits: u32) -> Result<(), SshError> {
        self.make_dir(&path, bits).await.map_err(|e| SshError::transfer("upload", &path, e))
    }

    async fn send(&self, path: String, entry: &Entry) -> Result<(), SshError> {
        let failed = |e: String| SshError::transfer("upload", &path, e);
        let mut file = tokio::fs::File::open(&entry.path)
            .await
            .map_err(|e| failed(format!("{}: {e}", entry.path.display())))?;
        self.write_file(&mut file, &path, Some(entry.mode)).await.map_err(failed)
    }

    async fn fetch(&self, from: &str, to: &Path) -> Result<(), SshError> {
        self.read_file(from, to, true).await.map_err(|e| SshError::transfer("download", from, e))
    }

    /// Writes beside the place, then moves. Without `bits` the mode of an existing file stays.
    async fn write_file(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        path: &str,
        bits: Option<u32>,
    ) -> Result<(), String> {
        let beside = format!("{path}.karat-{}", nonce());
        let old = async {
            match bits {
                Some(_) => None,
                None => self.raw.stat(path).await.ok().and_then(|s| s.attrs.permissions),
            }
        };
        let sent = match old.await {
            Some(old) => self.write_at(content, &beside, old & 0o7777).await,
            None => self.write_at(content, &beside, bits.unwrap_or(0o644)).await,
        };
        let moved = match sent {
            Ok(()) => self.put(&beside, path).await,
            Err(e) => Err(e),
        };
        if moved.is_err() {
            let _ = self.raw.remove(beside).await;
        }
        moved
    }

    async fn put(&self, from: &str, to: &str) -> Result<(), String> {
        let mut data = Vec::new();
        for text in [from, to] {
            data.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        // OpenSSH's extension replaces what is there; the plain rename refuses to.
        if let Ok(russh_sftp::protocol::Packet::Status(status)) =
            self.raw.extended("posix-rename@openssh.com", data).await
        {
            match status.status_code {
                StatusCode::Ok => return Ok(()),
                StatusCode::OpUnsupported => {}
                _ => return Err(status.error_message),
            }
        }
        match self.raw.rename(from, to).await {
            Ok(_) => Ok(()),
            Err(_) => {
                self.raw.remove(to).await.map_err(|e| e.to_string())?;
                self.raw.rename(from, to).await.map(|_| ()).map_err(|e| e.to_string())
            }
        }
    }

    async fn write_at(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        path: &str,
        bits: u32,
    ) -> Result<(), String> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let handle =
            self.raw.open(path, flags, mode(0o600)).await.map_err(|e| e.to_string())?.handle;
        let written = self.write_pieces(content, &handle).await;
        let set = self.raw.fsetstat(handle.clone(), mode(bits));
        let (set, closed) = futures::join!(set, self.raw.close(handle.clone()));
        written?;
        set.map_err(|e| e.to_string())?;
        closed.map_err(|e| e.to_string())?;
        Ok(())
    }

    async fn write_pieces(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        handle: &str,
    ) -> Result<(), String> {
        let mut under_way = FuturesUnordered::new();
        let mut at = 0;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let limited = (&mut *content).take(PIECE as u64).read_to_end(&mut piece).await;
            let length = limited.map_err(|e| e.to_string())?;
            if length == 0 {
                break;
            }
            if under_way.len() >= PIECES
                && let Some(done) = under_way.next().await
            {
                done?;
            }
            under_way.push(self.write_piece(handle.to_owned(), at, piece).boxed());
            at += length as u64;
        }
        while let Some(done) = under_way.next().await {
            done?;
        }
        Ok(())
    }

    async fn write_piece(&self, handle: String, at: u64, piece: Vec<u8>) -> Result<(), String> {
        self.raw.write(handle, at, piece).await.map(|_| ()).map_err(|e| e.to_string())
    }

    async fn read_file(&self, path: &str, to: &Path, keep_mode: bool) -> Result<(), String> {
        let attrs = FileAttributes::empty();
        let handle =
            self.raw.open(path, OpenFlags::READ, attrs).await.map_err(|e| e.to_string())?.handle;
        let result = self.read_open(&handle, to, keep_mode).await;
        let _ = self.raw.close(handle).await;
        result
    }

    async fn read_open(&self, handle: &str, to: &Path, keep_mode: bool) -> Result<(), String> {
        let attrs = self.raw.fstat(handle).await.map_err(|e| e.to_string())?.attrs;
        let size = attrs.size.unwrap_or(0);
        let here = |e: std::io::Error| format!("{}: {e}", to.display());
        let mut file = beside(to).map_err(here)?;
        let starts = (0..size).step_by(PIECE);
        let mut pieces = stream::iter(starts)
            .map(|at| self.read_piece(handle, at, (size - at).min(PIECE as u64)).boxed())
            .buffered(PIECES);
        while let Some(piece) = pieces.next().await {
            file.write_all(&piece?).map_err(here)?;
        }
        drop(pieces);
        if keep_mode && let Some(bits) = attrs.permissions {
            let bits = std::fs::Permissions::from_mode(bits & 0o777);
            file.as_file().set_permissions(bits).map_err(here)?;
        }
        file.persist(to).map_err(|e| here(e.error))?;
        Ok(())
    }

    /// A server may answer with less than was asked.
    async fn read_piece(&self, handle: &str, at: u64, length: u64) -> Result<Bytes, String> {
        let mut got: Vec<u8> = Vec::new();
        while (got.len() as u64) < length {
            let left = u32::try_from(length - got.len() as u64).unwrap_or(u32::MAX);
            let from = at + got.len() as u64;
            match self.raw.read(handle, from, left).await {
                Ok(data) if !data.data.is_empty() => got.extend_from_slice(&data.data),
                Ok(_) => return Err("it became shorter while it was read".into()),
                Err(e) if is(&e, StatusCode::Eof) => {
                    return Err("it became shorter while it was read".into());
                }
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(got.into())
    }

    async fn make_dir(&self, path: &str, bits: u32) -> Result<(), String> {
        if self.raw.mkdir(path, mode(bits)).await.is_ok() {
            return Ok(());
        }
        match self.raw.stat(path).await {
            Ok(found) if found.attrs.is_dir() => Ok(()),
            Ok(_) => Err("there is a file of that name".into()),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn make_parents(&self, path: &str) -> Result<(), String> {
        let mut missing = Vec::new();
        for folder in Path::new(path).ancestors().skip(1) {
            if folder.as_os_str().is_empty() {
                break;
            }
            let folder = folder.display().to_string();
            if self.raw.stat(&folder).await.is_ok() {
                break;
            }
            missing.push(folder);
        }
        for folder in missing.iter().rev() {
            self.make_dir(folder, 0o755).await?;
        }
        Ok(())
    }

    /// Names in a folder and whether each is a folder; links are followed.
    async fn list(&self, path: &str) -> Result<Vec<(String, bool)>, String> {
        let handle = self.raw.opendir(path).await.map_err(|e| e.to_string())?.handle;
        let mut names = Vec::new();
        loop {
            match self.raw.readdir(&handle).await {
                Ok(some) => {
                    for file in some.files {
                        // A name with a slash would lead out of the folder.
                        if matches!(file.filename.as_str(), "." | "..")
                            || file.filename.contains('/')
                        {
                            continue;
                        }
                        let is_dir = if file.attrs.is_symlink() {
                            let there = format!("{path}/{}", file.filename);
                            self.raw.stat(there).await.map_err(|e| e.to_string())?.attrs.is_dir()
                        } else {
                            file.attrs.is_dir()
                        };
                        names.push((file.filename, is_dir));
                    }
                }
                Err(e) if is(&e, StatusCode::Eof) => break,
                Err(e) => return Err(e.to_string()),
            }
        }
        self.raw.close(handle).await.map_err(|e| e.to_string())?;
        Ok(names)
    }
}
