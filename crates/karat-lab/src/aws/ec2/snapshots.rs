//! Snapshots.

use super::image_changes::{apply, changes, permissions_node};
use super::model::{Content, Image, Permission, Snapshot, SnapshotState, Volume, VolumeState};
use super::places::settings_of;
use super::resource::{find, find_mut, maybe, one, seen, select};
use super::{done, page};
use crate::aws::call::{Call, Job};
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::Tags;
use crate::aws::kms;
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::tags;
use crate::core::disks::file_of;
use crate::core::ids;
use crate::core::phase::{Millis, Phase, UNTIL_TOLD, rfc3339};

impl SnapshotState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Error => "error",
        }
    }
}

/// How a snapshot stands. One that is written to fails when nothing is written for long.
pub(crate) fn state_of(call: &Call<'_>, snapshot: &Snapshot) -> SnapshotState {
    match snapshot.writing {
        Some((last, minutes)) if call.now > last + minutes * 60_000 => SnapshotState::Error,
        Some(_) => SnapshotState::Pending,
        None => snapshot.phase.at(call.now),
    }
}

fn check_quota(call: &Call<'_>) -> Result<()> {
    let pending = seen::<Snapshot>(call)
        .filter(|s| s.owner == call.account() && state_of(call, s) == SnapshotState::Pending);
    if pending.count() >= call.settings.quotas.pending_snapshots {
        return Err(AwsError::new(
            "PendingSnapshotLimitExceeded",
            "The maximum number of pending snapshots has been reached.",
        ));
    }
    Ok(())
}

/// A snapshot of the account with nothing in it.
pub(crate) fn new(call: &Call<'_>, size: u32, description: String, tags: Tags) -> Result<Snapshot> {
    check_quota(call)?;
    Ok(Snapshot {
        id: ids::resource("snap"),
        region: call.region.to_owned(),
        owner: call.account().to_owned(),
        volume: "vol-ffffffff".into(),
        size,
        phase: call.phase(
            SnapshotState::Pending,
            call.settings.durations.snapshot,
            SnapshotState::Completed,
        ),
        failure: None,
        started: call.now,
        description,
        encrypted: false,
        key: None,
        permissions: Vec::new(),
        content: Content::Empty,
        laid_out: false,
        writing: None,
        parent: None,
        copied: false,
        tags,
    })
}

/// Gives a snapshot the content of a volume or of another snapshot.
fn take_content(call: &mut Call<'_>, snapshot: &mut Snapshot, content: &Content) {
    snapshot.content = match content {
        Content::Blocks(from) => {
            call.jobs.push(Job::CopyBlocks { from: from.clone(), to: snapshot.id.clone() });
            Content::Blocks(snapshot.id.clone())
        }
        other => other.clone(),
    };
}

/// Starts a snapshot of a volume: its id, and when it is due.
pub(super) fn of_volume(
    call: &mut Call<'_>,
    volume: &Volume,
    description: String,
    tags: Tags,
    reboot: bool,
) -> Result<(String, Millis)> {
    let mut snapshot = new(call, volume.ebs.size, description, tags)?;
    snapshot.volume = volume.id.clone();
    snapshot.encrypted = volume.ebs.encrypted;
    snapshot.key = volume.ebs.key.clone();
    let root_of = volume.attachment.as_ref().filter(|_| call.machines).and_then(|at| {
        let instance = call.state.instances.get(&at.instance)?;
        (instance.root_device == at.device && !instance.phase.at(call.now).is_ending())
            .then(|| instance.id.clone())
    });
    match root_of {
        Some(instance) => {
            snapshot.content = Content::Volume(volume.id.clone());
            snapshot.phase =
                Phase::until(SnapshotState::Pending, UNTIL_TOLD, SnapshotState::Completed);
            if !call.stuck {
                call.jobs.push(Job::Capture { instance, snapshot: snapshot.id.clone(), reboot });
            }
        }
        None if call.machines && file_of(&call.settings.dir, &volume.id).exists() => {
            snapshot.content = Content::Volume(volume.id.clone());
            snapshot.phase =
                Phase::until(SnapshotState::Pending, UNTIL_TOLD, SnapshotState::Completed);
            if !call.stuck {
                let (volume, snapshot) = (volume.id.clone(), snapshot.id.clone());
                call.jobs.push(Job::CaptureVolume { volume, snapshot });
            }
        }
        None => take_content(call, &mut snapshot, &volume.content),
    }
    let due = snapshot.phase.due().unwrap_or(call.now);
    let id = snapshot.id.clone();
    call.state.snapshots.insert(snapshot);
    Ok((id, due))
}

