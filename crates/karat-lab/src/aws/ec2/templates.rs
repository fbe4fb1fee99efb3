//! Launch templates, fleets of type `instant`, and prices of spot instances.

use std::collections::BTreeMap;

use super::launch;
use super::model::{Instance, LaunchTemplate};
use super::places::{zone_id, zones_of};
use super::resource::{find, find_mut, one, seen, select};
use super::{page, types};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::rfc3339;

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let name = call.params.need("LaunchTemplateName")?.to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "()./_-".contains(c);
    if !(3..=128).contains(&name.len()) || !name.chars().all(plain) {
        return Err(AwsError::new(
            "InvalidLaunchTemplateName.MalformedException",
            format!("The launch template name '{name}' is not valid."),
        ));
    }
    if seen::<LaunchTemplate>(call).any(|t| t.name == name) {
        return Err(AwsError::new(
            "InvalidLaunchTemplateName.AlreadyExistsException",
            "Launch template name already in use.",
        ));
    }
    let template = LaunchTemplate {
        id: ids::resource("lt"),
        region: call.region.to_owned(),
        name,
        created: call.now,
        versions: vec![given(call)?],
        tags: tags::specified(call.params, "launch-template", &["launch-template"])?,
    };
    let node = node(call, &template);
    call.state.templates.insert(template);
    Ok(tree! { "launchTemplate": node })
}

/// What a request has in `LaunchTemplateData`.
fn given(call: &Call<'_>) -> Result<BTreeMap<String, String>> {
    let data = call.params.part("LaunchTemplateData");
    let data = data.ok_or_else(|| AwsError::missing("LaunchTemplateData"))?;
    Ok(data.flat())
}

fn node(call: &Call<'_>, template: &LaunchTemplate) -> Node {
    tree! {
        "launchTemplateId": &template.id,
        "launchTemplateName": &template.name,
        "createTime": rfc3339(template.created),
        "createdBy": &call.caller.arn,
        "defaultVersionNumber": 1,
        "latestVersionNumber": template.versions.len(),
        "tagSet": tags::node(&template.tags),
    }
}

/// The template that is named by id or by name.
fn named<'a>(call: &'a Call<'_>, part: &Params) -> Result<&'a LaunchTemplate> {
    if let Some(id) = part.text("LaunchTemplateId") {
        return find::<LaunchTemplate>(call, id);
    }
    let name = part.need("LaunchTemplateName")?;
    seen::<LaunchTemplate>(call).find(|t| t.name == name).ok_or_else(|| {
        AwsError::new(
            "InvalidLaunchTemplateName.NotFoundException",
            format!("The specified launch template, with template name {name}, does not exist."),
        )
    })
}

/// The number of a version as a request names it.
fn version(template: &LaunchTemplate, text: Option<&str>) -> Result<usize> {
    let number = match text {
        None | Some("$Default") => 1,
        Some("$Latest") => template.versions.len(),
        Some(text) => text.parse().unwrap_or(0),
    };
    if (1..=template.versions.len()).contains(&number) {
        return Ok(number);
    }
    Err(AwsError::new(
        "InvalidLaunchTemplateId.VersionNotFound",
        format!("Could not find the version {} of {}.", text.unwrap_or_default(), template.id),
    ))
}

/// The parameters that a template stands for.
pub(super) fn data(call: &Call<'_>, part: &Params) -> Result<Params> {
    let template = named(call, part)?;
    let number = version(template, part.text("Version"))?;
    let mut params = Params::default();
    for (path, value) in &template.versions[number - 1] {
        params.put(path, value);
    }
    Ok(params)
}

