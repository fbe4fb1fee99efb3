//! Volumes.

use super::devices::{self, Wanted};
use super::model::{
    Attachment, AttachmentState, Content, Ebs, Instance, InstanceState, Snapshot, SnapshotState,
    Volume, VolumeState,
};
use super::places::zones_of;
use super::resource::{find, find_mut, maybe, one, select};
use super::{done, image_changes, page};
use crate::aws::call::{Call, Job};
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::Tags;
use crate::aws::node::{Node, tree};
use crate::aws::state::State;
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::{Millis, Phase, rfc3339};

impl VolumeState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::InUse => "in-use",
            Self::Deleted => "deleted",
        }
    }
}

/// Where a volume is attached now: what a terminated instance had, it has no more.
fn attachment<'a>(call: &Call<'_>, volume: &'a Volume) -> Option<&'a Attachment> {
    volume.attachment.as_ref().filter(|at| {
        call.state
            .instances
            .get(&at.instance)
            .is_some_and(|i| i.phase.at(call.now) != InstanceState::Terminated)
    })
}

/// The content of a new volume: that of its snapshot.
pub(super) fn content_of(call: &Call<'_>, ebs: &Ebs) -> Content {
    let from = ebs.snapshot.as_ref().and_then(|id| call.state.snapshots.get(id));
    from.map(|s: &Snapshot| s.content.clone()).unwrap_or_default()
}

/// A new volume that nothing has yet.
pub(super) fn new(call: &Call<'_>, zone: &str, ebs: Ebs, tags: Tags) -> Volume {
    let content = content_of(call, &ebs);
    Volume {
        id: ids::resource("vol"),
        region: call.region.to_owned(),
        zone: zone.to_owned(),
        phase: call.phase(
            VolumeState::Creating,
            call.settings.durations.volume,
            VolumeState::Available,
        ),
        created: call.now,
        ebs,
        attachment: None,
        content,
        tags,
    }
}

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let zone = call.params.need("AvailabilityZone")?.to_owned();
    if !zones_of(call.region).contains(&zone) {
        return Err(AwsError::new(
            "InvalidZone.NotFound",
            format!("The zone '{zone}' does not exist."),
        ));
    }
    let wanted = Wanted { part: call.params, base: None, size_name: "Size", default_kind: "gp2" };
    let ebs = devices::resolve(call, &wanted)?;
    let volume = new(call, &zone, ebs, tags::specified(call.params, "volume", &["volume"])?);
    let node = node(call, &volume);
    call.state.volumes.insert(volume);
    Ok(node)
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("VolumeId");
    let found = select::<Volume>(
        call,
        &ids,
        |_| true,
        |v, name| {
            let at = attachment(call, v);
            match name {
                "volume-id" => one(&v.id),
                "status" => one(v.phase.at(call.now).as_str()),
                "size" => one(v.ebs.size.to_string()),
                "snapshot-id" => maybe(v.ebs.snapshot.as_deref()),
                "volume-type" => one(&v.ebs.kind),
                "encrypted" => one(v.ebs.encrypted.to_string()),
                "availability-zone" => one(&v.zone),
                "create-time" => one(rfc3339(v.created)),
                "attachment.instance-id" => maybe(at.map(|a| &a.instance)),
                "attachment.device" => maybe(at.map(|a| &a.device)),
                "attachment.status" => maybe(at.map(|a| a.state.as_str())),
                "attachment.delete-on-termination" => {
                    maybe(at.map(|_| v.ebs.delete_on_termination.to_string()))
                }
                _ => None,
            }
        },
    )?;
    page(call, "volumeSet", found.iter().map(|v| node(call, v)).collect())
}

fn attachment_node(volume: &Volume, at: &Attachment, status: &'static str) -> Node {
    tree! {
        "volumeId": &volume.id,
        "instanceId": &at.instance,
        "device": &at.device,
        "status": status,
        "attachTime": rfc3339(at.at),
        "deleteOnTermination": volume.ebs.delete_on_termination,
    }
}