/// What is to be copied, and how.
pub(super) struct Copy<'a> {
    pub(super) from: &'a str,
    pub(super) region: &'a str,
    pub(super) description: String,
    pub(super) encrypted: Option<bool>,
    pub(super) key: Option<&'a str>,
    pub(super) tags: Tags,
}

/// Starts a copy of a snapshot into the call's region: its id, when it is due, and with which key
/// it is encrypted.
pub(super) fn copied(
    call: &mut Call<'_>,
    copy: &Copy<'_>,
) -> Result<(String, Millis, bool, Option<String>)> {
    let from = call.state.snapshots.get(copy.from).filter(|s| s.region == copy.region).cloned();
    let from = from.filter(|s| may_use(call, s)).ok_or_else(|| {
        AwsError::new(
            "InvalidSnapshot.NotFound",
            format!("The snapshot '{}' does not exist.", copy.from),
        )
    })?;
    if state_of(call, &from) != SnapshotState::Completed {
        return Err(AwsError::new(
            "IncorrectState",
            format!("Snapshot {} is not in 'completed' state", from.id),
        ));
    }
    let under_way = seen::<Snapshot>(call)
        .filter(|s| s.copied && state_of(call, s) == SnapshotState::Pending)
        .count();
    if under_way >= call.settings.quotas.snapshot_copies {
        return Err(AwsError::new(
            "ResourceLimitExceeded",
            "The maximum number of in-progress snapshot copies to this region has been reached.",
        ));
    }
    let settings = settings_of(call);
    let encrypted =
        from.encrypted || copy.encrypted == Some(true) || copy.key.is_some() || settings.encrypt;
    let same_region = copy.region == call.region;
    // A key belongs to a region: elsewhere it is that region's default.
    let inherited = from.key.as_deref().filter(|_| same_region);
    let key = if encrypted {
        let asked = copy.key.or(inherited).or(settings.default_key.as_deref());
        Some(kms::usable_key(call, asked.unwrap_or(kms::EBS_ALIAS))?)
    } else {
        None
    };
    let mut snapshot = new(call, from.size, copy.description.clone(), copy.tags.clone())?;
    snapshot.phase =
        call.phase(SnapshotState::Pending, call.settings.durations.copy, SnapshotState::Completed);
    snapshot.encrypted = encrypted;
    snapshot.key = key.clone();
    snapshot.copied = true;
    take_content(call, &mut snapshot, &from.content);
    let due = snapshot.phase.due().unwrap_or(call.now);
    let id = snapshot.id.clone();
    call.state.snapshots.insert(snapshot);
    Ok((id, due, encrypted, key))
}

pub(super) fn may_use(call: &Call<'_>, snapshot: &Snapshot) -> bool {
    snapshot.owner == call.account()
        || snapshot.permissions.contains(&Permission::Group("all".into()))
        || snapshot.permissions.contains(&Permission::User(call.account().to_owned()))
}

