//! Security groups.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::{Instance, Peer, Rule, SecurityGroup, Vpc};
use super::network::{default_vpc, in_block, in_use};
use super::resource::{find, find_mut, one, seen, select};
use super::{done, page};
use crate::aws::call::{Call, Job};
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::Millis;

/// The group that every VPC has: its members reach each other, and all may leave.
pub(super) fn default_group(vpc: &Vpc, id: String, now: Millis) -> SecurityGroup {
    let own = Rule {
        id: ids::resource("sgr"),
        protocol: "-1".into(),
        from: -1,
        to: -1,
        peer: Peer::Group(id.clone()),
        description: None,
        tags: Tags::new(),
    };
    SecurityGroup {
        id,
        region: vpc.region.clone(),
        vpc: vpc.id.clone(),
        name: "default".into(),
        description: "default VPC security group".into(),
        ingress: vec![own],
        egress: vec![everything()],
        created: now,
        tags: Tags::new(),
    }
}

fn everything() -> Rule {
    Rule {
        id: ids::resource("sgr"),
        protocol: "-1".into(),
        from: -1,
        to: -1,
        peer: Peer::V4("0.0.0.0/0".into()),
        description: None,
        tags: Tags::new(),
    }
}

/// The TCP ports that rules open to an address.
pub(crate) fn open_ports<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    from: Option<IpAddr>,
) -> Vec<(u16, u16)> {
    let opens = |rule: &&Rule| {
        let protocol = matches!(rule.protocol.as_str(), "tcp" | "6" | "-1");
        let peer = match (&rule.peer, from) {
            (_, None) => !matches!(rule.peer, Peer::Group(_) | Peer::Prefix(_)),
            (Peer::V4(cidr), Some(IpAddr::V4(address))) => in_block(address, cidr),
            (Peer::V6(cidr), Some(IpAddr::V6(address))) => in_block_v6(address, cidr),
            _ => false,
        };
        protocol && peer
    };
    rules
        .filter(opens)
        .map(|rule| match rule.protocol.as_str() {
            "-1" => (0, u16::MAX),
            _ => {
                let port = |n: i32| u16::try_from(n.clamp(0, 65535)).unwrap_or(0);
                (port(rule.from), port(rule.to))
            }
        })
        .collect()
}

fn in_block_v6(address: Ipv6Addr, cidr: &str) -> bool {
    parse_v6(cidr).is_some_and(|(start, length)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        start & mask == address.to_bits() & mask
    })
}

fn parse_v6(cidr: &str) -> Option<(u128, u8)> {
    let (address, length) = cidr.split_once('/')?;
    let address: Ipv6Addr = address.parse().ok()?;
    Some((address.to_bits(), length.parse().ok().filter(|l| *l <= 128)?))
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let names = call.params.texts("GroupName");
    let ids = call.params.texts("GroupId");
    let vpc = default_vpc(call).map(|v| v.id.clone());
    for name in &names {
        let has = |g: &SecurityGroup| g.name == *name && Some(&g.vpc) == vpc.as_ref();
        if !seen::<SecurityGroup>(call).any(has) {
            return Err(AwsError::new(
                "InvalidGroup.NotFound",
                format!("The security group '{name}' does not exist in default VPC"),
            ));
        }
    }
    let named = |g: &SecurityGroup| names.is_empty() || names.contains(&g.name);
    let found = select::<SecurityGroup>(call, &ids, named, |g, name| {
        let ranges = |rules: &[Rule]| -> Vec<String> {
            rules
                .iter()
                .filter_map(
                    |r| if let Peer::V4(cidr) = &r.peer { Some(cidr.clone()) } else { None },
                )
                .collect()
        };
        match name {
            "group-id" => one(&g.id),
            "group-name" => one(&g.name),
            "description" => one(&g.description),
            "vpc-id" => one(&g.vpc),
            "owner-id" => one(call.account()),
            "ip-permission.cidr" => Some(ranges(&g.ingress)),
            "egress.ip-permission.cidr" => Some(ranges(&g.egress)),
            "ip-permission.from-port" => {
                Some(g.ingress.iter().map(|r| r.from.to_string()).collect())
            }
            "ip-permission.to-port" => Some(g.ingress.iter().map(|r| r.to.to_string()).collect()),
            "ip-permission.protocol" => {
                Some(g.ingress.iter().map(|r| r.protocol.clone()).collect())
            }
            _ => None,
        }
    })?;
    page(call, "securityGroupInfo", found.iter().map(|g| group_node(call, g)).collect())
}

