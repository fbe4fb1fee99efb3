//! Images: copying, changing and giving them up.

use super::devices;
use super::images::{free_name, own, protection, usable};
use super::model::{Image, ImageState, Permission, Protection, SnapshotState};
use super::resource::find_mut;
use super::{done, snapshots};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::kms;
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::{Phase, UNTIL_TOLD, parse_time, rfc3339};
use crate::core::records::Record;

/// A day, for which protection with a cooldown holds after it was taken off.
const COOLDOWN: i64 = 24 * 3600 * 1000;

pub(super) fn copy(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    let region = params.need("SourceRegion")?.to_owned();
    let id = params.need("SourceImageId")?.to_owned();
    if !call.settings.regions.contains(&region) {
        return Err(AwsError::new(
            "InvalidRequest",
            format!("The source region '{region}' does not exist."),
        ));
    }
    call.check_id(&id, "ami", "InvalidAMIID")?;
    let source = call.state.images.get(&format!("{region}/{id}")).cloned().ok_or_else(|| {
        AwsError::new("InvalidAMIID.NotFound", format!("The image id '[{id}]' does not exist"))
    })?;
    if source.owner != call.account()
        && !source.is_public()
        && !source.permissions.contains(&Permission::User(call.account().to_owned()))
    {
        return Err(
            AwsError::new("AuthFailure", format!("Not authorized for image:{id}")).status(403)
        );
    }
    if source.phase.at(call.now) != ImageState::Available {
        return Err(AwsError::new(
            "InvalidRequest",
            format!("Image {id} cannot be copied: it is not available."),
        ));
    }
    let name = free_name(call)?;
    let asked = params.flag("Encrypted")?;
    let key = params.text("KmsKeyId").map(str::to_owned);
    if key.is_some() && asked != Some(true) {
        return Err(AwsError::new(
            "InvalidParameterDependency",
            "The parameter KmsKeyId requires the parameter Encrypted to be set to true.",
        ));
    }
    let mut tags = tags::specified(params, "image", &["image", "snapshot"])?;
    let snapshot_tags = tags::specified(params, "snapshot", &["image", "snapshot"])?;
    if params.on("CopyImageTags")? && source.owner == call.account() {
        let own = std::mem::replace(&mut tags, source.tags.clone());
        tags.extend(own);
    }
    let mut image = Image {
        id: ids::resource("ami"),
        region: call.region.to_owned(),
        name,
        owner: call.account().to_owned(),
        owner_alias: None,
        description: params.text("Description").map(str::to_owned).or(source.description.clone()),
        created: call.now,
        deprecation: None,
        protection: Protection::Off,
        permissions: Vec::new(),
        source_instance: None,
        source_image: Some(source.id.clone()),
        source_region: Some(region.clone()),
        last_launched: None,
        failure: None,
        fast_launch: None,
        tags,
        ..source
    };
    let mut due = call.now + call.settings.durations.copy;
    for mapping in &mut image.mappings {
        let Some(ebs) = &mut mapping.ebs else { continue };
        let Some(from) = ebs.snapshot.take() else { continue };
        let (id, end, encrypted, key) = snapshots::copied(
            call,
            &snapshots::Copy {
                from: &from,
                region: &region,
                description: format!(
                    "Copied for DestinationAmi {} from SourceAmi {} for SourceSnapshot {from}.",
                    image.id, source.id
                ),
                encrypted: asked,
                key: key.as_deref(),
                tags: snapshot_tags.clone(),
            },
        )?;
        due = due.max(end);
        ebs.snapshot = Some(id);
        ebs.encrypted = encrypted;
        ebs.key = key;
    }
    image.phase = Phase::until(ImageState::Pending, due, ImageState::Available);
    let node = tree! { "imageId": &image.id };
    call.state.images.insert(image);
    Ok(node)
}

pub(super) fn deregister(call: &mut Call<'_>) -> Result<Node> {
    let image = own(call, call.params.need("ImageId")?)?.clone();
    let protected = match image.protection {
        Protection::Off => false,
        Protection::On { .. } => true,
        Protection::Cooling { until } => until > call.now,
    };
    if protected {
        return Err(AwsError::new(
            "OperationNotPermitted",
            format!(
                "The image {} is protected against deregistration ({}).",
                image.id,
                protection(call, &image)
            ),
        ));
    }
    call.state.images.remove(&image.key());
    let mut results = Vec::new();
    if call.params.on("DeleteAssociatedSnapshots")? {
        for id in image.snapshots() {
            let used = call.state.images.iter().any(|i| i.snapshots().any(|s| s == id));
            if !used {
                snapshots::remove(call, id);
            }
            results.push(tree! {
                "snapshotId": id,
                "returnCode": if used { "skipped" } else { "success" },
            });
        }
    }
    Ok(tree! { "return": true, "deleteSnapshotResultSet": Node::List(results) })
}

