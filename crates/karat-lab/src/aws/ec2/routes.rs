//! Internet gateways and route tables.

use std::collections::BTreeMap;

use super::model::{InternetGateway, RouteTable, Subnet, Vpc};
use super::network::{in_use, parse_cidr};
use super::resource::{Resource, find, find_mut, one, seen, select};
use super::{done, page};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::node::{Node, tree};
use crate::aws::tags;
use crate::core::ids;

pub(super) fn describe_gateways(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("InternetGatewayId");
    let found = select::<InternetGateway>(
        call,
        &ids,
        |_| true,
        |g, name| match name {
            "internet-gateway-id" => one(&g.id),
            "attachment.vpc-id" => Some(g.vpc.iter().cloned().collect()),
            "attachment.state" => Some(g.vpc.iter().map(|_| "available".to_owned()).collect()),
            "owner-id" => one(call.account()),
            _ => None,
        },
    )?;
    let nodes = found.iter().map(|g| gateway_node(call, g)).collect();
    page(call, "internetGatewaySet", nodes)
}

fn gateway_node(call: &Call<'_>, gateway: &InternetGateway) -> Node {
    let attached = |vpc: &String| tree! { "vpcId": vpc, "state": "available" };
    tree! {
        "internetGatewayId": &gateway.id,
        "ownerId": call.account(),
        "attachmentSet": Node::list(gateway.vpc.iter().map(attached)),
        "tagSet": tags::node(&gateway.tags),
    }
}

pub(super) fn create_gateway(call: &mut Call<'_>) -> Result<Node> {
    let gateway = InternetGateway {
        id: ids::resource("igw"),
        region: call.region.to_owned(),
        vpc: None,
        created: call.now,
        tags: tags::specified(call.params, "internet-gateway", &["internet-gateway"])?,
    };
    let node = gateway_node(call, &gateway);
    call.state.gateways.insert(gateway);
    Ok(tree! { "internetGateway": node })
}

pub(super) fn attach_gateway(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("InternetGatewayId")?.to_owned();
    let vpc = find::<Vpc>(call, call.params.need("VpcId")?)?.id.clone();
    let taken = seen::<InternetGateway>(call).find(|g| g.vpc.as_ref() == Some(&vpc));
    if let Some(other) = taken {
        return Err(AwsError::new(
            "Resource.AlreadyAssociated",
            format!("resource {} is already attached to network {vpc}", other.id),
        ));
    }
    let gateway = find_mut::<InternetGateway>(call, &id)?;
    if let Some(other) = &gateway.vpc {
        return Err(AwsError::new(
            "Resource.AlreadyAssociated",
            format!("resource {id} is already attached to network {other}"),
        ));
    }
    gateway.vpc = Some(vpc);
    Ok(done())
}

pub(super) fn detach_gateway(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("InternetGatewayId")?.to_owned();
    let vpc = call.params.need("VpcId")?.to_owned();
    let in_vpc = |i: &&super::model::Instance| {
        i.vpc == vpc && i.public_address.is_some() && !i.phase.at(call.now).is_ending()
    };
    if let Some(instance) = seen::<super::model::Instance>(call).find(in_vpc) {
        return Err(AwsError::new(
            "DependencyViolation",
            format!(
                "Network {vpc} has some mapped public address(es). Please unmap those public \
                 address(es) before detaching the gateway. ({} has one)",
                instance.id
            ),
        ));
    }
    let gateway = find_mut::<InternetGateway>(call, &id)?;
    if gateway.vpc.as_ref() != Some(&vpc) {
        return Err(AwsError::new(
            "Gateway.NotAttached",
            format!("resource {id} is not attached to network {vpc}"),
        ));
    }
    gateway.vpc = None;
    Ok(done())
}

pub(super) fn delete_gateway(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("InternetGatewayId")?.to_owned();
    if let Some(vpc) = &find::<InternetGateway>(call, &id)?.vpc {
        return Err(in_use("internetGateway", &id, Some(vpc)));
    }
    call.state.gateways.remove(&id);
    Ok(done())
}

pub(super) fn describe_tables(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("RouteTableId");
    let found = select::<RouteTable>(
        call,
        &ids,
        |_| true,
        |t, name| match name {
            "route-table-id" | "association.route-table-id" => one(&t.id),
            "vpc-id" => one(&t.vpc),
            "owner-id" => one(call.account()),
            "association.main" => one(t.main.is_some().to_string()),
            "association.subnet-id" => Some(t.subnets.values().cloned().collect()),
            "association.route-table-association-id" => {
                Some(t.subnets.keys().chain(&t.main).cloned().collect())
            }
            "route.destination-cidr-block" => Some(t.routes.keys().cloned().collect()),
            "route.gateway-id" => Some(t.routes.values().cloned().collect()),
            "route.state" => one("active"),
            _ => None,
        },
    )?;
    page(call, "routeTableSet", found.iter().map(|t| table_node(call, t)).collect())
}

