//! Steps `group` and `ingress`: a security group for this build, and who may log in.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::network::Place;
use super::node;
use super::scope::{Scope, Tries, UNSEEN, filter, look, look_for_all, message, pause, say};
use super::source::SourceImage;
use super::states::Machine;
use crate::client::{Aws, AwsError, Explain, has_code};
use crate::options::Interface;

/// What tells a caller its address, as AWS sees it.
const CHECK_ADDRESS: &str = "https://checkip.amazonaws.com/";
/// How long a group is still used by what goes with it.
const IN_USE: Duration = Duration::from_secs(300);
/// How often a call for something that was just made is tried again.
const NOT_SEEN: u32 = 20;

/// Makes a security group that lets nobody in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeGroup {
    pub(crate) scope: Scope,
}

impl MakeGroup {
    async fn own(&self, aws: &Aws) -> Result<Vec<String>, AwsError> {
        let answer = aws.ec2.describe_security_groups().filters(self.scope.own()).send().await?;
        Ok(answer
            .security_groups()
            .iter()
            .filter_map(|g| g.group_id().map(str::to_owned))
            .collect())
    }

    /// Deletes a group that may be in use for a while yet, or not be seen yet.
    async fn delete(&self, aws: &Aws, id: &str, cx: &StepContext) -> Result<(), StepError> {
        let start = tokio::time::Instant::now();
        loop {
            let wait = match aws.ec2.delete_security_group().group_id(id).send().await {
                Ok(_) => return Ok(()),
                Err(e) if has_code(&e, &["InvalidGroup.NotFound"]) => {
                    if start.elapsed() >= UNSEEN {
                        return Ok(());
                    }
                    Duration::from_secs(1)
                }
                Err(e)
                    if has_code(&e, &["DependencyViolation", "InvalidGroup.InUse"])
                        && start.elapsed() < IN_USE =>
                {
                    Duration::from_secs(3)
                }
                Err(e) => {
                    return Err(e).or_fail(format!("could not delete the security group {id}"));
                }
            };
            pause(cx, wait).await?;
        }
    }

    async fn by_name(&self, aws: &Aws, vpc: &str) -> Result<Vec<String>, AwsError> {
        let answer = aws
            .ec2
            .describe_security_groups()
            .filters(filter("group-name", [self.scope.name()]))
            .filters(filter("vpc-id", [vpc.to_owned()]))
            .send()
            .await?;
        let groups = answer.security_groups().iter();
        Ok(groups.filter_map(|g| g.group_id().map(str::to_owned)).collect())
    }
}

impl Step for MakeGroup {
    const KIND: &'static str = "aws.group";
    const REMOTE: bool = true;
    type Output = String;

    async fn run(&self, cx: &StepContext) -> Result<String, StepError> {
        let aws = self.scope.aws().await?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let place: Place = cx.output(node::NETWORK)?;
        let name = self.scope.name();
        say(cx, format!("Creating the security group {name}"));
        let what = || format!("could not create the security group {name}");
        let tags = self.scope.specification(ResourceType::SecurityGroup, &source.texts.run_tags);
        let tries = Tries::default();
        let ask = aws
            .ec2
            .create_security_group()
            .group_name(&name)
            .description(format!("Karat build {}", printable(&self.scope.build)))
            .vpc_id(&place.vpc)
            .tag_specifications(tags)
            .customize()
            .mutate_request(tries.counter())
            .send();
        match cx.unless_cancelled(ask).await? {
            Ok(made) => {
                let id = made.group_id().unwrap_or_default().to_owned();
                if tries.are_several() {
                    // A second one of the name can be made while the first is not seen.
                    let own = || self.own(&aws);
                    let all = look_for_all(cx, Some(&id), own, &what()).await?;
                    for other in all.iter().filter(|other| **other != id) {
                        self.delete(&aws, other, cx).await?;
                    }
                }
                Ok(id)
            }
            Err(e) if has_code(&e, &["InvalidGroup.Duplicate"]) => {
                // An answer that was lost: nothing else has the name.
                let by_name = || self.by_name(&aws, &place.vpc);
                let found = look(cx, by_name, &what()).await?;
                found.into_iter().next().map_or_else(|| Err(e).or_fail(what()), Ok)
            }
            Err(e) => Err(aws.decoded(e).await).or_fail(what()),
        }
    }

    async fn undo(&self, cx: &StepContext, done: Option<String>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let name = self.scope.name();
        let what = format!("could not delete the security group {name}");
        let ids = match done {
            Some(id) => vec![id],
            None => look_for_all(cx, None, || self.own(&aws), &what).await?,
        };
        for id in ids {
            say(cx, format!("Deleting the security group {name}"));
            self.delete(&aws, &id, cx).await?;
        }
        Ok(())
    }
}

/// A text with what a description of EC2's may hold.
fn printable(text: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    text.chars().filter(|c| good(*c)).take(200).collect()
}

