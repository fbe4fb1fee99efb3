//! Bases that others made: root tars, container images, disk images.
//!
//! An import is keyed by the digest of its content, unpacked once, and normalised like any base.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bootstrap::{Bootstrap, Resolving};
use crate::extract::Extractor;
use crate::run::{PATH, run};
use crate::store::{Draft, Layer, Scratch, Store, now};
use crate::{Control, Digest, Error, LayerKey, Normalise, Result};

mod disk;
mod oci;

pub use oci::container_architecture;

/// A file to import: on this machine, or at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportFile {
    /// A path, or an address that begins with `https://`, `http://` or `file://`.
    pub source: String,
    /// The SHA-256 that the file must have.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// What the layer forgets.
    #[serde(default)]
    pub normalise: Normalise,
}

/// A container image to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportImage {
    /// A directory in the OCI image layout, or an archive of one or from `docker save`.
    pub source: String,
    /// The directory that the source was fetched into, where it is at a registry.
    #[serde(default)]
    pub fetched: Option<PathBuf>,
    /// Which image, where there are several: its tag or reference name.
    #[serde(default)]
    pub reference: Option<String>,
    /// What the layer forgets.
    #[serde(default)]
    pub normalise: Normalise,
}

/// Where a stack of layers begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// A Debian-family system from packages.
    Bootstrap(Bootstrap),
    /// A tar of a root directory: plain, gzip, xz or zstd.
    Tar(ImportFile),
    /// A container image.
    Oci(ImportImage),
    /// A disk image, raw or qcow2, with an ext4 root.
    Disk(ImportFile),
    /// A layer that is in the store already.
    Layer(Digest),
}

impl Store {
    /// Makes or finds the layer of a base.
    ///
    /// # Errors
    /// When the base cannot be read or built; see [`Store::bootstrap`] for that kind.
    pub fn base(
        &self,
        run: &str,
        cache: &Path,
        base: &Base,
        how: &Resolving,
        control: &Control,
    ) -> Result<Layer> {
        match base {
            Base::Bootstrap(spec) => self.bootstrap(run, cache, spec, how, control),
            Base::Layer(digest) => self.layer(*digest),
            Base::Tar(spec) => {
                let (file, digest) = local_file(cache, spec, how, control)?;
                let what =
                    json!({ "operation": "import tar", "source": spec.source, "sha256": digest });
                let unpack = |root: &Path, _: &Scratch| {
                    let reader = fs::File::open(&file).map_err(Error::io("open", &file))?;
                    let what = file.display().to_string();
                    let reader = crate::deb::decompress(reader, &what)?;
                    Extractor::new(root)?.unpack(reader, &what, control, |_| true)
                };
                self.import(run, "import-tar", digest, spec.normalise, what, unpack, control)
            }
            Base::Disk(spec) => {
                let (file, digest) = local_file(cache, spec, how, control)?;
                let what =
                    json!({ "operation": "import disk", "source": spec.source, "sha256": digest });
                let unpack = |root: &Path, scratch: &Scratch| {
                    disk::unpack(&file, root, &scratch.path().join("disk.raw"), control)
                };
                self.import(run, "import-disk", digest, spec.normalise, what, unpack, control)
            }
            Base::Oci(spec) => {
                let scratch = self.scratch(run)?;
                let image = oci::Image::open(spec, &scratch.path().join("image"), control)?;
                let what = json!({
                    "operation": "import oci",
                    "source": spec.source,
                    "manifest": image.digest,
                    "config": image.config,
                });
                let unpack = |root: &Path, _: &Scratch| image.unpack(root, control);
                self.import(run, "import-oci", image.digest, spec.normalise, what, unpack, control)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one private helper for the three imports")]
    fn import(
        &self,
        run: &str,
        operation: &str,
        content: Digest,
        normalise: Normalise,
        provenance: serde_json::Value,
        unpack: impl FnOnce(&Path, &Scratch) -> Result<()>,
        control: &Control,
    ) -> Result<Layer> {
        let key = LayerKey::new(None, operation, &json!({ "normalise": normalise }))?
            .input("content", content)
            .digest();
        self.build_keyed(key, control, || {
            crate::error::require_root()?;
            control.phase("unpacking the image");
            let scratch = self.scratch(run)?;
            let root = scratch.path().join("root");
            fs::create_dir(&root).map_err(Error::io("make the directory", &root))?;
            unpack(&root, &scratch)?;
            control.phase("reading the layer");
            let epoch = match normalise.epoch {
                Some(epoch) => epoch,
                None => newest(&root)?.min(now()),
            };
            crate::bootstrap::first_boot_keys(&root)?;
            let draft = Draft { parent: None, key: Some(key), provenance, epoch };
            self.finish_tree(&scratch, &root, normalise, true, draft, control)
        })
    }
}

/// The newest time of a file that is not a directory: directories change as they are filled.
fn newest(root: &Path) -> Result<i64> {
    let mut newest = 0;
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            let meta = entry.metadata().map_err(Error::io("read", entry.path()))?;
            if meta.is_dir() {
                pending.push(entry.path());
            } else {
                newest = newest.max(meta.mtime());
            }
        }
    }
    Ok(newest)
}

/// The file on this machine, downloaded where needed, and its digest.
fn local_file(
    cache: &Path,
    spec: &ImportFile,
    how: &Resolving,
    control: &Control,
) -> Result<(PathBuf, Digest)> {
    let source = spec.source.as_str();
    let file = if source.starts_with("https://") || source.starts_with("http://") {
        download(cache, source, spec.sha256, how.update, control)?
    } else {
        PathBuf::from(source.strip_prefix("file://").unwrap_or(source))
    };
    let actual = Digest::of_file(&file)?;
    if let Some(expected) = spec.sha256.filter(|expected| *expected != actual) {
        return Err(Error::Mismatch {
            what: source.to_owned(),
            expected: expected.to_string(),
            actual: actual.to_string(),
            hint: "check the checksum in the template, or where the file came from",
        });
    }
    Ok((file, actual))
}

/// Downloads by apt's downloader, which knows the system's proxies and authorities. A file with a
/// given digest is downloaded once; one without, whenever an update is asked for.
fn download(
    cache: &Path,
    url: &str,
    sha256: Option<Digest>,
    update: bool,
    control: &Control,
) -> Result<PathBuf> {
    let dir = cache.join("files");
    fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
    let at = dir.join(sha256.unwrap_or_else(|| Digest::of(url)).to_string());
    if at.exists() && (sha256.is_some() || !update) {
        return Ok(at);
    }
    control.phase(format!("downloading {url}"));
    let temp = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(&dir)
        .map_err(Error::io("make a directory in", &dir))?;
    let to = temp.path().join("file");
    let mut command = Command::new(crate::apt::fetch::HELPER);
    command
        .args(["-o", "APT::Sandbox::User=root", "download-file"])
        .arg(url)
        .arg(&to)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C");
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(digest) = sha256 {
        command.arg(format!("SHA256:{digest}"));
    }
    run(&mut command, "apt", control)?;
    fs::rename(&to, &at).map_err(Error::io("move", &at))?;
    Ok(at)
}
