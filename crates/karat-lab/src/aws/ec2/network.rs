//! VPCs and subnets, and those there are from the start.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::groups;
use super::model::{Instance, InternetGateway, RouteTable, SecurityGroup, Subnet, Vpc};
use super::places::{zone_id, zones_of};
use super::resource::{Resource, find, find_mut, one, seen, select};
use super::{done, page};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::Tags;
use crate::aws::node::{Node, tree};
use crate::aws::state::{RegionSettings, State};
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::Millis;

/// Makes what every region has from the start: a VPC with subnets, a gateway, routes and a group.
pub(crate) fn make_default_network(state: &mut State, account: &str, region: &str, now: Millis) {
    if state.regions.get(region).is_some() {
        return;
    }
    let id = |prefix: &str, what: &str| ids::derived(prefix, &format!("{account} {region} {what}"));
    state.regions.insert(RegionSettings {
        region: region.into(),
        encrypt: false,
        default_key: None,
    });
    let vpc = Vpc {
        id: id("vpc", "default"),
        region: region.into(),
        cidr: "172.31.0.0/16".into(),
        default: true,
        dns_support: true,
        dns_hostnames: true,
        created: now,
        tags: Tags::new(),
    };
    for (index, zone) in zones_of(region).into_iter().enumerate() {
        state.subnets.insert(Subnet {
            id: id("subnet", &zone),
            region: region.into(),
            vpc: vpc.id.clone(),
            zone,
            cidr: format!("172.31.{}.0/20", index * 16),
            default: true,
            public: true,
            created: now,
            tags: Tags::new(),
        });
    }
    let gateway = InternetGateway {
        id: id("igw", "default"),
        region: region.into(),
        vpc: Some(vpc.id.clone()),
        created: now,
        tags: Tags::new(),
    };
    let mut table = main_table(&vpc, id("rtb", "default"), id("rtbassoc", "default"), now);
    table.routes.insert("0.0.0.0/0".into(), gateway.id.clone());
    state.groups.insert(groups::default_group(&vpc, id("sg", "default"), now));
    state.gateways.insert(gateway);
    state.route_tables.insert(table);
    state.vpcs.insert(vpc);
}

fn main_table(vpc: &Vpc, id: String, association: String, now: Millis) -> RouteTable {
    RouteTable {
        id,
        region: vpc.region.clone(),
        vpc: vpc.id.clone(),
        main: Some(association),
        subnets: BTreeMap::new(),
        routes: BTreeMap::from([(vpc.cidr.clone(), "local".to_owned())]),
        created: now,
        tags: Tags::new(),
    }
}

/// The region's default VPC.
pub(super) fn default_vpc<'a>(call: &'a Call<'_>) -> Option<&'a Vpc> {
    seen::<Vpc>(call).find(|vpc| vpc.default)
}

pub(super) fn describe_vpcs(call: &mut Call<'_>) -> Result<Node> {
    let found = select::<Vpc>(
        call,
        &call.params.texts("VpcId"),
        |_| true,
        |vpc, name| match name {
            "vpc-id" => one(&vpc.id),
            "cidr" | "cidr-block-association.cidr-block" => one(&vpc.cidr),
            "is-default" | "isDefault" => one(vpc.default.to_string()),
            "state" => one("available"),
            "owner-id" => one(call.account()),
            "dhcp-options-id" => one("default"),
            _ => None,
        },
    )?;
    page(call, "vpcSet", found.iter().map(|vpc| vpc_node(call, vpc)).collect())
}

fn vpc_node(call: &Call<'_>, vpc: &Vpc) -> Node {
    tree! {
        "vpcId": &vpc.id,
        "ownerId": call.account(),
        "state": "available",
        "cidrBlock": &vpc.cidr,
        "cidrBlockAssociationSet": vec![tree! {
            "cidrBlock": &vpc.cidr,
            "associationId": ids::derived("vpc-cidr-assoc", &vpc.id),
            "cidrBlockState": tree! { "state": "associated" },
        }],
        "dhcpOptionsId": ids::derived("dopt", call.region),
        "instanceTenancy": "default",
        "isDefault": vpc.default,
        "tagSet": tags::node(&vpc.tags),
    }
}

