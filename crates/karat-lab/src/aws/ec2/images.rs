//! Images: showing them, and making them.

use super::devices::{self, Wanted};
use super::model::{
    Content, Ebs, Image, ImageState, Instance, InstanceState, Mapping, Permission, Protection,
    Snapshot, SnapshotState, Volume,
};
use super::page;
use super::resource::{find, maybe, one, seen, select};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::Tags;
use crate::aws::node::{Node, tree};
use crate::aws::state::State;
use crate::aws::tags;
use crate::core::catalogue::{Entry, host_architecture};
use crate::core::ids;
use crate::core::phase::{Millis, Phase, UNTIL_TOLD, parse_time, rfc3339};

impl ImageState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

/// The catalogue's entry of a name.
pub(super) fn base_entry<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.name == name)
}

/// Puts the base images of the catalogue into a region, those that are not there yet.
pub(crate) fn publish_base_images(state: &mut State, entries: &[Entry], region: &str, now: Millis) {
    for entry in entries {
        let derived = || ids::derived("ami", &format!("{region} {}", entry.name));
        let id = entry.id.clone().unwrap_or_else(derived);
        if state.images.get(&format!("{region}/{id}")).is_some() {
            continue;
        }
        let architecture =
            entry.architecture.clone().unwrap_or_else(|| host_architecture().to_owned());
        let made = parse_time(&entry.created).unwrap_or(now);
        let snapshot = Snapshot {
            id: ids::derived("snap", &format!("{region} {id}")),
            region: region.to_owned(),
            owner: entry.owner.clone(),
            volume: "vol-ffffffff".into(),
            size: entry.size,
            phase: Phase::fixed(SnapshotState::Completed),
            failure: None,
            started: made,
            description: format!("Root of {}", entry.name),
            encrypted: false,
            key: None,
            permissions: vec![Permission::Group("all".into())],
            content: Content::Base(entry.name.clone()),
            laid_out: false,
            writing: None,
            parent: None,
            copied: false,
            tags: Tags::new(),
        };
        let root = Ebs {
            snapshot: Some(snapshot.id.clone()),
            size: entry.size,
            kind: "gp3".into(),
            iops: Some(3000),
            throughput: Some(125),
            encrypted: false,
            key: None,
            delete_on_termination: true,
        };
        state.images.insert(Image {
            id,
            region: region.to_owned(),
            name: entry.name.clone(),
            owner: entry.owner.clone(),
            owner_alias: entry.owner_alias.clone(),
            description: Some(entry.description.clone()).filter(|d| !d.is_empty()),
            boot_mode: Some(if architecture == "arm64" { "uefi" } else { "uefi-preferred" }.into()),
            architecture,
            virtualization: "hvm".into(),
            root_device: entry.device.clone(),
            mappings: vec![Mapping {
                device: entry.device.clone(),
                virtual_name: None,
                ebs: Some(root),
            }],
            phase: Phase::fixed(ImageState::Available),
            failure: None,
            created: made,
            ena: true,
            sriov: Some("simple".into()),
            tpm: None,
            uefi_data: None,
            imds: None,
            deprecation: None,
            protection: Protection::Off,
            permissions: vec![Permission::Group("all".into())],
            source_instance: None,
            source_image: None,
            source_region: None,
            last_launched: None,
            platform: entry.platform.clone(),
            fast_launch: None,
            tags: Tags::new(),
        });
        state.snapshots.insert(snapshot);
    }
}

/// Whether the account may use an image.
fn may_use(call: &Call<'_>, image: &Image) -> bool {
    image.owner == call.account()
        || image.is_public()
        || image.permissions.contains(&Permission::User(call.account().to_owned()))
}

/// The image of an id that the account may use.
pub(super) fn usable<'a>(call: &'a Call<'_>, id: &str) -> Result<&'a Image> {
    let found = find::<Image>(call, id).ok().filter(|image| may_use(call, image));
    found.ok_or_else(|| match call.check_id(id, "ami", "InvalidAMIID") {
        Err(malformed) => malformed,
        Ok(()) => unknown(id),
    })
}

fn unknown(id: &str) -> AwsError {
    AwsError::new(
        "InvalidAMIID.NotFound",
        format!(
            "The image id '[{id}]' does not exist. (The lab gives a base image a fixed id where \
             lab.toml has an [[image]] with id = \"{id}\".)"
        ),
    )
}

/// An image of the account's own.
pub(super) fn own<'a>(call: &'a Call<'_>, id: &str) -> Result<&'a Image> {
    let image = usable(call, id)?;
    if image.owner != call.account() {
        return Err(
            AwsError::new("AuthFailure", format!("Not authorized for image:{id}")).status(403)
        );
    }
    Ok(image)
}

