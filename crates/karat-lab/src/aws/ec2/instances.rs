//! Instances: showing and changing them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::model::{Instance, InstanceState, MetadataOptions, Volume, VolumeState};
use super::resource::{find, find_mut, maybe, one, seen, select};
use super::{done, keys, page, types};
use crate::aws::call::{Call, Job};
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::Filters;
use crate::aws::iam;
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::state::State;
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::{Millis, Phase, UNTIL_TOLD, rfc3339};

fn volumes_of<'a>(call: &'a Call<'_>, instance: &'a Instance) -> impl Iterator<Item = &'a Volume> {
    let gone = instance.phase.at(call.now) == InstanceState::Terminated;
    call.state
        .volumes
        .iter()
        .filter(move |v| !gone && v.attachment.as_ref().is_some_and(|a| a.instance == instance.id))
}

/// The public address, while there is one.
pub(super) fn public_address<'a>(call: &Call<'_>, instance: &'a Instance) -> Option<&'a str> {
    let state = instance.phase.at(call.now);
    let has =
        matches!(state, InstanceState::Pending | InstanceState::Running | InstanceState::Stopping);
    instance.public_address.as_deref().filter(|_| has)
}

fn private_name(instance: &Instance) -> String {
    let domain = match instance.region.as_str() {
        "us-east-1" => "ec2.internal".to_owned(),
        region => format!("{region}.compute.internal"),
    };
    format!("ip-{}.{domain}", instance.private_address.replace('.', "-"))
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("InstanceId");
    let found = select::<Instance>(call, &ids, |_| true, |i, name| values(call, i, name))?;
    let mut reservations: Vec<&str> = Vec::new();
    for instance in &found {
        if !reservations.contains(&instance.reservation.as_str()) {
            reservations.push(&instance.reservation);
        }
    }
    let nodes = reservations.iter().map(|id| {
        let members = found.iter().filter(|i| i.reservation == *id);
        reservation(call, id, members.map(|i| node(call, i)).collect())
    });
    page(call, "reservationSet", nodes.collect())
}

/// A reservation with its instances.
pub(super) fn reservation(call: &Call<'_>, id: &str, instances: Vec<Node>) -> Node {
    tree! {
        "reservationId": id,
        "ownerId": call.account(),
        "groupSet": Node::List(vec![]),
        "instancesSet": instances,
    }
}

fn values(call: &Call<'_>, i: &Instance, name: &str) -> Option<Vec<String>> {
    let state = i.phase.at(call.now);
    match name {
        "instance-id" => one(&i.id),
        "instance-state-name" => one(state.as_str()),
        "instance-state-code" => one(state.code().to_string()),
        "image-id" => one(&i.image),
        "instance-type" => one(&i.kind),
        "instance-lifecycle" => maybe(i.spot.as_ref().map(|_| "spot")),
        "architecture" => one(&i.architecture),
        "availability-zone" => one(&i.zone),
        "client-token" => maybe(i.client_token.as_deref()),
        "key-name" => maybe(i.key_name.as_deref()),
        "launch-time" => one(rfc3339(i.launched)),
        "private-ip-address" | "network-interface.addresses.private-ip-address" => {
            one(&i.private_address)
        }
        "ip-address" | "network-interface.association.public-ip" => maybe(public_address(call, i)),
        "private-dns-name" => one(private_name(i)),
        "reservation-id" => one(&i.reservation),
        "subnet-id" | "network-interface.subnet-id" => one(&i.subnet),
        "vpc-id" | "network-interface.vpc-id" => one(&i.vpc),
        "instance.group-id" | "group-id" | "network-interface.group-id" => Some(i.groups.clone()),
        "instance.group-name" | "group-name" => Some(
            i.groups.iter().filter_map(|g| Some(call.state.groups.get(g)?.name.clone())).collect(),
        ),
        "iam-instance-profile.arn" => {
            maybe(i.profile.as_ref().map(|name| iam::profile_arn(call, name)))
        }
        "iam-instance-profile.name" => maybe(i.profile.as_deref()),
        "owner-id" => one(call.account()),
        "root-device-name" => one(&i.root_device),
        "root-device-type" => one("ebs"),
        "spot-instance-request-id" => maybe(i.spot.as_deref()),
        "tenancy" | "placement.tenancy" => one(&i.tenancy),
        "virtualization-type" => one("hvm"),
        "hypervisor" => one("xen"),
        "metadata-options.http-tokens" => {
            one(if i.metadata.tokens_required { "required" } else { "optional" })
        }
        "block-device-mapping.volume-id" => {
            Some(volumes_of(call, i).map(|v| v.id.clone()).collect())
        }
        _ => None,
    }
}