fn table_node(call: &Call<'_>, table: &RouteTable) -> Node {
    let association = |id: &String, subnet: Option<&String>| {
        tree! {
            "routeTableAssociationId": id,
            "routeTableId": &table.id,
            "subnetId": subnet,
            "main": subnet.is_none(),
            "associationState": tree! { "state": "associated" },
        }
    };
    let main = table.main.iter().map(|id| association(id, None));
    let subnets = table.subnets.iter().map(|(id, subnet)| association(id, Some(subnet)));
    let route = |(to, by): (&String, &String)| {
        tree! {
            "destinationCidrBlock": to,
            "gatewayId": by,
            "state": "active",
            "origin": if by == "local" { "CreateRouteTable" } else { "CreateRoute" },
        }
    };
    tree! {
        "routeTableId": &table.id,
        "vpcId": &table.vpc,
        "ownerId": call.account(),
        "routeSet": Node::list(table.routes.iter().map(route)),
        "associationSet": Node::list(main.chain(subnets)),
        "propagatingVgwSet": Node::List(vec![]),
        "tagSet": tags::node(&table.tags),
    }
}

pub(super) fn create_table(call: &mut Call<'_>) -> Result<Node> {
    let vpc = find::<Vpc>(call, call.params.need("VpcId")?)?;
    let table = RouteTable {
        id: ids::resource("rtb"),
        region: call.region.to_owned(),
        vpc: vpc.id.clone(),
        main: None,
        subnets: BTreeMap::new(),
        routes: BTreeMap::from([(vpc.cidr.clone(), "local".to_owned())]),
        created: call.now,
        tags: tags::specified(call.params, "route-table", &["route-table"])?,
    };
    let node = table_node(call, &table);
    call.state.route_tables.insert(table);
    Ok(tree! { "routeTable": node })
}

pub(super) fn delete_table(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("RouteTableId")?.to_owned();
    let table = find::<RouteTable>(call, &id)?;
    if table.main.is_some() || !table.subnets.is_empty() {
        return Err(in_use("routeTable", &id, table.subnets.values().next().map(String::as_str)));
    }
    call.state.route_tables.remove(&id);
    Ok(done())
}

pub(super) fn create_route(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("RouteTableId")?.to_owned();
    let to = call.params.need("DestinationCidrBlock")?.to_owned();
    if parse_cidr(&to).is_none() {
        return Err(AwsError::value(&to, "destinationCidrBlock", "This is not a CIDR block."));
    }
    let by = call.params.text("GatewayId").ok_or_else(|| {
        AwsError::new(
            "UnsupportedOperation",
            "The lab has routes to internet gateways (GatewayId) only.",
        )
    })?;
    let by = find::<InternetGateway>(call, by)?;
    let (by, attached) = (by.id.clone(), by.vpc.clone());
    let table = find_mut::<RouteTable>(call, &id)?;
    if attached.as_ref() != Some(&table.vpc) {
        return Err(AwsError::value(&by, "gatewayId", "It is not attached to the table's VPC."));
    }
    if table.routes.contains_key(&to) {
        return Err(AwsError::new(
            "RouteAlreadyExists",
            format!("The route identified by {to} already exists."),
        ));
    }
    table.routes.insert(to, by);
    Ok(done())
}

pub(super) fn delete_route(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("RouteTableId")?.to_owned();
    let to = call.params.need("DestinationCidrBlock")?.to_owned();
    let table = find_mut::<RouteTable>(call, &id)?;
    match table.routes.get(&to).map(String::as_str) {
        None => Err(AwsError::new(
            "InvalidRoute.NotFound",
            format!("no route with destination-cidr-block {to} in route table {id}"),
        )),
        Some("local") => {
            Err(AwsError::new("InvalidParameterValue", format!("cannot remove local route {to}")))
        }
        Some(_) => {
            table.routes.remove(&to);
            Ok(done())
        }
    }
}

pub(super) fn associate(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("RouteTableId")?.to_owned();
    let subnet = find::<Subnet>(call, call.params.need("SubnetId")?)?.clone();
    let has = |t: &&RouteTable| t.subnets.values().any(|s| *s == subnet.id);
    if let Some(other) = seen::<RouteTable>(call).find(has) {
        return Err(AwsError::new(
            "Resource.AlreadyAssociated",
            format!("the specified association for route table {} conflicts", other.id),
        ));
    }
    let table = find_mut::<RouteTable>(call, &id)?;
    if table.vpc != subnet.vpc {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Route table {id} and subnet {} belong to different networks", subnet.id),
        ));
    }
    let association = ids::resource("rtbassoc");
    table.subnets.insert(association.clone(), subnet.id);
    Ok(tree! {
        "associationId": association,
        "associationState": tree! { "state": "associated" },
    })
}

pub(super) fn disassociate(call: &mut Call<'_>) -> Result<Node> {
    let association = call.params.need("AssociationId")?.to_owned();
    let found = seen::<RouteTable>(call).find(|t| t.subnets.contains_key(&association));
    let key = found.map(|t| t.id.clone()).ok_or_else(|| {
        AwsError::new(
            "InvalidAssociationID.NotFound",
            format!("The association ID '{association}' does not exist"),
        )
    })?;
    if let Some(table) = RouteTable::table_mut(call.state).get_mut(&key) {
        table.subnets.remove(&association);
    }
    Ok(done())
}