/// A snapshot of the account's own.
pub(crate) fn own<'a>(call: &'a Call<'_>, id: &str) -> Result<&'a Snapshot> {
    let snapshot = find::<Snapshot>(call, id)?;
    if snapshot.owner != call.account() {
        return Err(
            AwsError::new("AuthFailure", format!("Not authorized for snapshot:{id}")).status(403)
        );
    }
    Ok(snapshot)
}

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let volume = find::<Volume>(call, call.params.need("VolumeId")?)?.clone();
    let description = call.params.text("Description").unwrap_or_default().to_owned();
    let tags = tags::specified(call.params, "snapshot", &["snapshot"])?;
    // A running machine goes on; what is on its disk at the moment is taken.
    let (id, _) = of_volume(call, &volume, description, tags, false)?;
    let snapshot = call.state.snapshots.get(&id).cloned();
    let snapshot = snapshot.ok_or_else(|| AwsError::internal("the snapshot is not there"))?;
    Ok(node(call, &snapshot))
}

pub(super) fn copy(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    let region = params.need("SourceRegion")?.to_owned();
    let from = params.need("SourceSnapshotId")?.to_owned();
    let copy = Copy {
        from: &from,
        region: &region,
        description: params.text("Description").unwrap_or_default().to_owned(),
        encrypted: params.flag("Encrypted")?,
        key: params.text("KmsKeyId"),
        tags: tags::specified(params, "snapshot", &["snapshot"])?,
    };
    let tags = copy.tags.clone();
    let (id, ..) = copied(call, &copy)?;
    Ok(tree! { "snapshotId": id, "tagSet": tags::node(&tags) })
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("SnapshotId");
    let owners = call.params.texts("Owner");
    let by = call.params.texts("RestorableBy");
    let account = call.account().to_owned();
    let show = |s: &Snapshot| {
        let owned = owners.is_empty()
            || owners.iter().any(|o| *o == s.owner || (o == "self" && s.owner == account));
        let restorable = by.is_empty()
            || by.iter().any(|user| match user.as_str() {
                "all" => s.permissions.contains(&Permission::Group("all".into())),
                "self" => s.owner == account,
                other => {
                    s.owner == other || s.permissions.contains(&Permission::User(other.to_owned()))
                }
            });
        owned && restorable && may_use(call, s)
    };
    let found = select::<Snapshot>(call, &ids, show, |s, name| match name {
        "snapshot-id" => one(&s.id),
        "volume-id" => one(&s.volume),
        "volume-size" => one(s.size.to_string()),
        "description" => one(&s.description),
        "encrypted" => one(s.encrypted.to_string()),
        "owner-id" => one(&s.owner),
        "owner-alias" => Some(Vec::new()),
        "progress" => one(progress(call, s)),
        "start-time" => one(rfc3339(s.started)),
        "status" => one(state_of(call, s).as_str()),
        "storage-tier" => maybe(Some("standard")),
        _ => None,
    })?;
    page(call, "snapshotSet", found.iter().map(|s| node(call, s)).collect())
}

