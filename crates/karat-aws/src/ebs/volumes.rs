//! Source `amazon-ebsvolume`: volumes that a machine filled.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{
    CreateVolumePermission, CreateVolumePermissionModifications, PermissionGroup,
    SnapshotAttributeName, Tag,
};
use karat_component::{Artifact, ComponentError, ValidateContext};
use karat_config::Config;
use karat_saga::{Lifetime, Outputs, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::artifact::access;
use super::config::{Product, Validated, common};
use super::image::{delete_snapshot, own_snapshots};
use super::node;
use super::preflight::Found;
use super::scope::{Scope, Texts, ec2_tags, message, say};
use super::snapshots::{completed, remove_doubles, snapshot_of, volumes};
use super::source::SourceImage;
use crate::client::{Aws, AwsError, Explain, has_code};
use crate::options::{
    AccessConfig, DeviceConfig, ReachConfig, RunConfig, TagConfig, Tags, VolumeTagConfig, merged,
    pairs,
};

/// What post-processors know these volumes by.
const BUILDER_ID: &str = "mitchellh.amazon.ebsvolume";

/// Makes EBS volumes: a machine starts with them, provisioners fill them, and they stay when it
/// goes. No image is made.
#[derive(Clone, Debug, Config)]
pub struct VolumesConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// The machine that builds.
    #[option(flatten)]
    pub run: RunConfig,
    /// How it is reached.
    #[option(flatten)]
    pub reach: ReachConfig,
    /// The volumes.
    #[option(blocks)]
    pub ebs_volumes: Vec<KeptVolumeConfig>,
    /// Whether the machine has enhanced networking of the kind ENA.
    pub ena_support: Option<bool>,
    /// Whether the machine has enhanced networking of the kind SR-IOV.
    #[option(default = false)]
    pub sriov_support: bool,
    /// One of the `run_volume_tags`.
    #[option(blocks)]
    pub run_volume_tag: Vec<TagConfig>,
    /// Tags of the machine's volumes while it builds. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub run_volume_tags: BTreeMap<String, String>,
}

/// A volume that stays.
#[derive(Clone, Debug, Config)]
pub struct KeptVolumeConfig {
    /// The volume as a block device of the machine. With `delete_on_termination = true` it goes
    /// with the machine, and its snapshot is what stays.
    #[option(flatten)]
    pub device: DeviceConfig,
    /// One of the `tags`.
    #[option(blocks)]
    pub tag: Vec<TagConfig>,
    /// Tags of the volume. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub tags: BTreeMap<String, String>,
    /// Whether a snapshot of the volume is made.
    #[option(default = false)]
    pub snapshot_volume: bool,
    /// What the snapshot says of itself.
    #[option(default = "")]
    pub snapshot_description: String,
    /// Accounts that may make volumes of the snapshot.
    pub snapshot_users: Vec<String>,
    /// `all` lets everybody make volumes of the snapshot.
    pub snapshot_groups: Vec<String>,
    /// One of the `snapshot_tags`.
    #[option(blocks)]
    pub snapshot_tag: Vec<TagConfig>,
    /// Tags of the snapshot. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub snapshot_tags: BTreeMap<String, String>,
}

/// A volume that is wanted, beside its block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) device: String,
    /// Whether only its snapshot stays.
    pub(crate) goes: bool,
    pub(crate) tags: Tags,
    pub(crate) snapshot: bool,
    pub(crate) description: String,
    pub(crate) users: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) snapshot_tags: Tags,
}

impl VolumesConfig {
    pub(crate) fn validate(self, cx: &mut ValidateContext<'_>) -> Validated {
        let access = self.access.validate(cx);
        let option = "ebs_volumes";
        let (mut kept, mut launch_devices) = (Vec::new(), Vec::new());
        for given in self.ebs_volumes {
            let tags = merged(option, &given.tags, pairs(&given.tag), cx);
            let snapshot_tags =
                merged(option, &given.snapshot_tags, pairs(&given.snapshot_tag), cx);
            let says_nothing = given.snapshot_description.is_empty()
                && given.snapshot_users.is_empty()
                && given.snapshot_groups.is_empty()
                && snapshot_tags.is_empty();
            if !given.snapshot_volume && !says_nothing {
                let text = "options of the snapshot need snapshot_volume = true";
                cx.error(option, text);
            }
            let mut device = given.device.validate(option, cx);
            if device.left_out || !device.store.is_empty() {
                cx.error(option, format!("{}: it is no volume that could stay", device.name))
                    .hint("leave no_device and virtual_name out");
            }
            // Whoever wants volumes wants them to stay.
            let goes = *device.goes_with_machine.get_or_insert(false);
            if goes && !given.snapshot_volume {
                let text = format!("{}: nothing of this volume would stay", device.name);
                cx.error(option, text)
                    .hint("set snapshot_volume = true, or leave delete_on_termination out");
            }
            kept.push(Kept {
                device: device.name.clone(),
                goes,
                tags,
                snapshot: given.snapshot_volume,
                description: given.snapshot_description,
                users: given.snapshot_users,
                groups: given.snapshot_groups,
                snapshot_tags,
            });
            launch_devices.push(device);
        }
        let blocks: Vec<VolumeTagConfig> = pairs(&self.run_volume_tag)
            .map(|(name, value)| VolumeTagConfig { name, value })
            .collect();
        let volume_tags = (&self.run_volume_tags, blocks.as_slice());
        let base = common(access, self.run, self.reach, volume_tags, cx);
        let image = crate::options::Image {
            ena: self.ena_support,
            sriov: self.sriov_support,
            ..base.image
        };
        Validated { image, product: Product::Volumes(kept), launch_devices, ..base }
    }
}

