//! Step `instance`: the machine that builds.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{
    BlockDeviceMapping, CapacityReservationPreference, CapacityReservationSpecification,
    CapacityReservationTarget, CreditSpecificationRequest, EbsBlockDevice, EnclaveOptionsRequest,
    HttpTokensState, IamInstanceProfileSpecification, InstanceMetadataEndpointState,
    InstanceMetadataOptionsRequest, InstanceMetadataTagsState,
    InstanceNetworkInterfaceSpecification, InstanceType, LicenseConfigurationRequest, Placement,
    ResourceType, ShutdownBehavior, Tenancy, VolumeType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::key::KeyPair;
use super::network::Place;
use super::node;
use super::preflight::Found;
use super::scope::{Scope, filter, look, message, pause, say};
use super::source::SourceImage;
use super::states::{InstanceStates, Machine};
use crate::client::{Aws, AwsError, Explain, Patience, Seen, Watch, has_code};
use crate::options::{Device, Launch, UserData};

/// How long a machine may take to start or to end.
const STATE: Duration = Duration::from_secs(600);
/// How long a new instance profile may take to be seen by EC2.
pub(super) const PROFILE: Duration = Duration::from_secs(120);
/// How long a new security group or key pair may take to be seen by who starts machines.
pub(super) const SEEN: Duration = Duration::from_secs(30);
/// After so long a machine that is not known is none that is not seen yet.
const UNSEEN: Duration = Duration::from_secs(10);
/// AWS takes so many bytes of user data.
const MOST_USER_DATA: usize = 16 * 1024;

/// Types with credits.
const BURSTABLE: [&str; 4] = ["t2.", "t3.", "t3a.", "t4g."];

/// Starts the machine. Undoing terminates it and removes what it leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartMachine {
    pub(crate) scope: Scope,
    pub(crate) launch: Launch,
    pub(crate) devices: Vec<Device>,
    /// Whether volumes are encrypted. What with was looked up before.
    pub(crate) encrypt: bool,
    pub(crate) no_ephemeral: bool,
    pub(crate) public_address: Option<bool>,
    /// A key pair that is there already.
    pub(crate) key_name: Option<String>,
    /// Whether user data was given, which a stored step does not have any more.
    pub(crate) has_user_data: bool,
}

/// Whether volumes are encrypted, and with which key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    pub(crate) on: bool,
    pub(crate) key: String,
}

impl StartMachine {
    pub(super) fn user_data(&self) -> Result<Option<String>, StepError> {
        let text = match &self.launch.user_data {
            UserData::Nothing if self.has_user_data => {
                return Err(StepError::new(
                    "user_data is not stored, so this build cannot be resumed",
                )
                .with_hint("build anew"));
            }
            UserData::Nothing => return Ok(None),
            UserData::Text(text) => text.clone().into_bytes(),
            UserData::File(path) => std::fs::read(path).map_err(|e| {
                StepError::because(format!("could not read the user_data_file {path}"), e)
            })?,
        };
        // As in Packer, what is base64 already goes as it is.
        let given = std::str::from_utf8(&text).ok().filter(|t| STANDARD.decode(t).is_ok());
        let encoded = given.map_or_else(|| STANDARD.encode(&text), str::to_owned);
        let size = STANDARD.decode(&encoded).map_or(0, |d| d.len());
        if size > MOST_USER_DATA {
            return Err(StepError::new(format!(
                "user_data has {size} bytes, and AWS takes {MOST_USER_DATA}"
            ))
            .with_hint("let a provisioner do the work"));
        }
        Ok(Some(encoded))
    }

    /// Block devices to be told of: the template's, and the image's own where they are encrypted.
    fn devices(&self, source: &SourceImage, key: &str) -> Vec<BlockDeviceMapping> {
        let mut devices = self.devices.clone();
        for device in &mut devices {
            device.goes_with_machine.get_or_insert(false);
        }
        if self.encrypt {
            let named: BTreeSet<String> = devices.iter().map(|d| d.name.clone()).collect();
            let rest = source.devices.iter().filter(|(name, _)| !named.contains(name));
            devices.extend(rest.map(|(name, size)| Device {
                name: name.clone(),
                size: *size,
                ..Device::default()
            }));
            for device in devices.iter_mut().filter(|d| !d.left_out && d.store.is_empty()) {
                device.encrypted = device.encrypted.or(Some(true));
                if device.key.is_empty() && device.encrypted == Some(true) {
                    key.clone_into(&mut device.key);
                }
            }
        }
        let mut mappings: Vec<BlockDeviceMapping> = devices.iter().map(mapping).collect();
        if self.no_ephemeral {
            let letters = (b'a'..=b'z').map(char::from);
            mappings.extend(letters.map(|c| {
                BlockDeviceMapping::builder().device_name(format!("xvdc{c}")).no_device("").build()
            }));
        }
        mappings
    }