fn progress(call: &Call<'_>, snapshot: &Snapshot) -> &'static str {
    if state_of(call, snapshot) == SnapshotState::Completed { "100%" } else { "0%" }
}

fn node(call: &Call<'_>, snapshot: &Snapshot) -> Node {
    let state = state_of(call, snapshot);
    let completed = (state == SnapshotState::Completed)
        .then(|| rfc3339(snapshot.phase.due().unwrap_or(snapshot.started)));
    tree! {
        "snapshotId": &snapshot.id,
        "volumeId": &snapshot.volume,
        "status": state.as_str(),
        "statusMessage": snapshot.failure.as_deref().filter(|_| state == SnapshotState::Error),
        "startTime": rfc3339(snapshot.started),
        "completionTime": completed,
        "progress": progress(call, snapshot),
        "ownerId": &snapshot.owner,
        "volumeSize": snapshot.size,
        "description": &snapshot.description,
        "encrypted": snapshot.encrypted,
        "kmsKeyId": snapshot.key.as_deref(),
        "storageTier": "standard",
        "transferType": snapshot.copied.then_some("standard"),
        "tagSet": tags::node(&snapshot.tags),
    }
}

/// Removes a snapshot and its blocks. Volumes of it that no machine has had yet keep them.
pub(super) fn remove(call: &mut Call<'_>, id: &str) {
    let waits = |volume: &Volume| {
        volume.content == Content::Blocks(id.to_owned())
            && volume.phase.at(call.now) != VolumeState::Deleted
            && !file_of(&call.settings.dir, &volume.id).exists()
    };
    let waiting = if call.machines { call.state.volumes.keys_where(waits) } else { Vec::new() };
    for volume in waiting {
        if let Some(record) = call.state.volumes.get_mut(&volume) {
            record.content = Content::Blocks(volume.clone());
        }
        call.jobs.push(Job::CopyBlocks { from: id.to_owned(), to: volume });
    }
    let has_blocks = |s: &Snapshot| s.laid_out || matches!(s.content, Content::Blocks(_));
    if call.state.snapshots.remove(id).is_some_and(|snapshot| has_blocks(&snapshot)) {
        call.jobs.push(Job::DropBlocks { snapshot: id.to_owned() });
    }
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("SnapshotId")?.to_owned();
    own(call, &id)?;
    let uses = |i: &&Image| i.region == call.region && i.snapshots().any(|s| s == id);
    if let Some(image) = call.state.images.iter().find(uses) {
        return Err(AwsError::new(
            "InvalidSnapshot.InUse",
            format!("The snapshot {id} is currently in use by {}", image.id),
        ));
    }
    remove(call, &id);
    Ok(done())
}

pub(super) fn modify_attribute(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("SnapshotId")?.to_owned();
    let snapshot = own(call, &id)?.clone();
    // Groups have the same name as in `ModifyImageAttribute`: `UserGroup`.
    let changes = changes(call.params, "CreateVolumePermission")?;
    if changes.0.is_empty() && changes.1.is_empty() {
        return Err(AwsError::missing("CreateVolumePermission"));
    }
    if !changes.0.is_empty() && snapshot.encrypted {
        if changes.0.contains(&Permission::Group("all".into())) {
            return Err(AwsError::new(
                "OperationNotPermitted",
                "Encrypted snapshots with EBS default key cannot be shared publicly",
            ));
        }
        if snapshot.key.as_deref().is_some_and(|key| kms::is_managed(call, key)) {
            return Err(AwsError::new(
                "OperationNotPermitted",
                "Encrypted snapshots with EBS default key cannot be shared",
            ));
        }
    }
    apply(&mut find_mut::<Snapshot>(call, &id)?.permissions, changes);
    Ok(done())
}

pub(super) fn reset_attribute(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("SnapshotId")?.to_owned();
    own(call, &id)?;
    find_mut::<Snapshot>(call, &id)?.permissions.clear();
    Ok(done())
}

pub(super) fn describe_attribute(call: &mut Call<'_>) -> Result<Node> {
    let snapshot = own(call, call.params.need("SnapshotId")?)?;
    let node = tree! { "snapshotId": &snapshot.id };
    Ok(match call.params.need("Attribute")? {
        "createVolumePermission" => {
            node.with("createVolumePermission", permissions_node(&snapshot.permissions))
        }
        "productCodes" => node.with("productCodes", Node::List(vec![])),
        other => return Err(AwsError::value(other, "attribute", "")),
    })
}

/// Tags of a JSON list, as EBS direct has them.
pub(crate) fn json_tags(list: Option<&serde_json::Value>) -> Result<Tags> {
    let mut params = Params::default();
    let list = list.and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, tag) in list.iter().enumerate() {
        for name in ["Key", "Value"] {
            let text = tag[name].as_str().unwrap_or_default();
            params.put(&format!("Tag.{}.{name}", index + 1), text);
        }
    }
    tags::read(&params.members("Tag"))
}