/// A block of addresses: the first one, and how many there are.
pub(super) fn parse_cidr(text: &str) -> Option<(u32, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let length: u8 = length.parse().ok().filter(|l| *l <= 32)?;
    Some((address.to_bits(), length))
}

/// Whether an address is in a block.
pub(crate) fn in_block(address: Ipv4Addr, cidr: &str) -> bool {
    parse_cidr(cidr).is_some_and(|(start, length)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        start & mask == address.to_bits() & mask
    })
}

fn checked_cidr(text: &str, name: &str, code: &str) -> Result<(u32, u8)> {
    let (start, length) = parse_cidr(text)
        .ok_or_else(|| AwsError::value(text, name, "This is not a valid CIDR block."))?;
    if !(16..=28).contains(&length) {
        return Err(AwsError::new(code, format!("The CIDR '{text}' is invalid.")));
    }
    Ok((start, length))
}

pub(super) fn create_vpc(call: &mut Call<'_>) -> Result<Node> {
    let cidr = call.params.need("CidrBlock")?.to_owned();
    checked_cidr(&cidr, "cidrBlock", "InvalidVpc.Range")?;
    if seen::<Vpc>(call).count() >= call.settings.quotas.vpcs {
        return Err(AwsError::new(
            "VpcLimitExceeded",
            "The maximum number of VPCs has been reached.",
        ));
    }
    let vpc = Vpc {
        id: ids::resource("vpc"),
        region: call.region.to_owned(),
        cidr,
        default: false,
        dns_support: true,
        dns_hostnames: false,
        created: call.now,
        tags: tags::specified(call.params, "vpc", &["vpc"])?,
    };
    let table = main_table(&vpc, ids::resource("rtb"), ids::resource("rtbassoc"), call.now);
    let group = groups::default_group(&vpc, ids::resource("sg"), call.now);
    call.state.route_tables.insert(table);
    call.state.groups.insert(group);
    let node = vpc_node(call, &vpc);
    call.state.vpcs.insert(vpc);
    Ok(tree! { "vpc": node })
}

/// The error of what still has something that needs it.
pub(super) fn in_use(noun: &str, id: &str, dependent: Option<&str>) -> AwsError {
    let by = dependent.map(|d| format!(" ({d} uses it)")).unwrap_or_default();
    AwsError::new(
        "DependencyViolation",
        format!("The {noun} '{id}' has dependencies and cannot be deleted.{by}"),
    )
}

pub(super) fn delete_vpc(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("VpcId")?.to_owned();
    find::<Vpc>(call, &id)?;
    let used = seen::<Subnet>(call).find(|s| s.vpc == id).map(|s| s.id.clone());
    let used = used.or_else(|| {
        seen::<SecurityGroup>(call)
            .find(|g| g.vpc == id && g.name != "default")
            .map(|g| g.id.clone())
    });
    let used = used.or_else(|| {
        let attached = |g: &&InternetGateway| g.vpc.as_ref() == Some(&id);
        seen::<InternetGateway>(call).find(attached).map(|g| g.id.clone())
    });
    let used = used.or_else(|| {
        seen::<RouteTable>(call).find(|t| t.vpc == id && t.main.is_none()).map(|t| t.id.clone())
    });
    if let Some(used) = used {
        return Err(in_use("vpc", &id, Some(&used)));
    }
    for key in call.state.groups.keys_where(|g| g.vpc == id) {
        call.state.groups.remove(&key);
    }
    for key in call.state.route_tables.keys_where(|t| t.vpc == id) {
        call.state.route_tables.remove(&key);
    }
    call.state.vpcs.remove(&id);
    Ok(done())
}

pub(super) fn modify_vpc(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("VpcId")?.to_owned();
    let support = call.params.flag("EnableDnsSupport.Value")?;
    let hostnames = call.params.flag("EnableDnsHostnames.Value")?;
    let vpc = find_mut::<Vpc>(call, &id)?;
    vpc.dns_support = support.unwrap_or(vpc.dns_support);
    vpc.dns_hostnames = hostnames.unwrap_or(vpc.dns_hostnames);
    Ok(done())
}