fn state_node(state: InstanceState) -> Node {
    tree! { "code": state.code(), "name": state.as_str() }
}

fn metadata_node(options: &MetadataOptions) -> Node {
    let switch = |on: bool| if on { "enabled" } else { "disabled" };
    tree! {
        "state": "applied",
        "httpTokens": if options.tokens_required { "required" } else { "optional" },
        "httpPutResponseHopLimit": options.hop_limit,
        "httpEndpoint": switch(options.enabled),
        "httpProtocolIpv6": "disabled",
        "instanceMetadataTags": switch(options.tags),
    }
}

fn groups_node(call: &Call<'_>, instance: &Instance) -> Node {
    Node::list(instance.groups.iter().map(|id| {
        let name = call.state.groups.get(id).map(|g| g.name.clone());
        tree! { "groupId": id, "groupName": name }
    }))
}

fn interface_node(call: &Call<'_>, i: &Instance, full: bool) -> Node {
    let public = public_address(call, i);
    let association = public.map(|address| {
        tree! { "publicIp": address, "publicDnsName": address, "ipOwnerId": "amazon" }
    });
    let attachment = tree! {
        "attachmentId": ids::derived("eni-attach", &i.id),
        "deviceIndex": 0,
        "status": "attached",
        "attachTime": rfc3339(i.launched),
        "deleteOnTermination": true,
        "networkCardIndex": 0,
    };
    let attachment = if full {
        attachment.with("instanceId", &i.id).with("instanceOwnerId", call.account())
    } else {
        attachment
    };
    let private = private_name(i);
    tree! {
        "networkInterfaceId": &i.interface,
        "subnetId": &i.subnet,
        "vpcId": &i.vpc,
        "availabilityZone": full.then_some(&i.zone),
        "description": "",
        "ownerId": call.account(),
        "status": "in-use",
        "macAddress": &i.mac,
        "privateIpAddress": &i.private_address,
        "privateDnsName": &private,
        "sourceDestCheck": i.source_dest_check,
        "groupSet": groups_node(call, i),
        "attachment": attachment,
        "association": association.clone(),
        "privateIpAddressesSet": vec![tree! {
            "privateIpAddress": &i.private_address,
            "privateDnsName": private,
            "primary": true,
            "association": association,
        }],
        "ipv6AddressesSet": Node::List(vec![]),
        "interfaceType": "interface",
    }
}

pub(super) fn interfaces(call: &mut Call<'_>) -> Result<Node> {
    let asked = call.params.texts("NetworkInterfaceId");
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for i in seen::<Instance>(call) {
        if i.phase.at(call.now) == InstanceState::Terminated
            || !(asked.is_empty() || asked.contains(&i.interface))
        {
            continue;
        }
        let passes = filters.pass(&i.tags, |name| match name {
            "network-interface-id" => one(&i.interface),
            "attachment.instance-id" => one(&i.id),
            "subnet-id" => one(&i.subnet),
            "vpc-id" => one(&i.vpc),
            "group-id" => Some(i.groups.clone()),
            "private-ip-address" => one(&i.private_address),
            "availability-zone" => one(&i.zone),
            "status" => one("in-use"),
            _ => None,
        })?;
        if passes {
            all.push(interface_node(call, i, true));
        }
    }
    if let Some(id) =
        asked.iter().find(|id| !call.state.instances.iter().any(|i| i.interface == **id))
    {
        return Err(AwsError::new(
            "InvalidNetworkInterfaceID.NotFound",
            format!("The networkInterface ID '{id}' does not exist"),
        ));
    }
    page(call, "networkInterfaceSet", all)
}