/// Keeps the volumes: does nothing, and after a failure removes them when the machine is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeepVolumes {
    pub(crate) scope: Scope,
}

impl Step for KeepVolumes {
    const KIND: &'static str = "aws.keep-volumes";
    type Output = ();

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let what = "could not delete volumes of this build";
        let answer = aws.ec2.describe_volumes().filters(self.scope.own()).send().await;
        for id in answer.or_fail(what)?.volumes().iter().filter_map(|v| v.volume_id()) {
            delete_volume(&aws, id).await.or_fail(what)?;
        }
        Ok(())
    }
}

/// Deletes a volume; one that is not there is deleted already.
pub(crate) async fn delete_volume(aws: &Aws, id: &str) -> Result<(), AwsError> {
    match aws.ec2.delete_volume().volume_id(id).send().await {
        Err(e) if !has_code(&e, &["InvalidVolume.NotFound"]) => Err(e.into()),
        _ => Ok(()),
    }
}

/// A volume that stays, or its snapshot, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) volume: Option<String>,
    pub(crate) snapshot: Option<String>,
}

/// Gives the volumes their own tags and makes their snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FinishVolumes {
    pub(crate) scope: Scope,
    pub(crate) volumes: Vec<Kept>,
}

impl FinishVolumes {
    async fn finish(
        &self,
        kept: &Kept,
        volume: &str,
        aws: &std::sync::Arc<Aws>,
        cx: &StepContext,
    ) -> Result<Filled, StepError> {
        let source: SourceImage = cx.output(node::SOURCE)?;
        let found: Found = cx.output(node::PREFLIGHT)?;
        let texts = Texts::new(cx, source.data(&found.region))?;
        let tags = texts.tags("tags", &kept.tags)?;
        let snapshot_tags = texts.tags("snapshot_tags", &kept.snapshot_tags)?;
        if !kept.goes {
            let what = || format!("could not tag {volume}");
            // The tags of the time of building end here.
            let mut old = source.texts.run_tags.clone();
            old.extend(source.texts.volume_tags.clone());
            let gone: Vec<Tag> = old
                .keys()
                .filter(|key| !tags.contains_key(*key))
                .map(|key| Tag::builder().key(key).build())
                .collect();
            if !gone.is_empty() {
                let ask = aws.ec2.delete_tags().resources(volume).set_tags(Some(gone)).send();
                cx.unless_cancelled(ask).await?.or_fail(what())?;
            }
            if !tags.is_empty() {
                let ask =
                    aws.ec2.create_tags().resources(volume).set_tags(Some(ec2_tags(&tags))).send();
                cx.unless_cancelled(ask).await?.or_fail(what())?;
            }
        }
        let volume_id = (!kept.goes).then(|| volume.to_owned());
        if !kept.snapshot {
            return Ok(Filled { volume: volume_id, snapshot: None });
        }
        say(cx, format!("Making a snapshot of {}", kept.device));
        let what = || format!("could not make a snapshot of {volume}");
        let ask = snapshot_of(&self.scope, aws, volume, &kept.description, &snapshot_tags);
        let id = match cx.unless_cancelled(ask).await? {
            Ok(id) => id,
            Err(e) => return Err(aws.decoded(e).await).or_fail(what()),
        };
        message(cx, format!("{id} is being made of {volume}"));
        completed(aws, &id, cx).await?;
        remove_doubles(&self.scope, aws, volume, &id, cx).await?;
        let ask = self.share(kept, &id, aws);
        cx.unless_cancelled(ask).await?.or_fail(format!("could not share {id}"))?;
        Ok(Filled { volume: volume_id, snapshot: Some(id) })
    }

