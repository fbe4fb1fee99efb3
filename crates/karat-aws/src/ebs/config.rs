//! The options of `amazon-ebs`, and what they are proved to be.

use std::collections::BTreeMap;

use karat_component::ValidateContext;
use karat_config::Config;

use super::fast_launch::{Fast, FastLaunchConfig};
use super::surrogate::Surrogate;
use super::volumes::Kept;
use crate::client::Access;
use crate::options::{
    AccessConfig, AmiConfig, Device, DeviceConfig, Image, Interface, Launch, Network, Reach,
    ReachConfig, RunConfig, Tags, VolumeTagConfig, merged, volume_pairs,
};

/// Makes an Amazon Machine Image: starts a machine from an image, provisions it, and captures it.
///
/// What is made on the way has the tags `karat:token` and `karat:build` from the first call on and
/// goes at the end, whatever the end is; `karat recover` removes what a killed run left.
/// Everything about names, regions and types that can be wrong is looked at before anything is
/// made, in all regions that the image goes to.
#[derive(Clone, Debug, Config)]
pub struct EbsConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// The machine that builds.
    #[option(flatten)]
    pub run: RunConfig,
    /// How it is reached.
    #[option(flatten)]
    pub reach: ReachConfig,
    /// The image.
    #[option(flatten)]
    pub ami: AmiConfig,
    /// Whether everything is done and no image is made.
    #[option(default = false)]
    pub skip_create_ami: bool,
    /// Whether the image does not get the `run_tags`.
    #[option(default = false)]
    pub skip_ami_run_tags: bool,
    /// Block devices that the image has in addition or otherwise than the machine.
    #[option(blocks)]
    pub ami_block_device_mappings: Vec<DeviceConfig>,
    /// Block devices of the machine that builds.
    #[option(blocks)]
    pub launch_block_device_mappings: Vec<DeviceConfig>,
    /// One of the `run_volume_tags`.
    #[option(blocks)]
    pub run_volume_tag: Vec<VolumeTagConfig>,
    /// Tags of the machine's volumes. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub run_volume_tags: BTreeMap<String, String>,
    /// Whether the machine has none of its type's instance stores.
    #[option(default = false)]
    pub no_ephemeral: bool,
    /// Makes machines of a Windows image start fast: AWS keeps snapshots ready.
    #[option(block)]
    pub fast_launch: Option<FastLaunchConfig>,
}

/// What the family of builders makes, each its own.
#[derive(Clone, Debug)]
pub(crate) enum Product {
    /// An image of the machine.
    Image,
    /// Nothing: what the machine did counts.
    Nothing,
    /// An image of another disk of the machine.
    Surrogate(Box<Surrogate>),
    /// Volumes.
    Volumes(Vec<Kept>),
}

/// What is built, and with what.
#[derive(Debug)]
pub struct Validated {
    pub(crate) access: Access,
    pub(crate) launch: Launch,
    pub(crate) network: Network,
    pub(crate) reach: Reach,
    pub(crate) image: Image,
    pub(crate) fast: Option<Fast>,
    pub(crate) product: Product,
    pub(crate) tag_with_run_tags: bool,
    pub(crate) image_devices: Vec<Device>,
    pub(crate) launch_devices: Vec<Device>,
    pub(crate) volume_tags: Tags,
    pub(crate) no_ephemeral: bool,
}

impl Validated {
    /// Whether an image comes out.
    pub(crate) fn makes_image(&self) -> bool {
        matches!(self.product, Product::Image | Product::Surrogate(_))
    }
}

/// What all of the family have, proved; the rest is that of a build without an image.
pub(crate) fn common(
    access: Access,
    run: RunConfig,
    reach: ReachConfig,
    volume_tags: (&Tags, &[VolumeTagConfig]),
    cx: &mut ValidateContext<'_>,
) -> Validated {
    let (launch, network) = run.validate(cx);
    let reach = reach.validate(cx);
    if reach.interface == Interface::SessionManager
        && reach.login.is_some()
        && launch.profile.is_empty()
        && launch.policy.is_none()
        && cx.is_known("iam_instance_profile")
    {
        cx.error("ssh_interface", "the session manager needs an instance profile")
            .detail("The machine's agent talks to it as the role of its instance profile.")
            .hint("set iam_instance_profile to one with the policy AmazonSSMManagedInstanceCore");
    }
    let volume_tags = merged("run_volume_tags", volume_tags.0, volume_pairs(volume_tags.1), cx);
    Validated {
        access,
        launch,
        network,
        reach,
        image: Image::default(),
        fast: None,
        product: Product::Nothing,
        tag_with_run_tags: true,
        image_devices: Vec::new(),
        launch_devices: Vec::new(),
        volume_tags,
        no_ephemeral: false,
    }
}

impl EbsConfig {
    pub(crate) fn validate(self, cx: &mut ValidateContext<'_>) -> Validated {
        let access = self.access.validate(cx);
        let image = self.ami.validate(access.region.as_deref(), cx);
        let own = access.region.as_deref();
        let fast = self.fast_launch.and_then(|fast| fast.validate(own, &image.regions, cx));
        let mut devices = |option: &str, given: Vec<DeviceConfig>| -> Vec<Device> {
            given.into_iter().map(|d| d.validate(option, cx)).collect()
        };
        let image_devices = devices("ami_block_device_mappings", self.ami_block_device_mappings);
        let launch_devices =
            devices("launch_block_device_mappings", self.launch_block_device_mappings);
        if image_devices.iter().any(|d| !d.key.is_empty()) {
            let text = "kms_key_id is for launch_block_device_mappings alone";
            cx.error("ami_block_device_mappings", text)
                .hint("the image's volumes are encrypted as the machine's are");
        }
        let volume_tags = (&self.run_volume_tags, self.run_volume_tag.as_slice());
        let base = common(access, self.run, self.reach, volume_tags, cx);
        for (option, given) in
            [("ena_support", image.ena.is_some()), ("sriov_support", image.sriov)]
        {
            if given && base.launch.spot.is_some() {
                cx.error(option, format!("{option} needs a machine that can be stopped"))
                    .detail("A spot machine cannot be.")
                    .hint("leave it out: the image has it as the source image does");
            }
        }
        let product = if self.skip_create_ami { Product::Nothing } else { Product::Image };
        Validated {
            image,
            fast,
            product,
            tag_with_run_tags: !self.skip_ami_run_tags,
            image_devices,
            launch_devices,
            no_ephemeral: self.no_ephemeral,
            ..base
        }
    }
}