/// An instance as it is shown.
pub(super) fn node(call: &Call<'_>, i: &Instance) -> Node {
    let state = i.phase.at(call.now);
    let alive = state != InstanceState::Terminated;
    let public = public_address(call, i);
    let kind = types::find(&i.kind).ok();
    let windows = is_windows(call, i);
    let mappings = volumes_of(call, i).filter_map(|v| {
        let at = v.attachment.as_ref()?;
        Some(tree! {
            "deviceName": &at.device,
            "ebs": tree! {
                "volumeId": &v.id,
                "status": at.state.as_str(),
                "attachTime": rfc3339(at.at),
                "deleteOnTermination": v.ebs.delete_on_termination,
            },
        })
    });
    let profile = i.profile.as_ref().map(|name| {
        tree! { "arn": iam::profile_arn(call, name), "id": iam::profile_id(call, name) }
    });
    let reason = i
        .reason
        .as_ref()
        .filter(|_| !matches!(state, InstanceState::Running | InstanceState::Pending));
    tree! {
        "instanceId": &i.id,
        "imageId": &i.image,
        "instanceState": state_node(state),
        "privateDnsName": if alive { private_name(i) } else { String::new() },
        "dnsName": public.unwrap_or_default(),
        "reason": reason.map(|(_, text)| text.as_str()).unwrap_or_default(),
        "keyName": i.key_name.as_deref(),
        "amiLaunchIndex": i.index,
        "productCodes": Node::List(vec![]),
        "instanceType": &i.kind,
        "launchTime": rfc3339(i.launched),
        "placement": tree! {
            "availabilityZone": &i.zone,
            "availabilityZoneId": super::places::zone_id(&i.zone),
            "groupName": "",
            "tenancy": &i.tenancy,
        },
        "monitoring": tree! { "state": if i.monitoring { "enabled" } else { "disabled" } },
        "subnetId": alive.then_some(&i.subnet),
        "vpcId": alive.then_some(&i.vpc),
        "privateIpAddress": alive.then_some(&i.private_address),
        "ipAddress": public,
        "sourceDestCheck": i.source_dest_check,
        "groupSet": if alive { groups_node(call, i) } else { Node::List(vec![]) },
        "stateReason": reason.map(|(code, text)| tree! { "code": code, "message": text }),
        "architecture": &i.architecture,
        "rootDeviceType": "ebs",
        "rootDeviceName": &i.root_device,
        "blockDeviceMapping": Node::list(mappings),
        "virtualizationType": "hvm",
        "instanceLifecycle": i.spot.as_ref().map(|_| "spot"),
        "spotInstanceRequestId": i.spot.as_deref(),
        "clientToken": i.client_token.as_deref().unwrap_or_default(),
        "tagSet": tags::node(&i.tags),
        "hypervisor": "xen",
        "networkInterfaceSet": if alive {
            Node::list([interface_node(call, i, false)])
        } else {
            Node::List(vec![])
        },
        "iamInstanceProfile": profile,
        "ebsOptimized": i.ebs_optimized,
        "sriovNetSupport": i.sriov.as_deref(),
        "enaSupport": i.ena,
        "cpuOptions": kind.map(|kind| {
            let cores = if kind.arm || kind.vcpus == 1 { kind.vcpus } else { kind.vcpus / 2 };
            tree! { "coreCount": cores, "threadsPerCore": kind.vcpus / cores }
        }),
        "capacityReservationSpecification": tree! { "capacityReservationPreference": "open" },
        "hibernationOptions": tree! { "configured": false },
        "metadataOptions": metadata_node(&i.metadata),
        "enclaveOptions": tree! { "enabled": i.enclave },
        "bootMode": i.boot_mode.as_deref(),
        "platform": windows.then_some("windows"),
        "platformDetails": if windows { "Windows" } else { "Linux/UNIX" },
        "usageOperation": if windows { "RunInstances:0002" } else { "RunInstances" },
        "usageOperationUpdateTime": rfc3339(i.launched),
        "privateDnsNameOptions": tree! {
            "hostnameType": "ip-name",
            "enableResourceNameDnsARecord": false,
            "enableResourceNameDnsAAAARecord": false,
        },
        "maintenanceOptions": tree! { "autoRecovery": "default" },
        "currentInstanceBootMode": alive.then(|| {
            if i.boot_mode.as_deref() == Some("uefi") { "uefi" } else { "legacy-bios" }
        }),
    }
}

pub(super) fn status(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("InstanceId");
    let all = call.params.on("IncludeAllInstances")?;
    let found = select::<Instance>(
        call,
        &ids,
        |_| true,
        |i, name| match name {
            "instance-status.status"
            | "system-status.status"
            | "instance-status.reachability"
            | "system-status.reachability" => one(check_of(call, i).0),
            other => values(call, i, other),
        },
    )?;
    let nodes =
        found.iter().filter(|i| all || i.phase.at(call.now) == InstanceState::Running).map(|i| {
            let (status, reachability) = check_of(call, i);
            let check = || {
                tree! {
                    "status": status,
                    "details": vec![tree! { "name": "reachability", "status": reachability }],
                }
            };
            tree! {
                "instanceId": &i.id,
                "availabilityZone": &i.zone,
                "instanceState": state_node(i.phase.at(call.now)),
                "systemStatus": check(),
                "instanceStatus": check(),
            }
        });
    page(call, "instanceStatusSet", nodes.collect())
}

