//! Sources `amazon-ebs`, `amazon-ebssurrogate` and `amazon-ebsvolume`: a machine on AWS, or a disk
//! of it, becomes an image, or its disks stay.
//!
//! ```text
//! preflight ─► source ─► network ─► key ─► group ─► profile ─► instance ─► ingress ─► provision
//!   ─► stop ─► image ─► release ─► copy-REGION … ─► copies ─► publish
//! ```
//!
//! A spot machine has `template` before `instance`, and no `stop`: it cannot be stopped.
//! With `force_deregister` there is `retire` before `image` and `retire-REGION` before each copy;
//! with `force_delete_snapshot` `old-snapshots` is the last.
//!
//! Before the image of `amazon-ebssurrogate` there are `snapshots`, or `swap`; `amazon-ebsvolume` ends with
//! `volumes`. Where volumes are to stay, `keep` stands before the machine and removes them after a
//! failure.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | the options; what they are proved to be |
//! | `scope.rs` | what all steps share: access, the build's token, tags, texts |
//! | `states.rs` | what is waited for |
//! | `preflight.rs`, `quota.rs`, `source.rs`, `network.rs` | what is looked up before anything is made |
//! | `key.rs`, `group.rs`, `profile.rs` | what the machine needs: key pair, security group, role |
//! | `instance.rs`, `provision.rs`, `session.rs`, `stop.rs` | the machine |
//! | `spot.rs` | the machine as a spot machine |
//! | `dead_man.rs` | the end of a machine that is left alone |
//! | `image.rs`, `copies.rs`, `publish.rs` | the image, in all regions |
//! | `fast_launch.rs` | images whose machines start fast |
//! | `retire.rs` | images that have the name already |
//! | `surrogate.rs`, `snapshots.rs`, `swap.rs` | an image of another disk |
//! | `volumes.rs` | disks that stay |
//! | `windows.rs` | the login to Windows |
//! | `artifact.rs` | what came out, and removing it |
//! | `chroot/` | an image without a machine of its own: [`AmazonChroot`] |

mod artifact;
mod chroot;
mod config;
mod copies;
mod dead_man;
mod fast_launch;
mod group;
mod image;
mod instance;
mod key;
mod network;
mod preflight;
mod profile;
mod provision;
mod publish;
mod quota;
mod retire;
mod scope;
mod session;
mod snapshots;
mod source;
mod spot;
mod states;
mod stop;
mod surrogate;
mod swap;
mod volumes;
mod windows;

use karat_component::{Artifact, Builder, ComponentError, SagaContext, ValidateContext};
use karat_config::NameRules;
use karat_saga::{Outputs, Saga, SagaBuilder, SagaError, Services, StepError, StepRegistry};

pub use chroot::{AmazonChroot, ChrootConfig};
pub use config::EbsConfig;
use config::{Product, Validated};
pub use fast_launch::{FastLaunchConfig, FastLaunchRegionConfig};
pub(crate) use preflight::literal;
pub(crate) use quota::is_small;
pub(crate) use retire::old_images;
pub(crate) use scope::{
    BUILD_TAG, Scope, TOKEN_TAG, UNSEEN, ec2_tags, filter, launch_permissions, message, pause, say,
};
pub(crate) use snapshots::SnapshotStates;
pub(crate) use source::{SourceImage, find};
pub(crate) use states::{ImageStates, InstanceStates};
pub use surrogate::{RootDeviceConfig, SurrogateConfig, SurrogateDeviceConfig};
pub use volumes::{KeptVolumeConfig, VolumesConfig};

use copies::{Copies, Copy};
use fast_launch::{FastLaunch, FindTemplates};
use group::{MakeGroup, OpenGroup};
use image::MakeImage;
use instance::{Encryption, StartMachine};
use key::MakeKey;
use network::FindNetwork;
use preflight::Preflight;
use profile::{FindProfile, MakeProfile};
use provision::Provision;
use publish::Publish;
use retire::{OldSnapshots, Retire};
use snapshots::{RegisterImage, SnapshotVolumes};
use source::{FindSource, LateTexts, VolumeTagsOption};
use spot::MakeTemplate;
use stop::{Release, StopMachine};
use swap::SwapVolumes;
use volumes::{FinishVolumes, KeepVolumes};

