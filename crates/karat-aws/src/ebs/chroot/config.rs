//! The options of `amazon-chroot`, and what they are proved to be.

use std::collections::BTreeMap;

use karat_component::ValidateContext;
use karat_config::Config;
use serde::{Deserialize, Serialize};

use super::super::snapshots::Kind;
use super::super::surrogate::check_kind;
use crate::client::Access;
use crate::options::{
    AccessConfig, AmiConfig, AmiFilterConfig, Device, DeviceConfig, Image, Source, TagConfig, Tags,
    is_key, merged, pairs,
};

/// Makes an Amazon Machine Image on the machine that this program runs on, which has to be one of
/// EC2's: a volume is made of an image's root, or an empty one, attached to this machine and mounted;
/// provisioners run in it by `chroot`; and a snapshot of it becomes the image's root. No machine is
/// started.
///
/// Commands that attach and mount run as this program does, so it needs root, or a
/// `command_wrapper` with `sudo`. What is mounted is unmounted, and the volume goes, whatever the end
/// is; `karat recover` on this machine removes what a killed run left.
#[derive(Clone, Debug, Config)]
pub struct ChrootConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// The image.
    #[option(flatten)]
    pub ami: AmiConfig,
    /// Block devices of the image, in place of those of the source image. They need
    /// `root_device_name` and `root_volume_size`.
    #[option(blocks)]
    pub ami_block_device_mappings: Vec<DeviceConfig>,
    /// What is mounted in the volume: kind, source and place of each. A kind `bind` shows a folder of
    /// this machine. By default `proc`, `sysfs`, `/dev`, `devpts` and `binfmt_misc`.
    pub chroot_mounts: Vec<Vec<String>>,
    /// How commands are run: `{{.Command}}` stands for each, as in `sudo {{.Command}}`.
    #[option(default = "{{.Command}}", late)]
    pub command_wrapper: String,
    /// Files of this machine that are in the volume while provisioners run, and removed from it
    /// afterwards. By default `/etc/resolv.conf`, unless `from_scratch` is set.
    pub copy_files: Option<Vec<String>>,
    /// Where the volume is attached: `/dev/xvdf`. By default the first free one of `/dev/xvdf` to
    /// `/dev/xvdp`, or of `/dev/sdf` to `/dev/sdp` where disks are called so.
    #[option(default = "", volatile)]
    pub device_path: String,
    /// What the volume is called where it is a disk of NVMe: `/dev/nvme1n1`. By default it is found
    /// by its id.
    #[option(default = "", volatile)]
    pub nvme_device_path: String,
    /// Whether the volume is empty at first, so that `pre_mount_commands` have to partition and
    /// format it.
    #[option(default = false)]
    pub from_scratch: bool,
    /// Options for `mount`.
    pub mount_options: Vec<String>,
    /// The number of the partition that has the root; `0` for the whole disk.
    #[option(default = "1")]
    pub mount_partition: String,
    /// Where the volume is mounted. `{{.Device}}` stands for the device's name.
    #[option(default = "/mnt/packer-amazon-chroot-volumes/{{.Device}}", late)]
    pub mount_path: String,
    /// Commands of this machine that run when the volume is attached and before it is mounted.
    /// `{{.Device}}` stands for the device's path.
    #[option(late)]
    pub pre_mount_commands: Vec<String>,
    /// Commands of this machine that run when the volume is mounted. `{{.Device}}` and
    /// `{{.MountPath}}` stand for the device's path and the place.
    #[option(late)]
    pub post_mount_commands: Vec<String>,
    /// What machines of the image call their root, with `ami_block_device_mappings`.
    #[option(default = "")]
    pub root_device_name: String,
    /// Size of the volume and of the image's root in GiB; that of the source image without.
    pub root_volume_size: Option<i32>,
    /// `gp2`, `gp3`, `io1`, `io2`, `st1`, `sc1` or `standard`; by default as the source image has it,
    /// and `gp2` with `from_scratch`.
    #[option(default = "")]
    pub root_volume_type: String,
    /// Id of the image to start from.
    #[option(default = "")]
    pub source_ami: String,
    /// Finds the image to start from.
    #[option(block)]
    pub source_ami_filter: Option<AmiFilterConfig>,
    /// One of the `root_volume_tags`.
    #[option(blocks)]
    pub root_volume_tag: Vec<TagConfig>,
    /// Tags of the volume. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub root_volume_tags: BTreeMap<String, String>,
    /// Whether the volume is encrypted, and the image with it; as the source image says, without.
    pub root_volume_encrypt_boot: Option<bool>,
    /// The key that it is encrypted with.
    #[option(default = "")]
    pub root_volume_kms_key_id: String,
    /// The image's architecture with `from_scratch`: `x86_64`, `arm64`, `i386`, `x86_64_mac` or
    /// `arm64_mac`. Else it is the source image's.
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
}

