//! Step `template`, and spot machines: what such a machine is stands in a launch template, by which
//! a fleet of one starts it.

use std::time::Duration;

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, CreditSpecificationRequest, DefaultTargetCapacityType,
    FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
    FleetLaunchTemplateSpecificationRequest, FleetType, InstanceType,
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
    LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceMetadataEndpointState, LaunchTemplateInstanceMetadataOptionsRequest,
    LaunchTemplateInstanceMetadataTagsState,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest,
    LaunchTemplateLicenseConfigurationRequest, LaunchTemplatePlacementRequest,
    LaunchTemplateTagSpecificationRequest, RequestLaunchTemplateData, ResourceType,
    ShutdownBehavior, SpotAllocationStrategy, SpotOptionsRequest,
    TargetCapacitySpecificationRequest, Tenancy,
};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::instance::{PROFILE, SEEN, StartMachine};
use super::network::Place;
use super::node;
use super::scope::{Scope, ec2_tags, look_for_all, message, pause, say};
use super::source::SourceImage;
use super::states::Machine;
use crate::client::{Aws, AwsError, Explain, has_code};
use crate::options::{Spot, Tags};

/// How often a machine is asked for while there is none to be had.
const TRIES: u32 = 11;
/// The longest time between two of these.
const LONGEST: Duration = Duration::from_secs(30);

/// Makes the launch template of a spot machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeTemplate {
    pub(crate) machine: StartMachine,
}

/// A tag specification within a template.
fn specification(
    scope: &Scope,
    kind: ResourceType,
    tags: &Tags,
) -> LaunchTemplateTagSpecificationRequest {
    let tags = ec2_tags(&scope.tags(tags));
    LaunchTemplateTagSpecificationRequest::builder()
        .resource_type(kind)
        .set_tags(Some(tags))
        .build()
}

/// A block device as a template has it.
fn device(mapping: &BlockDeviceMapping) -> LaunchTemplateBlockDeviceMappingRequest {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let given = LaunchTemplateBlockDeviceMappingRequest::builder()
        .set_device_name(text(mapping.device_name()))
        .set_virtual_name(text(mapping.virtual_name()))
        .set_no_device(text(mapping.no_device()));
    let Some(ebs) = mapping.ebs() else { return given.build() };
    let ebs = LaunchTemplateEbsBlockDeviceRequest::builder()
        .set_delete_on_termination(ebs.delete_on_termination())
        .set_encrypted(ebs.encrypted())
        .set_iops(ebs.iops())
        .set_kms_key_id(text(ebs.kms_key_id()))
        .set_snapshot_id(text(ebs.snapshot_id()))
        .set_throughput(ebs.throughput())
        .set_volume_size(ebs.volume_size())
        .set_volume_type(ebs.volume_type().cloned())
        .build();
    given.ebs(ebs).build()
}

