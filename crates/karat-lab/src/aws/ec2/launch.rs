//! RunInstances.

use std::net::Ipv4Addr;

use super::devices;
use super::images;
use super::instances::{self, node, reservation};
use super::keys;
use super::model::{
    Attachment, AttachmentState, Image, ImageState, Instance, InstanceState, MetadataOptions,
    SecurityGroup, Subnet, Volume, VolumeState,
};
use super::network::{default_subnet, has_way_out, next_address};
use super::places::zones_of;
use super::resource::{find, find_mut, seen};
use super::{templates, types, volumes};
use crate::aws::call::{Call, Job};
use crate::aws::error::{AwsError, Result};
use crate::aws::iam;
use crate::aws::node::Node;
use crate::aws::params::Params;
use crate::aws::state::State;
use crate::aws::tags;
use crate::core::catalogue::host_architecture;
use crate::core::ids;
use crate::core::phase::Millis;
use crate::core::settings::Settings;

/// Types of resources that tags can be given to at a launch.
const TAGGABLE: &[&str] = &["instance", "volume", "network-interface", "spot-instances-request"];

/// A network interface as AWS's are numbered.
fn mac(address: &str) -> String {
    let octets = address.parse::<Ipv4Addr>().map_or([0; 4], |a| a.octets());
    let parts: Vec<String> = octets.iter().map(|o| format!("{o:02x}")).collect();
    format!("0a:ff:{}", parts.join(":"))
}

/// Whether so many more processors may run.
pub(super) fn check_vcpus(call: &Call<'_>, more: u32) -> Result<()> {
    let runs = |i: &&Instance| {
        matches!(i.phase.at(call.now), InstanceState::Pending | InstanceState::Running)
    };
    let used: u32 = seen::<Instance>(call)
        .filter(runs)
        .filter_map(|i| Some(types::find(&i.kind).ok()?.vcpus))
        .sum();
    let most = call.settings.quotas.vcpus;
    if used + more > most {
        return Err(AwsError::new(
            "VcpuLimitExceeded",
            format!(
                "You have requested more vCPU capacity than your current vCPU limit of {most} \
                 allows for the instance bucket that the specified instance type belongs to."
            ),
        ));
    }
    Ok(())
}

/// A public address that no other instance has.
pub(super) fn free_public_address(call: &Call<'_>) -> Result<String> {
    free_address(call.state, call.settings, call.now).ok_or_else(|| {
        AwsError::new("InsufficientAddressCapacity", "There are not enough free addresses.")
            .status(500)
    })
}

/// An address at which this host reaches an instance. All of 127/8 is the host's own, so that
/// nothing has to be set up, and nothing is left.
pub(super) fn free_address(state: &State, settings: &Settings, now: Millis) -> Option<String> {
    let used: Vec<&str> = state
        .instances
        .iter()
        .filter(|i| i.phase.at(now) != InstanceState::Terminated)
        .filter_map(|i| i.public_address.as_deref())
        .collect();
    (1..=u32::from(u16::MAX))
        .map(|number| Ipv4Addr::from_bits(settings.addresses.to_bits() | number))
        .filter(|address| !matches!(address.octets()[3], 0 | 255))
        .map(|address| address.to_string())
        .find(|address| !used.contains(&address.as_str()))
}

pub(super) fn run(call: &mut Call<'_>) -> Result<Node> {
    let mut params = call.params.clone();
    if let Some(template) = call.params.part("LaunchTemplate") {
        params.fill(&templates::data(call, template)?);
    }
    let (id, made) = launch(call, &params, None)?;
    let nodes = made.iter().filter_map(|id| call.state.instances.get(id)).map(|i| node(call, i));
    let nodes = nodes.collect();
    Ok(reservation(call, &id, nodes))
}

/// Where instances go, and who may reach them.
struct Place {
    subnet: Subnet,
    groups: Vec<String>,
    public: bool,
    address: Option<String>,
}