/// What is built, and with what.
#[derive(Debug)]
pub struct ChrootValidated {
    pub(crate) access: Access,
    pub(crate) image: Image,
    pub(crate) source: Source,
    pub(crate) kind: Kind,
    pub(crate) image_devices: Vec<Device>,
    pub(crate) root_device: String,
    pub(crate) volume: Volume,
    pub(crate) volume_tags: Tags,
    pub(crate) place: Place,
}

/// The volume that is filled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Whether it is empty at first.
    pub(crate) empty: bool,
    pub(crate) size: Option<i32>,
    pub(crate) kind: String,
    pub(crate) encrypt: Option<bool>,
    pub(crate) key: String,
}

/// Where and how it is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) device: String,
    pub(crate) nvme_device: String,
    pub(crate) partition: String,
    pub(crate) path: String,
    pub(crate) options: Vec<String>,
    pub(crate) wrapper: String,
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
    /// Kind, source and place of each.
    pub(crate) mounts: Vec<[String; 3]>,
    pub(crate) copies: Vec<String>,
    /// `hvm` or `paravirtual`, where the template says so. Disks of the latter have no partitions.
    pub(crate) virtualization: String,
}

const MOUNTS: [[&str; 3]; 5] = [
    ["proc", "proc", "/proc"],
    ["sysfs", "sysfs", "/sys"],
    ["bind", "/dev", "/dev"],
    ["devpts", "devpts", "/dev/pts"],
    ["binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"],
];

impl ChrootConfig {
    pub(crate) fn validate(self, cx: &mut ValidateContext<'_>) -> ChrootValidated {
        let access = self.access.clone().validate(cx);
        let image = self.ami.clone().validate(access.region.as_deref(), cx);
        let kind = Kind {
            architecture: self.ami_architecture.clone(),
            virtualization: image.virtualization.clone(),
            boot: self.boot_mode.clone(),
            uefi_data: self.uefi_data.clone(),
            tpm: self.tpm_support.clone(),
            imds: image.imds.clone(),
            ena: image.ena,
            sriov: image.sriov,
        };
        check_kind(&kind, "ami_architecture", cx);
        self.check_root(&image, cx);
        self.check_encryption(cx);
        let place = self.place(&image, cx);
        let volume_tags =
            merged("root_volume_tags", &self.root_volume_tags, pairs(&self.root_volume_tag), cx);
        let source = self.source(cx);
        let devices = self.ami_block_device_mappings.into_iter();
        let volume = Volume {
            empty: self.from_scratch,
            size: self.root_volume_size,
            kind: self.root_volume_type,
            encrypt: self.root_volume_encrypt_boot.or(image.encrypt.filter(|on| *on)),
            key: if self.root_volume_kms_key_id.is_empty() {
                image.key.clone()
            } else {
                self.root_volume_kms_key_id
            },
        };
        ChrootValidated {
            access,
            source,
            kind,
            image_devices: devices.map(|d| d.validate("ami_block_device_mappings", cx)).collect(),
            root_device: self.root_device_name,
            volume,
            volume_tags,
            place,
            image,
        }
    }

    fn source(&self, cx: &mut ValidateContext<'_>) -> Source {
        let given = !self.source_ami.is_empty() || self.source_ami_filter.is_some();
        if self.from_scratch {
            if given {
                let text = "source_ami and source_ami_filter are unused when from_scratch is true";
                cx.warning("from_scratch", text);
            }
            return Source::Nothing;
        }
        if !given && cx.is_known("source_ami") {
            cx.error("source_ami", "source_ami or source_ami_filter is required.")
                .hint("or set from_scratch = true");
        }
        match &self.source_ami_filter {
            Some(filter) => {
                let mut found = filter.validate("source_ami_filter", cx);
                if !self.source_ami.is_empty() {
                    found.filters.push(("image-id".into(), vec![self.source_ami.clone()]));
                }
                Source::Filter(found)
            }
            None => Source::Id(self.source_ami.clone()),
        }
    }