pub(super) fn create_version(call: &mut Call<'_>) -> Result<Node> {
    let (id, source) = {
        let template = named(call, call.params)?;
        let source = call.params.text("SourceVersion");
        let base = match source {
            Some(text) => template.versions[version(template, Some(text))? - 1].clone(),
            None => BTreeMap::new(),
        };
        (template.id.clone(), base)
    };
    let mut data = source;
    data.extend(given(call)?);
    let template = find_mut::<LaunchTemplate>(call, &id)?;
    template.versions.push(data);
    let number = template.versions.len();
    let template = find::<LaunchTemplate>(call, &id)?.clone();
    Ok(tree! { "launchTemplateVersion": version_node(call, &template, number) })
}

fn version_node(call: &Call<'_>, template: &LaunchTemplate, number: usize) -> Node {
    let data = &template.versions[number - 1];
    let text = |name: &str| data.get(name).map(String::as_str);
    let groups = data.iter().filter(|(k, _)| k.starts_with("SecurityGroupId."));
    tree! {
        "launchTemplateId": &template.id,
        "launchTemplateName": &template.name,
        "versionNumber": number,
        "createTime": rfc3339(template.created),
        "createdBy": &call.caller.arn,
        "defaultVersion": number == 1,
        "launchTemplateData": tree! {
            "imageId": text("ImageId"),
            "instanceType": text("InstanceType"),
            "keyName": text("KeyName"),
            "userData": text("UserData"),
            "ebsOptimized": text("EbsOptimized"),
            "securityGroupIdSet": Node::list(groups.map(|(_, id)| id)),
            "iamInstanceProfile": text("IamInstanceProfile.Name").map(|n| tree! { "name": n }),
        },
    }
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("LaunchTemplateId");
    let names = call.params.texts("LaunchTemplateName");
    for name in &names {
        let mut part = Params::default();
        part.put("LaunchTemplateName", name);
        named(call, &part)?;
    }
    let show = |t: &LaunchTemplate| names.is_empty() || names.contains(&t.name);
    let found = select::<LaunchTemplate>(call, &ids, show, |t, name| match name {
        "launch-template-name" => one(&t.name),
        "create-time" => one(rfc3339(t.created)),
        _ => None,
    })?;
    page(call, "launchTemplates", found.iter().map(|t| node(call, t)).collect())
}

pub(super) fn describe_versions(call: &mut Call<'_>) -> Result<Node> {
    let template = named(call, call.params)?.clone();
    let asked = call.params.texts("LaunchTemplateVersion");
    let mut numbers = Vec::new();
    for text in &asked {
        numbers.push(version(&template, Some(text))?);
    }
    if numbers.is_empty() {
        numbers.extend(1..=template.versions.len());
    }
    let nodes = numbers.into_iter().map(|number| version_node(call, &template, number));
    page(call, "launchTemplateVersionSet", nodes.collect())
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let template = named(call, call.params)?.clone();
    call.state.templates.remove(&template.id);
    Ok(tree! { "launchTemplate": node(call, &template) })
}

/// What a type costs here, in dollars for an hour: a cent for each processor.
fn price(kind: &types::Type) -> f64 {
    f64::from(kind.vcpus) * 0.01
}

pub(super) fn spot_prices(call: &mut Call<'_>) -> Result<Node> {
    let names = call.params.texts("InstanceType");
    let zone = call.params.text("AvailabilityZone");
    let products = call.params.texts("ProductDescription");
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for kind in
        types::TYPES.iter().filter(|t| names.is_empty() || names.iter().any(|n| n == t.name))
    {
        for place in zones_of(call.region).iter().filter(|z| zone.is_none_or(|zone| zone == *z)) {
            for product in ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"] {
                let passes = filters.pass(&Tags::new(), |name| match name {
                    "instance-type" => one(kind.name),
                    "availability-zone" => one(place),
                    "product-description" => one(product),
                    "spot-price" => one(format!("{:.6}", price(kind))),
                    _ => None,
                })?;
                if passes && (products.is_empty() || products.iter().any(|p| p == product)) {
                    all.push(tree! {
                        "instanceType": kind.name,
                        "productDescription": product,
                        "spotPrice": format!("{:.6}", price(kind)),
                        "timestamp": rfc3339(call.now - 60_000),
                        "availabilityZone": place,
                        "availabilityZoneId": zone_id(place),
                    });
                }
            }
        }
    }
    page(call, "spotPriceHistorySet", all)
}

