//! Source `amazon-chroot`: an image of a volume that this machine, one of EC2's, fills.
//!
//! ```text
//! preflight ─► here ─► source ─► volume ─► attach ─► mount ─► provision ─► leave ─► snapshots
//!   ─► image ─► copy-REGION … ─► copies ─► publish
//! ```
//!
//! From `snapshots` on the steps are those of `amazon-ebssurrogate`.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | the options |
//! | `here.rs` | this machine |
//! | `volume.rs` | the volume, and this machine gets it |
//! | `mounts.rs` | the volume is mounted, and unmounted |
//! | `inside.rs` | provisioners in it |
//! | `commands.rs` | commands of this machine |

mod commands;
mod config;
mod here;
mod inside;
mod mounts;
mod volume;

use karat_component::{Artifact, Builder, ComponentError, SagaContext, ValidateContext};
use karat_config::NameRules;
use karat_saga::{Outputs, Saga, SagaError, Services, StepError, StepRegistry};

pub use config::ChrootConfig;
use config::ChrootValidated;
use here::FindHere;
use inside::ProvisionInside;
use mounts::{LeaveVolume, MountVolume};
use volume::{AttachVolume, MakeVolume};

use super::artifact::{self, images_artifact};
use super::preflight::Preflight;
use super::scope::Scope;
use super::snapshots::{ROOT, RegisterImage, SnapshotVolumes};
use super::source::{FindSource, LateTexts, VolumeTagsOption};
use super::{GENERATED, after_image, node, register, retire};
use crate::options::Device;

/// What post-processors know these images by.
const BUILDER_ID: &str = "mitchellh.amazon.chroot";

/// Source `amazon-chroot`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonChroot;

/// The values of `build.*` beside those that every machine has.
const INSIDE: [&str; GENERATED.len() + 2] = {
    let mut all = [""; GENERATED.len() + 2];
    let mut at = 0;
    while at < GENERATED.len() {
        all[at] = GENERATED[at];
        at += 1;
    }
    all[at] = "Device";
    all[at + 1] = "MountPath";
    all
};

impl Builder for AmazonChroot {
    const TYPE: &'static str = "amazon-chroot";
    const NAMES: Option<NameRules> = Some(NameRules::Amazon);
    type Config = ChrootConfig;
    type Validated = ChrootValidated;

    fn validate(
        &self,
        config: ChrootConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<ChrootValidated> {
        Some(config.validate(cx))
    }

    fn generated(&self) -> &'static [&'static str] {
        &INSIDE
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        register(registry);
        registry
            .register::<FindHere>()
            .register::<MakeVolume>()
            .register::<AttachVolume>()
            .register::<MountVolume>()
            .register::<ProvisionInside>()
            .register::<LeaveVolume>();
    }

    fn saga(&self, validated: &ChrootValidated, cx: &SagaContext) -> Result<Saga, SagaError> {
        saga(validated, &Scope::new(&validated.access, cx), &cx.build.target)
    }

    fn artifact(
        &self,
        validated: &ChrootValidated,
        _: &SagaContext,
        outputs: &Outputs,
    ) -> Result<Option<Artifact>, StepError> {
        images_artifact(&validated.access, &validated.image, BUILDER_ID, outputs).map(Some)
    }

    async fn is_intact(&self, artifact: &Artifact, _: &Services) -> bool {
        artifact::is_intact(artifact).await
    }

    async fn destroy(&self, artifact: &Artifact, _: &Services) -> Result<(), ComponentError> {
        artifact::destroy(artifact).await
    }
}

/// Lays out the steps.
fn saga(v: &ChrootValidated, scope: &Scope, target: &str) -> Result<Saga, SagaError> {
    let image = &v.image;
    let preflight = Preflight {
        scope: scope.clone(),
        image_name: image.name.clone(),
        regions: image.regions.clone(),
        check_regions: image.check_regions,
        makes_image: true,
        only_copies: image.only_copies,
        replaces: image.replaces,
        kind: String::new(),
        kinds: Vec::new(),
        spot: false,
        on_host: false,
        key: v.volume.key.clone(),
        region_keys: image.region_keys.clone(),
    };
    let source = FindSource {
        scope: scope.clone(),
        source: v.source.clone(),
        virtualization: if v.volume.empty { String::new() } else { image.virtualization.clone() },
        architecture: image.architecture.clone(),
        late: LateTexts {
            description: image.description.clone(),
            volume_tags: v.volume_tags.clone(),
            image_tags: image.tags.clone(),
            snapshot_tags: image.snapshot_tags.clone(),
            ..LateTexts::default()
        },
        volume_tags_option: VolumeTagsOption::Root,
    };
    let snapshots = SnapshotVolumes {
        scope: scope.clone(),
        devices: vec![ROOT.to_owned()],
        description: String::new(),
        tag_with_run_tags: false,
        goes: image.only_copies,
    };
    let place = || v.place.clone();
    let mut saga = Saga::new(target)
        .step(node::PREFLIGHT, preflight)
        .step(node::HERE, FindHere { scope: scope.clone() })
        .step(node::SOURCE, source)
        .step(node::ROOT_VOLUME, MakeVolume { scope: scope.clone(), volume: v.volume.clone() })
        .step(node::ATTACH, AttachVolume { scope: scope.clone(), place: place() })
        .step(node::MOUNT, MountVolume { scope: scope.clone(), place: place() })
        .step(
            node::PROVISION,
            ProvisionInside { scope: scope.clone(), wrapper: v.place.wrapper.clone() },
        )
        .step(node::LEAVE, LeaveVolume { scope: scope.clone(), place: place() })
        .step(node::SNAPSHOTS, snapshots);
    if image.replaces && !image.only_copies {
        saga = saga.step(node::RETIRE, retire(scope, image, None));
    }
    saga = saga.step(node::IMAGE, register_image(v, scope));
    after_image(saga, scope, image, false, None).build()
}

/// The image. Without mappings of its own it has those of the source image.
fn register_image(v: &ChrootValidated, scope: &Scope) -> RegisterImage {
    let of_source = v.root_device.is_empty();
    let size = v.volume.size.filter(|n| *n != 0);
    let given = v.image_devices.iter().find(|d| d.name == v.root_device);
    let root = Device { size, ..given.cloned().unwrap_or_default() };
    RegisterImage {
        scope: scope.clone(),
        name: if v.image.only_copies { scope.name() } else { v.image.name.clone() },
        kind: v.kind.clone(),
        from: ROOT.to_owned(),
        root,
        launch_devices: Vec::new(),
        image_devices: v.image_devices.clone(),
        tag_with_run_tags: false,
        goes: v.image.only_copies,
        of_source,
        like_source: !v.volume.empty,
    }
}