    /// What the root is, as the image has it.
    fn check_root(&self, image: &Image, cx: &mut ValidateContext<'_>) {
        let option = "ami_block_device_mappings";
        let size = self.root_volume_size.is_some_and(|n| n != 0);
        if self.root_volume_size.is_some_and(|n| n < 0) {
            cx.error("root_volume_size", "root_volume_size must be greater than 0");
        }
        let (mapped, named) =
            (!self.ami_block_device_mappings.is_empty(), !self.root_device_name.is_empty());
        if self.from_scratch {
            let needed = [
                ("root_volume_size", size),
                ("pre_mount_commands", !self.pre_mount_commands.is_empty()),
                ("ami_virtualization_type", !image.virtualization.is_empty()),
                ("root_device_name", named),
                (option, mapped),
            ];
            for (option, given) in needed {
                if !given && cx.is_known(option) {
                    cx.error(option, format!("{option} is required with from_scratch."));
                }
            }
            if self.root_volume_type == "io1" {
                let text = "Cannot use io1 volume when building from scratch";
                cx.error("root_volume_type", text);
            }
        } else if mapped && named {
            if !size && cx.is_known("root_volume_size") {
                let text = "root_volume_size is required if ami_block_device_mappings is specified";
                cx.error("root_volume_size", text);
            }
            let text = "ami_block_device_mappings from source image will be completely overwritten";
            cx.warning(option, text);
        } else if mapped && cx.is_known("root_device_name") {
            let text =
                "If ami_block_device_mappings is specified, root_device_name must be specified";
            cx.error("root_device_name", text);
        } else if named && cx.is_known("root_device_name") && cx.is_known(option) {
            let text =
                "If root_device_name is specified, ami_block_device_mappings must be specified";
            cx.error(option, text);
        }
        let name = &self.root_device_name;
        let found = self.ami_block_device_mappings.iter().any(|d| d.device_name == *name);
        let known = cx.is_known("root_device_name") && cx.is_known(option);
        if mapped && named && !found && known {
            cx.error("root_device_name", format!("no device with the name \"{name}\" is found"))
                .hint("add a block ami_block_device_mappings with this device_name");
        }
    }

    fn check_encryption(&self, cx: &mut ValidateContext<'_>) {
        let (option, key) = ("root_volume_kms_key_id", &self.root_volume_kms_key_id);
        if key.is_empty() || !cx.is_known(option) {
            return;
        }
        if self.root_volume_encrypt_boot == Some(false) {
            let text = "If you have set root_volume_kms_key_id, root_volume_encrypt_boot must also be true.";
            cx.error(option, text);
        } else if !is_key(key) {
            cx.error(option, format!("\"{key}\" is not a valid KMS key id"))
                .hint("give the key's id, \"alias/NAME\" or its ARN");
        }
    }

    fn place(&self, image: &Image, cx: &mut ValidateContext<'_>) -> Place {
        let mut mounts = Vec::new();
        for given in &self.chroot_mounts {
            match <[String; 3]>::try_from(given.clone()) {
                Ok(mount) => mounts.push(mount),
                Err(_) => {
                    cx.error("chroot_mounts", "Each chroot_mounts entry should be three elements.")
                        .hint("a kind, a source and a place: [\"proc\", \"proc\", \"/proc\"]");
                }
            }
        }
        if self.chroot_mounts.is_empty() {
            mounts.extend(MOUNTS.iter().map(|mount| mount.map(str::to_owned)));
        }
        let usual =
            || if self.from_scratch { Vec::new() } else { vec!["/etc/resolv.conf".to_owned()] };
        Place {
            device: self.device_path.clone(),
            nvme_device: self.nvme_device_path.clone(),
            partition: self.mount_partition.clone(),
            path: self.mount_path.clone(),
            options: self.mount_options.clone(),
            wrapper: self.command_wrapper.clone(),
            before: self.pre_mount_commands.clone(),
            after: self.post_mount_commands.clone(),
            mounts,
            copies: self.copy_files.clone().unwrap_or_else(usual),
            virtualization: image.virtualization.clone(),
        }
    }
}
