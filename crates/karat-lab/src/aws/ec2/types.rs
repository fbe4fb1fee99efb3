//! Types of instances.

use super::page;
use super::places::{zone_id, zones_of};
use super::resource::one;
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::node::{Node, tree};

/// A type: what of it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) vcpus: u32,
    /// MiB.
    pub(super) memory: u32,
    pub(super) arm: bool,
    /// Xen before, Nitro now.
    pub(super) nitro: bool,
}

impl Type {
    /// Whether it has credits.
    pub(super) fn is_burstable(&self) -> bool {
        self.name.starts_with('t')
    }

    pub(super) fn architecture(&self) -> &'static str {
        if self.arm { "arm64" } else { "x86_64" }
    }

    /// Whether images of an architecture run on it.
    pub(super) fn runs(&self, architecture: &str) -> bool {
        architecture == self.architecture() || (architecture == "i386" && !self.nitro)
    }

    pub(super) fn metal(&self) -> bool {
        self.name.ends_with(".metal")
    }
}

const fn of(name: &'static str, vcpus: u32, gib_quarters: u32, arm: bool, nitro: bool) -> Type {
    Type { name, vcpus, memory: gib_quarters * 256, arm, nitro }
}

/// The types there are, a choice of AWS's.
pub(super) const TYPES: &[Type] = &[
    of("c5.large", 2, 16, false, true),
    of("c5.xlarge", 4, 32, false, true),
    of("c5.2xlarge", 8, 64, false, true),
    of("c6a.large", 2, 16, false, true),
    of("c6g.large", 2, 16, true, true),
    of("c6g.xlarge", 4, 32, true, true),
    of("c6i.large", 2, 16, false, true),
    of("c6i.xlarge", 4, 32, false, true),
    of("c6i.2xlarge", 8, 64, false, true),
    of("c7g.large", 2, 16, true, true),
    of("c7i.large", 2, 16, false, true),
    of("c7i.xlarge", 4, 32, false, true),
    of("g4dn.xlarge", 4, 64, false, true),
    of("g5.xlarge", 4, 64, false, true),
    of("m1.small", 1, 7, false, false),
    of("m4.large", 2, 32, false, false),
    of("m5.large", 2, 32, false, true),
    of("m5.xlarge", 4, 64, false, true),
    of("m5.2xlarge", 8, 128, false, true),
    of("m5.metal", 96, 1536, false, true),
    of("m5a.large", 2, 32, false, true),
    of("m6a.large", 2, 32, false, true),
    of("m6g.medium", 1, 16, true, true),
    of("m6g.large", 2, 32, true, true),
    of("m6i.large", 2, 32, false, true),
    of("m6i.xlarge", 4, 64, false, true),
    of("m6i.2xlarge", 8, 128, false, true),
    of("m7a.large", 2, 32, false, true),
    of("m7g.large", 2, 32, true, true),
    of("m7i.large", 2, 32, false, true),
    of("m7i.xlarge", 4, 64, false, true),
    of("r5.large", 2, 64, false, true),
    of("r6i.large", 2, 64, false, true),
    of("t2.nano", 1, 2, false, false),
    of("t2.micro", 1, 4, false, false),
    of("t2.small", 1, 8, false, false),
    of("t2.medium", 2, 16, false, false),
    of("t2.large", 2, 32, false, false),
    of("t3.nano", 2, 2, false, true),
    of("t3.micro", 2, 4, false, true),
    of("t3.small", 2, 8, false, true),
    of("t3.medium", 2, 16, false, true),
    of("t3.large", 2, 32, false, true),
    of("t3.xlarge", 4, 64, false, true),
    of("t3.2xlarge", 8, 128, false, true),
    of("t3a.nano", 2, 2, false, true),
    of("t3a.micro", 2, 4, false, true),
    of("t3a.small", 2, 8, false, true),
    of("t3a.medium", 2, 16, false, true),
    of("t3a.large", 2, 32, false, true),
    of("t4g.nano", 2, 2, true, true),
    of("t4g.micro", 2, 4, true, true),
    of("t4g.small", 2, 8, true, true),
    of("t4g.medium", 2, 16, true, true),
    of("t4g.large", 2, 32, true, true),
];