fn place(call: &Call<'_>, params: &Params) -> Result<Place> {
    let interfaces = params.members("NetworkInterface");
    let interface = interfaces.first().copied();
    if interfaces.len() > 1 {
        return Err(AwsError::new(
            "UnsupportedOperation",
            "The lab's instances have one network interface.",
        ));
    }
    let own = |name: &str| params.has(name);
    if interface.is_some() && (own("SecurityGroupId") || own("SecurityGroup")) {
        return Err(AwsError::combination(
            "Network interfaces and an instance-level security groups may not be specified on the \
             same request",
        ));
    }
    if interface.is_some() && own("SubnetId") {
        return Err(AwsError::combination(
            "Network interfaces and an instance-level subnet ID may not be specified on the same \
             request",
        ));
    }
    let zone = params.text("Placement.AvailabilityZone");
    if let Some(zone) = zone.filter(|z| !zones_of(call.region).iter().any(|o| o == z)) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Invalid availability zone: [{zone}]"),
        ));
    }
    let from = interface.unwrap_or(params);
    let subnet = match from.text("SubnetId") {
        Some(id) => find::<Subnet>(call, id)?,
        None => default_subnet(call, zone)?,
    };
    if zone.is_some_and(|zone| zone != subnet.zone) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!(
                "The availability zone of the subnet '{}' is '{}', not the one asked for",
                subnet.id, subnet.zone
            ),
        ));
    }
    let mut groups = Vec::new();
    for id in from.texts("SecurityGroupId") {
        let group = find::<SecurityGroup>(call, &id)?;
        if group.vpc != subnet.vpc {
            return Err(AwsError::new(
                "InvalidParameter",
                format!(
                    "Security group {id} and subnet {} belong to different networks.",
                    subnet.id
                ),
            ));
        }
        groups.push(id);
    }
    let by_name =
        |name: &str| seen::<SecurityGroup>(call).find(|g| g.vpc == subnet.vpc && g.name == name);
    for name in params.texts("SecurityGroup") {
        let group = by_name(&name).ok_or_else(|| {
            AwsError::new(
                "InvalidGroup.NotFound",
                format!("The security group '{name}' does not exist in VPC '{}'", subnet.vpc),
            )
        })?;
        groups.push(group.id.clone());
    }
    if groups.is_empty() {
        groups.extend(by_name("default").map(|g| g.id.clone()));
    }
    let asked = interface.map(|i| i.flag("AssociatePublicIpAddress")).transpose()?.flatten();
    let public = asked.unwrap_or(subnet.public) && has_way_out(call, subnet);
    let address = from.text("PrivateIpAddress").map(str::to_owned);
    Ok(Place { subnet: subnet.clone(), groups, public, address })
}

fn source<'a>(call: &'a Call<'_>, params: &Params) -> Result<&'a Image> {
    let id = params.need("ImageId")?;
    let image = images::usable(call, id)?;
    match image.phase.at(call.now) {
        ImageState::Available => Ok(image),
        ImageState::Pending => Err(AwsError::new(
            "InvalidAMIID.Unavailable",
            format!("The image ID '{id}' is not available: it is pending."),
        )),
        _ => Err(AwsError::new(
            "InvalidAMIID.Unavailable",
            format!("The image ID '{id}' is no longer available."),
        )),
    }
}

