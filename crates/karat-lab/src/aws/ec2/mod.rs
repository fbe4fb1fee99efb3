//! EC2: one function for each action.
//!
//! | file | what |
//! |---|---|
//! | `model.rs` | records |
//! | `resource.rs` | what all resources have: ids, regions, tags, and how they are found |
//! | `places.rs` | regions, zones, attributes of the account |
//! | `network.rs`, `routes.rs` | VPCs, subnets, gateways, route tables, and those there are from the start |
//! | `groups.rs` | security groups |
//! | `keys.rs` | key pairs |
//! | `types.rs` | types of instances |
//! | `images.rs`, `image_changes.rs`, `fast_launch.rs` | images |
//! | `imports.rs` | import tasks |
//! | `snapshots.rs`, `volumes.rs`, `devices.rs` | snapshots, volumes, block device mappings |
//! | `instances.rs`, `launch.rs` | instances |
//! | `templates.rs` | launch templates, fleets, spot prices |
//! | `tagging.rs` | tags on what stands |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::call::Call;
use super::error::{AwsError, Result};
use super::node::Node;

mod devices;
mod fast_launch;
mod groups;
mod image_changes;
mod images;
mod imports;
mod instances;
mod keys;
mod launch;
pub(crate) mod machines;
pub(crate) mod model;
mod network;
mod places;
pub(crate) mod resource;
mod routes;
pub(crate) mod snapshots;
mod tagging;
mod templates;
mod types;
mod volumes;

pub(crate) use images::publish_base_images;
pub(crate) use network::make_default_network;
pub(crate) use places::zone_id;