pub(super) fn describe_vpc_attribute(call: &mut Call<'_>) -> Result<Node> {
    let vpc = find::<Vpc>(call, call.params.need("VpcId")?)?;
    let node = tree! { "vpcId": &vpc.id };
    Ok(match call.params.need("Attribute")? {
        "enableDnsSupport" => node.with("enableDnsSupport", tree! { "value": vpc.dns_support }),
        "enableDnsHostnames" => {
            node.with("enableDnsHostnames", tree! { "value": vpc.dns_hostnames })
        }
        "enableNetworkAddressUsageMetrics" => {
            node.with("enableNetworkAddressUsageMetrics", tree! { "value": false })
        }
        other => return Err(AwsError::value(other, "attribute", "")),
    })
}

/// How many addresses of a subnet are free. AWS keeps five for itself.
fn free_addresses(call: &Call<'_>, subnet: &Subnet) -> usize {
    let length = parse_cidr(&subnet.cidr).map_or(32, |(_, length)| length);
    let all = 1_usize << (32 - u32::from(length)).min(31);
    all.saturating_sub(5).saturating_sub(addresses(call, &subnet.id).count())
}

fn addresses<'a>(call: &'a Call<'_>, subnet: &'a str) -> impl Iterator<Item = &'a str> {
    let stands = |i: &&Instance| !i.phase.at(call.now).is_ending();
    let here = seen::<Instance>(call).filter(stands).filter(move |i| i.subnet == subnet);
    here.map(|i| i.private_address.as_str())
}

/// The next free address of a subnet.
pub(super) fn next_address(call: &Call<'_>, subnet: &Subnet) -> Result<String> {
    let full = || {
        AwsError::new(
            "InsufficientFreeAddressesInSubnet",
            format!("The specified subnet '{}' has no free addresses left.", subnet.id),
        )
    };
    let (start, length) = parse_cidr(&subnet.cidr).ok_or_else(full)?;
    let size = 1_u32 << (32 - u32::from(length)).min(31);
    let used: Vec<String> = call
        .state
        .instances
        .iter()
        .filter(|i| i.subnet == subnet.id && !i.phase.at(call.now).is_ending())
        .map(|i| i.private_address.clone())
        .collect();
    (4..size.saturating_sub(1))
        .map(|offset| Ipv4Addr::from_bits(start + offset).to_string())
        .find(|address| !used.contains(address))
        .ok_or_else(full)
}

pub(super) fn describe_subnets(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("SubnetId");
    let found = select::<Subnet>(
        call,
        &ids,
        |_| true,
        |s, name| match name {
            "subnet-id" => one(&s.id),
            "vpc-id" => one(&s.vpc),
            "availability-zone" | "availabilityZone" => one(&s.zone),
            "availability-zone-id" | "availabilityZoneId" => one(zone_id(&s.zone)),
            "cidr-block" | "cidr" | "cidrBlock" => one(&s.cidr),
            "default-for-az" | "defaultForAz" => one(s.default.to_string()),
            "map-public-ip-on-launch" => one(s.public.to_string()),
            "state" => one("available"),
            "owner-id" => one(call.account()),
            "available-ip-address-count" => one(free_addresses(call, s).to_string()),
            _ => None,
        },
    )?;
    page(call, "subnetSet", found.iter().map(|s| subnet_node(call, s)).collect())
}

fn subnet_node(call: &Call<'_>, subnet: &Subnet) -> Node {
    tree! {
        "subnetId": &subnet.id,
        "subnetArn": call.arn("ec2", &format!("subnet/{}", subnet.id)),
        "state": "available",
        "ownerId": call.account(),
        "vpcId": &subnet.vpc,
        "cidrBlock": &subnet.cidr,
        "ipv6CidrBlockAssociationSet": Node::List(vec![]),
        "availableIpAddressCount": free_addresses(call, subnet),
        "availabilityZone": &subnet.zone,
        "availabilityZoneId": zone_id(&subnet.zone),
        "defaultForAz": subnet.default,
        "mapPublicIpOnLaunch": subnet.public,
        "assignIpv6AddressOnCreation": false,
        "mapCustomerOwnedIpOnLaunch": false,
        "ipv6Native": false,
        "enableDns64": false,
        "privateDnsNameOptionsOnLaunch": tree! {
            "hostnameType": "ip-name",
            "enableResourceNameDnsARecord": false,
            "enableResourceNameDnsAAAARecord": false,
        },
        "tagSet": tags::node(&subnet.tags),
    }
}