fn group_node(call: &Call<'_>, group: &SecurityGroup) -> Node {
    tree! {
        "groupId": &group.id,
        "groupName": &group.name,
        "groupDescription": &group.description,
        "vpcId": &group.vpc,
        "ownerId": call.account(),
        "securityGroupArn": call.arn("ec2", &format!("security-group/{}", group.id)),
        "ipPermissions": permissions(call, &group.ingress),
        "ipPermissionsEgress": permissions(call, &group.egress),
        "tagSet": tags::node(&group.tags),
    }
}

/// Rules as EC2 shows them: one entry for a protocol and its ports, with all its peers.
fn permissions(call: &Call<'_>, rules: &[Rule]) -> Node {
    let mut kinds: Vec<(&str, i32, i32)> = Vec::new();
    for rule in rules {
        let kind = (rule.protocol.as_str(), rule.from, rule.to);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Node::list(kinds.into_iter().map(|(protocol, from, to)| {
        let alike =
            || rules.iter().filter(|r| (r.protocol.as_str(), r.from, r.to) == (protocol, from, to));
        let ports = protocol != "-1";
        let peers = |pick: fn(&Call<'_>, &Rule) -> Option<Node>| {
            Node::list(alike().filter_map(|rule| pick(call, rule)))
        };
        tree! {
            "ipProtocol": protocol,
            "fromPort": ports.then_some(from),
            "toPort": ports.then_some(to),
            "groups": peers(|call, r| match &r.peer {
                Peer::Group(id) => Some(tree! {
                    "userId": call.account(),
                    "groupId": id,
                    "description": r.description.as_deref(),
                }),
                _ => None,
            }),
            "ipRanges": peers(|_, r| match &r.peer {
                Peer::V4(cidr) => {
                    Some(tree! { "cidrIp": cidr, "description": r.description.as_deref() })
                }
                _ => None,
            }),
            "ipv6Ranges": peers(|_, r| match &r.peer {
                Peer::V6(cidr) => {
                    Some(tree! { "cidrIpv6": cidr, "description": r.description.as_deref() })
                }
                _ => None,
            }),
            "prefixListIds": peers(|_, r| match &r.peer {
                Peer::Prefix(id) => {
                    Some(tree! { "prefixListId": id, "description": r.description.as_deref() })
                }
                _ => None,
            }),
        }
    }))
}

fn rule_node(call: &Call<'_>, group: &str, rule: &Rule, egress: bool) -> Node {
    let node = tree! {
        "securityGroupRuleId": &rule.id,
        "securityGroupRuleArn": call.arn("ec2", &format!("security-group-rule/{}", rule.id)),
        "groupId": group,
        "groupOwnerId": call.account(),
        "isEgress": egress,
        "ipProtocol": &rule.protocol,
        "fromPort": rule.from,
        "toPort": rule.to,
        "description": rule.description.as_deref(),
        "tagSet": tags::node(&rule.tags),
    };
    match &rule.peer {
        Peer::V4(cidr) => node.with("cidrIpv4", cidr),
        Peer::V6(cidr) => node.with("cidrIpv6", cidr),
        Peer::Prefix(id) => node.with("prefixListId", id),
        Peer::Group(id) => {
            node.with("referencedGroupInfo", tree! { "groupId": id, "userId": call.account() })
        }
    }
}

pub(super) fn describe_rules(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("SecurityGroupRuleId");
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    let mut known = Vec::new();
    for group in seen::<SecurityGroup>(call) {
        let ingress = group.ingress.iter().map(|r| (r, false));
        for (rule, egress) in ingress.chain(group.egress.iter().map(|r| (r, true))) {
            known.push(rule.id.clone());
            let passes = filters.pass(&rule.tags, |name| match name {
                "group-id" => one(&group.id),
                "security-group-rule-id" => one(&rule.id),
                _ => None,
            })?;
            if passes && (ids.is_empty() || ids.contains(&rule.id)) {
                all.push(rule_node(call, &group.id, rule, egress));
            }
        }
    }
    if let Some(id) = ids.iter().find(|id| !known.contains(id)) {
        return Err(AwsError::new(
            "InvalidSecurityGroupRuleId.NotFound",
            format!("The security group rule ID '{id}' does not exist"),
        ));
    }
    page(call, "securityGroupRuleSet", all)
}

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let name = call.params.need("GroupName")?;
    let description = call.params.need("GroupDescription")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    if name.len() > 255 || name.starts_with("sg-") || !name.chars().all(plain) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!(
                "Value ({name}) for parameter GroupName is invalid. Names have up to 255 \
                 characters of a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{{}}!$*, and do not \
                 start with sg-."
            ),
        ));
    }
    if description.len() > 255 || !description.chars().all(plain) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Value ({description}) for parameter GroupDescription is invalid."),
        ));
    }
    let vpc = match call.params.text("VpcId") {
        Some(id) => find::<Vpc>(call, id)?,
        None => default_vpc(call)
            .ok_or_else(|| AwsError::new("VPCIdNotSpecified", "No default VPC for this user"))?,
    };
    let vpc = vpc.id.clone();
    if seen::<SecurityGroup>(call).any(|g| g.vpc == vpc && g.name == name) {
        return Err(AwsError::new(
            "InvalidGroup.Duplicate",
            format!("The security group '{name}' already exists for VPC '{vpc}'"),
        ));
    }
    if seen::<SecurityGroup>(call).count() >= call.settings.quotas.security_groups {
        return Err(AwsError::new(
            "SecurityGroupLimitExceeded",
            "The maximum number of security groups has been reached.",
        ));
    }
    let group = SecurityGroup {
        id: ids::resource("sg"),
        region: call.region.to_owned(),
        vpc,
        name: name.to_owned(),
        description: description.to_owned(),
        ingress: Vec::new(),
        egress: vec![everything()],
        created: call.now,
        tags: tags::specified(call.params, "security-group", &["security-group"])?,
    };
    let node = tree! {
        "return": true,
        "groupId": &group.id,
        "securityGroupArn": call.arn("ec2", &format!("security-group/{}", group.id)),
        "tagSet": tags::node(&group.tags),
    };
    call.state.groups.insert(group);
    Ok(node)
}