/// An image of the account's own, to be changed.
fn own_mut<'a>(call: &'a mut Call<'_>, id: &str) -> Result<&'a mut Image> {
    own(call, id)?;
    find_mut::<Image>(call, id)
}

pub(super) fn asked_image<'a>(call: &'a mut Call<'_>) -> Result<&'a mut Image> {
    let id = call.params.need("ImageId")?.to_owned();
    own_mut(call, &id)
}

pub(super) fn deprecate(call: &mut Call<'_>) -> Result<Node> {
    let text = call.params.need("DeprecateAt")?;
    let at = parse_time(text)
        .ok_or_else(|| AwsError::value(text, "DeprecateAt", "It is not a time."))?;
    if at < call.now - 60_000 {
        return Err(AwsError::value(text, "DeprecateAt", "It lies in the past."));
    }
    if at > call.now + 10 * 366 * 24 * 3600 * 1000 {
        return Err(AwsError::value(text, "DeprecateAt", "It lies more than 10 years ahead."));
    }
    // AWS rounds to minutes.
    asked_image(call)?.deprecation = Some((at + 59_999) / 60_000 * 60_000);
    Ok(done())
}

pub(super) fn undeprecate(call: &mut Call<'_>) -> Result<Node> {
    asked_image(call)?.deprecation = None;
    Ok(done())
}

pub(super) fn protect(call: &mut Call<'_>) -> Result<Node> {
    let cooldown = call.params.on("WithCooldown")?;
    let image = asked_image(call)?;
    image.protection = Protection::On { cooldown };
    let text = if cooldown { "enabled-with-cooldown" } else { "enabled-without-cooldown" };
    Ok(tree! { "return": text })
}

pub(super) fn unprotect(call: &mut Call<'_>) -> Result<Node> {
    let until = call.now + COOLDOWN;
    let image = asked_image(call)?;
    image.protection = match image.protection {
        Protection::On { cooldown: true } => Protection::Cooling { until },
        cooling @ Protection::Cooling { .. } => cooling,
        Protection::On { cooldown: false } | Protection::Off => Protection::Off,
    };
    let text = match image.protection {
        Protection::Cooling { until } => format!("disabled-until-{}", rfc3339(until)),
        _ => "disabled".into(),
    };
    Ok(tree! { "return": text })
}

pub(super) fn disable(call: &mut Call<'_>) -> Result<Node> {
    let now = call.now;
    let image = asked_image(call)?;
    if image.phase.at(now) != ImageState::Available {
        return Err(AwsError::new(
            "IncorrectState",
            format!("The image {} is not available.", image.id),
        ));
    }
    image.phase = Phase::fixed(ImageState::Disabled);
    image.permissions.clear();
    Ok(done())
}

pub(super) fn enable(call: &mut Call<'_>) -> Result<Node> {
    let now = call.now;
    let image = asked_image(call)?;
    if image.phase.at(now) != ImageState::Disabled {
        return Err(AwsError::new(
            "IncorrectState",
            format!("The image {} is not disabled.", image.id),
        ));
    }
    image.phase = Phase::fixed(ImageState::Available);
    Ok(done())
}

/// The permissions of a list of `UserId`, `Group` and so on.
fn permission(part: &Params) -> Option<Permission> {
    let text = |name: &str| part.text(name).map(str::to_owned);
    text("UserId")
        .map(Permission::User)
        .or_else(|| text("Group").map(Permission::Group))
        .or_else(|| text("OrganizationArn").map(Permission::Organization))
        .or_else(|| text("OrganizationalUnitArn").map(Permission::Unit))
}