use surrogate::Surrogate;

use crate::options::{Device, Image, Interface, Login, UserData};

/// Source `amazon-ebs`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonEbs;

/// Names of the saga's nodes, by which later steps read what earlier ones gave.
mod node {
    pub(super) const PREFLIGHT: &str = "preflight";
    pub(super) const SOURCE: &str = "source";
    pub(super) const NETWORK: &str = "network";
    pub(super) const KEY: &str = "key";
    pub(super) const GROUP: &str = "group";
    pub(super) const FIND_PROFILE: &str = "find-profile";
    pub(super) const PROFILE: &str = "profile";
    pub(super) const TEMPLATE: &str = "template";
    pub(super) const INSTANCE: &str = "instance";
    pub(super) const INGRESS: &str = "ingress";
    pub(super) const PROVISION: &str = "provision";
    pub(super) const STOP: &str = "stop";
    pub(super) const IMAGE: &str = "image";
    pub(super) const RELEASE: &str = "release";
    pub(super) const KEEP: &str = "keep";
    pub(super) const SWAP: &str = "swap";
    pub(super) const SNAPSHOTS: &str = "snapshots";
    pub(super) const VOLUMES: &str = "volumes";
    pub(super) const COPIES: &str = "copies";
    pub(super) const PUBLISH: &str = "publish";
    pub(super) const RETIRE: &str = "retire";
    pub(super) const FIND_TEMPLATES: &str = "fast-launch-templates";
    pub(super) const FAST_LAUNCH: &str = "fast-launch";
    pub(super) const OLD_SNAPSHOTS: &str = "old-snapshots";
    pub(super) const HERE: &str = "here";
    pub(super) const ROOT_VOLUME: &str = "volume";
    pub(super) const ATTACH: &str = "attach";
    pub(super) const MOUNT: &str = "mount";
    pub(super) const LEAVE: &str = "leave";

    /// Old images of a region.
    pub(super) fn retire(region: &str) -> String {
        format!("retire-{region}")
    }

    /// The copy in a region.
    pub(super) fn copy(region: &str) -> String {
        format!("copy-{region}")
    }
}

/// Source `amazon-ebssurrogate`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonEbsSurrogate;

/// Source `amazon-ebsvolume`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonEbsVolume;

/// The values of `build.*` beside those that every machine has.
const GENERATED: &[&str] = &[
    "BuildRegion",
    "SourceAMI",
    "SourceAMIName",
    "SourceAMICreationDate",
    "SourceAMIOwner",
    "SourceAMIOwnerName",
];

fn register(registry: &mut StepRegistry) {
    registry
        .register::<Preflight>()
        .register::<FindSource>()
        .register::<FindNetwork>()
        .register::<MakeKey>()
        .register::<MakeGroup>()
        .register::<OpenGroup>()
        .register::<FindProfile>()
        .register::<MakeProfile>()
        .register::<KeepVolumes>()
        .register::<MakeTemplate>()
        .register::<StartMachine>()
        .register::<Provision>()
        .register::<StopMachine>()
        .register::<MakeImage>()
        .register::<SwapVolumes>()
        .register::<SnapshotVolumes>()
        .register::<RegisterImage>()
        .register::<FinishVolumes>()
        .register::<Copy>()
        .register::<Release>()
        .register::<Copies>()
        .register::<FindTemplates>()
        .register::<FastLaunch>()
        .register::<Retire>()
        .register::<OldSnapshots>()
        .register::<Publish>();
}