type Action = fn(&mut Call<'_>) -> Result<Node>;

/// All actions, in the order of their names.
const ACTIONS: &[(&str, Action)] = &[
    ("AssociateIamInstanceProfile", instances::associate_profile),
    ("AssociateRouteTable", routes::associate),
    ("AttachInternetGateway", routes::attach_gateway),
    ("AttachVolume", volumes::attach),
    ("AuthorizeSecurityGroupEgress", groups::authorize),
    ("AuthorizeSecurityGroupIngress", groups::authorize),
    ("CancelImportTask", imports::cancel),
    ("CopyImage", image_changes::copy),
    ("CopySnapshot", snapshots::copy),
    ("CreateFleet", templates::create_fleet),
    ("CreateImage", images::create),
    ("CreateInternetGateway", routes::create_gateway),
    ("CreateKeyPair", keys::create),
    ("CreateLaunchTemplate", templates::create),
    ("CreateLaunchTemplateVersion", templates::create_version),
    ("CreateRoute", routes::create_route),
    ("CreateRouteTable", routes::create_table),
    ("CreateSecurityGroup", groups::create),
    ("CreateSnapshot", snapshots::create),
    ("CreateSubnet", network::create_subnet),
    ("CreateTags", tagging::create),
    ("CreateVolume", volumes::create),
    ("CreateVpc", network::create_vpc),
    ("DeleteInternetGateway", routes::delete_gateway),
    ("DeleteKeyPair", keys::delete),
    ("DeleteLaunchTemplate", templates::delete),
    ("DeleteRoute", routes::delete_route),
    ("DeleteRouteTable", routes::delete_table),
    ("DeleteSecurityGroup", groups::delete),
    ("DeleteSnapshot", snapshots::delete),
    ("DeleteSubnet", network::delete_subnet),
    ("DeleteTags", tagging::delete),
    ("DeleteVolume", volumes::delete),
    ("DeleteVpc", network::delete_vpc),
    ("DeregisterImage", image_changes::deregister),
    ("DescribeAccountAttributes", places::account_attributes),
    ("DescribeAvailabilityZones", places::zones),
    ("DescribeFastLaunchImages", fast_launch::describe),
    ("DescribeIamInstanceProfileAssociations", instances::profile_associations),
    ("DescribeImageAttribute", image_changes::describe_attribute),
    ("DescribeImages", images::describe),
    ("DescribeImportImageTasks", imports::describe),
    ("DescribeInstanceAttribute", instances::describe_attribute),
    ("DescribeInstanceCreditSpecifications", instances::credits),
    ("DescribeInstanceStatus", instances::status),
    ("DescribeInstanceTypeOfferings", types::offerings),
    ("DescribeInstanceTypes", types::describe),
    ("DescribeInstances", instances::describe),
    ("DescribeInternetGateways", routes::describe_gateways),
    ("DescribeKeyPairs", keys::describe),
    ("DescribeLaunchTemplateVersions", templates::describe_versions),
    ("DescribeLaunchTemplates", templates::describe),
    ("DescribeNetworkInterfaces", instances::interfaces),
    ("DescribeRegions", places::regions),
    ("DescribeRouteTables", routes::describe_tables),
    ("DescribeSecurityGroupRules", groups::describe_rules),
    ("DescribeSecurityGroups", groups::describe),
    ("DescribeSnapshotAttribute", snapshots::describe_attribute),
    ("DescribeSnapshots", snapshots::describe),
    ("DescribeSpotPriceHistory", templates::spot_prices),
    ("DescribeSubnets", network::describe_subnets),
    ("DescribeTags", tagging::describe),
    ("DescribeVolumes", volumes::describe),
    ("DescribeVpcAttribute", network::describe_vpc_attribute),
    ("DescribeVpcs", network::describe_vpcs),
    ("DetachInternetGateway", routes::detach_gateway),
    ("DetachVolume", volumes::detach),
    ("DisableEbsEncryptionByDefault", places::encryption_by_default),
    ("DisableFastLaunch", fast_launch::disable),
    ("DisableImage", image_changes::disable),
    ("DisableImageDeprecation", image_changes::undeprecate),
    ("DisableImageDeregistrationProtection", image_changes::unprotect),
    ("DisassociateRouteTable", routes::disassociate),
    ("EnableEbsEncryptionByDefault", places::encryption_by_default),
    ("EnableFastLaunch", fast_launch::enable),
    ("EnableImage", image_changes::enable),
    ("EnableImageDeprecation", image_changes::deprecate),
    ("EnableImageDeregistrationProtection", image_changes::protect),
    ("GetConsoleOutput", instances::console),
    ("GetEbsDefaultKmsKeyId", places::default_key),
    ("GetEbsEncryptionByDefault", places::encryption_by_default),
    ("GetPasswordData", instances::password),
    ("ImportImage", imports::import),
    ("ImportKeyPair", keys::import),
    ("ModifyEbsDefaultKmsKeyId", places::default_key),
    ("ModifyImageAttribute", image_changes::modify_attribute),
    ("ModifyInstanceAttribute", instances::modify_attribute),
    ("ModifyInstanceMetadataOptions", instances::modify_metadata),
    ("ModifySnapshotAttribute", snapshots::modify_attribute),
    ("ModifySubnetAttribute", network::modify_subnet),
    ("ModifyVolume", volumes::modify),
    ("ModifyVpcAttribute", network::modify_vpc),
    ("RebootInstances", instances::reboot),
    ("RegisterImage", images::register),
    ("ResetEbsDefaultKmsKeyId", places::default_key),
    ("ResetImageAttribute", image_changes::reset_attribute),
    ("ResetSnapshotAttribute", snapshots::reset_attribute),
    ("RevokeSecurityGroupEgress", groups::revoke),
    ("RevokeSecurityGroupIngress", groups::revoke),
    ("RunInstances", launch::run),
    ("StartInstances", instances::start),
    ("StopInstances", instances::stop),
    ("TerminateInstances", instances::terminate),
];

/// The actions that are answered; any other is an `InvalidAction`.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, _)| *name)
}

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>) -> Result<Node> {
    let found = ACTIONS.binary_search_by_key(&call.action, |(name, _)| name);
    let index = found.map_err(|_| {
        AwsError::new(
            "InvalidAction",
            format!("The action {} is not valid for this web service.", call.action),
        )
    })?;
    (ACTIONS[index].1)(call)
}

/// The answer of calls that say nothing but that it is done.
fn done() -> Node {
    super::node::tree! { "return": true }
}

/// The part of a list that was asked for, and the token of the next.
fn page(call: &Call<'_>, set: &'static str, items: Vec<Node>) -> Result<Node> {
    let most: Option<usize> = call.params.number("MaxResults")?;
    let wrong = || AwsError::new("InvalidParameterValue", "Unable to parse pagination token");
    let start: usize = match call.params.text("NextToken") {
        None => 0,
        Some(token) => {
            let bytes = STANDARD.decode(token).map_err(|_| wrong())?;
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            text.strip_prefix("from ").and_then(|n| n.parse().ok()).ok_or_else(wrong)?
        }
    };
    let total = items.len();
    let end = most.map_or(total, |most| start.saturating_add(most.max(1)).min(total));
    let next = (end < total).then(|| STANDARD.encode(format!("from {end}")));
    let shown: Vec<Node> = items.into_iter().take(end).skip(start).collect();
    Ok(Node::Tree(vec![(set, Node::List(shown)), ("nextToken", next.into())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_in_the_order_of_their_names() {
        assert!(ACTIONS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
