//! Packages on top of a layer: resolved against its package state, installed in an overlay.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::apt::{AptSource, Lock, Request, fetch, resolve};
use crate::bootstrap::{LISTS_MAX_AGE, Resolving, first_boot_keys, known, locked};
use crate::sandbox::{Root, Sandbox, Setup};
use crate::store::{Draft, Layer, Store};
use crate::{Control, Digest, Error, LayerKey, Normalise, Result, boot, dpkg};

/// What to install on a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Install {
    /// Packages, as `apt-get install` takes them.
    pub packages: Vec<String>,
    /// Install what the packages recommend, too.
    pub recommends: bool,
    /// Where packages come from; `None` is what the image itself is set up with.
    pub sources: Option<Vec<AptSource>>,
    /// What the layer forgets.
    pub normalise: Normalise,
}

impl Store {
    /// Installs packages on a layer and returns the layer that has them, which is the parent itself
    /// when it has them already.
    ///
    /// # Errors
    /// As [`Store::bootstrap`]; also when the parent has no package state.
    pub fn install_packages(
        &self,
        run: &str,
        cache: &Path,
        parent: Digest,
        spec: &Install,
        how: &Resolving,
        control: &Control,
    ) -> Result<Layer> {
        let status = self.package_state(parent)?;
        let architecture = architecture(&status)?;
        let sources = self.install_sources(cache, parent, spec)?;
        let digest = install_request(&sources, &architecture, spec, &status);
        let lock = locked(self, digest, how, || {
            let request = Request {
                architecture: &architecture,
                sources: &sources,
                packages: &spec.packages,
                recommends: spec.recommends,
                status: Some(&status),
                required: false,
                max_age: if how.update { Duration::ZERO } else { LISTS_MAX_AGE },
                digest,
            };
            resolve(cache, &request, control)
        })?;
        if lock.packages.is_empty() {
            return self.layer(parent);
        }
        let info = self.info(parent)?;
        let epoch = spec.normalise.epoch.unwrap_or(lock.epoch.max(info.epoch));
        let key = LayerKey::new(Some(parent), "install", &json!({ "normalise": spec.normalise }))?
            .input("lock", lock.content_digest())
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .digest();
        self.build_keyed(key, control, || {
            crate::error::require_root()?;
            fetch::fetch(cache, &lock.packages, control)?;
            let scratch = self.scratch(run)?;
            let debs = scratch.path().join("debs");
            dpkg::prepare(cache, &lock.packages, &debs, None, control)?;
            let work = scratch.path().join("overlay");
            fs::create_dir(&work).map_err(Error::io("make the directory", &work))?;
            let setup = Setup {
                root: Root::Overlay { lower: self.lower_dirs(parent)?, work: work.clone() },
                binds: vec![(debs, dpkg::INSIDE)],
                epoch,
            };
            Sandbox::enter(setup, control, |sandbox| {
                boot::defer(sandbox)?;
                dpkg::install(sandbox, &lock.packages, control)?;
                boot::finish(self, sandbox, run, control)?;
                let has_server = lock.packages.iter().any(|p| p.name == "openssh-server");
                if has_server { first_boot_keys(sandbox.root()) } else { Ok(()) }
            })?;
            control.phase("reading the layer");
            let provenance = json!({
                "operation": "install",
                "asked": spec.packages,
                "sources": lock.sources,
                "releases": lock.releases,
                "packages": lock.versions(),
            });
            let draft = Draft { parent: Some(parent), key: Some(key), provenance, epoch };
            let upper = work.join("upper");
            self.finish_tree(&scratch, &upper, spec.normalise, false, draft, control)
        })
    }

    fn package_state(&self, layer: Digest) -> Result<Vec<u8>> {
        self.read_file(layer, "/var/lib/dpkg/status")?.ok_or_else(|| {
            Error::Packages(format!("layer {layer} has no dpkg package state: not a Debian system"))
        })
    }

    fn install_sources(
        &self,
        cache: &Path,
        parent: Digest,
        spec: &Install,
    ) -> Result<Vec<AptSource>> {
        match &spec.sources {
            Some(sources) => Ok(sources.clone()),
            None => self.image_sources(parent, cache),
        }
    }

    /// The lock that an earlier installation of the same packages on the same layer made, if
    /// there is one. Reads no network.
    ///
    /// # Errors
    /// When the parent is not here or has no package state, or a lock file cannot be read.
    pub fn known_install_lock(
        &self,
        cache: &Path,
        parent: Digest,
        spec: &Install,
        how: &Resolving,
    ) -> Result<Option<Lock>> {
        let status = self.package_state(parent)?;
        let sources = self.install_sources(cache, parent, spec)?;
        known(self, install_request(&sources, &architecture(&status)?, spec, &status), how)
    }

    /// The archives that an image is set up with. Keyrings in it are copied to the cache.
    ///
    /// # Errors
    /// When the image has no archives, or its files cannot be read.
    pub fn image_sources(&self, digest: Digest, cache: &Path) -> Result<Vec<AptSource>> {
        let stack = self.stack(digest)?;
        let view = crate::merge::merge(&stack);
        let mut out = Vec::new();
        let read = |path: &[u8]| -> Result<Option<Vec<u8>>> {
            let Some(path) = crate::boot::resolve(&view, path) else { return Ok(None) };
            let Some(node) = view.get(&path) else { return Ok(None) };
            let at = crate::scan::host_path(&stack[node.layer].root(), &node.item.path);
            fs::read(&at).map(Some).map_err(Error::io("read", &at))
        };
        for path in view.keys() {
            let file = path == b"/etc/apt/sources.list";
            let below = path.starts_with(b"/etc/apt/sources.list.d/");
            if !(file || below && (path.ends_with(b".list") || path.ends_with(b".sources"))) {
                continue;
            }
            let text = String::from_utf8_lossy(&read(path)?.unwrap_or_default()).into_owned();
            out.extend(crate::apt::parse_sources(&text, path.ends_with(b".sources")));
        }
        let dir = cache.join("keyrings");
        fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
        for source in &mut out {
            let Some(keyring) = &source.signed_by else { continue };
            if let Some(bytes) = read(keyring.as_os_str().as_encoded_bytes())? {
                let extension = keyring.extension().and_then(|e| e.to_str()).unwrap_or("gpg");
                let at: PathBuf = dir.join(format!("{}.{extension}", Digest::of(&bytes)));
                fs::write(&at, bytes).map_err(Error::io("write", &at))?;
                source.signed_by = Some(at);
            }
        }
        if out.is_empty() {
            return Err(Error::Packages(format!(
                "layer {digest} has no apt sources, so packages cannot be found; set `sources`"
            )));
        }
        Ok(out)
    }
}

/// The digest of everything that is asked of apt.
fn install_request(
    sources: &[AptSource],
    architecture: &str,
    spec: &Install,
    status: &[u8],
) -> Digest {
    let mut text = String::new();
    let asked = json!([sources, architecture, spec.packages, spec.recommends, Digest::of(status)]);
    crate::key::canonical(&mut text, &asked);
    Digest::of(text)
}

/// The architecture of the system, from the package that every one has.
fn architecture(status: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(status);
    text.split("\n\n")
        .find(|stanza| stanza.trim_start().starts_with("Package: dpkg\n"))
        .and_then(|stanza| stanza.lines().find_map(|line| line.strip_prefix("Architecture: ")))
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::Packages("the package state has no `dpkg`: not a Debian system".into())
        })
}