/// The group that a call is about, by id or by name.
fn named(call: &Call<'_>) -> Result<String> {
    if let Some(id) = call.params.text("GroupId") {
        return Ok(find::<SecurityGroup>(call, id)?.id.clone());
    }
    let name = call.params.text("GroupName").ok_or_else(|| {
        AwsError::new(
            "MissingParameter",
            "The request must contain the parameter groupName or groupId",
        )
    })?;
    let vpc = default_vpc(call).map(|v| v.id.clone());
    let found =
        seen::<SecurityGroup>(call).find(|g| g.name == name && Some(&g.vpc) == vpc.as_ref());
    found.map(|g| g.id.clone()).ok_or_else(|| {
        AwsError::new(
            "InvalidGroup.NotFound",
            format!("The security group '{name}' does not exist in default VPC"),
        )
    })
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let id = named(call)?;
    let group = find::<SecurityGroup>(call, &id)?;
    if group.name == "default" {
        return Err(AwsError::new(
            "CannotDelete",
            format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user"),
        ));
    }
    let has = |i: &&Instance| i.groups.contains(&id) && !is_gone(call, i);
    if let Some(instance) = seen::<Instance>(call).find(has) {
        return Err(AwsError::new(
            "DependencyViolation",
            format!("resource {id} has a dependent object ({} has it)", instance.id),
        ));
    }
    let mentions = |g: &&SecurityGroup| {
        g.id != id && g.ingress.iter().chain(&g.egress).any(|r| r.peer == Peer::Group(id.clone()))
    };
    if let Some(other) = seen::<SecurityGroup>(call).find(mentions) {
        return Err(in_use("security group", &id, Some(&other.id)));
    }
    call.state.groups.remove(&id);
    Ok(tree! { "return": true, "groupId": id })
}

/// Whether an instance has let go of what it held.
fn is_gone(call: &Call<'_>, instance: &Instance) -> bool {
    instance.phase.at(call.now) == super::model::InstanceState::Terminated
}

