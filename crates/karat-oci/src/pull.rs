//! Fetching an image into a layout.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWrite;

use crate::{OciError, credentials, parse};

/// What is asked for, from the newest to the oldest format.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Layers fetched at a time, as `docker pull` does.
const AT_ONCE: usize = 3;
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);

/// What to fetch, and where to.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The image, such as `docker://debian:13`.
    pub address: String,
    /// A folder for all images; made if missing.
    pub cache: PathBuf,
    /// Ask the registry what a tag means now, even where an image of it is there.
    pub refresh: bool,
    /// Debian's or Docker's name of the architecture, such as `amd64`.
    pub architecture: String,
    /// The folder with Docker's `config.json`, which knows logins. The usual places without.
    pub logins: Option<PathBuf>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes fetched.
    pub done: u64,
    /// Bytes to fetch in all.
    pub total: u64,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// A folder in the OCI image layout, with this image alone in its index.
    pub layout: PathBuf,
    /// The digest of its manifest, `sha256:` in front.
    pub digest: String,
    /// The image with its registry.
    pub image: String,
}

/// Fetches an image, unless it is there. What is half fetched when this is dropped is removed.
///
/// # Errors
/// A wrong address, a registry that refuses or sends something else than its digest says, an image
/// that is not for this architecture, a folder that cannot be written to.
pub async fn pull(
    what: &Pull,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Pulled, OciError> {
    let reference = parse(&what.address)?;
    let image = reference.whole();
    let name = hex(&Sha256::digest(format!("{} {image}", what.architecture)));
    let layout = what.cache.join(name);
    // A digest means the same for ever.
    let settled = !what.refresh || reference.digest().is_some();
    if settled && let Some(digest) = known(&layout) {
        return Ok(Pulled { layout, digest, image });
    }
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(io("make", &blobs))?;
    let registry = Registry::new(reference, what);
    let (bytes, digest) = registry.manifest(&what.architecture).await?;
    let manifest: Value =
        serde_json::from_slice(&bytes).map_err(|error| registry.failed(error.to_string()))?;
    put(&blobs, &digest, &bytes)?;
    let mut parts = vec![registry.descriptor(&manifest["config"])?];
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        parts.push(registry.descriptor(layer)?);
    }
    parts.retain(|part| !blobs.join(file_name(&part.digest)).exists());
    let total = parts.iter().map(|part| u64::try_from(part.size).unwrap_or(0)).sum();
    let done = AtomicU64::new(0);
    let count = |bytes: usize| {
        let done = done.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        progress(Progress { done, total });
    };
    futures::stream::iter(parts)
        .map(|part| registry.blob(part, &blobs, &count))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let kind = manifest["mediaType"].as_str().unwrap_or(MANIFESTS[2]);
    let entry = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    write(&layout, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    // Last: it says that everything else is there.
    write(&layout, "index.json", index.to_string().as_bytes())?;
    Ok(Pulled { layout, digest, image })
}

/// The digest of the image that a layout has whole.
fn known(layout: &Path) -> Option<String> {
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).ok()?).ok()?;
    index["manifests"][0]["digest"].as_str().map(str::to_owned)
}

fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> OciError {
    let what = format!("{what} {}", path.display());
    move |source| OciError::Io { what, source }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file_name(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), OciError> {
    let path = folder.join(name);
    let file = tempfile::NamedTempFile::new_in(folder).map_err(io("write in", folder))?;
    std::fs::write(file.path(), bytes).map_err(io("write", &path))?;
    file.persist(&path).map(drop).map_err(|error| io("write", &path)(error.error))
}

fn put(blobs: &Path, digest: &str, bytes: &[u8]) -> Result<(), OciError> {
    write(blobs, file_name(digest), bytes)
}

/// One repository of a registry.
struct Registry {
    client: Client,
    reference: Reference,
    auth: oci_client::secrets::RegistryAuth,
}

impl Registry {
    fn new(reference: Reference, what: &Pull) -> Self {
        // One that is set already will do as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = reference.resolve_registry().to_owned();
        // Docker's rule: registries on this machine need no certificate.
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        let local = name == "localhost" || name.starts_with("127.") || name == "[::1]";
        let plain = if local { vec![host.clone()] } else { Vec::new() };
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("karat/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let files = credentials::files(what.logins.as_deref());
        let auth = credentials::of(reference.registry(), &files);
        Self { client: Client::new(config), reference, auth }
    }

    fn failed(&self, reason: impl Into<String>) -> OciError {
        OciError::Registry { image: self.reference.whole(), reason: reason.into() }
    }

    fn refused(&self, error: &OciDistributionError) -> OciError {
        let reason = match error {
            OciDistributionError::ImageManifestNotFoundError(_) => {
                "the registry has no such image".to_owned()
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                let server = self.reference.registry();
                format!("the registry asks who you are: log in by `docker login {server}`")
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                let codes = envelope.errors.iter().map(|error| format!("{:?}", error.code));
                let said = codes.collect::<Vec<_>>().join(", ");
                if said.contains("ManifestUnknown") || said.contains("NameUnknown") {
                    "the registry has no such image".to_owned()
                } else {
                    format!("the registry says {said}")
                }
            }
            other => chain(other),
        };
        self.failed(reason)
    }

    /// The manifest of the image for this architecture, and its digest.
    async fn manifest(&self, architecture: &str) -> Result<(Vec<u8>, String), OciError> {
        let ask = |reference: Reference| async move {
            let got = self.client.pull_manifest_raw(&reference, &self.auth, &MANIFESTS).await;
            got.map_err(|error| self.refused(&error))
        };
        let (mut bytes, mut digest) = ask(self.reference.clone()).await?;
        // An index may lead to others.
        for _ in 0..4 {
            let actual = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
            if digest != actual {
                let text =
                    format!("the manifest has the digest {actual}, and should have {digest}");
                return Err(self.failed(text));
            }
            let value: Value =
                serde_json::from_slice(&bytes).map_err(|error| self.failed(error.to_string()))?;
            let Some(manifests) = value["manifests"].as_array() else {
                return Ok((bytes.to_vec(), digest));
            };
            let fits = |entry: &&Value| {
                let platform = &entry["platform"];
                platform["os"] == "linux" && platform["architecture"] == architecture
            };
            let Some(entry) = manifests.iter().find(fits) else {
                let have = |entry: &Value| {
                    let part = |name: &str| entry["platform"][name].as_str().map(str::to_owned);
                    Some(format!("{}/{}", part("os")?, part("architecture")?))
                };
                let have: Vec<String> = manifests.iter().filter_map(have).collect();
                let have = have.join(", ");
                return Err(self.failed(format!("it is for {have}, not for linux/{architecture}")));
            };
            let next = entry["digest"].as_str().unwrap_or_default().to_owned();
            let reference = Reference::with_digest(
                self.reference.registry().to_owned(),
                self.reference.repository().to_owned(),
                next.clone(),
            );
            (bytes, digest) = ask(reference).await?;
            if digest != next {
                return Err(self.failed(format!("asked for {next}, the registry sent {digest}")));
            }
        }
        Err(self.failed("its indexes lead to each other without end"))
    }

    fn descriptor(&self, value: &Value) -> Result<OciDescriptor, OciError> {
        let descriptor: OciDescriptor = serde_json::from_value(value.clone())
            .map_err(|error| self.failed(error.to_string()))?;
        let digits = descriptor.digest.strip_prefix("sha256:").unwrap_or_default();
        // It becomes the name of a file.
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.failed(format!("\"{}\" is no digest by sha256", descriptor.digest)));
        }
        Ok(descriptor)
    }

    /// Fetches a part of the image, which is checked against its digest on the way.
    async fn blob(
        &self,
        part: OciDescriptor,
        blobs: &Path,
        count: &(dyn Fn(usize) + Send + Sync),
    ) -> Result<(), OciError> {
        let file = tempfile::NamedTempFile::new_in(blobs).map_err(io("write in", blobs))?;
        let handle = file.reopen().map_err(io("write", file.path()))?;
        let out = Counted { file: tokio::fs::File::from_std(handle), count };
        let fetched = self.client.pull_blob(&self.reference, &part, out).await;
        fetched.map_err(|error| self.refused(&error))?;
        let path = blobs.join(file_name(&part.digest));
        file.persist(&path).map(drop).map_err(|error| io("write", &path)(error.error))
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        next = cause.source();
    }
    text
}

struct Counted<'a> {
    file: tokio::fs::File,
    count: &'a (dyn Fn(usize) + Send + Sync),
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.file).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            (self.count)(count);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}