fn node(call: &Call<'_>, volume: &Volume) -> Node {
    let ebs = &volume.ebs;
    let attached =
        attachment(call, volume).map(|at| attachment_node(volume, at, at.state.as_str()));
    tree! {
        "volumeId": &volume.id,
        "size": ebs.size,
        "snapshotId": ebs.snapshot.as_deref().unwrap_or_default(),
        "availabilityZone": &volume.zone,
        "availabilityZoneId": super::places::zone_id(&volume.zone),
        "status": volume.phase.at(call.now).as_str(),
        "createTime": rfc3339(volume.created),
        "attachmentSet": Node::list(attached),
        "volumeType": &ebs.kind,
        "iops": ebs.iops,
        "throughput": ebs.throughput,
        "encrypted": ebs.encrypted,
        "kmsKeyId": ebs.key.as_deref(),
        "multiAttachEnabled": false,
        "tagSet": tags::node(&volume.tags),
    }
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("VolumeId")?.to_owned();
    let volume = find::<Volume>(call, &id)?;
    if let Some(at) = attachment(call, volume) {
        return Err(AwsError::new(
            "VolumeInUse",
            format!("Volume {id} is currently attached to {}", at.instance),
        ));
    }
    if volume.phase.at(call.now) == VolumeState::Creating {
        return Err(AwsError::new(
            "IncorrectState",
            format!("The volume '{id}' is still being created."),
        ));
    }
    if call.state.volumes.remove(&id).is_some_and(|volume| has_own_blocks(&volume)) {
        call.jobs.push(Job::DropBlocks { snapshot: id });
    }
    call.jobs.push(Job::SweepVolumes);
    Ok(done())
}

pub(super) fn attach(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("VolumeId")?.to_owned();
    let device = call.params.need("Device")?.to_owned();
    let instance = find::<Instance>(call, call.params.need("InstanceId")?)?.clone();
    let volume = find::<Volume>(call, &id)?;
    let state = instance.phase.at(call.now);
    if !matches!(state, InstanceState::Running | InstanceState::Stopped) {
        return Err(AwsError::new(
            "IncorrectState",
            format!("Instance '{}' is not 'running' or 'stopped'.", instance.id),
        ));
    }
    if attachment(call, volume).is_some() || volume.phase.at(call.now) != VolumeState::Available {
        return Err(AwsError::new("VolumeInUse", format!("{id} is not 'available'.")));
    }
    if volume.zone != instance.zone {
        return Err(AwsError::new(
            "InvalidVolume.ZoneMismatch",
            format!(
                "The volume '{id}' is not in the same availability zone as instance '{}'",
                instance.id
            ),
        ));
    }
    let taken = call.state.volumes.iter().any(|v| {
        v.attachment.as_ref().is_some_and(|a| a.instance == instance.id && a.device == device)
    });
    if taken {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!(
                "Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
            ),
        ));
    }
    let lasts = call.settings.durations.volume;
    let (now, phase) = (call.now, call.phase(VolumeState::InUse, lasts, VolumeState::InUse));
    let state = if call.machines { AttachmentState::Attaching } else { AttachmentState::Attached };
    if call.machines && !call.stuck {
        call.jobs.push(Job::Attach { instance: instance.id.clone(), volume: id.clone() });
    }
    let volume = find_mut::<Volume>(call, &id)?;
    volume.phase = phase;
    volume.ebs.delete_on_termination = false;
    let at = Attachment { instance: instance.id, device, at: now, state };
    let node = attachment_node(volume, &at, "attaching");
    volume.attachment = Some(at);
    Ok(node)
}