pub(super) fn create_fleet(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    if params.text("Type") != Some("instant") {
        return Err(AwsError::new(
            "UnsupportedOperation",
            "The lab makes fleets of the type instant.",
        ));
    }
    let count: u32 = params.number("TargetCapacitySpecification.TotalTargetCapacity")?.unwrap_or(1);
    let default = params.text("TargetCapacitySpecification.DefaultTargetCapacityType");
    let spot = default.unwrap_or("on-demand") == "spot";
    let configurations = params.members("LaunchTemplateConfigs");
    let mut choices = Vec::new();
    for configuration in &configurations {
        let specification = configuration
            .part("LaunchTemplateSpecification")
            .ok_or_else(|| AwsError::missing("LaunchTemplateSpecification"))?;
        let base = data(call, specification)?;
        let overrides = configuration.members("Overrides");
        let none = Params::default();
        let list = if overrides.is_empty() { vec![&none] } else { overrides };
        for over in list {
            let mut wanted = base.clone();
            for name in ["InstanceType", "SubnetId", "ImageId"] {
                if let Some(text) = over.text(name) {
                    // An interface of the template has the subnet in it.
                    let has_interface = wanted.has("NetworkInterface.1");
                    let path = if name == "SubnetId" && has_interface {
                        "NetworkInterface.1.SubnetId"
                    } else {
                        name
                    };
                    wanted.put(path, text);
                }
            }
            if let Some(zone) = over.text("AvailabilityZone") {
                wanted.put("Placement.AvailabilityZone", zone);
            }
            wanted.put("MinCount", &count.to_string());
            wanted.put("MaxCount", &count.to_string());
            let cap = over.text("MaxPrice").and_then(|text| text.parse::<f64>().ok());
            choices.push((wanted, cap));
        }
    }
    let mut errors = Vec::new();
    for (wanted, cap) in choices {
        let kind = types::find(wanted.text("InstanceType").unwrap_or_default());
        let shown = wanted.text("InstanceType").unwrap_or_default().to_owned();
        let lifecycle = if spot { "spot" } else { "on-demand" };
        let result = kind.and_then(|kind| match cap {
            Some(cap) if spot && cap < price(&kind) => Err(AwsError::new(
                "SpotMaxPriceTooLow",
                format!("Your Spot request price of {cap} is lower than the minimum required Spot request fulfillment price of {}.", price(&kind)),
            )),
            _ => {
                let request = spot.then(|| ids::resource("sir"));
                launch::launch(call, &wanted, request)
            }
        });
        let choice = tree! { "overrides": tree! { "instanceType": &shown } };
        match result {
            Ok((_, made)) => {
                tag_instances(call, &made)?;
                return Ok(tree! {
                    "fleetId": format!("fleet-{}", ids::uuid()),
                    "errorSet": Node::List(errors),
                    "fleetInstanceSet": vec![tree! {
                        "launchTemplateAndOverrides": choice,
                        "lifecycle": lifecycle,
                        "instanceIds": made,
                        "instanceType": shown,
                    }],
                });
            }
            Err(error) => errors.push(tree! {
                "launchTemplateAndOverrides": choice,
                "lifecycle": lifecycle,
                "errorCode": error.code,
                "errorMessage": error.message,
            }),
        }
    }
    Ok(tree! {
        "fleetId": format!("fleet-{}", ids::uuid()),
        "errorSet": Node::List(errors),
        "fleetInstanceSet": Node::List(vec![]),
    })
}

fn tag_instances(call: &mut Call<'_>, made: &[String]) -> Result<()> {
    let tags = tags::specified(call.params, "instance", &["instance", "fleet"])?;
    for id in made {
        find_mut::<Instance>(call, id)?.tags.extend(tags.clone());
    }
    Ok(())
}
