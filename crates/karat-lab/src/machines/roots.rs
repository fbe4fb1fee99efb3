//! The layers that a machine stands on, and those that are made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use karat_layers::{Base, Capture, Control, Digest, ImportFile, Normalise, Progress, Resolving};
use tokio_util::sync::CancellationToken;

use super::{Hub, chain};

/// What a machine's root is made from.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// A base image of the catalogue, and the account that one logs in to.
    Base { base: Base, user: Option<String> },
    /// A layer of the lab's store.
    Layer(String),
    /// A disk that was written block by block: the blocks' digests, and its bytes.
    Disk { snapshot: String, blocks: Vec<(u32, Vec<u8>)>, bytes: u64 },
}

/// Why a root cannot be had.
#[derive(Debug)]
pub(super) enum NoRoot {
    Cancelled,
    Failed(String),
}

impl From<karat_layers::Error> for NoRoot {
    fn from(error: karat_layers::Error) -> Self {
        match error {
            karat_layers::Error::Cancelled => Self::Cancelled,
            other => Self::Failed(chain(&other)),
        }
    }
}

impl Hub {
    /// The layer of a root, made if it is not there.
    pub(super) async fn root(
        self: &Arc<Self>,
        id: &str,
        root: Root,
        cancel: &CancellationToken,
    ) -> Result<Digest, NoRoot> {
        // What the writable layer of an instance was begun on, it stays on.
        let kept = self.folder(id).join("parent");
        if let Ok(text) = std::fs::read_to_string(&kept)
            && let Ok(digest) = text.trim().parse()
        {
            return Ok(digest);
        }
        let _one = tokio::select! {
            one = self.making.lock() => one,
            () = cancel.cancelled() => return Err(NoRoot::Cancelled),
        };
        let root = self.fetched(root, cancel).await?;
        let (hub, run) = (Arc::clone(self), id.to_owned());
        let digest = self.blocking(cancel, move |control| hub.make(&run, root, control)).await?;
        let fail = |e: std::io::Error| NoRoot::Failed(format!("cannot write its folder: {e}"));
        std::fs::create_dir_all(self.folder(id)).map_err(fail)?;
        std::fs::write(&kept, digest.to_string()).map_err(fail)?;
        Ok(digest)
    }

    /// Brings an image of a container registry here.
    pub(super) async fn fetched(
        &self,
        mut root: Root,
        cancel: &CancellationToken,
    ) -> Result<Root, NoRoot> {
        if let Root::Base { base: Base::Oci(image), .. } = &mut root
            && karat_oci::is_address(&image.source)
        {
            tracing::info!(image = image.source, "fetching the image");
            let what = karat_oci::Pull {
                address: image.source.clone(),
                cache: self.cache.join("oci"),
                refresh: false,
                architecture: karat_layers::container_architecture().to_owned(),
                logins: None,
            };
            let pulled = tokio::select! {
                pulled = karat_oci::pull(&what, &|_| {}) => pulled,
                () = cancel.cancelled() => return Err(NoRoot::Cancelled),
            };
            let pulled = pulled.map_err(|error| NoRoot::Failed(chain(&error)))?;
            image.fetched = Some(pulled.layout);
        }
        Ok(root)
    }

    pub(super) fn make(&self, run: &str, root: Root, control: &Control) -> Result<Digest, NoRoot> {
        match root {
            Root::Layer(text) => {
                let digest = text.parse().ok().filter(|digest| self.store.has(*digest));
                digest.ok_or_else(|| {
                    NoRoot::Failed(format!("its layer {text} is no longer in the lab's store"))
                })
            }
            Root::Base { base, user } => {
                let how = Resolving::default();
                let layer = self.store.base(run, &self.cache, &base, &how, control)?.digest;
                match user {
                    Some(user) => self.with_user(run, layer, &user, control),
                    None => Ok(layer),
                }
            }
            Root::Disk { snapshot, blocks, bytes } => {
                let path = self.dir.join(format!("{snapshot}.disk"));
                let made = self.front.blocks.assemble(&blocks, bytes, &path);
                let removed = Removed(path.clone());
                made.map_err(|e| NoRoot::Failed(format!("cannot lay out {snapshot}: {e}")))?;
                finish_journals(&path);
                let source = path.display().to_string();
                let base = Base::Disk(ImportFile { source, sha256: None, normalise: keep_most() });
                let how = Resolving::default();
                let layer = self.store.base(run, &self.cache, &base, &how, control)?;
                drop(removed);
                Ok(layer.digest)
            }
        }
    }