pub(super) fn detach(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("VolumeId")?.to_owned();
    let volume = find::<Volume>(call, &id)?.clone();
    let at = attachment(call, &volume).cloned().ok_or_else(|| {
        AwsError::new("IncorrectState", format!("Volume '{id}' is in the 'available' state."))
    })?;
    if call.params.text("InstanceId").is_some_and(|asked| asked != at.instance) {
        return Err(AwsError::new(
            "InvalidAttachment.NotFound",
            format!("The volume '{id}' is not attached to that instance."),
        ));
    }
    let is_root = call.state.instances.get(&at.instance).is_some_and(|i| {
        i.root_device == at.device && i.phase.at(call.now) != InstanceState::Stopped
    });
    if is_root {
        return Err(AwsError::new(
            "OperationNotPermitted",
            format!("Unable to detach root volume '{id}' from instance '{}'", at.instance),
        ));
    }
    let root = call.state.instances.get(&at.instance).is_some_and(|i| i.root_device == at.device);
    if call.machines && !root {
        if at.state != AttachmentState::Detaching && !call.stuck {
            let instance = at.instance.clone();
            call.jobs.push(Job::Detach { instance, volume: id.clone() });
        }
        if let Some(at) = &mut find_mut::<Volume>(call, &id)?.attachment {
            at.state = AttachmentState::Detaching;
        }
        return Ok(attachment_node(&volume, &at, "detaching"));
    }
    let phase =
        call.phase(VolumeState::InUse, call.settings.durations.volume, VolumeState::Available);
    let volume = find_mut::<Volume>(call, &id)?;
    volume.phase = phase;
    volume.attachment = None;
    Ok(attachment_node(volume, &at, "detaching"))
}

pub(super) fn modify(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("VolumeId")?.to_owned();
    let before = find::<Volume>(call, &id)?.ebs.clone();
    let wanted =
        Wanted { part: call.params, base: Some(&before), size_name: "Size", default_kind: "gp2" };
    let after = devices::resolve(call, &wanted)?;
    if after.size < before.size {
        return Err(AwsError::value(
            &after.size.to_string(),
            "size",
            "New size cannot be smaller than existing size",
        ));
    }
    find_mut::<Volume>(call, &id)?.ebs = after.clone();
    call.jobs.push(Job::Grow { volume: id.clone() });
    let now = rfc3339(call.now);
    Ok(tree! { "volumeModification": tree! {
        "volumeId": id,
        "modificationState": "completed",
        "targetSize": after.size,
        "targetVolumeType": after.kind,
        "targetIops": after.iops,
        "targetThroughput": after.throughput,
        "originalSize": before.size,
        "originalVolumeType": before.kind,
        "originalIops": before.iops,
        "originalThroughput": before.throughput,
        "progress": 100,
        "startTime": &now,
        "endTime": now,
    } })
}

/// Whether its content is in blocks that it has from a snapshot that is gone.
pub(crate) fn has_own_blocks(volume: &Volume) -> bool {
    matches!(&volume.content, Content::Blocks(id) if *id == volume.id)
}

/// A machine has a volume as a disk.
pub(crate) fn attached(state: &mut State, id: &str) {
    if let Some(at) = state.volumes.get_mut(id).and_then(|volume| volume.attachment.as_mut())
        && at.state == AttachmentState::Attaching
    {
        at.state = AttachmentState::Attached;
    }
}

/// A machine has a volume no more that is to be taken from it.
pub(crate) fn detached(state: &mut State, id: &str) {
    let Some(volume) = state.volumes.get_mut(id) else { return };
    if volume.attachment.as_ref().is_some_and(|at| at.state == AttachmentState::Detaching) {
        volume.attachment = None;
        volume.phase = Phase::fixed(VolumeState::Available);
    }
}

/// A volume's content has been captured for a snapshot, or could not be.
pub(crate) fn captured(
    state: &mut State,
    snapshot: &str,
    content: std::result::Result<Content, String>,
    now: Millis,
) {
    let Some(record) = state.snapshots.get_mut(snapshot) else { return };
    match content {
        Ok(content) => {
            record.content = content;
            record.phase.told(now);
            image_changes::complete_images_of(state, snapshot, now);
        }
        Err(why) => {
            record.phase = Phase::fixed(SnapshotState::Error);
            record.failure = Some(why.clone());
            image_changes::fail_images_of(state, snapshot, &why);
        }
    }
}