/// One source of the family: its type, its options, how its artifact is made, looked at, removed.
macro_rules! builder {
    ($name:ident, $type:literal, $config:ty, $artifact:path, $is_intact:path, $destroy:path) => {
        impl Builder for $name {
            const TYPE: &'static str = $type;
            const NAMES: Option<NameRules> = Some(NameRules::Amazon);
            type Config = $config;
            type Validated = Validated;

            fn validate(&self, config: $config, cx: &mut ValidateContext<'_>) -> Option<Validated> {
                Some(config.validate(cx))
            }

            fn generated(&self) -> &'static [&'static str] {
                GENERATED
            }

            fn has_machine(&self, validated: &Validated) -> bool {
                validated.reach.login.is_some()
            }

            fn register_steps(&self, registry: &mut StepRegistry) {
                register(registry);
            }

            fn saga(&self, validated: &Validated, cx: &SagaContext) -> Result<Saga, SagaError> {
                Layout { v: validated, scope: Scope::new(&validated.access, cx) }
                    .saga(&cx.build.target)
            }

            fn artifact(
                &self,
                validated: &Validated,
                _: &SagaContext,
                outputs: &Outputs,
            ) -> Result<Option<Artifact>, StepError> {
                match validated.product {
                    Product::Nothing => Ok(None),
                    _ => $artifact(validated, outputs).map(Some),
                }
            }

            async fn is_intact(&self, artifact: &Artifact, _: &Services) -> bool {
                $is_intact(artifact).await
            }

            async fn destroy(
                &self,
                artifact: &Artifact,
                _: &Services,
            ) -> Result<(), ComponentError> {
                $destroy(artifact).await
            }
        }
    };
}

builder!(
    AmazonEbs,
    "amazon-ebs",
    EbsConfig,
    artifact::artifact,
    artifact::is_intact,
    artifact::destroy
);
builder!(
    AmazonEbsSurrogate,
    "amazon-ebssurrogate",
    SurrogateConfig,
    artifact::artifact,
    artifact::is_intact,
    artifact::destroy
);
builder!(
    AmazonEbsVolume,
    "amazon-ebsvolume",
    VolumesConfig,
    volumes::artifact,
    volumes::is_intact,
    volumes::destroy
);

/// Lays out the steps.
struct Layout<'a> {
    v: &'a Validated,
    scope: Scope,
}

