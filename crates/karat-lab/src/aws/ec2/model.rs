//! Records of EC2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::aws::filters::Tags;
use crate::core::phase::{Millis, Phase};

/// A virtual private cloud.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Vpc {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) cidr: String,
    pub(crate) default: bool,
    pub(crate) dns_support: bool,
    pub(crate) dns_hostnames: bool,
    pub(crate) created: Millis,
    pub(crate) tags: Tags,
}

/// A subnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) vpc: String,
    pub(crate) zone: String,
    pub(crate) cidr: String,
    pub(crate) default: bool,
    pub(crate) public: bool,
    pub(crate) created: Millis,
    pub(crate) tags: Tags,
}

/// A security group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SecurityGroup {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) vpc: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) ingress: Vec<Rule>,
    pub(crate) egress: Vec<Rule>,
    pub(crate) created: Millis,
    pub(crate) tags: Tags,
}

/// One line of a security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) id: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub(crate) protocol: String,
    pub(crate) from: i32,
    pub(crate) to: i32,
    pub(crate) peer: Peer,
    pub(crate) description: Option<String>,
    pub(crate) tags: Tags,
}

impl Rule {
    /// Whether it is the same line.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (&self.protocol, self.from, self.to, &self.peer)
            == (&other.protocol, other.from, other.to, &other.peer)
    }
}

/// Whom a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    V4(String),
    V6(String),
    Group(String),
    Prefix(String),
}

/// An internet gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InternetGateway {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) vpc: Option<String>,
    pub(crate) created: Millis,
    pub(crate) tags: Tags,
}

/// A route table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RouteTable {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) vpc: String,
    /// The id of the association that makes it the VPC's main one.
    pub(crate) main: Option<String>,
    /// Id of the association, and the subnet.
    pub(crate) subnets: BTreeMap<String, String>,
    /// Destination and gateway.
    pub(crate) routes: BTreeMap<String, String>,
    pub(crate) created: Millis,
    pub(crate) tags: Tags,
}

/// A key pair: its public half.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyPair {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) fingerprint: String,
    pub(crate) public: String,
    pub(crate) created: Millis,
    pub(crate) tags: Tags,
}

/// How an image stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImageState {
    Pending,
    Available,
    Failed,
    Disabled,
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) owner_alias: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) architecture: String,
    pub(crate) virtualization: String,
    pub(crate) root_device: String,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) phase: Phase<ImageState>,
    pub(crate) failure: Option<String>,
    pub(crate) created: Millis,
    pub(crate) ena: bool,
    pub(crate) sriov: Option<String>,
    pub(crate) boot_mode: Option<String>,
    pub(crate) tpm: Option<String>,
    pub(crate) uefi_data: Option<String>,
    pub(crate) imds: Option<String>,
    pub(crate) deprecation: Option<Millis>,
    pub(crate) protection: Protection,
    pub(crate) permissions: Vec<Permission>,
    pub(crate) source_instance: Option<String>,
    pub(crate) source_image: Option<String>,
    pub(crate) source_region: Option<String>,
    pub(crate) last_launched: Option<Millis>,
    /// `windows`, or nothing.
    #[serde(default)]
    pub(crate) platform: Option<String>,
    /// Whether its instances start fast.
    #[serde(default)]
    pub(crate) fast_launch: Option<FastLaunch>,
    pub(crate) tags: Tags,
}

/// How instances of an image start fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FastLaunch {
    pub(crate) parallel: u32,
    pub(crate) ready: u32,
    /// The launch template's id and version.
    pub(crate) template: Option<(String, String)>,
    pub(crate) since: Millis,
    /// When it is on.
    pub(crate) due: Millis,
}

impl Image {
    /// Its snapshots.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = &str> {
        self.mappings.iter().filter_map(|m| m.ebs.as_ref()?.snapshot.as_deref())
    }

    /// Whether everybody may launch it.
    pub(crate) fn is_public(&self) -> bool {
        self.permissions.contains(&Permission::Group("all".into()))
    }
}

/// Protection against being deregistered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protection {
    Off,
    On {
        cooldown: bool,
    },
    /// Taken off, but it holds until then.
    Cooling {
        until: Millis,
    },
}

/// Who may use an image or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Permission {
    User(String),
    Group(String),
    Organization(String),
    Unit(String),
}

/// What a device name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    pub(crate) device: String,
    pub(crate) virtual_name: Option<String>,
    pub(crate) ebs: Option<Ebs>,
}

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ebs {
    pub(crate) snapshot: Option<String>,
    /// GiB.
    pub(crate) size: u32,
    pub(crate) kind: String,
    pub(crate) iops: Option<u32>,
    pub(crate) throughput: Option<u32>,
    pub(crate) encrypted: bool,
    pub(crate) key: Option<String>,
    pub(crate) delete_on_termination: bool,
}