impl MakeTemplate {
    fn data(&self, cx: &StepContext) -> Result<RequestLaunchTemplateData, StepError> {
        let machine = &self.machine;
        let (launch, scope) = (&machine.launch, &machine.scope);
        let source: SourceImage = cx.output(node::SOURCE)?;
        let place: Place = cx.output(node::NETWORK)?;
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let given = &launch.metadata;
        let options = LaunchTemplateInstanceMetadataOptionsRequest::builder();
        let metadata = match given.enabled {
            false => {
                options.http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Disabled).build()
            }
            true => options
                .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Enabled)
                .http_tokens(match given.tokens {
                    true => LaunchTemplateHttpTokensState::Required,
                    false => LaunchTemplateHttpTokensState::Optional,
                })
                .http_put_response_hop_limit(given.hops)
                .instance_metadata_tags(match given.tags {
                    true => LaunchTemplateInstanceMetadataTagsState::Enabled,
                    false => LaunchTemplateInstanceMetadataTagsState::Disabled,
                })
                .build(),
        };
        let interface = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
            .device_index(0)
            .set_associate_public_ip_address(machine.public_address)
            .subnet_id(&place.subnet)
            .set_groups(Some(machine.groups(&place, cx)?))
            .delete_on_termination(true)
            .build();
        let (tenancy, placement) = (&launch.placement.tenancy, &launch.placement);
        let placement = LaunchTemplatePlacementRequest::builder()
            .set_availability_zone(text(&place.zone))
            .set_tenancy(text(tenancy).map(|t| Tenancy::from(t.as_str())))
            .set_host_id(text(&placement.host))
            .set_host_resource_group_arn(text(&placement.group))
            .build();
        let texts = &source.texts;
        let mut volume_tags = texts.run_tags.clone();
        volume_tags.extend(texts.volume_tags.clone());
        let mut spot_tags = texts.run_tags.clone();
        spot_tags.extend(texts.spot_tags.clone());
        let mut data = RequestLaunchTemplateData::builder()
            .image_id(&source.id)
            .instance_type(InstanceType::from(launch.kind.as_str()))
            .set_key_name(machine.key_name(cx)?)
            .set_user_data(machine.user_data()?)
            .ebs_optimized(launch.ebs_optimized)
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .metadata_options(metadata)
            .network_interfaces(interface)
            .placement(placement)
            .tag_specifications(specification(scope, ResourceType::Instance, &texts.run_tags))
            .tag_specifications(specification(scope, ResourceType::Volume, &volume_tags))
            .tag_specifications(specification(
                scope,
                ResourceType::SpotInstancesRequest,
                &spot_tags,
            ));
        for mapping in machine.mappings(&source, cx)? {
            data = data.block_device_mappings(device(&mapping));
        }
        let profile = machine.profile(cx)?;
        if !profile.is_empty() {
            let given = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
            let given = match profile.starts_with("arn:") {
                true => given.arn(profile),
                false => given.name(profile),
            };
            data = data.iam_instance_profile(given.build());
        }
        if let Some(credits) = machine.credits() {
            let credits = CreditSpecificationRequest::builder().cpu_credits(credits);
            data = data.credit_specification(credits.build());
        }
        for licence in &launch.licences {
            let licence = LaunchTemplateLicenseConfigurationRequest::builder()
                .license_configuration_arn(licence);
            data = data.license_specifications(licence.build());
        }
        Ok(data.build())
    }

    /// Templates of this build.
    async fn own(&self, aws: &Aws) -> Result<Vec<String>, AwsError> {
        let ask = aws.ec2.describe_launch_templates().filters(self.machine.scope.own());
        let answer = ask.send().await?;
        let templates = answer.launch_templates().iter();
        Ok(templates.filter_map(|t| t.launch_template_id().map(str::to_owned)).collect())
    }
}

impl Step for MakeTemplate {
    const KIND: &'static str = "aws.template";
    const REMOTE: bool = true;
    /// The template's id.
    type Output = String;

    async fn run(&self, cx: &StepContext) -> Result<String, StepError> {
        let scope = &self.machine.scope;
        let aws = scope.aws().await?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let name = scope.name();
        let what = format!("could not create the launch template {name}");
        let mut tags = source.texts.run_tags.clone();
        tags.extend(source.texts.spot_tags.clone());
        say(cx, format!("Creating the launch template {name}"));
        let ask = aws
            .ec2
            .create_launch_template()
            .launch_template_name(&name)
            .client_token(&name)
            .version_description("of a machine that builds")
            .launch_template_data(self.data(cx)?)
            .tag_specifications(scope.specification(ResourceType::LaunchTemplate, &tags))
            .send();
        let error = match cx.unless_cancelled(ask).await? {
            Ok(made) => {
                let made = made.launch_template().and_then(|t| t.launch_template_id());
                return Ok(made.unwrap_or_default().to_owned());
            }
            Err(error) => error,
        };
        if has_code(&error, &["InvalidLaunchTemplateName.AlreadyExistsException"]) {
            // An answer that was lost.
            let found = super::scope::look(cx, || self.own(&aws), &what).await?;
            if let Some(id) = found.into_iter().next() {
                return Ok(id);
            }
        }
        Err(aws.decoded(error).await).or_fail(what)
    }