/// The rules that a call gives: in `IpPermissions`, or the older parameters for one.
fn given(call: &Call<'_>, group: &SecurityGroup, egress: bool) -> Result<Vec<Rule>> {
    let tags = tags::specified(call.params, "security-group-rule", &["security-group-rule"])?;
    let mut rules = Vec::new();
    let list = call.params.members("IpPermissions");
    if list.is_empty() && call.params.has("IpProtocol") {
        let (protocol, from, to) = ports(call.params)?;
        let peer = match call.params.text("CidrIp") {
            Some(cidr) => checked_v4(cidr)?,
            None => Peer::Group(group.id.clone()),
        };
        let id = ids::resource("sgr");
        rules.push(Rule { id, protocol, from, to, peer, description: None, tags: tags.clone() });
    }
    for permission in list {
        let (protocol, from, to) = ports(permission)?;
        let mut add = |peer: Peer, part: &Params| {
            rules.push(Rule {
                id: ids::resource("sgr"),
                protocol: protocol.clone(),
                from,
                to,
                peer,
                description: part.text("Description").map(str::to_owned),
                tags: tags.clone(),
            });
        };
        for range in permission.members("IpRanges") {
            add(checked_v4(range.need("CidrIp")?)?, range);
        }
        for range in permission.members("Ipv6Ranges") {
            let cidr = range.need("CidrIpv6")?;
            if parse_v6(cidr).is_none() {
                return Err(AwsError::new(
                    "InvalidParameterValue",
                    format!("CIDR block {cidr} is malformed"),
                ));
            }
            add(Peer::V6(cidr.to_owned()), range);
        }
        for list in permission.members("PrefixListIds") {
            add(Peer::Prefix(list.need("PrefixListId")?.to_owned()), list);
        }
        for pair in permission.members("Groups") {
            let id = match (pair.text("GroupId"), pair.text("GroupName")) {
                (Some(id), _) => find::<SecurityGroup>(call, id)?.id.clone(),
                (None, Some(name)) => seen::<SecurityGroup>(call)
                    .find(|g| g.vpc == group.vpc && g.name == name)
                    .map(|g| g.id.clone())
                    .ok_or_else(|| {
                        AwsError::new(
                            "InvalidGroup.NotFound",
                            format!("The security group '{name}' does not exist"),
                        )
                    })?,
                (None, None) => return Err(AwsError::missing("GroupId")),
            };
            add(Peer::Group(id), pair);
        }
    }
    if rules.is_empty() {
        let what = if egress { "ipPermissions" } else { "ipProtocol" };
        return Err(AwsError::missing(what));
    }
    Ok(rules)
}

fn ports(part: &Params) -> Result<(String, i32, i32)> {
    let protocol = match part.need("IpProtocol")?.to_ascii_lowercase().as_str() {
        "6" => "tcp".to_owned(),
        "17" => "udp".to_owned(),
        "1" => "icmp".to_owned(),
        "58" => "icmpv6".to_owned(),
        "all" | "-1" => "-1".to_owned(),
        known @ ("tcp" | "udp" | "icmp" | "icmpv6") => known.to_owned(),
        other if other.parse::<u8>().is_ok() => other.to_owned(),
        other => {
            return Err(AwsError::new(
                "InvalidParameterValue",
                format!("Invalid value '{other}' for IP protocol. Unknown protocol."),
            ));
        }
    };
    let (from, to): (Option<i32>, Option<i32>) = (part.number("FromPort")?, part.number("ToPort")?);
    if protocol == "-1" {
        return Ok((protocol, -1, -1));
    }
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        _ if protocol == "tcp" || protocol == "udp" => {
            return Err(AwsError::new(
                "InvalidParameterValue",
                "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
            ));
        }
        _ => (-1, -1),
    };
    if (protocol == "tcp" || protocol == "udp") && !(0 <= from && from <= to && to <= 65535) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Invalid TCP/UDP port range ({from}:{to})"),
        ));
    }
    Ok((protocol, from, to))
}

fn checked_v4(cidr: &str) -> Result<Peer> {
    let parsed = cidr.split_once('/').and_then(|(address, length)| {
        let address: Ipv4Addr = address.parse().ok()?;
        let length: u8 = length.parse().ok().filter(|l| *l <= 32)?;
        Some((address, length))
    });
    let (address, length) = parsed.ok_or_else(|| {
        AwsError::new("InvalidParameterValue", format!("CIDR block {cidr} is malformed"))
    })?;
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    let network = Ipv4Addr::from_bits(address.to_bits() & mask);
    Ok(Peer::V4(format!("{network}/{length}")))
}