fn is_deprecated(call: &Call<'_>, image: &Image) -> bool {
    image.deprecation.is_some_and(|at| at <= call.now)
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("ImageId");
    for id in &ids {
        usable(call, id)?;
    }
    let owners = call.params.texts("Owner");
    let users = call.params.texts("ExecutableBy");
    let deprecated = call.params.on("IncludeDeprecated")?;
    let disabled = call.params.on("IncludeDisabled")?;
    let account = call.account().to_owned();
    let show = |image: &Image| {
        let owned = owners.is_empty()
            || owners.iter().any(|owner| match owner.as_str() {
                "self" => image.owner == account,
                other => image.owner == other || image.owner_alias.as_deref() == Some(other),
            });
        let executable = users.is_empty()
            || users.iter().any(|user| match user.as_str() {
                "all" => image.is_public(),
                "self" => image.permissions.contains(&Permission::User(account.clone())),
                other => image.permissions.contains(&Permission::User(other.to_owned())),
            });
        let old = is_deprecated(call, image) && image.owner != account && !deprecated;
        let off = image.phase.at(call.now) == ImageState::Disabled && !disabled;
        owned && executable && !old && !off && may_use(call, image)
    };
    let found = select::<Image>(call, &ids, show, |image, name| values(call, image, name))?;
    page(call, "imagesSet", found.iter().map(|image| node(call, image)).collect())
}

fn values(call: &Call<'_>, image: &Image, name: &str) -> Option<Vec<String>> {
    let ebs = || image.mappings.iter().filter_map(|m| m.ebs.as_ref());
    match name {
        "architecture" => one(&image.architecture),
        "block-device-mapping.delete-on-termination" => {
            Some(ebs().map(|e| e.delete_on_termination.to_string()).collect())
        }
        "block-device-mapping.device-name" => {
            Some(image.mappings.iter().map(|m| m.device.clone()).collect())
        }
        "block-device-mapping.snapshot-id" => Some(image.snapshots().map(str::to_owned).collect()),
        "block-device-mapping.volume-size" => Some(ebs().map(|e| e.size.to_string()).collect()),
        "block-device-mapping.volume-type" => Some(ebs().map(|e| e.kind.clone()).collect()),
        "block-device-mapping.encrypted" => Some(ebs().map(|e| e.encrypted.to_string()).collect()),
        "creation-date" => one(rfc3339(image.created)),
        "description" => maybe(image.description.as_deref()),
        "ena-support" => one(image.ena.to_string()),
        "hypervisor" => one("xen"),
        "image-id" => one(&image.id),
        "image-type" => one("machine"),
        "is-public" => one(image.is_public().to_string()),
        "name" => one(&image.name),
        "owner-alias" => maybe(image.owner_alias.as_deref()),
        "owner-id" => one(&image.owner),
        "platform" | "kernel-id" | "ramdisk-id" | "product-code" | "product-code.type" => {
            Some(Vec::new())
        }
        "root-device-name" => one(&image.root_device),
        "root-device-type" => one("ebs"),
        "source-instance-id" => maybe(image.source_instance.as_deref()),
        "source-image-id" => maybe(image.source_image.as_deref()),
        "source-image-region" => maybe(image.source_region.as_deref()),
        "state" => one(image.phase.at(call.now).as_str()),
        "sriov-net-support" => maybe(image.sriov.as_deref()),
        "virtualization-type" => one(&image.virtualization),
        "boot-mode" => maybe(image.boot_mode.as_deref()),
        "image-allowed" => one("true"),
        _ => None,
    }
}

pub(super) fn node(call: &Call<'_>, image: &Image) -> Node {
    let state = image.phase.at(call.now);
    let alias = image.owner_alias.as_deref();
    tree! {
        "imageId": &image.id,
        "imageLocation": format!("{}/{}", alias.unwrap_or(&image.owner), image.name),
        "imageState": state.as_str(),
        "imageOwnerId": &image.owner,
        "creationDate": rfc3339(image.created),
        "isPublic": image.is_public(),
        "architecture": &image.architecture,
        "imageType": "machine",
        "sriovNetSupport": image.sriov.as_deref(),
        "name": &image.name,
        "description": image.description.as_deref(),
        "rootDeviceType": "ebs",
        "rootDeviceName": &image.root_device,
        "blockDeviceMapping": devices::node(&image.mappings),
        "virtualizationType": &image.virtualization,
        "hypervisor": "xen",
        "enaSupport": image.ena,
        "imageOwnerAlias": alias,
        "platform": image.platform.as_deref(),
        "platformDetails": if image.platform.is_some() { "Windows" } else { "Linux/UNIX" },
        "usageOperation": if image.platform.is_some() { "RunInstances:0002" } else { "RunInstances" },
        "bootMode": image.boot_mode.as_deref(),
        "tpmSupport": image.tpm.as_deref(),
        "imdsSupport": image.imds.as_deref(),
        "deprecationTime": image.deprecation.map(rfc3339),
        "deregistrationProtection": protection(call, image),
        "sourceInstanceId": image.source_instance.as_deref(),
        "sourceImageId": image.source_image.as_deref(),
        "sourceImageRegion": image.source_region.as_deref(),
        "lastLaunchedTime": image.last_launched.filter(|_| image.owner == call.account()).map(rfc3339),
        "stateReason": image.failure.as_ref().filter(|_| state == ImageState::Failed).map(|text| {
            tree! { "code": "Server.InternalError", "message": text }
        }),
        "tagSet": tags::node(&image.tags),
    }
}

