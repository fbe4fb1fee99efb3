//! Source `amazon-ebssurrogate`: an image of a disk beside the machine's own.

use std::collections::BTreeMap;

use karat_component::ValidateContext;
use karat_config::Config;

use super::config::{Product, Validated, common};
use super::snapshots::Kind;
use crate::options::{
    AccessConfig, AmiConfig, Device, DeviceConfig, ReachConfig, RunConfig, VolumeTagConfig,
};

/// Makes an Amazon Machine Image of a volume that a machine wrote: the machine starts from any
/// image, provisioners fill another disk of it, and this disk becomes the image's root.
///
/// Everything else is as in `amazon-ebs`.
#[derive(Clone, Debug, Config)]
pub struct SurrogateConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// The machine that builds.
    #[option(flatten)]
    pub run: RunConfig,
    /// How it is reached.
    #[option(flatten)]
    pub reach: ReachConfig,
    /// The image. `ami_virtualization_type` is required.
    #[option(flatten)]
    pub ami: AmiConfig,
    /// Whether the image does not get the `run_tags`.
    #[option(default = false)]
    pub skip_ami_run_tags: bool,
    /// Block devices that the image has in addition.
    #[option(blocks)]
    pub ami_block_device_mappings: Vec<DeviceConfig>,
    /// Block devices of the machine that builds; the image has them, too, from snapshots.
    #[option(blocks)]
    pub launch_block_device_mappings: Vec<SurrogateDeviceConfig>,
    /// The root of the image.
    #[option(block)]
    pub ami_root_device: Option<RootDeviceConfig>,
    /// One of the `run_volume_tags`.
    #[option(blocks)]
    pub run_volume_tag: Vec<VolumeTagConfig>,
    /// Tags of the machine's volumes. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub run_volume_tags: BTreeMap<String, String>,
    /// The image's architecture: `x86_64`, `arm64`, `i386`, `x86_64_mac` or `arm64_mac`.
    #[option(default = "x86_64")]
    pub ami_architecture: String,
    /// How machines of the image start: `legacy-bios`, `uefi` or `uefi-preferred`; as their type
    /// has it without.
    #[option(default = "")]
    pub boot_mode: String,
    /// The store of UEFI variables, as base64.
    #[option(default = "")]
    pub uefi_data: String,
    /// The version of the TPM that machines of the image have: `v2.0`.
    #[option(default = "")]
    pub tpm_support: String,
    /// Whether the image is made of the machine, whose root gives place to the disk that was filled:
    /// it has the machine's properties, then, among them what AWS bills for. The root is called as
    /// the machine's own.
    #[option(default = false)]
    pub use_create_image: bool,
    /// What the snapshots say of themselves.
    #[option(default = "")]
    pub snapshot_description: String,
}

/// A block device of the machine that builds.
#[derive(Clone, Debug, Config)]
pub struct SurrogateDeviceConfig {
    /// The device.
    #[option(flatten)]
    pub device: DeviceConfig,
    /// Whether the image does not have it.
    #[option(default = false)]
    pub omit_from_artifact: bool,
}

/// The root of an image.
#[derive(Clone, Debug, Config)]
pub struct RootDeviceConfig {
    /// The device of the machine that builds, one of the `launch_block_device_mappings`, that
    /// becomes the root.
    #[option(default = "")]
    pub source_device_name: String,
    /// What machines of the image call it: `/dev/xvda`.
    #[option(default = "")]
    pub device_name: String,
    /// Whether the volume goes with a machine of the image.
    #[option(default = false)]
    pub delete_on_termination: bool,
    /// Operations a second that are paid for.
    pub iops: Option<i32>,
    /// `gp2`, `gp3`, `io1`, `io2`, `st1`, `sc1` or `standard`; AWS's default without.
    #[option(default = "")]
    pub volume_type: String,
    /// Size in GiB; that of the disk without.
    pub volume_size: Option<i32>,
}

/// What makes a surrogate.
#[derive(Clone, Debug)]
pub(crate) struct Surrogate {
    pub(crate) from: String,
    pub(crate) root: Device,
    pub(crate) kind: Kind,
    /// Devices that the image does not have.
    pub(crate) omitted: Vec<String>,
    pub(crate) description: String,
    /// Whether the image is made of the machine.
    pub(crate) by_machine: bool,
}

impl Surrogate {
    /// The devices of an image of the machine with its new root.
    pub(crate) fn image_devices(&self, launch: &[Device], image: &[Device]) -> Vec<Device> {
        let mut devices: BTreeMap<String, Device> = BTreeMap::new();
        for device in image {
            devices.insert(device.name.clone(), device.clone());
        }
        // Of a volume that is there AWS lets nothing else be said.
        let there = |device: &Device| Device {
            name: device.name.clone(),
            goes_with_machine: device.goes_with_machine,
            left_out: device.left_out,
            store: device.store.clone(),
            ..Device::default()
        };
        let kept = |d: &&Device| d.name != self.from && !self.omitted.contains(&d.name);
        for device in launch.iter().filter(kept) {
            devices.insert(device.name.clone(), there(device));
        }
        devices.insert(self.root.name.clone(), there(&self.root));
        devices.into_values().collect()
    }
}

