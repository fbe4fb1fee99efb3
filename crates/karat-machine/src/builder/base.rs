//! Step `base`: the layer that the machine starts from.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use karat_component::{ComponentError, Events, FingerprintInput, SagaContext};
use karat_layers::{Base, Control, Digest, Install, PackageLock, Progress, Resolving, Store};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::validate::Validated;
use super::{is_bootstrap, open_store};

/// Makes or finds the base layer, and the one with the packages on it.
///
/// Layers stay in the store whatever becomes of the build: another that needs the same finds them.
/// Undoing removes only what is half done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BaseStep {
    /// Names the work folders in the store.
    token: String,
    state_dir: PathBuf,
    cache_dir: PathBuf,
    base: Base,
    install: Option<Install>,
    lock_file: Option<PathBuf>,
    update: bool,
}

/// The layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BaseOutput {
    /// Its digest.
    pub(super) layer: String,
}

impl BaseStep {
    pub(super) fn new(validated: &Validated, cx: &SagaContext) -> Self {
        Self {
            token: cx.token.clone(),
            state_dir: cx.state_dir.clone(),
            cache_dir: cx.cache_dir.clone(),
            base: validated.base.clone(),
            install: validated.install.clone(),
            lock_file: validated.lock_file.clone(),
            update: cx.build.update,
        }
    }

    fn resolving(&self, for_install: bool) -> Resolving {
        resolving(&self.base, self.lock_file.clone(), self.update, for_install)
    }

    /// Brings a registry's image here.
    async fn fetch(
        &self,
        address: &str,
        events: &Events,
        cx: &StepContext,
    ) -> Result<PathBuf, StepError> {
        events.say(format!("Fetching {address}"));
        let what = karat_oci::Pull {
            address: address.to_owned(),
            cache: self.cache_dir.join("oci"),
            refresh: self.update,
            architecture: karat_layers::container_architecture().to_owned(),
            logins: None,
        };
        let progress = |p: karat_oci::Progress| {
            events.progress("fetching the image", p.done, Some(p.total), "bytes");
        };
        tokio::select! {
            pulled = karat_oci::pull(&what, &progress) => match pulled {
                Ok(pulled) => Ok(pulled.layout),
                Err(error) => Err(StepError::because("could not fetch the base", error)),
            },
            () = cx.token().cancelled() => Err(StepError::cancelled()),
        }
    }

    fn make(&self, control: &Control) -> karat_layers::Result<BaseOutput> {
        let store = Store::open(&self.state_dir)?;
        let how = self.resolving(false);
        let mut layer = store.base(&self.token, &self.cache_dir, &self.base, &how, control)?;
        if let Some(install) = &self.install {
            let how = self.resolving(true);
            let (run, cache) = (&self.token, &self.cache_dir);
            layer = store.install_packages(run, cache, layer.digest, install, &how, control)?;
        }
        Ok(BaseOutput { layer: layer.digest.to_string() })
    }
}

/// The user's lock file is that of the packages the template names.
fn resolving(
    base: &Base,
    lock_file: Option<PathBuf>,
    update: bool,
    for_install: bool,
) -> Resolving {
    let lock_file = lock_file.filter(|_| for_install != is_bootstrap(base));
    Resolving { update, lock_file }
}

/// Package locks go into the fingerprint; without one it is open what will be built. So does the
/// folder of the disks, which may be relative to where the program was started.
pub(super) fn fingerprint_inputs(
    validated: &Validated,
    cx: &SagaContext,
) -> Result<Vec<FingerprintInput>, ComponentError> {
    let failed = |e| ComponentError::because("cannot tell what the base is made of", e);
    let how = |for_install| {
        let lock_file = validated.lock_file.clone();
        resolving(&validated.base, lock_file, cx.build.update, for_install)
    };
    let store = Store::open(&cx.state_dir).map_err(failed)?;
    let input = |lock: Option<PackageLock>| FingerprintInput {
        name: "package versions".into(),
        digest: lock.map(|lock| lock.content_digest().to_string()),
    };
    let mut inputs = Vec::new();
    if let Base::Bootstrap(spec) = &validated.base {
        inputs.push(input(spec.known_lock(&store, &how(false)).map_err(failed)?));
    }
    if let Some(install) = &validated.install {
        let known = match &validated.base {
            Base::Layer(parent) if store.has(*parent) => store
                .known_install_lock(&cx.cache_dir, *parent, install, &how(true))
                .map_err(failed)?,
            _ => None,
        };
        inputs.push(input(known));
    }
    if let Some(disk) = &validated.disk {
        let directory = super::export::directory(disk, cx);
        inputs.push(FingerprintInput {
            name: "output directory".into(),
            digest: Some(Digest::of(directory.as_os_str().as_encoded_bytes()).to_string()),
        });
    }
    Ok(inputs)
}

impl Step for BaseStep {
    const KIND: &'static str = "machine.base";
    type Output = BaseOutput;

    async fn run(&self, cx: &StepContext) -> Result<BaseOutput, StepError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(StepError::new("local machines need root")
                .with_hint("run karat as root, for example with sudo"));
        }
        let events = cx.service::<Events>()?;
        let mut step = self.clone();
        if let Base::Oci(image) = &mut step.base
            && karat_oci::is_address(&image.source)
        {
            image.fetched = Some(self.fetch(&image.source, &events, cx).await?);
        }
        blocking(cx, &events, "could not make the base layer", move |control| step.make(control))
            .await
    }

    async fn undo(&self, _: &StepContext, _: Option<BaseOutput>) -> Result<(), StepError> {
        let store = open_store(&self.state_dir)?;
        store
            .sweep(&self.token)
            .map(drop)
            .map_err(|e| StepError::because("could not remove what is half done in the store", e))
    }
}

/// Runs work on layers on a thread of its own, tells its progress, and has it end when the step is
/// cancelled.
pub(super) async fn blocking<T: Send + 'static>(
    cx: &StepContext,
    events: &Arc<Events>,
    what: &str,
    work: impl FnOnce(&Control) -> karat_layers::Result<T> + Send + 'static,
) -> Result<T, StepError> {
    let flag = Arc::new(AtomicBool::new(false));
    let control = Control::new(Arc::clone(&flag), reporter(events));
    let mut task = tokio::task::spawn_blocking(move || work(&control));
    let result = tokio::select! {
        result = &mut task => result,
        () = cx.token().cancelled() => {
            flag.store(true, Ordering::Relaxed);
            task.await
        }
    };
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(karat_layers::Error::Cancelled)) => Err(StepError::cancelled()),
        Ok(Err(error)) => Err(StepError::because(what, error)),
        Err(error) => Err(StepError::because(what, error)),
    }
}

/// Phases are headings; the rest is drawn live.
fn reporter(events: &Arc<Events>) -> impl Fn(Progress) + Send + Sync + 'static {
    let events = Arc::clone(events);
    let phase = std::sync::Mutex::new(String::new());
    move |progress| {
        let mut phase = phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match progress {
            Progress::Phase(words) => {
                events.say(capital(&words));
                *phase = words;
            }
            Progress::Done { done, total, unit } => {
                events.progress(&phase, done, (total > 0).then_some(total), unit);
            }
            Progress::Output(line) => tracing::debug!(%line),
            Progress::Warning(words) => events.message(format!("Warning: {words}")),
        }
    }
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