    /// A layer with what tells an image in the cloud from a bare system: who logs in to it, and
    /// where it is told about itself.
    fn with_user(
        &self,
        run: &str,
        parent: Digest,
        user: &str,
        control: &Control,
    ) -> Result<Digest, NoRoot> {
        let text = cloud_config(user);
        let key = Digest::of(format!("lab image {parent}\n{text}"));
        if let Some(found) = self.store.lookup_key(key)? {
            return Ok(found);
        }
        let upper = self.dir.join(format!("{run}.image"));
        let fail = |e: std::io::Error| NoRoot::Failed(format!("cannot write the image: {e}"));
        let folder = upper.join("etc/cloud/cloud.cfg.d");
        let removed = Removed(upper.clone());
        std::fs::create_dir_all(&folder).map_err(fail)?;
        std::fs::write(folder.join("05_image.cfg"), text).map_err(fail)?;
        let capture = Capture {
            upper,
            parent,
            normalise: Normalise::default(),
            key: Some(key),
            provenance: serde_json::json!({ "lab": "image", "user": user }),
        };
        let layer = self.store.capture(run, capture, control)?;
        drop(removed);
        Ok(layer.digest)
    }

    /// Makes a layer of what an instance has written.
    pub(super) async fn capture(
        self: &Arc<Self>,
        id: &str,
        parent: Digest,
        upper: PathBuf,
    ) -> Result<Digest, NoRoot> {
        let (hub, run) = (Arc::clone(self), id.to_owned());
        let capture = Capture {
            upper,
            parent,
            normalise: keep_most(),
            key: None,
            provenance: serde_json::json!({ "lab": id }),
        };
        let made = self.blocking(&self.end, move |control| {
            Ok(hub.store.capture(&run, capture, control)?.digest)
        });
        made.await
    }

    /// Copies a writable layer, which the machine goes on with.
    pub(super) async fn copy(&self, from: &Path, to: &Path) -> Result<(), String> {
        let mut command = tokio::process::Command::new("cp");
        command.args(["--archive", "--reflink=auto", "--no-target-directory", "--"]);
        command.arg(from).arg(to).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|e| format!("cannot run cp: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        // Files of a machine that goes on may vanish meanwhile.
        let vanished = |line: &str| line.ends_with("No such file or directory");
        if output.status.success() || said.lines().all(vanished) && !said.is_empty() {
            return Ok(());
        }
        Err(format!("cannot copy the disk: {}", said.trim()))
    }

    /// Runs work on layers on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        work: impl FnOnce(&Control) -> Result<T, NoRoot> + Send + 'static,
    ) -> Result<T, NoRoot> {
        let flag = Arc::new(AtomicBool::new(false));
        let control = Control::new(Arc::clone(&flag), |progress| match progress {
            Progress::Phase(words) => tracing::info!("{words}"),
            Progress::Warning(words) => tracing::warn!("{words}"),
            Progress::Output(line) => tracing::debug!(%line),
            Progress::Done { .. } => {}
        });
        let mut task = tokio::task::spawn_blocking(move || work(&control));
        let result = tokio::select! {
            result = &mut task => result,
            () = cancel.cancelled() => {
                flag.store(true, Ordering::Relaxed);
                task.await
            }
        };
        result.unwrap_or_else(|error| Err(NoRoot::Failed(error.to_string())))
    }
}

/// Brings file systems of a disk that were in use when it was captured to the state that their
/// journals tell of, as a machine does when it starts from it.
fn finish_journals(disk: &Path) {
    let Ok(file) = std::fs::File::open(disk) else { return };
    let bytes = file.metadata().map(|m| m.len()).unwrap_or_default();
    for partition in karat_disk::partition_table(&file, bytes).1 {
        if !karat_disk::needs_recovery(&file, partition.start) {
            continue;
        }
        let place = format!("{}?offset={}", disk.display(), partition.start);
        let mut check = std::process::Command::new("e2fsck");
        check.args(["-p", "-E", "journal_only", &place]).stdin(std::process::Stdio::null());
        match check.output() {
            // What it repaired is told by the code as well.
            Ok(output) if output.status.code().is_some_and(|code| code < 4) => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                tracing::warn!(place, said, "the journal of a file system is not finished");
            }
            Err(error) => tracing::warn!(%error, "cannot run e2fsck: install e2fsprogs"),
        }
    }
}

/// An image of the cloud keeps what was on the disk, but for what identifies its machine.
fn keep_most() -> Normalise {
    let now = crate::core::phase::now() / 1000;
    Normalise { epoch: Some(now), keep_logs: true, ..Normalise::default() }
}

fn cloud_config(user: &str) -> String {
    format!(
        "datasource_list: [ Ec2, None ]\n\
         datasource:\n  Ec2:\n    strict_id: false\n\
         network:\n  config: disabled\n\
         system_info:\n  default_user:\n    name: {user}\n    gecos: {user}\n\
         locale: false\n\
         apt:\n  preserve_sources_list: true\n"
    )
}

/// A file or folder that is removed when this is dropped.
pub(super) struct Removed(pub(super) PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
