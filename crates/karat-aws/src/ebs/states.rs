//! What is waited for: machines and images.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_ec2::types::{Image, Instance};
use serde::{Deserialize, Serialize};

use super::scope::{filter, tag_map};
use crate::client::{Aws, AwsError, Watch, Watched};
use crate::options::Tags;

/// Machines.
#[derive(Debug)]
pub(crate) struct InstanceStates;

/// What is known of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down` or `terminated`.
    pub(crate) state: String,
    /// Why it is in that state.
    pub(crate) reason: String,
    pub(crate) public_ip: String,
    pub(crate) private_ip: String,
    pub(crate) public_name: String,
    pub(crate) private_name: String,
    pub(crate) ipv6: String,
    pub(crate) zone: String,
    /// Its volumes: device and id.
    pub(crate) volumes: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn of(instance: &Instance) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let ipv6 = instance.network_interfaces().iter().flat_map(|i| i.ipv6_addresses());
        Self {
            id: text(instance.instance_id()),
            state: text(instance.state().and_then(|s| s.name()).map(|n| n.as_str())),
            reason: text(instance.state_reason().and_then(|r| r.message())),
            public_ip: text(instance.public_ip_address()),
            private_ip: text(instance.private_ip_address()),
            public_name: text(instance.public_dns_name()),
            private_name: text(instance.private_dns_name()),
            ipv6: text(ipv6.filter_map(|a| a.ipv6_address()).next()),
            zone: text(instance.placement().and_then(|p| p.availability_zone())),
            volumes: instance
                .block_device_mappings()
                .iter()
                .filter_map(|m| {
                    let volume = m.ebs()?.volume_id()?;
                    Some((m.device_name()?.to_owned(), volume.to_owned()))
                })
                .collect(),
        }
    }

    /// Whether it is gone, or about to be.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(&*self.state, "shutting-down" | "terminated")
    }
}

impl Watched for InstanceStates {
    type State = Machine;
    const DELAY: Duration = Duration::from_secs(3);

    fn watch(aws: &Aws) -> &Watch<Self> {
        &aws.instances
    }

    async fn ask(aws: &Aws, ids: Vec<String>) -> Result<HashMap<String, Machine>, AwsError> {
        let mut pages = aws
            .ec2
            .describe_instances()
            .filters(filter("instance-id", ids))
            .into_paginator()
            .send();
        let mut known = HashMap::new();
        while let Some(page) = pages.next().await {
            for instance in page?.reservations().iter().flat_map(|r| r.instances()) {
                let machine = Machine::of(instance);
                known.insert(machine.id.clone(), machine);
            }
        }
        Ok(known)
    }
}

/// Images.
#[derive(Debug)]
pub(crate) struct ImageStates;

/// What is known of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ami {
    pub(crate) id: String,
    /// `pending`, `available`, `failed`, ….
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) snapshots: Vec<String>,
    pub(crate) tags: Tags,
}

impl Ami {
    pub(crate) fn of(image: &Image) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let mappings = image.block_device_mappings().iter();
        Self {
            id: text(image.image_id()),
            state: text(image.state().map(|s| s.as_str())),
            reason: text(image.state_reason().and_then(|r| r.message())),
            snapshots: mappings.filter_map(|m| m.ebs()?.snapshot_id().map(str::to_owned)).collect(),
            tags: tag_map(image.tags()),
        }
    }
}

impl Watched for ImageStates {
    type State = Ami;
    const DELAY: Duration = Duration::from_secs(5);

    fn watch(aws: &Aws) -> &Watch<Self> {
        &aws.images
    }

    async fn ask(aws: &Aws, ids: Vec<String>) -> Result<HashMap<String, Ami>, AwsError> {
        let mut pages = aws
            .ec2
            .describe_images()
            .owners("self")
            .include_deprecated(true)
            .filters(filter("image-id", ids))
            .into_paginator()
            .send();
        let mut known = HashMap::new();
        while let Some(page) = pages.next().await {
            for image in page?.images() {
                let ami = Ami::of(image);
                known.insert(ami.id.clone(), ami);
            }
        }
        Ok(known)
    }
}