fn check_of(call: &Call<'_>, instance: &Instance) -> (&'static str, &'static str) {
    match instance.phase.at(call.now) {
        InstanceState::Running => ("ok", "passed"),
        InstanceState::Pending => ("initializing", "initializing"),
        _ => ("not-applicable", "insufficient-data"),
    }
}

/// Applies a change to all instances of a call, after all were found to be there.
fn each(
    call: &mut Call<'_>,
    change: impl Fn(&mut Call<'_>, Instance) -> Result<InstanceState>,
) -> Result<Node> {
    let ids = call.params.texts("InstanceId");
    if ids.is_empty() {
        return Err(AwsError::missing("InstanceId"));
    }
    let mut found = Vec::new();
    for id in &ids {
        found.push(find::<Instance>(call, id)?.clone());
    }
    let mut nodes = Vec::new();
    for instance in found {
        let (id, before) = (instance.id.clone(), instance.phase.at(call.now));
        let after = change(call, instance)?;
        nodes.push(tree! {
            "instanceId": id,
            "currentState": state_node(after),
            "previousState": state_node(before),
        });
    }
    Ok(tree! { "instancesSet": nodes })
}

fn wrong_state(id: &str, verb: &str) -> AwsError {
    AwsError::new(
        "IncorrectInstanceState",
        format!("The instance '{id}' is not in a state from which it can be {verb}."),
    )
}

pub(super) fn start(call: &mut Call<'_>) -> Result<Node> {
    each(call, |call, mut instance| {
        match instance.phase.at(call.now) {
            state @ (InstanceState::Running | InstanceState::Pending) => return Ok(state),
            InstanceState::Stopped => {}
            _ => return Err(wrong_state(&instance.id, "started")),
        }
        super::launch::check_vcpus(call, types::find(&instance.kind)?.vcpus)?;
        instance.phase = pending(call);
        instance.reason = None;
        instance.launched = call.now;
        if instance.wants_public {
            instance.public_address = Some(super::launch::free_public_address(call)?);
        }
        if call.machines && !call.stuck {
            call.jobs.push(Job::Boot { instance: instance.id.clone() });
        }
        call.state.instances.insert(instance);
        Ok(InstanceState::Pending)
    })
}

/// The phase of an instance that begins.
pub(super) fn pending(call: &Call<'_>) -> Phase<InstanceState> {
    if call.machines {
        Phase::until(InstanceState::Pending, UNTIL_TOLD, InstanceState::Running)
    } else {
        let lasts = call.settings.durations.pending;
        call.phase(InstanceState::Pending, lasts, InstanceState::Running)
    }
}

pub(super) fn stop(call: &mut Call<'_>) -> Result<Node> {
    let force = call.params.on("Force")?;
    each(call, |call, mut instance| {
        match instance.phase.at(call.now) {
            state @ (InstanceState::Stopped | InstanceState::Stopping) => return Ok(state),
            InstanceState::Running | InstanceState::Pending => {}
            _ => return Err(wrong_state(&instance.id, "stopped")),
        }
        if instance.stop_protected {
            return Err(AwsError::new(
                "OperationNotPermitted",
                format!(
                    "The instance '{}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.",
                    instance.id
                ),
            ));
        }
        if instance.spot.is_some() {
            return Err(AwsError::new(
                "UnsupportedOperation",
                format!(
                    "You can't stop the Spot Instance '{}' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests.",
                    instance.id
                ),
            ));
        }
        let lasts = call.settings.durations.stopping;
        instance.phase = if call.machines {
            if !call.stuck {
                call.jobs.push(Job::Stop { instance: instance.id.clone(), force });
            }
            Phase::until(InstanceState::Stopping, UNTIL_TOLD, InstanceState::Stopped)
        } else {
            call.phase(InstanceState::Stopping, lasts, InstanceState::Stopped)
        };
        instance.reason = Some((
            "Client.UserInitiatedShutdown".into(),
            "Client.UserInitiatedShutdown: User initiated shutdown".into(),
        ));
        call.state.instances.insert(instance);
        Ok(InstanceState::Stopping)
    })
}

pub(super) fn reboot(call: &mut Call<'_>) -> Result<Node> {
    each(call, |call, instance| {
        let state = instance.phase.at(call.now);
        if state != InstanceState::Running {
            return Err(wrong_state(&instance.id, "rebooted"));
        }
        if call.machines {
            call.jobs.push(Job::Reboot { instance: instance.id });
        }
        Ok(state)
    })?;
    Ok(done())
}

pub(super) fn terminate(call: &mut Call<'_>) -> Result<Node> {
    each(call, |call, mut instance| {
        let state = instance.phase.at(call.now);
        if state.is_ending() {
            return Ok(state);
        }
        if instance.protected {
            return Err(AwsError::new(
                "OperationNotPermitted",
                format!(
                    "The instance '{}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.",
                    instance.id
                ),
            ));
        }
        let due = if call.machines {
            if !call.stuck {
                call.jobs.push(Job::Terminate { instance: instance.id.clone() });
            }
            UNTIL_TOLD
        } else {
            let lasts = call.settings.durations.shutting_down;
            let phase = call.phase(InstanceState::ShuttingDown, lasts, InstanceState::Terminated);
            phase.due().unwrap_or(call.now)
        };
        instance.phase = Phase::until(InstanceState::ShuttingDown, due, InstanceState::Terminated);
        instance.reason = Some((
            "Client.UserInitiatedShutdown".into(),
            "Client.UserInitiatedShutdown: User initiated shutdown".into(),
        ));
        let id = instance.id.clone();
        call.state.instances.insert(instance);
        release_volumes(call.state, &id, due);
        Ok(InstanceState::ShuttingDown)
    })
}

/// What becomes of the volumes of an instance that ends at a time.
fn release_volumes(state: &mut State, instance: &str, due: Millis) {
    let has = |v: &Volume| v.attachment.as_ref().is_some_and(|a| a.instance == instance);
    for key in state.volumes.keys_where(has) {
        if let Some(volume) = state.volumes.get_mut(&key) {
            let then = if volume.ebs.delete_on_termination {
                VolumeState::Deleted
            } else {
                VolumeState::Available
            };
            volume.phase = Phase::until(VolumeState::InUse, due, then);
        }
    }
}

/// An instance ends without having been asked to, from now or, where its machine has to, as soon as
/// that is told.
pub(crate) fn lose(state: &mut State, id: &str, reason: &str, text: &str, due: Millis) {
    let Some(instance) = state.instances.get_mut(id) else { return };
    instance.phase = Phase::until(InstanceState::ShuttingDown, due, InstanceState::Terminated);
    instance.reason = Some((reason.to_owned(), format!("{reason}: {text}")));
    release_volumes(state, id, due);
}

/// An instance's machine runs.
pub(crate) fn machine_started(state: &mut State, id: &str, now: Millis, lasts: Millis) {
    if let Some(instance) = state.instances.get_mut(id)
        && instance.phase.target() == InstanceState::Running
    {
        let due = now.max(instance.launched + lasts);
        instance.phase.told(due);
        instance.ran = true;
    }
}

/// An instance's machine could not be started: it is terminated, or stopped if it ran before. Says
/// whether it is terminated.
pub(crate) fn machine_failed(state: &mut State, id: &str, why: &str, now: Millis) -> bool {
    let Some(instance) = state.instances.get_mut(id) else { return false };
    if instance.phase.target() != InstanceState::Running {
        // It is on its way to another end.
        return false;
    }
    instance.reason = Some(("Server.InternalError".into(), format!("Server.InternalError: {why}")));
    if instance.ran {
        instance.phase = Phase::fixed(InstanceState::Stopped);
        return false;
    }
    instance.phase = Phase::until(InstanceState::Terminated, now, InstanceState::Terminated);
    release_volumes(state, id, now);
    true
}

/// An instance's machine has ended as it was asked to.
pub(crate) fn machine_stopped(state: &mut State, id: &str, now: Millis) {
    let Some(instance) = state.instances.get_mut(id) else { return };
    instance.phase.told(now);
    if instance.phase.target() == InstanceState::Terminated {
        let has = |v: &Volume| v.attachment.as_ref().is_some_and(|a| a.instance == id);
        for key in state.volumes.keys_where(has) {
            if let Some(volume) = state.volumes.get_mut(&key) {
                volume.phase.told(now);
            }
        }
    }
}

/// An instance's machine has powered itself off. Says whether it is to be terminated.
pub(crate) fn ended_by_itself(state: &mut State, id: &str, now: Millis) -> bool {
    let Some(instance) = state.instances.get_mut(id) else { return false };
    if instance.phase.at(now) != InstanceState::Running {
        return false;
    }
    instance.reason = Some((
        "Client.InstanceInitiatedShutdown".into(),
        "Client.InstanceInitiatedShutdown: Instance initiated shutdown".into(),
    ));
    let terminates = instance.shutdown_terminates || instance.spot.is_some();
    if terminates {
        instance.phase =
            Phase::until(InstanceState::ShuttingDown, UNTIL_TOLD, InstanceState::Terminated);
        release_volumes(state, id, UNTIL_TOLD);
    } else {
        instance.phase = Phase::fixed(InstanceState::Stopped);
    }
    terminates
}

pub(super) fn modify_attribute(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    let id = params.need("InstanceId")?.to_owned();
    let instance = find::<Instance>(call, &id)?.clone();
    let attribute = params.text("Attribute").unwrap_or_default();
    let value = |own: &str, name: &str| {
        params
            .part(&format!("{own}.Value"))
            .and_then(Params::value)
            .or_else(|| params.text("Value").filter(|_| attribute == name))
    };
    let flag = |own: &str, name: &str| -> Result<Option<bool>> {
        value(own, name)
            .map(|text| match text.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(AwsError::value(text, name, "It must be true or false.")),
            })
            .transpose()
    };
    let mut changed = instance.clone();
    let mut needs_stop = None;
    if let Some(on) = flag("DisableApiTermination", "disableApiTermination")? {
        changed.protected = on;
    }
    if let Some(on) = flag("DisableApiStop", "disableApiStop")? {
        changed.stop_protected = on;
    }
    if let Some(on) = flag("SourceDestCheck", "sourceDestCheck")? {
        changed.source_dest_check = on;
    }
    if let Some(on) = flag("EbsOptimized", "ebsOptimized")? {
        changed.ebs_optimized = on;
        needs_stop = Some("ebsOptimized");
    }
    if let Some(on) = flag("EnaSupport", "enaSupport")? {
        changed.ena = on;
        needs_stop = Some("enaSupport");
    }
    if let Some(text) = value("SriovNetSupport", "sriovNetSupport") {
        if text != "simple" {
            return Err(AwsError::value(text, "sriovNetSupport", "It can only be simple."));
        }
        changed.sriov = Some(text.to_owned());
        needs_stop = Some("sriovNetSupport");
    }
    if let Some(text) = value("InstanceType", "instanceType") {
        let kind = types::find(text)?;
        if !kind.runs(&instance.architecture) {
            return Err(AwsError::value(text, "instanceType", "The architecture is another."));
        }
        changed.kind = kind.name.to_owned();
        needs_stop = Some("instanceType");
    }
    if let Some(text) = value("UserData", "userData") {
        changed.user_data = checked_user_data(text)?;
        needs_stop = Some("userData");
    }
    if let Some(text) =
        value("InstanceInitiatedShutdownBehavior", "instanceInitiatedShutdownBehavior")
    {
        changed.shutdown_terminates = match text {
            "stop" => false,
            "terminate" => true,
            other => return Err(AwsError::value(other, "instanceInitiatedShutdownBehavior", "")),
        };
    }
    let groups = params.texts("GroupId");
    if !groups.is_empty() {
        for group in &groups {
            find::<super::model::SecurityGroup>(call, group)?;
        }
        changed.groups = groups;
        call.jobs.push(Job::Reach { instance: id.clone() });
    }
    if let Some(what) = needs_stop
        && instance.phase.at(call.now) != InstanceState::Stopped
    {
        return Err(AwsError::new(
            "IncorrectInstanceState",
            format!(
                "The instance '{id}' is not in the 'stopped' state ({what} can only be changed then)."
            ),
        ));
    }
    for part in params.members("BlockDeviceMapping") {
        let device = part.need("DeviceName")?.to_owned();
        let delete = part.flag("Ebs.DeleteOnTermination")?;
        let has = |v: &Volume| {
            v.attachment.as_ref().is_some_and(|a| a.instance == id && a.device == device)
        };
        let key = call.state.volumes.keys_where(has).pop().ok_or_else(|| {
            AwsError::new(
                "InvalidInstanceAttributeValue",
                format!("No device is currently mapped at {device}"),
            )
        })?;
        if let (Some(delete), Some(volume)) = (delete, call.state.volumes.get_mut(&key)) {
            volume.ebs.delete_on_termination = delete;
        }
    }
    call.state.instances.insert(changed);
    Ok(done())
}