/// Launches instances: the reservation and the ids. `spot` is the request's id where they are such.
pub(super) fn launch(
    call: &mut Call<'_>,
    params: &Params,
    spot: Option<String>,
) -> Result<(String, Vec<String>)> {
    let need_count =
        |name: &str| -> Result<u32> { params.number(name)?.ok_or_else(|| AwsError::missing(name)) };
    let (least, most) = (need_count("MinCount")?, need_count("MaxCount")?);
    if least == 0 || least > most {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Invalid instance count: {least} to {most}."),
        ));
    }
    let image = source(call, params)?.clone();
    let kind = types::find(params.text("InstanceType").unwrap_or("m1.small"))?;
    if !kind.runs(&image.architecture) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!(
                "The architecture '{}' of the specified instance type does not match the \
                 architecture '{}' of the specified AMI. Specify an instance type and an AMI that \
                 have matching architectures, and try again.",
                kind.architecture(),
                image.architecture
            ),
        ));
    }
    if call.machines && image.architecture != host_architecture() {
        return Err(AwsError::new(
            "Unsupported",
            format!(
                "The lab's instances are machines of this host, whose architecture is {}.",
                host_architecture()
            ),
        ));
    }
    if kind.nitro && !image.ena {
        return Err(AwsError::combination(
            "Enhanced networking with the Elastic Network Adapter (ENA) is required for the \
             instance type. Ensure that you are using an AMI that is enabled for ENA.",
        ));
    }
    let key_name = params.text("KeyName").map(|name| keys::need(call, name)).transpose()?;
    let key_name = key_name.map(|k| k.name.clone());
    let place = place(call, params)?;
    let profile = iam::asked_profile(call, params.part("IamInstanceProfile"))?;
    let mappings = devices::merge(call, params, &image.mappings, "gp3")?;
    let user_data = match params.text("UserData") {
        Some(text) => instances::checked_user_data(text)?,
        None => None,
    };
    let v2 = image.imds.as_deref() == Some("v2.0");
    let metadata = instances::metadata_options(
        params.part("MetadataOptions"),
        MetadataOptions {
            enabled: true,
            tokens_required: v2,
            hop_limit: if v2 { 2 } else { 1 },
            tags: false,
        },
    )?;
    let shutdown_terminates = match params.text("InstanceInitiatedShutdownBehavior") {
        None | Some("stop") => false,
        Some("terminate") => true,
        Some(other) => {
            return Err(AwsError::value(other, "instanceInitiatedShutdownBehavior", ""));
        }
    };
    let asked_credits = params.text("CreditSpecification.CpuCredits");
    if asked_credits.is_some() && !kind.is_burstable() {
        return Err(AwsError::combination(format!(
            "The parameter CreditSpecification is not supported for {} instances.",
            kind.name
        )));
    }
    let standard = if kind.name.starts_with("t2.") { "standard" } else { "unlimited" };
    let credits = kind.is_burstable().then(|| asked_credits.unwrap_or(standard).to_owned());
    let spot = match (spot, params.text("InstanceMarketOptions.MarketType")) {
        (None, Some("spot")) => Some(ids::resource("sir")),
        (spot, _) => spot,
    };
    let tags = tags::specified(params, "instance", TAGGABLE)?;
    let volume_tags = tags::specified(params, "volume", TAGGABLE)?;
    let mut count = most;
    while count > least && check_vcpus(call, kind.vcpus * count).is_err() {
        count -= 1;
    }
    check_vcpus(call, kind.vcpus * count)?;
    if place.address.is_some() && count > 1 {
        return Err(AwsError::combination("A private address is for one instance."));
    }
    let reservation = ids::resource("r");
    let mut made = Vec::new();
    for index in 0..count {
        let private_address = match &place.address {
            Some(address) => address.clone(),
            None => next_address(call, &place.subnet)?,
        };
        let public_address = if place.public { Some(free_public_address(call)?) } else { None };
        let instance = Instance {
            id: ids::resource("i"),
            reservation: reservation.clone(),
            index,
            region: call.region.to_owned(),
            zone: place.subnet.zone.clone(),
            vpc: place.subnet.vpc.clone(),
            subnet: place.subnet.id.clone(),
            image: image.id.clone(),
            kind: kind.name.to_owned(),
            architecture: image.architecture.clone(),
            key_name: key_name.clone(),
            groups: place.groups.clone(),
            phase: instances::pending(call),
            reason: None,
            launched: call.now,
            interface: ids::resource("eni"),
            mac: mac(&private_address),
            private_address,
            public_address,
            wants_public: place.public,
            root_device: image.root_device.clone(),
            user_data: user_data.clone(),
            profile: profile.clone(),
            shutdown_terminates,
            protected: params.on("DisableApiTermination")?,
            stop_protected: params.on("DisableApiStop")?,
            ebs_optimized: params.on("EbsOptimized")?,
            ena: image.ena,
            sriov: image.sriov.clone(),
            source_dest_check: true,
            monitoring: params.on("Monitoring.Enabled")?,
            metadata: metadata.clone(),
            credits: credits.clone(),
            spot: spot.clone(),
            client_token: params.text("ClientToken").map(str::to_owned),
            tenancy: params.text("Placement.Tenancy").unwrap_or("default").to_owned(),
            boot_mode: image.boot_mode.clone(),
            enclave: params.on("EnclaveOptions.Enabled")?,
            ran: false,
            tags: tags.clone(),
        };
        for mapping in &mappings {
            let Some(ebs) = &mapping.ebs else { continue };
            let volume = volumes::new(call, &instance.zone, ebs.clone(), volume_tags.clone());
            call.state.volumes.insert(Volume {
                phase: call.phase(VolumeState::InUse, 0, VolumeState::InUse),
                attachment: Some(Attachment {
                    instance: instance.id.clone(),
                    device: mapping.device.clone(),
                    at: call.now,
                    state: AttachmentState::Attached,
                }),
                ..volume
            });
        }
        if call.machines && !call.stuck {
            call.jobs.push(Job::Boot { instance: instance.id.clone() });
        }
        made.push(instance.id.clone());
        call.state.instances.insert(instance);
    }
    let now = call.now;
    if image.owner == call.account() {
        find_mut::<Image>(call, &image.id)?.last_launched = Some(now);
    }
    Ok((reservation, made))
}