pub(super) fn create_subnet(call: &mut Call<'_>) -> Result<Node> {
    let vpc = find::<Vpc>(call, call.params.need("VpcId")?)?;
    let cidr = call.params.need("CidrBlock")?;
    let (start, length) = checked_cidr(cidr, "cidrBlock", "InvalidSubnet.Range")?;
    let first = Ipv4Addr::from_bits(start);
    let vpc_length = parse_cidr(&vpc.cidr).map_or(0, |(_, l)| l);
    if !in_block(first, &vpc.cidr) || length < vpc_length {
        return Err(AwsError::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid.")));
    }
    let overlaps = |s: &&Subnet| {
        let other = parse_cidr(&s.cidr).map_or(first, |(start, _)| Ipv4Addr::from_bits(start));
        s.vpc == vpc.id && (in_block(first, &s.cidr) || in_block(other, cidr))
    };
    if let Some(other) = seen::<Subnet>(call).find(overlaps) {
        return Err(AwsError::new(
            "InvalidSubnet.Conflict",
            format!("The CIDR '{cidr}' conflicts with another subnet ({})", other.id),
        ));
    }
    let zones = zones_of(call.region);
    let zone = call.params.text("AvailabilityZone").unwrap_or(&zones[0]);
    if !zones.iter().any(|z| z == zone) {
        return Err(AwsError::value(zone, "availabilityZone", "Subnets can be made in its zones."));
    }
    let subnet = Subnet {
        id: ids::resource("subnet"),
        region: call.region.to_owned(),
        vpc: vpc.id.clone(),
        zone: zone.to_owned(),
        cidr: cidr.to_owned(),
        default: false,
        public: false,
        created: call.now,
        tags: tags::specified(call.params, "subnet", &["subnet"])?,
    };
    let node = subnet_node(call, &subnet);
    call.state.subnets.insert(subnet);
    Ok(tree! { "subnet": node })
}

pub(super) fn delete_subnet(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("SubnetId")?.to_owned();
    find::<Subnet>(call, &id)?;
    let lives = |i: &&Instance| i.subnet == id && !i.phase.at(call.now).is_ending();
    if let Some(instance) = seen::<Instance>(call).find(lives) {
        return Err(in_use("subnet", &id, Some(&instance.id)));
    }
    let tables = call.state.route_tables.keys_where(|t| t.subnets.values().any(|s| *s == id));
    for key in tables {
        if let Some(table) = call.state.route_tables.get_mut(&key) {
            table.subnets.retain(|_, subnet| *subnet != id);
        }
    }
    call.state.subnets.remove(&id);
    Ok(done())
}

pub(super) fn modify_subnet(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("SubnetId")?.to_owned();
    let public = call.params.flag("MapPublicIpOnLaunch.Value")?;
    let subnet = find_mut::<Subnet>(call, &id)?;
    subnet.public = public.unwrap_or(subnet.public);
    Ok(done())
}

/// The subnet that an instance goes to where none is named.
pub(super) fn default_subnet<'a>(call: &'a Call<'_>, zone: Option<&str>) -> Result<&'a Subnet> {
    let fits = |s: &&Subnet| s.default && zone.is_none_or(|zone| s.zone == zone);
    seen::<Subnet>(call).find(fits).ok_or_else(|| {
        AwsError::new(
            if default_vpc(call).is_none() { "VPCIdNotSpecified" } else { "MissingInput" },
            "No default subnet for this user. GroupName is only supported for EC2-Classic and \
             default VPC.",
        )
    })
}

/// Whether instances of a subnet can be reached from outside: its routes lead to a gateway.
pub(super) fn has_way_out(call: &Call<'_>, subnet: &Subnet) -> bool {
    let own = |t: &&RouteTable| t.subnets.values().any(|s| *s == subnet.id);
    let main = |t: &&RouteTable| t.vpc == subnet.vpc && t.main.is_some();
    let tables = || seen::<RouteTable>(call);
    tables()
        .find(own)
        .or_else(|| tables().find(main))
        .is_some_and(|t| t.routes.values().any(|g| g.starts_with(InternetGateway::PREFIX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_blocks() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        assert!(in_block(address, "10.1.0.0/16"));
        assert!(in_block(address, "0.0.0.0/0"));
        assert!(in_block(address, "10.1.2.3/32"));
        assert!(!in_block(address, "10.2.0.0/16"));
        assert!(!in_block(address, "nonsense"));
    }
}