    fn metadata(&self) -> InstanceMetadataOptionsRequest {
        let given = &self.launch.metadata;
        let endpoint = match given.enabled {
            true => InstanceMetadataEndpointState::Enabled,
            false => InstanceMetadataEndpointState::Disabled,
        };
        let options = InstanceMetadataOptionsRequest::builder().http_endpoint(endpoint);
        if !given.enabled {
            return options.build();
        }
        let tokens =
            if given.tokens { HttpTokensState::Required } else { HttpTokensState::Optional };
        let tags = match given.tags {
            true => InstanceMetadataTagsState::Enabled,
            false => InstanceMetadataTagsState::Disabled,
        };
        options
            .http_tokens(tokens)
            .http_put_response_hop_limit(given.hops)
            .instance_metadata_tags(tags)
            .build()
    }

    fn reservation(&self) -> Option<CapacityReservationSpecification> {
        let given = &self.launch.reservation;
        let target = |id: Option<String>, group: Option<String>| {
            let target = CapacityReservationTarget::builder()
                .set_capacity_reservation_id(id)
                .set_capacity_reservation_resource_group_arn(group)
                .build();
            CapacityReservationSpecification::builder().capacity_reservation_target(target).build()
        };
        if !given.id.is_empty() {
            return Some(target(Some(given.id.clone()), None));
        }
        if !given.group.is_empty() {
            return Some(target(None, Some(given.group.clone())));
        }
        let preference = match given.open {
            true => CapacityReservationPreference::Open,
            false => CapacityReservationPreference::None,
        };
        let specification = CapacityReservationSpecification::builder();
        Some(specification.capacity_reservation_preference(preference).build())
    }

    fn placement(&self, place: &Place) -> Placement {
        let given = &self.launch.placement;
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let tenancy = (!given.tenancy.is_empty()).then(|| Tenancy::from(given.tenancy.as_str()));
        Placement::builder()
            .set_availability_zone(text(&place.zone))
            .set_tenancy(tenancy)
            .set_host_id(text(&given.host))
            .set_host_resource_group_arn(text(&given.group))
            .build()
    }

    /// The security groups.
    pub(super) fn groups(&self, place: &Place, cx: &StepContext) -> Result<Vec<String>, StepError> {
        let mut groups = place.groups.clone();
        if cx.outputs().raw(node::GROUP).is_some() {
            groups.push(cx.output(node::GROUP)?);
        }
        Ok(groups)
    }

    /// The key pair.
    pub(super) fn key_name(&self, cx: &StepContext) -> Result<Option<String>, StepError> {
        match cx.outputs().raw(node::KEY) {
            Some(_) => Ok(Some(cx.output::<KeyPair>(node::KEY)?.name)),
            None => Ok(self.key_name.clone()),
        }
    }

    /// The instance profile; empty where there is none.
    pub(super) fn profile(&self, cx: &StepContext) -> Result<String, StepError> {
        match cx.outputs().raw(node::PROFILE) {
            Some(_) => cx.output(node::PROFILE),
            None => Ok(self.launch.profile.clone()),
        }
    }

    /// The block devices to be told of.
    pub(super) fn mappings(
        &self,
        source: &SourceImage,
        cx: &StepContext,
    ) -> Result<Vec<BlockDeviceMapping>, StepError> {
        let found: Found = cx.output(node::PREFLIGHT)?;
        Ok(self.devices(source, &found.key))
    }