impl Layout<'_> {
    fn saga(&self, target: &str) -> Result<Saga, SagaError> {
        let (v, scope) = (self.v, || self.scope.clone());
        let mut saga = Saga::new(target)
            .step(node::PREFLIGHT, self.preflight())
            .step(node::SOURCE, self.source());
        // Without an image nothing starts fast.
        let fast = v.fast.as_ref().filter(|_| v.makes_image());
        if let Some(fast) = fast.filter(|fast| !fast.templates.is_empty()) {
            let wanted = fast.templates.clone();
            saga = saga.step(node::FIND_TEMPLATES, FindTemplates { scope: scope(), wanted });
        }
        saga = saga.step(
            node::NETWORK,
            FindNetwork { scope: scope(), network: v.network.clone(), kind: v.launch.kind.clone() },
        );
        if v.launch.check_profile && !v.launch.profile.is_empty() {
            let name = v.launch.profile.clone();
            saga = saga.step(node::FIND_PROFILE, FindProfile { scope: scope(), name });
        }
        if let Some(key) = &v.reach.temporary_key {
            let name = key.name.clone().unwrap_or_else(|| self.scope.name());
            saga = saga.step(node::KEY, MakeKey { scope: scope(), name, rsa: key.rsa });
        }
        let own_group = v.network.groups.is_empty() && v.network.group_filter.is_none();
        if own_group {
            saga = saga.step(node::GROUP, MakeGroup { scope: scope() });
        }
        if let Some(policy) = &v.launch.policy {
            saga = saga.step(node::PROFILE, MakeProfile { scope: scope(), policy: policy.clone() });
        }
        // Volumes that are to stay go after a failure, when the machine is gone.
        if v.launch_devices.iter().any(|d| d.goes_with_machine == Some(false)) {
            saga = saga.step(node::KEEP, KeepVolumes { scope: scope() });
        }
        if v.launch.spot.is_some() {
            saga = saga.step(node::TEMPLATE, MakeTemplate { machine: self.instance() });
        }
        saga = saga.step(node::INSTANCE, self.instance());
        // The session manager needs no way in.
        let opens = own_group && v.reach.interface != Interface::SessionManager;
        if let Some(login) = v.reach.login.as_ref().filter(|_| opens) {
            let open = OpenGroup {
                scope: scope(),
                port: login.port(),
                sources: v.network.sources.clone(),
                interface: v.reach.interface,
            };
            saga = saga.step(node::INGRESS, open);
        }
        saga = saga.step(node::PROVISION, self.provision());
        let stop = StopMachine {
            scope: scope(),
            stops_itself: v.launch.stops_itself,
            ena: v.image.ena,
            sriov: v.image.sriov,
        };
        let retires = v.image.replaces && !v.image.only_copies;
        let retire = || retire(&self.scope, &v.image, None);
        if !matches!(v.product, Product::Nothing) && v.launch.spot.is_none() {
            saga = saga.step(node::STOP, stop);
        }
        saga = match &v.product {
            Product::Nothing => return saga.build(),
            Product::Image => {
                if retires {
                    saga = saga.step(node::RETIRE, retire());
                }
                saga.step(node::IMAGE, self.image())
            }
            Product::Surrogate(surrogate) if surrogate.by_machine => {
                saga = saga.step(node::SWAP, self.swap(surrogate));
                if retires {
                    saga = saga.step(node::RETIRE, retire());
                }
                let devices = surrogate.image_devices(&v.launch_devices, &v.image_devices);
                saga.step(node::IMAGE, MakeImage { devices, ..self.image() })
            }
            Product::Surrogate(surrogate) => {
                saga = saga.step(node::SNAPSHOTS, self.snapshots(surrogate));
                if retires {
                    saga = saga.step(node::RETIRE, retire());
                }
                saga.step(node::IMAGE, self.register(surrogate))
            }
            Product::Volumes(volumes) => {
                let finish = FinishVolumes { scope: scope(), volumes: volumes.clone() };
                return saga.step(node::VOLUMES, finish).build();
            }
        };
        saga = saga.step(node::RELEASE, Release { scope: scope() });
        let only_copies = v.image.only_copies;
        let fast = fast.map(|fast| FastLaunch { scope: scope(), fast: fast.clone(), only_copies });
        after_image(saga, &self.scope, &v.image, v.tag_with_run_tags, fast).build()
    }

    /// The name of the image in the build's region.
    fn own_name(&self) -> String {
        match self.v.image.only_copies {
            true => self.scope.name(),
            false => self.v.image.name.clone(),
        }
    }

    fn image(&self) -> MakeImage {
        MakeImage {
            scope: self.scope.clone(),
            name: self.own_name(),
            devices: self.v.image_devices.clone(),
            tag_with_run_tags: self.v.tag_with_run_tags,
            goes: self.v.image.only_copies,
        }
    }

    fn snapshots(&self, surrogate: &Surrogate) -> SnapshotVolumes {
        let wanted =
            |d: &&Device| !d.left_out && d.store.is_empty() && !surrogate.omitted.contains(&d.name);
        let devices = self.v.launch_devices.iter().filter(wanted).map(|d| d.name.clone());
        SnapshotVolumes {
            scope: self.scope.clone(),
            devices: devices.collect(),
            description: surrogate.description.clone(),
            tag_with_run_tags: self.v.tag_with_run_tags,
            goes: self.v.image.only_copies,
        }
    }

    fn swap(&self, surrogate: &Surrogate) -> SwapVolumes {
        SwapVolumes {
            scope: self.scope.clone(),
            from: surrogate.from.clone(),
            root: surrogate.root.name.clone(),
            omitted: surrogate.omitted.clone(),
            goes_with_machine: surrogate.root.goes_with_machine == Some(true),
        }
    }

    fn register(&self, surrogate: &Surrogate) -> RegisterImage {
        let kept = |d: &&Device| !surrogate.omitted.contains(&d.name);
        RegisterImage {
            scope: self.scope.clone(),
            name: self.own_name(),
            kind: surrogate.kind.clone(),
            from: surrogate.from.clone(),
            root: surrogate.root.clone(),
            launch_devices: self.v.launch_devices.iter().filter(kept).cloned().collect(),
            image_devices: self.v.image_devices.clone(),
            tag_with_run_tags: self.v.tag_with_run_tags,
            goes: self.v.image.only_copies,
            of_source: false,
            like_source: false,
        }
    }

    fn preflight(&self) -> Preflight {
        Preflight {
            scope: self.scope.clone(),
            image_name: self.v.image.name.clone(),
            regions: self.v.image.regions.clone(),
            check_regions: self.v.image.check_regions,
            makes_image: self.v.makes_image(),
            only_copies: self.v.image.only_copies,
            replaces: self.v.image.replaces,
            kind: self.v.launch.kind.clone(),
            kinds: self.v.launch.spot.as_ref().map(|s| s.kinds.clone()).unwrap_or_default(),
            spot: self.v.launch.spot.is_some(),
            on_host: self.v.launch.placement.tenancy == "host",
            key: self.v.image.key.clone(),
            region_keys: self.v.image.region_keys.clone(),
        }
    }

    fn source(&self) -> FindSource {
        let v = self.v;
        FindSource {
            scope: self.scope.clone(),
            source: v.launch.source.clone(),
            virtualization: v.image.virtualization.clone(),
            architecture: v.image.architecture.clone(),
            late: LateTexts {
                description: v.image.description.clone(),
                run_tags: v.launch.tags.clone(),
                spot_tags: v.launch.spot.as_ref().map(|s| s.tags.clone()).unwrap_or_default(),
                fleet_tags: v
                    .launch
                    .spot
                    .as_ref()
                    .map(|s| s.fleet_tags.clone())
                    .unwrap_or_default(),
                volume_tags: v.volume_tags.clone(),
                image_tags: v.image.tags.clone(),
                snapshot_tags: v.image.snapshot_tags.clone(),
            },
            volume_tags_option: VolumeTagsOption::Run,
        }
    }

    fn instance(&self) -> StartMachine {
        let v = self.v;
        StartMachine {
            scope: self.scope.clone(),
            launch: v.launch.clone(),
            devices: v.launch_devices.clone(),
            encrypt: v.image.encrypt == Some(true),
            no_ephemeral: v.no_ephemeral,
            public_address: v.network.public_address,
            key_name: v.reach.key_name.clone(),
            has_user_data: !matches!(v.launch.user_data, UserData::Nothing),
        }
    }

    fn provision(&self) -> Provision {
        let login = &self.v.reach.login;
        Provision {
            by_winrm: matches!(login, Some(Login::Winrm(_))),
            asks_password: matches!(login, Some(Login::Winrm(w)) if w.asks()),
            scope: self.scope.clone(),
            interface: self.v.reach.interface,
            connects: self.v.reach.login.is_some(),
            pause: self.v.reach.pause,
            ends_after: self.v.launch.ends_after,
            login: self.v.reach.login.clone(),
        }
    }
}