/// User data as a request has it: base64, at most 16 KiB.
pub(super) fn checked_user_data(text: &str) -> Result<Option<String>> {
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = STANDARD.decode(&plain).map_err(|_| {
        AwsError::new("InvalidParameterValue", "Invalid BASE64 encoding of user data.")
    })?;
    if bytes.len() > 16_384 {
        return Err(AwsError::new("InvalidParameterValue", "User data is limited to 16384 bytes."));
    }
    Ok(Some(plain).filter(|p| !p.is_empty()))
}

pub(super) fn describe_attribute(call: &mut Call<'_>) -> Result<Node> {
    let i = find::<Instance>(call, call.params.need("InstanceId")?)?;
    let value = |node: Node| tree! { "value": node };
    let node = tree! { "instanceId": &i.id };
    Ok(match call.params.need("Attribute")? {
        "instanceType" => node.with("instanceType", value((&i.kind).into())),
        "userData" => match &i.user_data {
            Some(text) => node.with("userData", value(text.into())),
            None => node.with("userData", tree! {}),
        },
        "disableApiTermination" => node.with("disableApiTermination", value(i.protected.into())),
        "disableApiStop" => node.with("disableApiStop", value(i.stop_protected.into())),
        "instanceInitiatedShutdownBehavior" => {
            let text = if i.shutdown_terminates { "terminate" } else { "stop" };
            node.with("instanceInitiatedShutdownBehavior", value(text.into()))
        }
        "rootDeviceName" => node.with("rootDeviceName", value((&i.root_device).into())),
        "sourceDestCheck" => node.with("sourceDestCheck", value(i.source_dest_check.into())),
        "ebsOptimized" => node.with("ebsOptimized", value(i.ebs_optimized.into())),
        "enaSupport" => node.with("enaSupport", value(i.ena.into())),
        "sriovNetSupport" => match &i.sriov {
            Some(text) => node.with("sriovNetSupport", value(text.into())),
            None => node.with("sriovNetSupport", tree! {}),
        },
        "groupSet" => node.with("groupSet", groups_node(call, i)),
        "blockDeviceMapping" => {
            let shown = super::instances::node(call, i);
            match shown {
                Node::Tree(parts) => {
                    let found = parts.into_iter().find(|(name, _)| *name == "blockDeviceMapping");
                    node.with("blockDeviceMapping", found.map(|(_, n)| n))
                }
                _ => node,
            }
        }
        "productCodes" => node.with("productCodes", Node::List(vec![])),
        "kernel" => node.with("kernel", tree! {}),
        "ramdisk" => node.with("ramdisk", tree! {}),
        other => return Err(AwsError::value(other, "attribute", "")),
    })
}