    /// How a burstable machine pays for bursts.
    pub(super) fn credits(&self) -> Option<&'static str> {
        let launch = &self.launch;
        let spot = launch.spot.iter().flat_map(|spot| &spot.kinds);
        let mut kinds = std::iter::once(&launch.kind).chain(spot);
        let burstable = |kind: &String| BURSTABLE.iter().any(|t| kind.starts_with(t));
        kinds.all(burstable).then_some(if launch.unlimited { "unlimited" } else { "standard" })
    }

    /// The call, for the `nth` machine of this build: a token gives the same machine each time,
    /// even when it is gone.
    fn call(
        &self,
        aws: &Aws,
        cx: &StepContext,
        nth: u32,
    ) -> Result<aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder, StepError>
    {
        let source: SourceImage = cx.output(node::SOURCE)?;
        let place: Place = cx.output(node::NETWORK)?;
        let groups = self.groups(&place, cx)?;
        let launch = &self.launch;
        let texts = &source.texts;
        let mut volume_tags = texts.run_tags.clone();
        volume_tags.extend(texts.volume_tags.clone());
        let profile = self.profile(cx)?;
        let mut call = aws
            .ec2
            .run_instances()
            .image_id(&source.id)
            .instance_type(InstanceType::from(launch.kind.as_str()))
            .min_count(1)
            .max_count(1)
            .client_token(match nth {
                0 => self.scope.name(),
                nth => format!("{}-{nth}", self.scope.name()),
            })
            .set_key_name(self.key_name(cx)?)
            .set_user_data(self.user_data()?)
            .ebs_optimized(launch.ebs_optimized)
            .instance_initiated_shutdown_behavior(match launch.terminates {
                true => ShutdownBehavior::Terminate,
                false => ShutdownBehavior::Stop,
            })
            .metadata_options(self.metadata())
            .set_capacity_reservation_specification(self.reservation())
            .placement(self.placement(&place))
            .tag_specifications(self.scope.specification(ResourceType::Instance, &texts.run_tags))
            .tag_specifications(self.scope.specification(ResourceType::Volume, &volume_tags));
        let mappings = self.mappings(&source, cx)?;
        if !mappings.is_empty() {
            call = call.set_block_device_mappings(Some(mappings));
        }
        if !profile.is_empty() {
            let given = IamInstanceProfileSpecification::builder();
            let given = match profile.starts_with("arn:") {
                true => given.arn(profile),
                false => given.name(profile),
            };
            call = call.iam_instance_profile(given.build());
        }
        if launch.enclave {
            call = call.enclave_options(EnclaveOptionsRequest::builder().enabled(true).build());
        }
        if let Some(credits) = self.credits() {
            call = call.credit_specification(
                CreditSpecificationRequest::builder().cpu_credits(credits).build(),
            );
        }
        for licence in &launch.licences {
            let licence = LicenseConfigurationRequest::builder().license_configuration_arn(licence);
            call = call.license_specifications(licence.build());
        }
        Ok(match self.public_address {
            Some(public) => call.network_interfaces(
                InstanceNetworkInterfaceSpecification::builder()
                    .device_index(0)
                    .associate_public_ip_address(public)
                    .subnet_id(&place.subnet)
                    .set_groups(Some(groups))
                    .delete_on_termination(true)
                    .build(),
            ),
            None => call.subnet_id(&place.subnet).set_security_group_ids(Some(groups)),
        })
    }

    async fn start(&self, aws: &Aws, cx: &StepContext) -> Result<Machine, StepError> {
        let begun = tokio::time::Instant::now();
        let mut nth = 0;
        loop {
            let call = self.call(aws, cx, nth)?;
            let answer = cx.unless_cancelled(call.send()).await?;
            let error = match answer {
                Ok(answer) => {
                    let machine = answer.instances().first().map(Machine::of).unwrap_or_default();
                    if machine.is_ending() {
                        // This build's machine of an earlier try.
                        nth += 1;
                        continue;
                    }
                    return Ok(machine);
                }
                Err(error) => error,
            };
            let own = |code: &str, node: &str| {
                has_code(&error, &[code]) && cx.outputs().raw(node).is_some()
            };
            let unseen_own = own("InvalidGroup.NotFound", node::GROUP)
                || own("InvalidKeyPair.NotFound", node::KEY);
            if unseen_own && begun.elapsed() < SEEN {
                pause(cx, Duration::from_secs(1)).await?;
                continue;
            }
            let unseen = has_code(&error, &["InvalidParameterValue", "InvalidIamInstanceProfile"]);
            let error = aws.decoded(error).await;
            let about_profile = error.message.to_ascii_lowercase().contains("instance profile");
            if unseen
                && about_profile
                && begun.elapsed() < PROFILE
                && cx.outputs().raw(node::PROFILE).is_some()
            {
                pause(cx, Duration::from_secs(3)).await?;
                continue;
            }
            return Err(error).or_fail("could not start the machine");
        }
    }

    /// Machines of this build that are not gone.
    async fn own(&self, aws: &Aws) -> Result<Vec<String>, AwsError> {
        let states = ["pending", "running", "stopping", "stopped", "shutting-down"];
        let answer = aws
            .ec2
            .describe_instances()
            .filters(self.scope.own())
            .filters(filter("instance-state-name", states.map(str::to_owned)))
            .send()
            .await?;
        let machines = answer.reservations().iter().flat_map(|r| r.instances());
        Ok(machines.filter_map(|i| i.instance_id().map(str::to_owned)).collect())
    }

    async fn end(
        &self,
        aws: &std::sync::Arc<Aws>,
        cx: &StepContext,
        id: &str,
    ) -> Result<(), StepError> {
        let what = format!("could not terminate {id}");
        // One that ended is known for an hour, and one that was just started may not be seen yet.
        let begun = tokio::time::Instant::now();
        loop {
            match aws.ec2.terminate_instances().instance_ids(id).send().await {
                Err(e) if has_code(&e, &["InvalidInstanceID.NotFound"]) => {
                    if begun.elapsed() > UNSEEN {
                        return Ok(());
                    }
                }
                Err(e) => return Err(e).or_fail(what),
                Ok(_) => break,
            }
            pause(cx, Duration::from_secs(1)).await?;
        }
        let patience = Patience {
            what: format!("{id} to be terminated"),
            limit: STATE,
            hint: "karat recover tries again",
        };
        Watch::<InstanceStates>::until(aws, id, &patience, cx, |machine| match machine {
            None => Seen::Done(()),
            Some(m) if m.state == "terminated" => Seen::Done(()),
            Some(_) => Seen::NotYet,
        })
        .await
    }

    /// Volumes of the machine that did not go with it, less those that the template wants to stay.
    async fn remove_volumes(&self, aws: &Aws, done: Option<&Machine>) -> Result<(), AwsError> {
        let stays = |device: &str| {
            self.devices.iter().any(|d| d.name == device && d.goes_with_machine == Some(false))
        };
        let kept: BTreeSet<&str> = done
            .iter()
            .flat_map(|m| &m.volumes)
            .filter(|(device, _)| stays(device))
            .map(|(_, volume)| volume.as_str())
            .collect();
        let answer = aws.ec2.describe_volumes().filters(self.scope.own()).send().await?;
        for id in answer.volumes().iter().filter_map(|v| v.volume_id()) {
            if kept.contains(id) {
                continue;
            }
            match aws.ec2.delete_volume().volume_id(id).send().await {
                Err(e) if !has_code(&e, &["InvalidVolume.NotFound"]) => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A device as EC2 takes it.
pub(crate) fn mapping(device: &Device) -> BlockDeviceMapping {
    let mapping = BlockDeviceMapping::builder().device_name(&device.name);
    if device.left_out {
        return mapping.no_device("").build();
    }
    if !device.store.is_empty() {
        return mapping.virtual_name(&device.store).build();
    }
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let kind = (!device.kind.is_empty()).then(|| VolumeType::from(device.kind.as_str()));
    let ebs = EbsBlockDevice::builder()
        .set_delete_on_termination(device.goes_with_machine)
        .set_volume_size(device.size)
        .set_volume_type(kind)
        .set_iops(device.iops)
        .set_throughput(device.throughput)
        .set_encrypted(device.encrypted)
        .set_kms_key_id(text(&device.key))
        .set_snapshot_id(text(&device.snapshot))
        .build();
    mapping.ebs(ebs).build()
}

impl Step for StartMachine {
    const KIND: &'static str = "aws.instance";
    const REMOTE: bool = true;
    type Output = Machine;

    async fn run(&self, cx: &StepContext) -> Result<Machine, StepError> {
        let aws = self.scope.aws().await?;
        let started = match &self.launch.spot {
            Some(spot) => {
                let kinds = if spot.kinds.is_empty() {
                    self.launch.kind.clone()
                } else {
                    spot.kinds.join(" or ")
                };
                say(cx, format!("Starting a spot machine of the type {kinds}"));
                self.start_spot(&aws, spot, cx).await?
            }
            None => {
                say(cx, format!("Starting a machine of the type {}", self.launch.kind));
                self.start(&aws, cx).await?
            }
        };
        message(cx, format!("{} is starting", started.id));
        cx.fault_point("started")?;
        let patience = Patience {
            what: format!("{} to run", started.id),
            limit: STATE,
            hint: "aws_polling allows more",
        };
        Watch::<InstanceStates>::until(&aws, &started.id, &patience, cx, |machine| match machine {
            None => Seen::NotYet,
            Some(m) if m.state == "running" => Seen::Done(m.clone()),
            Some(m) if m.is_ending() => Seen::Never(
                StepError::new(format!("{} ended before it ran: {}", m.id, m.reason)).with_hint(
                    "the reason is often a volume's KMS key that may not be used, or a quota",
                ),
            ),
            Some(_) => Seen::NotYet,
        })
        .await
    }

    async fn undo(&self, cx: &StepContext, done: Option<Machine>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let ids = match &done {
            Some(machine) => vec![machine.id.clone()],
            None => {
                let what = "could not look for machines of this build";
                look(cx, || self.own(&aws), what).await?
            }
        };
        for id in &ids {
            say(cx, format!("Terminating {id}"));
            self.end(&aws, cx, id).await?;
        }
        let removed = self.remove_volumes(&aws, done.as_ref()).await;
        removed.or_fail("could not delete volumes that the machine left")
    }
}