/// The protection against being deregistered, as it is shown.
pub(super) fn protection(call: &Call<'_>, image: &Image) -> String {
    match image.protection {
        Protection::Cooling { until } if until > call.now => {
            format!("enabled-until-{}", rfc3339(until))
        }
        Protection::Off | Protection::Cooling { .. } => "disabled".into(),
        Protection::On { cooldown: false } => "enabled-without-cooldown".into(),
        Protection::On { cooldown: true } => "enabled-with-cooldown".into(),
    }
}

/// A name that a new image of the account may have.
pub(super) fn free_name(call: &Call<'_>) -> Result<String> {
    let name = call.params.need("Name")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "()[] ./-'@_".contains(c);
    let length = name.chars().count();
    if !(3..=128).contains(&length) || !name.chars().all(plain) {
        return Err(AwsError::new(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, \
             numbers, '(', ')', '.', '-', '/', '_', '[', ']', '@', ''' and spaces",
        ));
    }
    let same = |i: &&Image| {
        i.region == call.region
            && i.owner == call.account()
            && i.name == name
            && i.phase.at(call.now) != ImageState::Failed
    };
    // A name is taken from the first moment, also where it cannot be seen yet.
    if let Some(other) = call.state.images.iter().find(same) {
        return Err(AwsError::new(
            "InvalidAMIName.Duplicate",
            format!("AMI name {name} is already in use by AMI {}", other.id),
        ));
    }
    if seen::<Image>(call).filter(|i| i.owner == call.account()).count()
        >= call.settings.quotas.images
    {
        return Err(AwsError::new(
            "ResourceLimitExceeded",
            "The maximum number of images has been reached.",
        ));
    }
    Ok(name.to_owned())
}

/// An image of the account with nothing in it.
fn new_image(call: &Call<'_>, name: String) -> Result<Image> {
    Ok(Image {
        id: ids::resource("ami"),
        region: call.region.to_owned(),
        name,
        owner: call.account().to_owned(),
        owner_alias: None,
        description: call.params.text("Description").map(str::to_owned),
        architecture: host_architecture().to_owned(),
        virtualization: "hvm".into(),
        root_device: String::new(),
        mappings: Vec::new(),
        phase: Phase::fixed(ImageState::Available),
        failure: None,
        created: call.now,
        ena: false,
        sriov: None,
        boot_mode: None,
        tpm: None,
        uefi_data: None,
        imds: None,
        deprecation: None,
        protection: Protection::Off,
        permissions: Vec::new(),
        source_instance: None,
        source_image: None,
        source_region: None,
        last_launched: None,
        platform: None,
        fast_launch: None,
        tags: tags::specified(call.params, "image", &["image", "snapshot"])?,
    })
}

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let instance = find::<Instance>(call, call.params.need("InstanceId")?)?.clone();
    let state = instance.phase.at(call.now);
    if !matches!(state, InstanceState::Running | InstanceState::Stopped | InstanceState::Stopping) {
        return Err(AwsError::new(
            "IncorrectState",
            format!(
                "Instance is not in state 'running' or 'stopped' ({} is {})",
                instance.id,
                state.as_str()
            ),
        ));
    }
    let name = free_name(call)?;
    let mut image = new_image(call, name)?;
    let source = call.state.images.get(&format!("{}/{}", call.region, instance.image)).cloned();
    image.architecture = instance.architecture.clone();
    image.root_device = instance.root_device.clone();
    image.platform = source.as_ref().and_then(|source| source.platform.clone());
    image.ena = instance.ena;
    image.sriov = instance.sriov.clone();
    image.boot_mode = instance.boot_mode.clone();
    image.source_instance = Some(instance.id.clone());
    if let Some(source) = source {
        image.tpm = source.tpm;
        image.imds = source.imds;
        image.source_image = Some(source.id);
        image.source_region = Some(source.region);
    }
    let tags = tags::specified(call.params, "snapshot", &["image", "snapshot"])?;
    let reboot = !call.params.on("NoReboot")?;
    let volumes: Vec<Volume> = call
        .state
        .volumes
        .iter()
        .filter(|v| v.attachment.as_ref().is_some_and(|a| a.instance == instance.id))
        .cloned()
        .collect();
    let mut base = Vec::new();
    for volume in &volumes {
        let Some(attachment) = &volume.attachment else { continue };
        let ebs = Ebs { snapshot: None, ..volume.ebs.clone() };
        base.push(Mapping {
            device: attachment.device.clone(),
            virtual_name: None,
            ebs: Some(ebs),
        });
    }
    image.mappings = devices::merge(call, call.params, &base, "gp2")?;
    let mut due = call.now + call.settings.durations.image;
    for mapping in &mut image.mappings {
        let Some(ebs) = &mut mapping.ebs else { continue };
        let from = volumes
            .iter()
            .find(|v| v.attachment.as_ref().is_some_and(|a| a.device == mapping.device));
        let Some(volume) = from.filter(|_| ebs.snapshot.is_none()) else { continue };
        let description = format!("Created by CreateImage({}) for {}", instance.id, image.id);
        let snapshot =
            super::snapshots::of_volume(call, volume, description, tags.clone(), reboot)?;
        due = due.max(snapshot.1);
        ebs.snapshot = Some(snapshot.0);
    }
    let due = if call.stuck { UNTIL_TOLD } else { due };
    image.phase = Phase::until(ImageState::Pending, due, ImageState::Available);
    let node = tree! { "imageId": &image.id };
    call.state.images.insert(image);
    Ok(node)
}

pub(super) fn register(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    if params.has("ImageLocation") {
        return Err(AwsError::new(
            "UnsupportedOperation",
            "The lab registers images of snapshots, not of manifests in S3.",
        ));
    }
    let name = free_name(call)?;
    let mut image = new_image(call, name)?;
    let root = params.need("RootDeviceName")?.to_owned();
    image.architecture = params.text("Architecture").unwrap_or("i386").to_owned();
    if !["i386", "x86_64", "arm64"].contains(&image.architecture.as_str()) {
        return Err(AwsError::value(&image.architecture, "architecture", ""));
    }
    image.virtualization = params.text("VirtualizationType").unwrap_or("paravirtual").to_owned();
    image.ena = params.on("EnaSupport")?;
    image.sriov = params.text("SriovNetSupport").map(str::to_owned);
    image.boot_mode = params.text("BootMode").map(str::to_owned);
    image.tpm = params.text("TpmSupport").map(str::to_owned);
    image.uefi_data = params.text("UefiData").map(str::to_owned);
    image.imds = params.text("ImdsSupport").map(str::to_owned);
    if let Some(mode) = &image.boot_mode
        && !["legacy-bios", "uefi", "uefi-preferred"].contains(&mode.as_str())
    {
        return Err(AwsError::value(mode, "bootMode", ""));
    }
    if image.tpm.is_some() && image.boot_mode.as_deref() != Some("uefi") {
        return Err(AwsError::combination("TpmSupport needs the boot mode uefi."));
    }
    let mut mappings = Vec::new();
    for part in params.members("BlockDeviceMapping") {
        if part.has("Ebs.KmsKeyId") {
            return Err(AwsError::new(
                "InvalidRequest",
                "The parameter KmsKeyId is not recognized in a mapping of RegisterImage.",
            ));
        }
        let device = part.need("DeviceName")?.to_owned();
        let virtual_name = part.text("VirtualName").map(str::to_owned);
        let ebs = match part.part("Ebs") {
            Some(ebs) if virtual_name.is_none() => {
                let wanted =
                    Wanted { part: ebs, base: None, size_name: "VolumeSize", default_kind: "gp2" };
                let encrypted = ebs.has("Encrypted") && ebs.has("SnapshotId");
                if encrypted {
                    return Err(AwsError::combination(
                        "Encrypted cannot be given for a mapping with a snapshot.",
                    ));
                }
                Some(devices::resolve(call, &wanted)?)
            }
            _ => None,
        };
        mappings.push(Mapping { device, virtual_name, ebs });
    }
    let found = mappings.iter().find(|m| m.device == root).and_then(|m| m.ebs.as_ref());
    if found.and_then(|ebs| ebs.snapshot.as_ref()).is_none() {
        return Err(AwsError::new(
            "InvalidBlockDeviceMapping",
            format!("No snapshot found for the root device '{root}'"),
        ));
    }
    image.mappings = mappings;
    image.root_device = root;
    let node = tree! { "imageId": &image.id };
    call.state.images.insert(image);
    Ok(node)
}