/// What a call adds to and takes from the permissions, in the newer form and in the older one.
pub(super) fn changes(params: &Params, name: &str) -> Result<(Vec<Permission>, Vec<Permission>)> {
    let list = |which: &str| -> Vec<Permission> {
        params.members(&format!("{name}.{which}")).into_iter().filter_map(permission).collect()
    };
    let (mut add, mut remove) = (list("Add"), list("Remove"));
    let older: Vec<Permission> = params
        .texts("UserId")
        .into_iter()
        .map(Permission::User)
        .chain(params.texts("UserGroup").into_iter().map(Permission::Group))
        .chain(params.texts("OrganizationArn").into_iter().map(Permission::Organization))
        .chain(params.texts("OrganizationalUnitArn").into_iter().map(Permission::Unit))
        .collect();
    match params.text("OperationType") {
        Some("add") => add.extend(older),
        Some("remove") => remove.extend(older),
        Some(other) => return Err(AwsError::value(other, "operationType", "")),
        // Beside the other form they say nothing: Packer sends both.
        None if !older.is_empty() && add.is_empty() && remove.is_empty() => {
            return Err(AwsError::missing("OperationType"));
        }
        None => {}
    }
    for permission in &add {
        let (text, good) = match permission {
            Permission::User(id) => (id, id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit())),
            Permission::Group(group) => (group, group == "all"),
            Permission::Organization(arn) => (arn, arn.contains(":organization/")),
            Permission::Unit(arn) => (arn, arn.contains(":ou/")),
        };
        if !good {
            return Err(AwsError::new(
                "InvalidAMIAttributeItemValue",
                format!("Invalid attribute item value \"{text}\" for {name}"),
            ));
        }
    }
    Ok((add, remove))
}

/// Applies such changes.
pub(super) fn apply(to: &mut Vec<Permission>, (add, remove): (Vec<Permission>, Vec<Permission>)) {
    to.retain(|p| !remove.contains(p));
    for permission in add {
        if !to.contains(&permission) {
            to.push(permission);
        }
    }
}

pub(super) fn modify_attribute(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    let id = params.need("ImageId")?.to_owned();
    let image = own(call, &id)?.clone();
    let attribute = params.text("Attribute");
    if params.has("Description") || attribute == Some("description") {
        let text =
            params.part("Description.Value").and_then(Params::value).or(params.text("Value"));
        own_mut(call, &id)?.description = text.map(str::to_owned).filter(|t| !t.is_empty());
    }
    if params.has("ImdsSupport") || attribute == Some("imdsSupport") {
        let value = params.text("ImdsSupport.Value").or(params.text("Value")).unwrap_or_default();
        if value != "v2.0" {
            return Err(AwsError::value(value, "imdsSupport", "It can only be set to v2.0."));
        }
        own_mut(call, &id)?.imds = Some(value.to_owned());
    }
    let (add, remove) = changes(params, "LaunchPermission")?;
    if !add.is_empty() || !remove.is_empty() {
        check_sharing(call, &image, &add)?;
        apply(&mut own_mut(call, &id)?.permissions, (add, remove));
    }
    Ok(done())
}

/// What is encrypted cannot be public, and with the account's default key not be shared at all.
fn check_sharing(call: &Call<'_>, image: &Image, add: &[Permission]) -> Result<()> {
    if add.is_empty() {
        return Ok(());
    }
    if image.phase.at(call.now) == ImageState::Disabled {
        return Err(AwsError::new("IncorrectState", "A disabled image cannot be shared."));
    }
    for ebs in image.mappings.iter().filter_map(|m| m.ebs.as_ref()).filter(|e| e.encrypted) {
        if add.contains(&Permission::Group("all".into())) {
            return Err(AwsError::new(
                "InvalidParameter",
                "Images with encrypted snapshots cannot be made public.",
            ));
        }
        if ebs.key.as_deref().is_some_and(|key| kms::is_managed(call, key)) {
            return Err(AwsError::new(
                "InvalidParameter",
                "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another \
                 snapshot.",
            ));
        }
    }
    Ok(())
}

pub(super) fn reset_attribute(call: &mut Call<'_>) -> Result<Node> {
    let attribute = call.params.need("Attribute")?;
    if attribute != "launchPermission" {
        return Err(AwsError::value(attribute, "attribute", "Only launchPermission can be reset."));
    }
    asked_image(call)?.permissions.clear();
    Ok(done())
}

pub(super) fn permissions_node(permissions: &[Permission]) -> Node {
    Node::list(permissions.iter().map(|p| match p {
        Permission::User(id) => tree! { "userId": id },
        Permission::Group(group) => tree! { "group": group },
        Permission::Organization(arn) => tree! { "organizationArn": arn },
        Permission::Unit(arn) => tree! { "organizationalUnitArn": arn },
    }))
}