/// What a request says of the metadata service, over what is there.
pub(super) fn metadata_options(
    part: Option<&Params>,
    base: MetadataOptions,
) -> Result<MetadataOptions> {
    let Some(part) = part else { return Ok(base) };
    let switch = |name: &str, base: bool| match part.text(name) {
        None => Ok(base),
        Some("enabled") => Ok(true),
        Some("disabled") => Ok(false),
        Some(other) => Err(AwsError::value(other, name, "It must be enabled or disabled.")),
    };
    let hop_limit = part.number("HttpPutResponseHopLimit")?.unwrap_or(base.hop_limit);
    if !(1..=64).contains(&hop_limit) {
        return Err(AwsError::value(
            &hop_limit.to_string(),
            "HttpPutResponseHopLimit",
            "It is 1 to 64.",
        ));
    }
    Ok(MetadataOptions {
        enabled: switch("HttpEndpoint", base.enabled)?,
        tokens_required: match part.text("HttpTokens") {
            None => base.tokens_required,
            Some("required") => true,
            Some("optional") => false,
            Some(other) => return Err(AwsError::value(other, "HttpTokens", "")),
        },
        hop_limit,
        tags: switch("InstanceMetadataTags", base.tags)?,
    })
}

pub(super) fn modify_metadata(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("InstanceId")?.to_owned();
    let before = find::<Instance>(call, &id)?.metadata.clone();
    let after = metadata_options(Some(call.params), before)?;
    find_mut::<Instance>(call, &id)?.metadata = after.clone();
    Ok(tree! { "instanceId": id, "instanceMetadataOptions": metadata_node(&after) })
}

