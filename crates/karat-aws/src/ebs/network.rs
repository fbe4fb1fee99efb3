//! Step `network`: the subnet, its VPC and zone, and the security groups that are there already.

use aws_sdk_ec2::types::Subnet;
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::node;
use super::preflight::Found;
use super::scope::{Scope, filter, filters, message};
use crate::client::{Aws, Explain};
use crate::options::Network;

/// Looks, and makes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindNetwork {
    pub(crate) scope: Scope,
    pub(crate) network: Network,
    pub(crate) kind: String,
}

/// Where the machine is to stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    pub(crate) zone: String,
    /// Security groups that are there already.
    pub(crate) groups: Vec<String>,
}

impl FindNetwork {
    async fn vpc(&self, aws: &Aws) -> Result<Option<String>, StepError> {
        let network = &self.network;
        if !network.vpc.is_empty() {
            return Ok(Some(network.vpc.clone()));
        }
        let Some(given) = &network.vpc_filter else { return Ok(None) };
        let answer = aws
            .ec2
            .describe_vpcs()
            .set_filters(Some(filters(given)))
            .send()
            .await
            .or_fail("could not look for the VPC")?;
        match answer.vpcs() {
            [vpc] => Ok(vpc.vpc_id().map(str::to_owned)),
            found => Err(StepError::new(format!(
                "{} VPCs match vpc_filter, and one has to",
                found.len()
            ))
            .with_hint("aws ec2 describe-vpcs lists them")),
        }
    }

    async fn subnets(&self, aws: &Aws, vpc: Option<&str>) -> Result<Vec<Subnet>, StepError> {
        let network = &self.network;
        let mut ask = aws.ec2.describe_subnets();
        if !network.subnet.is_empty() {
            ask = ask.subnet_ids(&network.subnet);
        } else {
            ask = ask.filters(filter("state", ["available".to_owned()]));
            if !network.zone.is_empty() {
                ask = ask.filters(filter("availability-zone", [network.zone.clone()]));
            }
            if let Some(given) = &network.subnet_filter {
                for filter in filters(&given.filters) {
                    ask = ask.filters(filter);
                }
            }
            match vpc {
                Some(vpc) => ask = ask.filters(filter("vpc-id", [vpc.to_owned()])),
                None if network.subnet_filter.is_none() => {
                    ask = ask.filters(filter("default-for-az", ["true".to_owned()]));
                }
                None => {}
            }
        }
        let answer = ask.send().await.or_fail("could not look for the subnet")?;
        Ok(answer.subnets.unwrap_or_default())
    }

    /// The one to take.
    fn choose(&self, mut subnets: Vec<Subnet>, zones: &[String]) -> Result<Subnet, StepError> {
        let network = &self.network;
        let zone = |s: &Subnet| s.availability_zone().unwrap_or_default().to_owned();
        if subnets.is_empty() {
            let text = match (network.subnet_filter.is_some(), network.vpc.is_empty()) {
                (true, _) => "no subnet matches subnet_filter",
                (false, false) => "the VPC has no subnet that can be used",
                (false, true) => "there is no default subnet that can be used",
            };
            return Err(StepError::new(text).with_hint("set subnet_id"));
        }
        let all: Vec<String> = subnets.iter().map(zone).collect();
        subnets.retain(|s| zones.contains(&zone(s)));
        if subnets.is_empty() {
            return Err(StepError::new(format!(
                "{} is not offered in {}",
                self.kind,
                all.join(", ")
            ))
            .with_hint(format!("it is offered in {}", zones.join(", "))));
        }
        let filter = network.subnet_filter.as_ref();
        let free = |s: &Subnet| s.available_ip_address_count().unwrap_or(0);
        subnets.sort_by(|a, b| (free(b), a.subnet_id()).cmp(&(free(a), b.subnet_id())));
        if let Some(filter) = filter
            && subnets.len() > 1
            && !filter.most_free
            && !filter.random
        {
            let ids: Vec<&str> = subnets.iter().filter_map(Subnet::subnet_id).collect();
            return Err(StepError::new(format!(
                "{} subnets match subnet_filter: {}",
                ids.len(),
                ids.join(", ")
            ))
            .with_hint("make it narrower, or set most_free or random"));
        }
        let random = filter.is_some_and(|f| f.random && !f.most_free);
        let sum: usize = self.scope.token.bytes().map(usize::from).sum();
        let place = if random { sum % subnets.len() } else { 0 };
        Ok(subnets.swap_remove(place))
    }

    async fn groups(&self, aws: &Aws) -> Result<Vec<String>, StepError> {
        let mut groups = self.network.groups.clone();
        if let Some(given) = self.network.group_filter.as_ref().filter(|_| groups.is_empty()) {
            let answer = aws
                .ec2
                .describe_security_groups()
                .set_filters(Some(filters(given)))
                .send()
                .await
                .or_fail("could not look for security groups")?;
            groups.extend(
                answer.security_groups().iter().filter_map(|g| g.group_id().map(str::to_owned)),
            );
            if groups.is_empty() {
                return Err(StepError::new("no security group matches security_group_filter"));
            }
        }
        Ok(groups)
    }
}

impl Step for FindNetwork {
    const KIND: &'static str = "aws.network";
    type Output = Place;

    async fn run(&self, cx: &StepContext) -> Result<Place, StepError> {
        let aws = self.scope.aws().await?;
        let found: Found = cx.output(node::PREFLIGHT)?;
        let work = async {
            let vpc = self.vpc(&aws).await?;
            let subnets = self.subnets(&aws, vpc.as_deref());
            futures::future::try_join(subnets, self.groups(&aws)).await
        };
        let (subnets, groups) = cx.unless_cancelled(work).await??;
        let subnet = self.choose(subnets, &found.zones)?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let place = Place {
            vpc: text(subnet.vpc_id()),
            subnet: text(subnet.subnet_id()),
            zone: text(subnet.availability_zone()),
            groups,
        };
        message(cx, format!("in {} of {} ({})", place.subnet, place.vpc, place.zone));
        Ok(place)
    }

    async fn undo(&self, _: &StepContext, _: Option<Place>) -> Result<(), StepError> {
        Ok(())
    }
}