impl RootDeviceConfig {
    fn validate(self, cx: &mut ValidateContext<'_>) -> (String, Device) {
        let option = "ami_root_device";
        if self.source_device_name.is_empty() {
            cx.error(option, "source_device_name for the root_device must be specified")
                .hint("name one of the launch_block_device_mappings");
        }
        if self.device_name.is_empty() {
            cx.error(option, "device_name for the root_device must be specified")
                .hint("for example device_name = \"/dev/xvda\"");
        }
        if self.volume_type == "gp2" && self.iops.is_some_and(|n| n != 0) {
            cx.error(option, "iops may not be specified for a gp2 volume");
        }
        for (name, number) in [("iops", self.iops), ("volume_size", self.volume_size)] {
            if number.is_some_and(|n| n < 0) {
                cx.error(option, format!("{name} must be greater than 0"));
            }
        }
        let device = Device {
            name: self.device_name,
            size: self.volume_size.filter(|n| *n != 0),
            kind: self.volume_type,
            iops: self.iops.filter(|n| *n != 0),
            goes_with_machine: Some(self.delete_on_termination),
            ..Device::default()
        };
        (self.source_device_name, device)
    }
}

const ARCHITECTURES: [&str; 5] = ["x86_64", "arm64", "i386", "x86_64_mac", "arm64_mac"];
const BOOT_MODES: [&str; 3] = ["legacy-bios", "uefi", "uefi-preferred"];

/// Checks how an image of snapshots starts.
pub(crate) fn check_kind(kind: &Kind, architecture: &str, cx: &mut ValidateContext<'_>) {
    if !ARCHITECTURES.contains(&kind.architecture.as_str()) {
        cx.error(architecture, format!("unknown architecture \"{}\"", kind.architecture))
            .hint(format!("use one of {}", ARCHITECTURES.join(", ")));
    }
    if !kind.boot.is_empty() && !BOOT_MODES.contains(&kind.boot.as_str()) {
        cx.error("boot_mode", format!("unknown boot_mode \"{}\"", kind.boot))
            .hint(format!("use one of {}", BOOT_MODES.join(", ")));
    }
    if !kind.tpm.is_empty() && kind.tpm != "v2.0" {
        cx.error("tpm_support", "The only valid tpm_support value is \"v2.0\"");
    }
    if !kind.uefi_data.is_empty() {
        let legacy =
            kind.boot == "legacy-bios" || kind.boot.is_empty() && kind.architecture != "arm64";
        if legacy && cx.is_known("boot_mode") {
            cx.error("uefi_data", "uefi_data needs a machine that starts by UEFI")
                .hint("set boot_mode = \"uefi\"");
        }
    }
}

impl SurrogateConfig {
    pub(crate) fn validate(self, cx: &mut ValidateContext<'_>) -> Validated {
        let access = self.access.validate(cx);
        let image = self.ami.validate(access.region.as_deref(), cx);
        if image.virtualization.is_empty() && cx.is_known("ami_virtualization_type") {
            cx.error("ami_virtualization_type", "ami_virtualization_type is required.")
                .hint("\"hvm\" is what machines have today");
        }
        for (option, given) in [
            ("boot_mode", !self.boot_mode.is_empty()),
            ("uefi_data", !self.uefi_data.is_empty()),
            ("tpm_support", !self.tpm_support.is_empty()),
        ] {
            if self.use_create_image && given {
                cx.error(option, format!("{option} does not go with use_create_image"))
                    .detail("The image has what the machine has.");
            }
        }
        let kind = Kind {
            architecture: self.ami_architecture,
            virtualization: image.virtualization.clone(),
            boot: self.boot_mode,
            uefi_data: self.uefi_data,
            tpm: self.tpm_support,
            imds: image.imds.clone(),
            ena: image.ena,
            sriov: image.sriov,
        };
        check_kind(&kind, "ami_architecture", cx);
        let mut omitted = Vec::new();
        let option = "launch_block_device_mappings";
        let mut launch_devices = Vec::new();
        for given in self.launch_block_device_mappings {
            let device = given.device.validate(option, cx);
            if given.omit_from_artifact {
                omitted.push(device.name.clone());
            }
            launch_devices.push(device);
        }
        let image_devices: Vec<Device> = self
            .ami_block_device_mappings
            .into_iter()
            .map(|d| d.validate("ami_block_device_mappings", cx))
            .collect();
        let (from, root) = match self.ami_root_device {
            Some(root) => root.validate(cx),
            None => {
                if cx.is_known("ami_root_device") {
                    cx.error("ami_root_device", "the block \"ami_root_device\" is missing")
                        .hint("it says which of the launch_block_device_mappings becomes the root");
                }
                Default::default()
            }
        };
        if omitted.contains(&from) {
            let text = "You cannot set \"omit_from_artifact\": \"true\" for the root volume.";
            cx.error(option, text);
        }
        if !from.is_empty()
            && cx.is_known(option)
            && launch_devices.iter().all(|d| d.name != from || d.left_out)
        {
            cx.error("ami_root_device", format!("no volume with name '{from}' is found"))
                .hint(format!("add a block {option} with this device_name"));
        }
        if let Some(filled) = launch_devices.iter().find(|d| d.name == from)
            && self.use_create_image
        {
            let size = root.size.is_some() && root.size != filled.size;
            let kind = !root.kind.is_empty() && root.kind != filled.kind;
            if size || kind || root.iops.is_some() && root.iops != filled.iops {
                let text = "with use_create_image the root is as the volume that was filled";
                cx.error("ami_root_device", text)
                    .hint(format!("set its size and type in {option}"));
            }
        }
        let surrogate = Surrogate {
            from,
            root,
            kind,
            omitted,
            description: self.snapshot_description,
            by_machine: self.use_create_image,
        };
        let volume_tags = (&self.run_volume_tags, self.run_volume_tag.as_slice());
        let base = common(access, self.run, self.reach, volume_tags, cx);
        if self.use_create_image && base.launch.spot.is_some() {
            cx.error("use_create_image", "use_create_image needs a machine that can be stopped")
                .detail("A spot machine cannot be.");
        }
        Validated {
            image,
            product: Product::Surrogate(Box::new(surrogate)),
            tag_with_run_tags: !self.skip_ami_run_tags,
            image_devices,
            launch_devices,
            ..base
        }
    }
}