/// The machine's console, as base64. The file is read by whoever runs the machines.
pub(super) fn console(call: &mut Call<'_>) -> Result<Node> {
    let i = find::<Instance>(call, call.params.need("InstanceId")?)?;
    let path = call.settings.dir.join("instances").join(&i.id).join("console.log");
    let text = std::fs::read(path).unwrap_or_default();
    // AWS keeps the last 64 KiB.
    let text = &text[text.len().saturating_sub(65_536)..];
    let shown = (!text.is_empty()).then(|| STANDARD.encode(text));
    Ok(tree! { "instanceId": &i.id, "timestamp": rfc3339(call.now), "output": shown })
}

/// Windows makes a password for its administrator when it starts for the first time, and tells it
/// encrypted with the key pair of the launch.
pub(super) fn password(call: &mut Call<'_>) -> Result<Node> {
    let i = find::<Instance>(call, call.params.need("InstanceId")?)?;
    let runs = i.phase.at(call.now) == InstanceState::Running;
    let pair = i.key_name.as_deref().and_then(|name| keys::by_name(call, name));
    let data = pair
        .filter(|_| runs && is_windows(call, i))
        .and_then(|pair| keys::sealed(pair, &administrators_password(&i.id)));
    let (time, data) = (rfc3339(call.now), data.unwrap_or_default());
    Ok(tree! { "instanceId": &i.id, "timestamp": time, "passwordData": data })
}