/// The type of a name.
pub(super) fn find(name: &str) -> Result<Type> {
    TYPES.iter().find(|t| t.name == name).copied().ok_or_else(|| {
        AwsError::new("InvalidParameterValue", format!("Invalid value '{name}' for InstanceType."))
    })
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let names = call.params.texts("InstanceType");
    for name in &names {
        find(name).map_err(|_| {
            AwsError::new(
                "InvalidInstanceType",
                format!("The following supplied instance types do not exist: [{name}]"),
            )
        })?;
    }
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for kind in TYPES {
        let shown = names.is_empty() || names.iter().any(|n| n == kind.name);
        let passes = filters.pass(&Tags::new(), |name| match name {
            "instance-type" => one(kind.name),
            "processor-info.supported-architecture" => one(kind.architecture()),
            "vcpu-info.default-vcpus" => one(kind.vcpus.to_string()),
            "memory-info.size-in-mib" => one(kind.memory.to_string()),
            "current-generation" => one(kind.nitro.to_string()),
            "hypervisor" => one(if kind.nitro { "nitro" } else { "xen" }),
            "bare-metal" => one(kind.metal().to_string()),
            "burstable-performance-supported" => one(kind.is_burstable().to_string()),
            "free-tier-eligible" => one((kind.name == "t3.micro").to_string()),
            "supported-virtualization-type" => one("hvm"),
            "supported-root-device-type" => one("ebs"),
            _ => None,
        })?;
        if shown && passes {
            all.push(node(kind));
        }
    }
    page(call, "instanceTypeSet", all)
}

fn node(kind: &Type) -> Node {
    let cores = if kind.arm || kind.vcpus == 1 { kind.vcpus } else { kind.vcpus / 2 };
    let boot = if kind.arm {
        vec!["uefi"]
    } else if kind.nitro {
        vec!["legacy-bios", "uefi"]
    } else {
        vec!["legacy-bios"]
    };
    tree! {
        "instanceType": kind.name,
        "currentGeneration": kind.nitro,
        "freeTierEligible": kind.name == "t3.micro",
        "supportedUsageClasses": vec!["on-demand", "spot"],
        "supportedRootDeviceTypes": vec!["ebs"],
        "supportedVirtualizationTypes": vec!["hvm"],
        "bareMetal": kind.metal(),
        "hypervisor": (!kind.metal()).then_some(if kind.nitro { "nitro" } else { "xen" }),
        "processorInfo": tree! {
            "supportedArchitectures": vec![kind.architecture()],
            "sustainedClockSpeedInGhz": 2.5,
            "manufacturer": if kind.arm { "AWS" } else { "Intel" },
        },
        "vCpuInfo": tree! {
            "defaultVCpus": kind.vcpus,
            "defaultCores": cores,
            "defaultThreadsPerCore": kind.vcpus / cores,
        },
        "memoryInfo": tree! { "sizeInMiB": kind.memory },
        "instanceStorageSupported": false,
        "ebsInfo": tree! {
            "ebsOptimizedSupport": if kind.nitro { "default" } else { "unsupported" },
            "encryptionSupport": "supported",
            "nvmeSupport": if kind.nitro { "required" } else { "unsupported" },
        },
        "networkInfo": tree! {
            "networkPerformance": "Up to 5 Gigabit",
            "maximumNetworkInterfaces": 3,
            "maximumNetworkCards": 1,
            "defaultNetworkCardIndex": 0,
            "ipv4AddressesPerInterface": 10,
            "ipv6AddressesPerInterface": 10,
            "ipv6Supported": true,
            "enaSupport": if kind.nitro { "required" } else { "unsupported" },
            "efaSupported": false,
            "encryptionInTransitSupported": false,
        },
        "placementGroupInfo": tree! { "supportedStrategies": vec!["partition", "spread"] },
        "hibernationSupported": false,
        "burstablePerformanceSupported": kind.is_burstable(),
        "dedicatedHostsSupported": false,
        "autoRecoverySupported": true,
        "supportedBootModes": boot,
        "nitroEnclavesSupport": if kind.nitro && !kind.is_burstable() { "supported" } else { "unsupported" },
        "nitroTpmSupport": if kind.nitro { "supported" } else { "unsupported" },
    }
}

pub(super) fn offerings(call: &mut Call<'_>) -> Result<Node> {
    let by = call.params.text("LocationType").unwrap_or("region");
    let places: Vec<String> = match by {
        "region" => vec![call.region.to_owned()],
        "availability-zone" => zones_of(call.region).into(),
        "availability-zone-id" => zones_of(call.region).iter().map(|z| zone_id(z)).collect(),
        other => return Err(AwsError::value(other, "LocationType", "")),
    };
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for kind in TYPES {
        for place in &places {
            let passes = filters.pass(&Tags::new(), |name| match name {
                "instance-type" => one(kind.name),
                "location" => one(place),
                _ => None,
            })?;
            if passes {
                all.push(tree! {
                    "instanceType": kind.name,
                    "locationType": by,
                    "location": place,
                });
            }
        }
    }
    page(call, "instanceTypeOfferingSet", all)
}
