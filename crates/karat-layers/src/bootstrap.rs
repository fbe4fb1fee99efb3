//! A base from nothing: a Debian-family system, resolved to a lock and then built from it alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::apt::{AptSource, Lock, Request, fetch, resolve, system_sources};
use crate::sandbox::{Root, Sandbox, Setup};
use crate::store::{Draft, Layer, Scratch, Store};
use crate::{Control, Digest, Error, LayerKey, Normalise, Result, boot, dpkg};

/// Package lists younger than this are taken as they are.
pub const LISTS_MAX_AGE: Duration = Duration::from_secs(6 * 3600);

/// How much of a system a bootstrap starts with, beside the packages asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Essential packages and apt.
    Essential,
    /// Those and all of priority `required`: what `debootstrap` calls minbase.
    #[default]
    Minbase,
}

/// What to bootstrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// The suite: `trixie`, `bookworm`, `noble`, …
    pub suite: String,
    /// The mirror of the main archive; `None` takes the system's own, with its security archive.
    pub mirror: Option<String>,
    /// Further archives, which come after the main one.
    pub sources: Vec<AptSource>,
    /// Components; empty takes the system's own, or `main`.
    pub components: Vec<String>,
    /// Debian's name of the architecture; `None` is the host's.
    pub architecture: Option<String>,
    /// The keyring that checks the mirror's signature.
    pub keyring: Option<PathBuf>,
    /// How much to start with.
    pub variant: Variant,
    /// Packages, as `apt-get install` takes them.
    pub packages: Vec<String>,
    /// Install what the packages recommend, too.
    pub recommends: bool,
    /// What the layer forgets.
    pub normalise: Normalise,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            suite: "trixie".into(),
            mirror: None,
            sources: Vec::new(),
            components: Vec::new(),
            architecture: None,
            keyring: None,
            variant: Variant::default(),
            packages: Vec::new(),
            recommends: false,
            normalise: Normalise::default(),
        }
    }
}

/// How packages are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolving {
    /// Resolve again even when there is a lock.
    pub update: bool,
    /// A lock file of the user's, read when it is there and written when it is not.
    pub lock_file: Option<PathBuf>,
}

impl Bootstrap {
    fn architecture(&self) -> Result<String> {
        let host = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "i386",
            "riscv64" => "riscv64",
            "s390x" => "s390x",
            "powerpc64" => "ppc64el",
            "arm" => "armhf",
            other => other,
        };
        match &self.architecture {
            Some(asked) if asked != host => Err(Error::Invalid(format!(
                "architecture `{asked}` cannot be bootstrapped on a host of architecture `{host}`"
            ))),
            _ => Ok(host.to_owned()),
        }
    }

    /// The archives that this bootstrap uses.
    ///
    /// # Errors
    /// When no mirror is set and the system's own sources give none.
    pub fn archives(&self) -> Result<Vec<AptSource>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._+/".contains(c);
        if self.suite.is_empty() || !self.suite.chars().all(plain) {
            return Err(Error::Invalid(format!("`{}` is not the name of a suite", self.suite)));
        }
        let mut out = match &self.mirror {
            None => system_sources(&self.suite)?,
            Some(mirror) => {
                let components = if self.components.is_empty() {
                    vec!["main".into()]
                } else {
                    self.components.clone()
                };
                let main = AptSource {
                    uri: mirror.clone(),
                    suites: vec![self.suite.clone()],
                    components,
                    signed_by: self.keyring.clone(),
                };
                vec![main]
            }
        };
        if !self.components.is_empty() {
            out.iter_mut().for_each(|source| source.components.clone_from(&self.components));
        }
        if let Some(keyring) = &self.keyring {
            out.iter_mut().for_each(|source| source.signed_by = Some(keyring.clone()));
        }
        out.extend(self.sources.iter().cloned());
        Ok(out)
    }

    /// The digest of everything that is asked of apt.
    fn request(&self, sources: &[AptSource], architecture: &str) -> Digest {
        let mut text = String::new();
        let request = json!([
            sources,
            architecture,
            self.variant,
            self.packages,
            self.recommends,
            self.suite
        ]);
        crate::key::canonical(&mut text, &request);
        Digest::of(text)
    }

    /// The lock that an earlier build made, if there is one. Reads no network.
    ///
    /// # Errors
    /// When a lock file cannot be read, or the archives are not known.
    pub fn known_lock(&self, store: &Store, how: &Resolving) -> Result<Option<Lock>> {
        known(store, self.request(&self.archives()?, &self.architecture()?), how)
    }

    /// Resolves to exact package files, or takes the lock that is there.
    ///
    /// # Errors
    /// When the archives cannot be read, or apt cannot install the packages.
    pub fn lock(
        &self,
        store: &Store,
        cache: &Path,
        how: &Resolving,
        control: &Control,
    ) -> Result<Lock> {
        let architecture = self.architecture()?;
        let sources = self.archives()?;
        let digest = self.request(&sources, &architecture);
        locked(store, digest, how, || {
            let request = Request {
                architecture: &architecture,
                sources: &sources,
                packages: &self.packages,
                recommends: self.recommends,
                status: None,
                required: self.variant == Variant::Minbase,
                max_age: if how.update { Duration::ZERO } else { LISTS_MAX_AGE },
                digest,
            };
            resolve(cache, &request, control)
        })
    }
}