/// What is reachable has to be looked at again wherever the group is.
fn tell_members(call: &mut Call<'_>, group: &str) {
    let members: Vec<String> = seen::<Instance>(call)
        .filter(|i| i.groups.iter().any(|g| g == group))
        .map(|i| i.id.clone())
        .collect();
    call.jobs.extend(members.into_iter().map(|instance| Job::Reach { instance }));
}

pub(super) fn authorize(call: &mut Call<'_>) -> Result<Node> {
    let egress = call.action.ends_with("Egress");
    let id = named(call)?;
    let group = find::<SecurityGroup>(call, &id)?.clone();
    let new = given(call, &group, egress)?;
    let old = if egress { &group.egress } else { &group.ingress };
    if let Some(rule) = new.iter().find(|rule| old.iter().any(|o| o.same(rule))) {
        let peer = match &rule.peer {
            Peer::V4(text) | Peer::V6(text) | Peer::Group(text) | Peer::Prefix(text) => text,
        };
        return Err(AwsError::new(
            "InvalidPermission.Duplicate",
            format!(
                "the specified rule \"peer: {peer}, {}, from port: {}, to port: {}, ALLOW\" \
                 already exists",
                rule.protocol.to_uppercase(),
                rule.from,
                rule.to
            ),
        ));
    }
    if old.len() + new.len() > call.settings.quotas.rules {
        return Err(AwsError::new(
            "RulesPerSecurityGroupLimitExceeded",
            "The maximum number of rules per security group has been reached.",
        ));
    }
    let shown = Node::list(new.iter().map(|rule| rule_node(call, &id, rule, egress)));
    let group = find_mut::<SecurityGroup>(call, &id)?;
    if egress { &mut group.egress } else { &mut group.ingress }.extend(new);
    tell_members(call, &id);
    Ok(tree! { "return": true, "securityGroupRuleSet": shown })
}

pub(super) fn revoke(call: &mut Call<'_>) -> Result<Node> {
    let egress = call.action.ends_with("Egress");
    let id = named(call)?;
    let ids = call.params.texts("SecurityGroupRuleId");
    let before = find::<SecurityGroup>(call, &id)?.clone();
    let asked = if ids.is_empty() { given(call, &before, egress)? } else { Vec::new() };
    let old = if egress { &before.egress } else { &before.ingress };
    let goes = |r: &Rule| ids.contains(&r.id) || asked.iter().any(|a| a.same(r));
    if !old.iter().any(goes) {
        return Err(AwsError::new(
            "InvalidPermission.NotFound",
            "The specified rule does not exist in this security group.",
        ));
    }
    let group = find_mut::<SecurityGroup>(call, &id)?;
    if egress { &mut group.egress } else { &mut group.ingress }.retain(|r| !goes(r));
    tell_members(call, &id);
    Ok(done())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(protocol: &str, ports: (i32, i32), peer: Peer) -> Rule {
        let (from, to) = ports;
        let (id, description, tags) = (String::new(), None, Tags::new());
        Rule { id, protocol: protocol.into(), from, to, peer, description, tags }
    }

    #[test]
    fn ports_are_open_to_whom_they_are() {
        let rules = [
            rule("tcp", (22, 22), Peer::V4("127.0.0.0/8".into())),
            rule("tcp", (80, 90), Peer::V4("10.0.0.0/8".into())),
            rule("udp", (53, 53), Peer::V4("0.0.0.0/0".into())),
            rule("-1", (-1, -1), Peer::Group("sg-1".into())),
            rule("tcp", (443, 443), Peer::V6("::/0".into())),
        ];
        let open = |from: &str| open_ports(rules.iter(), Some(from.parse().unwrap()));
        assert_eq!(open("127.0.0.1"), [(22, 22)]);
        assert_eq!(open("10.2.3.4"), [(80, 90)]);
        assert_eq!(open("::1"), [(443, 443)]);
        assert_eq!(open_ports(rules.iter(), None), [(22, 22), (80, 90), (443, 443)]);
    }

    #[test]
    fn a_range_is_kept_by_its_network() {
        assert_eq!(checked_v4("10.1.2.3/8").unwrap(), Peer::V4("10.0.0.0/8".into()));
        assert!(checked_v4("10.1.2.3").is_err());
        assert!(checked_v4("10.1.2.3/33").is_err());
    }
}