pub(super) fn describe_attribute(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("ImageId")?;
    usable(call, id)?;
    let image = own(call, id)?;
    let value = |text: Option<&str>| text.map(|text| tree! { "value": text }).unwrap_or(tree! {});
    let node = tree! { "imageId": &image.id };
    Ok(match call.params.need("Attribute")? {
        "description" => node.with("description", value(image.description.as_deref())),
        "launchPermission" => node.with("launchPermission", permissions_node(&image.permissions)),
        "productCodes" => node.with("productCodes", Node::List(vec![])),
        "blockDeviceMapping" => node.with("blockDeviceMapping", devices::node(&image.mappings)),
        "sriovNetSupport" => node.with("sriovNetSupport", value(image.sriov.as_deref())),
        "bootMode" => node.with("bootMode", value(image.boot_mode.as_deref())),
        "tpmSupport" => node.with("tpmSupport", value(image.tpm.as_deref())),
        "uefiData" => node.with("uefiData", value(image.uefi_data.as_deref())),
        "imdsSupport" => node.with("imdsSupport", value(image.imds.as_deref())),
        "kernel" => node.with("kernel", value(None)),
        "ramdisk" => node.with("ramdisk", value(None)),
        "lastLaunchedTime" => {
            let time = image.last_launched.map(rfc3339);
            node.with("lastLaunchedTime", value(time.as_deref()))
        }
        "deregistrationProtection" => {
            let text = protection(call, image);
            node.with("deregistrationProtection", value(Some(&text)))
        }
        other => return Err(AwsError::value(other, "attribute", "")),
    })
}

/// An image whose snapshot came to nothing has failed.
pub(super) fn fail_images_of(call_state: &mut crate::aws::state::State, snapshot: &str, why: &str) {
    let keys = call_state.images.keys_where(|i| i.snapshots().any(|s| s == snapshot));
    for key in keys {
        if let Some(image) = call_state.images.get_mut(&key) {
            image.phase = Phase::fixed(ImageState::Failed);
            image.failure = Some(why.to_owned());
        }
    }
}

/// An image whose snapshots are all there is available once its own time is over.
pub(super) fn complete_images_of(
    state: &mut crate::aws::state::State,
    snapshot: &str,
    now: crate::core::phase::Millis,
) {
    let keys = state.images.keys_where(|i| i.phase.waits() && i.snapshots().any(|s| s == snapshot));
    for key in keys {
        let Some(image) = state.images.get(&key) else { continue };
        let mut due = now;
        let whole = image.snapshots().all(|id| {
            let phase = state.snapshots.get(id).map(|s| s.phase);
            due = due.max(phase.and_then(|p| p.due()).unwrap_or(now));
            phase.is_some_and(|p| p.target() == SnapshotState::Completed && !p.waits())
        });
        if whole
            && due != UNTIL_TOLD
            && let Some(image) = state.images.get_mut(&key)
        {
            image.phase.told(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_permissions_are_read() {
        let form =
            b"LaunchPermission.Add.1.UserId=123456789012&LaunchPermission.Remove.1.Group=all\
                     &OperationType=add&UserGroup.1=all";
        let (add, remove) = changes(&Params::parse(form), "LaunchPermission").unwrap();
        let user = Permission::User("123456789012".into());
        let all = Permission::Group("all".into());
        assert_eq!(
            (add.as_slice(), remove.as_slice()),
            (&[user.clone(), all.clone()][..], &[all][..])
        );
        let both = b"LaunchPermission.Add.1.UserId=123456789012&UserId.1=123456789012";
        let (add, remove) = changes(&Params::parse(both), "LaunchPermission").unwrap();
        assert_eq!((add.as_slice(), remove.as_slice()), (&[user.clone()][..], &[][..]));
        let neither = changes(&Params::parse(b"UserId.1=123456789012"), "LaunchPermission");
        assert_eq!(neither.unwrap_err().code, "MissingParameter");
        let wrong = changes(&Params::parse(b"LaunchPermission.Add.1.UserId=1"), "LaunchPermission");
        assert_eq!(wrong.unwrap_err().code, "InvalidAMIAttributeItemValue");
        let mut to = vec![];
        apply(&mut to, (vec![user.clone(), user.clone()], vec![]));
        assert_eq!(to, [user]);
    }
}