/// Where the lock of a request may lie, the user's place first.
fn places(store: &Store, digest: Digest, how: &Resolving) -> Vec<PathBuf> {
    let own = store.dir().join("apt").join(format!("{digest}.lock.json"));
    how.lock_file.clone().into_iter().chain([own]).collect()
}

/// The lock of a request, if it was made before.
pub(crate) fn known(store: &Store, digest: Digest, how: &Resolving) -> Result<Option<Lock>> {
    if how.update {
        return Ok(None);
    }
    for place in places(store, digest, how) {
        if let Some(lock) = Lock::read(&place)?.filter(|lock| lock.request == digest) {
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

/// Reads the lock of a request, or makes it and writes it down.
pub(crate) fn locked(
    store: &Store,
    digest: Digest,
    how: &Resolving,
    resolve: impl FnOnce() -> Result<Lock>,
) -> Result<Lock> {
    let lock = match known(store, digest, how)? {
        Some(lock) => lock,
        None => resolve()?,
    };
    for place in &places(store, digest, how) {
        if Lock::read(place).ok().flatten().as_ref() != Some(&lock) {
            lock.write(place)?;
        }
    }
    Ok(lock)
}

impl Store {
    /// Makes a base layer, or finds the one that the same lock gave before.
    ///
    /// `run` names the work directory, `cache` is where package files and lists are kept.
    ///
    /// # Errors
    /// When not root, when packages cannot be resolved or downloaded, when a maintainer script
    /// fails (with its output), when cancelled, and when a disk is full. Nothing is left then.
    pub fn bootstrap(
        &self,
        run: &str,
        cache: &Path,
        spec: &Bootstrap,
        how: &Resolving,
        control: &Control,
    ) -> Result<Layer> {
        let lock = spec.lock(self, cache, how, control)?;
        let key = bootstrap_key(spec, &lock)?;
        self.build_keyed(key, control, || {
            crate::error::require_root()?;
            let scratch = self.scratch(run)?;
            let root = build(self, &scratch, cache, spec, &lock, run, control)?;
            control.phase("reading the layer");
            let epoch = spec.normalise.epoch.unwrap_or(lock.epoch);
            let provenance = json!({
                "operation": "bootstrap",
                "suite": spec.suite,
                "architecture": lock.architecture,
                "sources": lock.sources,
                "releases": lock.releases,
                "packages": lock.versions(),
            });
            let draft = Draft { parent: None, key: Some(key), provenance, epoch };
            self.finish_tree(&scratch, &root, spec.normalise, true, draft, control)
        })
    }

    /// Builds under the lock of a key, unless the key has a layer.
    pub(crate) fn build_keyed(
        &self,
        key: Digest,
        control: &Control,
        build: impl FnOnce() -> Result<Layer>,
    ) -> Result<Layer> {
        if let Some(digest) = self.lookup_key(key)? {
            return self.layer(digest);
        }
        let _lock = self.lock(&format!("key-{key}"), control)?;
        if let Some(digest) = self.lookup_key(key)? {
            return self.layer(digest);
        }
        build()
    }
}

fn bootstrap_key(spec: &Bootstrap, lock: &Lock) -> Result<Digest> {
    let options = json!({
        "suite": spec.suite,
        "sources": image_sources(&lock.sources),
        "normalise": spec.normalise,
    });
    Ok(LayerKey::new(None, "bootstrap", &options)?.input("lock", lock.content_digest()).digest())
}

fn build(
    store: &Store,
    scratch: &Scratch,
    cache: &Path,
    spec: &Bootstrap,
    lock: &Lock,
    run: &str,
    control: &Control,
) -> Result<PathBuf> {
    fetch::fetch(cache, &lock.packages, control)?;
    let root = scratch.path().join("root");
    fs::create_dir(&root).map_err(Error::io("make the directory", &root))?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("set the mode of", &root))?;
    dpkg::skeleton(&root, &lock.architecture)?;
    let debs = scratch.path().join("debs");
    control.phase(format!("unpacking {} packages", lock.packages.len()));
    dpkg::prepare(cache, &lock.packages, &debs, Some(&root), control)?;
    let setup = Setup {
        root: Root::Directory(root.clone()),
        binds: vec![(debs.clone(), dpkg::INSIDE)],
        epoch: lock.epoch,
    };
    Sandbox::enter(setup, control, |sandbox| {
        boot::defer(sandbox)?;
        dpkg::install(sandbox, &lock.packages, control)?;
        boot::finish(store, sandbox, run, control)
    })?;
    fs::remove_dir_all(&debs).map_err(Error::io("remove", &debs))?;
    write_sources(&root, spec, lock)?;
    first_boot_keys(&root)?;
    Ok(root)
}

/// The sources as an image has them: with a keyring only where the image has that keyring, too.
fn image_sources(sources: &[AptSource]) -> String {
    let text: Vec<String> = sources.iter().map(AptSource::to_deb822).collect();
    text.join("\n")
}

fn write_sources(root: &Path, spec: &Bootstrap, lock: &Lock) -> Result<()> {
    let dir = root.join("etc/apt/sources.list.d");
    if !dir.is_dir() {
        return Ok(());
    }
    for source in &lock.sources {
        if let Some(keyring) = &source.signed_by {
            let inside = crate::scan::host_path(root, keyring.as_os_str().as_encoded_bytes());
            if !inside.exists()
                && let Some(parent) = inside.parent()
            {
                fs::create_dir_all(parent).map_err(Error::io("make the directory", parent))?;
                fs::copy(keyring, &inside).map_err(Error::io("copy", keyring))?;
            }
        }
    }
    let name = if matches!(spec.suite.as_str(), "jammy" | "noble" | "questing" | "resolute") {
        "ubuntu.sources"
    } else {
        "debian.sources"
    };
    let at = dir.join(name);
    fs::write(&at, image_sources(&lock.sources)).map_err(Error::io("write", &at))
}

/// An SSH server makes its own host keys at first boot, since the image has none.
pub(crate) fn first_boot_keys(root: &Path) -> Result<()> {
    const UNIT: &str = "[Unit]\n\
        Description=Make the SSH host keys of this machine\n\
        ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\n\
        Before=ssh.service ssh.socket sshd.service\n\
        After=systemd-random-seed.service\n\n\
        [Service]\nType=oneshot\nExecStart=/usr/bin/ssh-keygen -A\nRemainAfterExit=yes\n\n\
        [Install]\nWantedBy=multi-user.target\n";
    let units = root.join("etc/systemd/system");
    let has_server =
        root.join("usr/sbin/sshd").exists() && root.join("usr/bin/ssh-keygen").exists();
    if !has_server || !units.is_dir() {
        return Ok(());
    }
    let name = "karat-ssh-host-keys.service";
    let at = units.join(name);
    fs::write(&at, UNIT).map_err(Error::io("write", &at))?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).map_err(Error::io("make the directory", &wants))?;
    let link = wants.join(name);
    match symlink(format!("/etc/systemd/system/{name}"), &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io("make the link", &link)(error))
        }
        _ => Ok(()),
    }
}