fn is_windows(call: &Call<'_>, instance: &Instance) -> bool {
    let image = call.state.images.iter().find(|image| image.id == instance.image);
    image.is_some_and(|image| image.platform.as_deref() == Some("windows"))
}

/// The same each time for one instance.
fn administrators_password(id: &str) -> String {
    let sum = digest::digest(&digest::SHA256, format!("password of {id}").as_bytes());
    STANDARD.encode(&sum.as_ref()[..24])
}

pub(super) fn credits(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("InstanceId");
    let found =
        select::<Instance>(call, &ids, |i| i.credits.is_some(), |i, name| values(call, i, name))?;
    let nodes = found.iter().map(|i| {
        tree! { "instanceId": &i.id, "cpuCredits": i.credits.as_deref() }
    });
    page(call, "instanceCreditSpecificationSet", nodes.collect())
}

pub(super) fn associate_profile(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("InstanceId")?.to_owned();
    let profile = iam::asked_profile(call, call.params.part("IamInstanceProfile"))?
        .ok_or_else(|| AwsError::missing("IamInstanceProfile"))?;
    let instance = find_mut::<Instance>(call, &id)?;
    if instance.profile.is_some() {
        return Err(AwsError::new(
            "IncorrectState",
            format!("There is an existing association for instance {id}"),
        ));
    }
    instance.profile = Some(profile);
    let instance = find::<Instance>(call, &id)?;
    Ok(tree! { "iamInstanceProfileAssociation": association(call, instance) })
}

fn association(call: &Call<'_>, i: &Instance) -> Node {
    let profile = i.profile.as_ref().map(|name| {
        tree! { "arn": iam::profile_arn(call, name), "id": iam::profile_id(call, name) }
    });
    tree! {
        "associationId": ids::derived("iip-assoc", &i.id),
        "instanceId": &i.id,
        "iamInstanceProfile": profile,
        "state": "associated",
    }
}

pub(super) fn profile_associations(call: &mut Call<'_>) -> Result<Node> {
    let filters = Filters::of(call.params)?;
    let asked = call.params.texts("AssociationId");
    let mut all = Vec::new();
    for i in
        seen::<Instance>(call).filter(|i| i.profile.is_some() && !i.phase.at(call.now).is_ending())
    {
        let passes = filters.pass(&i.tags, |name| match name {
            "instance-id" => one(&i.id),
            "state" => one("associated"),
            _ => None,
        })?;
        let id = ids::derived("iip-assoc", &i.id);
        if passes && (asked.is_empty() || asked.contains(&id)) {
            all.push(association(call, i));
        }
    }
    page(call, "iamInstanceProfileAssociationSet", all)
}
