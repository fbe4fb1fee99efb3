//! Reads container images: the OCI image layout, archives of it, and what `docker save` writes.
//!
//! Formats: the OCI image specification 1.1 (`oci-layout`, `index.json`, `blobs/`), and the older
//! `manifest.json` of docker archives. Layers are applied in order into one tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ImportImage;
use crate::extract::Extractor;
use crate::{Control, Digest, Error, Result};

/// An image chosen from a layout.
#[derive(Debug)]
pub(super) struct Image {
    /// Identifies the content: of the manifest, or of the layers where there is none.
    pub(super) digest: Digest,
    /// The image's configuration (environment, entry point, history), for the record.
    pub(super) config: serde_json::Value,
    layers: Vec<(PathBuf, Option<Digest>)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn bad(what: &Path, reason: impl Into<String>) -> Error {
    Error::Archive { what: what.display().to_string(), reason: reason.into() }
}

fn read_json<T: serde::de::DeserializeOwned>(at: &Path) -> Result<T> {
    let text = fs::read(at).map_err(Error::io("read", at))?;
    serde_json::from_slice(&text).map_err(|error| Error::Format {
        path: at.to_owned(),
        line: error.line(),
        reason: error.to_string(),
    })
}

/// The path of a blob, whose name must be a digest and nothing else.
fn blob(dir: &Path, digest: &str) -> Result<(PathBuf, Digest)> {
    if !digest.starts_with("sha256:") {
        return Err(bad(dir, format!("blob `{digest}`: only sha256 digests are supported")));
    }
    let digest: Digest = digest.parse()?;
    Ok((dir.join("blobs/sha256").join(digest.to_string()), digest))
}

fn checked(at: &Path, expected: Digest) -> Result<()> {
    let actual = Digest::of_file(at)?;
    if actual == expected {
        return Ok(());
    }
    Err(Error::Mismatch {
        what: at.display().to_string(),
        expected: expected.to_string(),
        actual: actual.to_string(),
        hint: "the image was damaged: fetch it again",
    })
}

/// The name of this machine's architecture in container images.
#[must_use]
pub fn container_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Image {
    /// Opens a layout directory, or unpacks an archive to `scratch` and opens that.
    pub(super) fn open(spec: &ImportImage, scratch: &Path, control: &Control) -> Result<Self> {
        let named = Path::new(spec.source.strip_prefix("file://").unwrap_or(&spec.source));
        let source = spec.fetched.as_deref().unwrap_or(named);
        let dir = if source.is_dir() {
            source.to_owned()
        } else {
            control.phase("unpacking the image archive");
            fs::create_dir_all(scratch).map_err(Error::io("make the directory", scratch))?;
            let what = source.display().to_string();
            let file = File::open(source).map_err(Error::io("open", source))?;
            let reader = crate::deb::decompress(file, &what)?;
            Extractor::new(scratch)?.unpack(reader, &what, control, |_| true)?;
            scratch.to_owned()
        };
        let wanted = spec.reference.as_deref();
        if dir.join("index.json").exists() {
            Self::from_layout(&dir, source, wanted)
        } else if dir.join("manifest.json").exists() {
            Self::from_docker(&dir, source, wanted)
        } else {
            Err(bad(
                source,
                "not a container image: it has neither `index.json` (OCI layout) nor \
                 `manifest.json` (docker save)",
            ))
        }
    }

    fn from_layout(dir: &Path, source: &Path, wanted: Option<&str>) -> Result<Self> {
        let mut index: Index = read_json(&dir.join("index.json"))?;
        // An index may lead to others, one per platform.
        for _ in 0..8 {
            let chosen = choose(&index.manifests, wanted, source)?;
            let (at, digest) = blob(dir, &chosen.digest)?;
            checked(&at, digest)?;
            let value: serde_json::Value = read_json(&at)?;
            if chosen.media_type.contains("index")
                || chosen.media_type.contains("list")
                || value.get("manifests").is_some()
            {
                index = read_json(&at)?;
                continue;
            }
            let manifest: Manifest = read_json(&at)?;
            let (config, config_digest) = blob(dir, &manifest.config.digest)?;
            checked(&config, config_digest)?;
            let layers = manifest
                .layers
                .iter()
                .map(|layer| blob(dir, &layer.digest).map(|(at, digest)| (at, Some(digest))));
            return Ok(Self {
                digest,
                config: read_json(&config)?,
                layers: layers.collect::<Result<_>>()?,
            });
        }
        Err(bad(source, "its indexes lead to each other without end"))
    }

    fn from_docker(dir: &Path, source: &Path, wanted: Option<&str>) -> Result<Self> {
        let images: Vec<DockerImage> = read_json(&dir.join("manifest.json"))?;
        let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
        let fits = |image: &&DockerImage| {
            wanted.is_none_or(|name| {
                tags(image).iter().any(|tag| tag == name || tag.ends_with(&format!(":{name}")))
            })
        };
        let found: Vec<&DockerImage> = images.iter().filter(fits).collect();
        let [image] = found[..] else {
            let names: Vec<String> = images.iter().flat_map(tags).collect();
            return Err(ambiguous(source, found.len(), wanted, &names));
        };
        let plain = |name: &str| {
            let good =
                Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if good {
                Ok(dir.join(name))
            } else {
                Err(bad(source, format!("bad file name `{name}`")))
            }
        };
        let mut text = String::new();
        let mut layers = Vec::new();
        for name in &image.layers {
            let at = plain(name)?;
            let digest = Digest::of_file(&at)?;
            text.push_str(&format!("{digest}\n"));
            layers.push((at, None));
        }
        Ok(Self { digest: Digest::of(text), config: read_json(&plain(&image.config)?)?, layers })
    }

    /// Applies the layers in order.
    pub(super) fn unpack(&self, root: &Path, control: &Control) -> Result<()> {
        let mut extractor = Extractor::new(root)?;
        for (at, digest) in &self.layers {
            if let Some(digest) = digest {
                checked(at, *digest)?;
            }
            let what = at.display().to_string();
            let file = File::open(at).map_err(Error::io("open", at))?;
            extractor.begin_container_layer();
            extractor.unpack(crate::deb::decompress(file, &what)?, &what, control, |_| true)?;
        }
        Ok(())
    }
}

fn choose<'a>(
    all: &'a [Descriptor],
    wanted: Option<&str>,
    source: &Path,
) -> Result<&'a Descriptor> {
    const NAME: &str = "org.opencontainers.image.ref.name";
    let named = all.iter().any(|d| d.annotations.contains_key(NAME));
    let fits = |d: &&Descriptor| {
        let platform = d
            .platform
            .as_ref()
            .is_none_or(|p| p.os == "linux" && p.architecture == container_architecture());
        let name = wanted
            .filter(|_| named)
            .is_none_or(|name| d.annotations.get(NAME).is_some_and(|found| found == name));
        platform && name
    };
    let found: Vec<&Descriptor> = all.iter().filter(fits).collect();
    match found[..] {
        [one] => Ok(one),
        _ => {
            let names: Vec<String> =
                all.iter().filter_map(|d| d.annotations.get(NAME).cloned()).collect();
            Err(ambiguous(source, found.len(), wanted, &names))
        }
    }
}

fn ambiguous(source: &Path, count: usize, wanted: Option<&str>, names: &[String]) -> Error {
    let named = wanted.map(|name| format!(" named `{name}`")).unwrap_or_default();
    let hint = if names.is_empty() {
        String::new()
    } else {
        format!("; set `reference` to one of: {}", names.join(", "))
    };
    let count = if count == 0 { "no".to_owned() } else { count.to_string() };
    bad(
        source,
        format!("it has {count} images{named} for linux/{}{hint}", container_architecture()),
    )
}