/// What takes the name from images that have it already.
fn retire(scope: &Scope, image: &Image, region: Option<&str>) -> Retire {
    Retire { scope: scope.clone(), region: region.map(str::to_owned), name: image.name.clone() }
}

/// What all builders do with an image that stands.
fn after_image(
    mut saga: SagaBuilder,
    scope: &Scope,
    image: &Image,
    tag_with_run_tags: bool,
    fast: Option<FastLaunch>,
) -> SagaBuilder {
    for region in &image.regions {
        if image.replaces {
            saga = saga.step(node::retire(region), retire(scope, image, Some(region)));
        }
        let key = image.region_keys.get(region).cloned().unwrap_or_default();
        let copy = Copy {
            scope: scope.clone(),
            region: region.to_owned(),
            name: image.name.clone(),
            encryption: Encryption { on: image.encrypt == Some(true) || !key.is_empty(), key },
            tag_with_run_tags,
            minutes: image.copy_minutes,
        };
        saga = saga.step(node::copy(region), copy);
    }
    let regions = image.regions.clone();
    if !regions.is_empty() {
        saga = saga.step(node::COPIES, Copies { scope: scope.clone(), regions: regions.clone() });
    }
    if let Some(fast) = fast {
        saga = saga.step(node::FAST_LAUNCH, fast);
    }
    let publish = Publish { scope: scope.clone(), image: image.clone(), tag_with_run_tags };
    saga = saga.step(node::PUBLISH, publish);
    if image.replaces && image.deletes_old_snapshots {
        saga = saga.step(node::OLD_SNAPSHOTS, OldSnapshots { scope: scope.clone(), regions });
    }
    saga
}