/// Lets in who has to log in, once the machine's address is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenGroup {
    pub(crate) scope: Scope,
    pub(crate) port: u16,
    /// Empty stands for the caller alone.
    pub(crate) sources: Vec<String>,
    pub(crate) interface: Interface,
}

impl OpenGroup {
    async fn sources(&self, machine: &Machine) -> Result<Vec<String>, StepError> {
        if !self.sources.is_empty() {
            return Ok(self.sources.clone());
        }
        let to = self.interface.address(machine).parse::<IpAddr>();
        let to = to.or_else(|_| match self.interface {
            Interface::PublicName => machine.public_ip.parse(),
            _ => machine.private_ip.parse(),
        });
        let to = to.map_err(|_| {
            StepError::new("the machine has no address that the security group could be opened for")
        })?;
        Ok(vec![own_address(to).await?])
    }
}

impl Step for OpenGroup {
    const KIND: &'static str = "aws.ingress";
    type Output = Vec<String>;

    async fn run(&self, cx: &StepContext) -> Result<Vec<String>, StepError> {
        let aws = self.scope.aws().await?;
        let group: String = cx.output(node::GROUP)?;
        let machine: Machine = cx.output(node::INSTANCE)?;
        let sources = cx.unless_cancelled(self.sources(&machine)).await??;
        message(cx, format!("port {} is open to {}", self.port, sources.join(", ")));
        let port = i32::from(self.port);
        let mut rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
        for source in &sources {
            rule = match source.contains(':') {
                true => rule.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(source).build()),
                false => rule.ip_ranges(IpRange::builder().cidr_ip(source).build()),
            };
        }
        let rule = rule.build();
        for attempt in 0.. {
            let ask = aws
                .ec2
                .authorize_security_group_ingress()
                .group_id(&group)
                .ip_permissions(rule.clone())
                .send();
            match cx.unless_cancelled(ask).await? {
                Ok(_) => break,
                Err(e) if has_code(&e, &["InvalidPermission.Duplicate"]) => break,
                Err(e) if has_code(&e, &["InvalidGroup.NotFound"]) && attempt < NOT_SEEN => {
                    pause(cx, Duration::from_secs(2)).await?;
                }
                Err(e) => {
                    return Err(aws.decoded(e).await)
                        .or_fail(format!("could not open the security group {group}"));
                }
            }
        }
        Ok(sources)
    }

    /// The rule goes with its group.
    async fn undo(&self, _: &StepContext, _: Option<Vec<String>>) -> Result<(), StepError> {
        Ok(())
    }
}

/// The network of the one address that `to` sees this program at. To a public address that is
/// what AWS says; on one's own networks, what the system would send from.
async fn own_address(to: IpAddr) -> Result<String, StepError> {
    let local = match to {
        IpAddr::V4(ip) => {
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared(ip)
        }
        IpAddr::V6(_) => true,
    };
    if local {
        let from = local_address(to).map_err(|e| {
            StepError::because(format!("could not find out the own address on the way to {to}"), e)
                .with_hint("set temporary_security_group_source_cidrs")
        })?;
        return Ok(network_of(from));
    }
    let told = async {
        let client = karat_data::client_builder().timeout(Duration::from_secs(20)).build()?;
        client.get(CHECK_ADDRESS).send().await?.error_for_status()?.text().await
    };
    let failed = |reason: String| {
        StepError::because(
            format!("could not ask {CHECK_ADDRESS} for the address that this program is seen at"),
            AwsError::new(reason),
        )
        .with_hint("set temporary_security_group_source_cidrs to the networks that may log in")
    };
    let text = told.await.map_err(|e: reqwest::Error| failed(e.without_url().to_string()))?;
    let address = text.trim().parse::<IpAddr>();
    let address = address.map_err(|_| failed(format!("it said \"{}\"", text.trim())))?;
    Ok(network_of(address))
}

/// Whether an address is one that carriers share among customers.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

/// The address that the system would send from. Nothing is sent.
fn local_address(to: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to, 22))?;
    Ok(socket.local_addr()?.ip())
}

fn network_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("{ip}/32"),
        IpAddr::V6(ip) => format!("{ip}/128"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn on_ones_own_networks_the_system_knows_the_address() {
        let address = own_address(IpAddr::from([127, 0, 0, 2])).await.unwrap();
        assert_eq!(address, "127.0.0.1/32");
        assert_eq!(network_of("2001:db8::1".parse().unwrap()), "2001:db8::1/128");
        assert!(is_shared([100, 64, 1, 1].into()) && !is_shared([100, 128, 1, 1].into()));
    }

    #[test]
    fn descriptions_hold_what_ec2_takes() {
        assert_eq!(printable("web.amazon-ebs.ünï\"x"), "web.amazon-ebs.nx");
    }
}