/// How a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SnapshotState {
    Pending,
    Completed,
    Error,
}

/// What is on a volume or in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Content {
    /// Nothing.
    #[default]
    Empty,
    /// The root of a base image of the catalogue, by its name.
    Base(String),
    /// A layer of the store, with those below it.
    Layer(String),
    /// Blocks that were written, under a snapshot's id.
    Blocks(String),
    /// What is on a volume that has not been captured yet.
    Volume(String),
}

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) owner: String,
    pub(crate) volume: String,
    /// GiB.
    pub(crate) size: u32,
    pub(crate) phase: Phase<SnapshotState>,
    pub(crate) failure: Option<String>,
    pub(crate) started: Millis,
    pub(crate) description: String,
    pub(crate) encrypted: bool,
    pub(crate) key: Option<String>,
    pub(crate) permissions: Vec<Permission>,
    pub(crate) content: Content,
    /// Its content, which is not in blocks, was laid out as a disk: the blocks are there too.
    #[serde(default)]
    pub(crate) laid_out: bool,
    /// Written through EBS direct, and not sealed yet: when it was last written to, and after how
    /// many minutes of silence it fails.
    pub(crate) writing: Option<(Millis, i64)>,
    pub(crate) parent: Option<String>,
    /// A copy that is under way counts against a quota.
    pub(crate) copied: bool,
    pub(crate) tags: Tags,
}

/// How a volume stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VolumeState {
    Creating,
    Available,
    InUse,
    Deleted,
}

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) phase: Phase<VolumeState>,
    pub(crate) created: Millis,
    pub(crate) ebs: Ebs,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) content: Content,
    pub(crate) tags: Tags,
}

/// Where a volume is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) instance: String,
    pub(crate) device: String,
    pub(crate) at: Millis,
    #[serde(default)]
    pub(crate) state: AttachmentState,
}

/// How an attachment stands, where instances are machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AttachmentState {
    /// The machine does not have it yet.
    Attaching,
    #[default]
    Attached,
    /// Something in the machine may use it still.
    Detaching,
}

impl AttachmentState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// AWS's number of it.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// Whether it is gone, or on its way there.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

/// An instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) reservation: String,
    pub(crate) index: u32,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    pub(crate) image: String,
    pub(crate) kind: String,
    pub(crate) architecture: String,
    pub(crate) key_name: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) phase: Phase<InstanceState>,
    pub(crate) reason: Option<(String, String)>,
    pub(crate) launched: Millis,
    pub(crate) private_address: String,
    pub(crate) public_address: Option<String>,
    pub(crate) wants_public: bool,
    pub(crate) interface: String,
    pub(crate) mac: String,
    pub(crate) root_device: String,
    pub(crate) user_data: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) shutdown_terminates: bool,
    pub(crate) protected: bool,
    pub(crate) stop_protected: bool,
    pub(crate) ebs_optimized: bool,
    pub(crate) ena: bool,
    pub(crate) sriov: Option<String>,
    pub(crate) source_dest_check: bool,
    pub(crate) monitoring: bool,
    pub(crate) metadata: MetadataOptions,
    pub(crate) credits: Option<String>,
    pub(crate) spot: Option<String>,
    pub(crate) client_token: Option<String>,
    pub(crate) tenancy: String,
    pub(crate) boot_mode: Option<String>,
    pub(crate) enclave: bool,
    /// Its machine has run.
    #[serde(default)]
    pub(crate) ran: bool,
    pub(crate) tags: Tags,
}

/// How an instance may ask its metadata service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetadataOptions {
    pub(crate) enabled: bool,
    pub(crate) tokens_required: bool,
    pub(crate) hop_limit: u32,
    pub(crate) tags: bool,
}

/// How an import task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImportStage {
    Active {
        /// The disk's bytes, once it is unpacked.
        unpacked: Option<u64>,
    },
    Done {
        image: String,
        bytes: u64,
    },
    Failed {
        why: String,
    },
    Cancelled,
}

/// An object of a bucket that becomes an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImportTask {
    pub(crate) id: String,
    /// The snapshot that it makes.
    pub(crate) snapshot: String,
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) url: Option<String>,
    pub(crate) format: String,
    pub(crate) architecture: String,
    pub(crate) platform: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) boot_mode: Option<String>,
    pub(crate) hypervisor: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) encrypted: bool,
    pub(crate) kms_key: Option<String>,
    pub(crate) started: Millis,
    /// When it is over, if its disk is unpacked by then.
    pub(crate) due: Millis,
    pub(crate) stage: ImportStage,
    pub(crate) tags: Tags,
}

/// A launch template: its versions, the first is number 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LaunchTemplate {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) created: Millis,
    /// The form of `LaunchTemplateData`, as it was sent.
    pub(crate) versions: Vec<BTreeMap<String, String>>,
    pub(crate) tags: Tags,
}