    async fn undo(&self, cx: &StepContext, done: Option<String>) -> Result<(), StepError> {
        let aws = self.machine.scope.aws().await?;
        let what = format!("could not delete the launch template {}", self.machine.scope.name());
        let mut ids = look_for_all(cx, done.as_ref(), || self.own(&aws), &what).await?;
        ids.extend(done.filter(|id| !ids.contains(id)));
        for id in ids {
            say(cx, format!("Deleting the launch template {id}"));
            match aws.ec2.delete_launch_template().launch_template_id(&id).send().await {
                Err(e) if !has_code(&e, &["InvalidLaunchTemplateId.NotFound"]) => {
                    return Err(e).or_fail(what);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a fleet said of why it has no machine: codes and sentences.
fn complaints(answer: &CreateFleetOutput) -> Vec<(String, String)> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let mut all: Vec<(String, String)> =
        answer.errors().iter().map(|e| (text(e.error_code()), text(e.error_message()))).collect();
    all.dedup();
    all
}

impl StartMachine {
    async fn fleet(
        &self,
        aws: &Aws,
        spot: &Spot,
        tags: &Tags,
        nth: u32,
        cx: &StepContext,
    ) -> Result<CreateFleetOutput, StepError> {
        let template: String = cx.output(node::TEMPLATE)?;
        let kinds = if spot.kinds.is_empty() {
            std::slice::from_ref(&self.launch.kind)
        } else {
            &spot.kinds
        };
        let ranked = spot.strategy.ends_with("-prioritized");
        let overrides = kinds.iter().enumerate().map(|(number, kind)| {
            #[expect(clippy::cast_precision_loss, reason = "there are few of them")]
            let priority = ranked.then_some(number as f64);
            FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(InstanceType::from(kind.as_str()))
                .set_max_price(spot.price.clone())
                .set_priority(priority)
                .build()
        });
        let which = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_id(template)
            .version("1")
            .build();
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(which)
            .set_overrides(Some(overrides.collect()))
            .build();
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(1)
            .default_target_capacity_type(DefaultTargetCapacityType::Spot)
            .build();
        let strategy = (!spot.strategy.is_empty()).then(|| {
            let strategy = SpotAllocationStrategy::from(spot.strategy.as_str());
            SpotOptionsRequest::builder().allocation_strategy(strategy).build()
        });
        let ask = aws
            .ec2
            .create_fleet()
            .r#type(FleetType::Instant)
            .client_token(match nth {
                0 => self.scope.name(),
                nth => format!("{}-{nth}", self.scope.name()),
            })
            .launch_template_configs(config)
            .target_capacity_specification(capacity)
            .set_spot_options(strategy)
            .tag_specifications(self.scope.specification(ResourceType::Fleet, tags))
            .send();
        match cx.unless_cancelled(ask).await? {
            Ok(answer) => Ok(answer),
            Err(e) => Err(aws.decoded(e).await).or_fail("could not ask for a spot machine"),
        }
    }

    /// Starts a spot machine.
    pub(super) async fn start_spot(
        &self,
        aws: &Aws,
        spot: &Spot,
        cx: &StepContext,
    ) -> Result<Machine, StepError> {
        let source: SourceImage = cx.output(node::SOURCE)?;
        let mut tags = source.texts.run_tags.clone();
        tags.extend(source.texts.fleet_tags.clone());
        let begun = tokio::time::Instant::now();
        let (mut nth, mut full, mut delay) = (0, 0, Duration::from_secs(1));
        loop {
            let answer = self.fleet(aws, spot, &tags, nth, cx).await?;
            let ids = answer.instances().iter().flat_map(|i| i.instance_ids());
            if let Some(id) = ids.into_iter().next() {
                return Ok(Machine { id: id.clone(), ..Machine::default() });
            }
            let complaints = complaints(&answer);
            let all = |test: &dyn Fn(&str, &str) -> bool| {
                complaints.iter().any(|(code, text)| test(code, text))
            };
            let has = |node: &str| cx.outputs().raw(node).is_some();
            let unseen = all(&|code, text| {
                code == "InvalidGroup.NotFound" && has(node::GROUP)
                    || code == "InvalidKeyPair.NotFound" && has(node::KEY)
                    || code.starts_with("InvalidLaunchTemplate")
                    || text.contains("launch template") && text.contains("not exist")
            });
            let profile = has(node::PROFILE)
                && all(&|_, text| text.to_ascii_lowercase().contains("instance profile"));
            let is_full = all(&|code, _| code == "InsufficientInstanceCapacity");
            let elapsed = begun.elapsed();
            let again = unseen && elapsed < SEEN || profile && elapsed < PROFILE;
            if is_full && !again {
                full += 1;
            }
            if again || is_full && full < TRIES {
                if is_full {
                    message(cx, "there is no spot machine to be had now; asking again");
                }
                // The answer to a token stays the same.
                nth += 1;
                pause(cx, delay).await?;
                delay = (delay * 2).min(if is_full {
                    LONGEST
                } else {
                    delay.max(Duration::from_secs(3))
                });
                continue;
            }
            let told: Vec<String> =
                complaints.iter().map(|(code, text)| format!("{text} ({code})")).collect();
            let cause = AwsError::new(told.join("; "));
            return Err(StepError::because("no spot machine could be started", cause).with_hint(
                "name more spot_instance_types, spot_price = \"auto\", or leave both out for a machine on demand",
            ));
        }
    }
}