    async fn share(&self, kept: &Kept, id: &str, aws: &Aws) -> Result<(), AwsError> {
        let users = kept.users.iter();
        let mut who: Vec<_> =
            users.map(|id| CreateVolumePermission::builder().user_id(id).build()).collect();
        who.extend(kept.groups.iter().map(|group| {
            CreateVolumePermission::builder().group(PermissionGroup::from(group.as_str())).build()
        }));
        if who.is_empty() {
            return Ok(());
        }
        let add = CreateVolumePermissionModifications::builder().set_add(Some(who)).build();
        aws.ec2
            .modify_snapshot_attribute()
            .snapshot_id(id)
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .create_volume_permission(add)
            .send()
            .await?;
        Ok(())
    }
}

impl Step for FinishVolumes {
    const KIND: &'static str = "aws.volumes";
    const REMOTE: bool = true;
    type Output = Vec<Filled>;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<Vec<Filled>, StepError> {
        let aws = self.scope.aws().await?;
        let all = cx.unless_cancelled(volumes(&aws, cx)).await??;
        let work = self.volumes.iter().map(|kept| {
            let (aws, all) = (&aws, &all);
            async move {
                let volume = all.get(&kept.device).ok_or_else(|| {
                    StepError::new(format!("the machine has no volume at {}", kept.device))
                })?;
                self.finish(kept, volume, aws, cx).await
            }
        });
        futures::future::try_join_all(work).await
    }

    /// The volumes are [`KeepVolumes`]' to remove.
    async fn undo(&self, cx: &StepContext, _: Option<Vec<Filled>>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let own = own_snapshots(&self.scope, &aws).await;
        for id in own.or_fail("could not look for snapshots of this build")? {
            delete_snapshot(&aws, &id, cx).await?;
        }
        Ok(())
    }
}

/// The artifact of a finished build.
pub(crate) fn artifact(validated: &Validated, outputs: &Outputs) -> Result<Artifact, StepError> {
    let found: Found = outputs.get(node::PREFLIGHT)?;
    let filled: Vec<Filled> = outputs.get(node::VOLUMES)?;
    let volumes: Vec<String> = filled.iter().filter_map(|f| f.volume.clone()).collect();
    let snapshots: Vec<String> = filled.iter().filter_map(|f| f.snapshot.clone()).collect();
    let all = || volumes.iter().chain(&snapshots);
    let id: Vec<String> = all().map(|id| format!("{}:{id}", found.region)).collect();
    let lines: Vec<String> = all().map(|id| format!("{}: {id}", found.region)).collect();
    let access = serde_json::to_value(&validated.access)
        .map_err(|e| StepError::because("could not write down how AWS is reached", e))?;
    Ok(Artifact {
        builder_id: BUILDER_ID.into(),
        id: id.join(","),
        description: format!("EBS Volumes were created:\n\n{}\n", lines.join("\n")),
        attributes: BTreeMap::from([
            ("volumes".into(), json!(volumes)),
            ("snapshots".into(), json!(snapshots)),
            ("region".into(), found.region.into()),
        ]),
        state: BTreeMap::from([("access".into(), access)]),
        ..Artifact::default()
    })
}

/// Ids of the artifact by region.
fn places(artifact: &Artifact) -> impl Iterator<Item = (&str, &str)> {
    artifact.id.split(',').filter_map(|pair| pair.split_once(':'))
}

/// Whether every volume and snapshot is there.
pub(crate) async fn is_intact(artifact: &Artifact) -> bool {
    for (region, id) in places(artifact) {
        let access = access(artifact).in_region(region);
        let Ok(aws) = Aws::connect(&access).await else { return false };
        let there = match id.starts_with("snap-") {
            true => aws.ec2.describe_snapshots().snapshot_ids(id).send().await.is_ok(),
            false => aws.ec2.describe_volumes().volume_ids(id).send().await.is_ok(),
        };
        if !there {
            return false;
        }
    }
    !artifact.id.is_empty()
}

/// Removes the volumes and the snapshots.
pub(crate) async fn destroy(artifact: &Artifact) -> Result<(), ComponentError> {
    for (region, id) in places(artifact) {
        let what = || format!("could not remove {id} from {region}");
        let access = access(artifact).in_region(region);
        let aws = Aws::connect(&access).await.or_tell(what())?;
        if id.starts_with("snap-") {
            match aws.ec2.delete_snapshot().snapshot_id(id).send().await {
                Err(e) if !has_code(&e, &["InvalidSnapshot.NotFound"]) => {
                    return Err(e).or_tell(what());
                }
                _ => {}
            }
        } else {
            delete_volume(&aws, id).await.or_tell(what())?;
        }
    }
    Ok(())
}
