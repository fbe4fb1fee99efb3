//! The options of the machine that builds.

use std::collections::BTreeMap;

use karat_component::ValidateContext;
use karat_config::{Config, Duration};
use serde::{Deserialize, Serialize};

use super::tags::{FilterConfig, TagConfig, Tags, filters, merged, pairs};

/// How AWS chooses among what there is of spot machines.
const STRATEGIES: [&str; 5] = [
    "lowest-price",
    "diversified",
    "capacity-optimized",
    "capacity-optimized-prioritized",
    "price-capacity-optimized",
];

/// The shortest time after which a machine may end that nobody speaks to.
const SHORTEST: std::time::Duration = std::time::Duration::from_secs(60);

/// The machine that builds.
#[derive(Clone, Debug, Config)]
pub struct RunConfig {
    /// The machine's type: `t3.medium`.
    #[option(default = "", volatile)]
    pub instance_type: String,
    /// Id of the image to start from.
    #[option(default = "")]
    pub source_ami: String,
    /// Finds the image to start from.
    #[option(block)]
    pub source_ami_filter: Option<AmiFilterConfig>,
    /// Whether the machine has a public address; as the subnet says, without.
    #[option(volatile)]
    pub associate_public_ip_address: Option<bool>,
    /// The zone to work in; any without.
    #[option(default = "", volatile)]
    pub availability_zone: String,
    /// The subnet to work in.
    #[option(default = "", volatile)]
    pub subnet_id: String,
    /// Finds the subnet to work in.
    #[option(block)]
    pub subnet_filter: Option<SubnetFilterConfig>,
    /// The VPC to work in.
    #[option(default = "", volatile)]
    pub vpc_id: String,
    /// Finds the VPC to work in.
    #[option(block)]
    pub vpc_filter: Option<FiltersConfig>,
    /// A security group for the machine. Without any one is made for the build.
    #[option(default = "", volatile)]
    pub security_group_id: String,
    /// Security groups for the machine.
    #[option(volatile)]
    pub security_group_ids: Vec<String>,
    /// Finds security groups for the machine.
    #[option(block)]
    pub security_group_filter: Option<FiltersConfig>,
    /// Networks that may log in to the machine, for the security group that is made. Without it
    /// only the address that this program is seen at may.
    #[option(volatile)]
    pub temporary_security_group_source_cidrs: Vec<String>,
    /// Whether only the address that this program is seen at may log in: the default here.
    #[option(default = false, volatile)]
    pub temporary_security_group_source_public_ip: bool,
    /// An instance profile for the machine.
    #[option(default = "", volatile)]
    pub iam_instance_profile: String,
    /// Whether nobody checks that the instance profile exists.
    #[option(default = false, volatile)]
    pub skip_profile_validation: bool,
    /// What a role that is made for the build may do.
    #[option(block)]
    pub temporary_iam_instance_profile_policy_document: Option<PolicyConfig>,
    /// One of the `run_tags`.
    #[option(blocks)]
    pub run_tag: Vec<TagConfig>,
    /// Tags of everything that is made while building, and of the image. `{{ .SourceAMI }}` and
    /// its kin can be used.
    #[option(late)]
    pub run_tags: BTreeMap<String, String>,
    /// What the machine is told at its start.
    #[option(default = "")]
    pub user_data: String,
    /// A file with what the machine is told at its start.
    #[option(input)]
    pub user_data_file: Option<String>,
    /// The metadata service of the machine.
    #[option(block)]
    pub metadata_options: Option<MetadataConfig>,
    /// What a shutdown from inside does: `stop` or `terminate`. By default the machine is
    /// terminated, unless `disable_stop_instance` is set.
    #[option(default = "", volatile)]
    pub shutdown_behavior: String,
    /// After so long without a word from this program the machine shuts itself down, which
    /// terminates it: what a killed build leaves does not run on, nor what `-on-error=abort` leaves.
    /// `0s` for never. Machines that a shutdown does not terminate, and those that are not reached
    /// by ssh, run on.
    #[option(default = "1h", volatile)]
    pub terminate_after: Duration,
    /// Whether the machine stops by itself, or a provisioner stops it.
    #[option(default = false)]
    pub disable_stop_instance: bool,
    /// Whether the machine is optimised for EBS.
    #[option(default = false, volatile)]
    pub ebs_optimized: bool,
    /// Whether the machine may have Nitro enclaves.
    #[option(default = false, volatile)]
    pub enable_nitro_enclave: bool,
    /// Whether a burstable machine may use more credits than it has.
    #[option(default = false, volatile)]
    pub enable_unlimited_credits: bool,
    /// The same as `enable_unlimited_credits`.
    #[option(default = false, volatile, deprecated = "use enable_unlimited_credits")]
    pub enable_t2_unlimited: bool,
    /// Whether a matching capacity reservation is used: `none` or `open`.
    #[option(default = "", volatile)]
    pub capacity_reservation_preference: String,
    /// The capacity reservation to use.
    #[option(default = "", volatile)]
    pub capacity_reservation_id: String,
    /// The group of capacity reservations to use.
    #[option(default = "", volatile)]
    pub capacity_reservation_group_arn: String,
    /// The host to run on.
    #[option(block)]
    pub placement: Option<PlacementConfig>,
    /// Whose hardware it runs on: `default`, `dedicated` or `host`.
    #[option(default = "", volatile, deprecated = "use placement { tenancy = … }")]
    pub tenancy: String,
    /// Licences that the machine uses.
    #[option(blocks)]
    pub license_specifications: Vec<LicenseConfig>,
    /// The most to be paid for a spot machine in an hour, in dollars, or `auto` for the price on
    /// demand. With it the machine is a spot machine. Such a machine cannot be stopped: AWS starts
    /// it anew to capture it.
    #[option(default = "", volatile)]
    pub spot_price: String,
    /// Types that a spot machine may have, instead of `instance_type`.
    #[option(volatile)]
    pub spot_instance_types: Vec<String>,
    /// How a spot machine is chosen: `lowest-price`, `diversified`, `capacity-optimized`,
    /// `capacity-optimized-prioritized` or `price-capacity-optimized`.
    #[option(default = "", volatile)]
    pub spot_allocation_strategy: String,
    /// One of the `spot_tags`.
    #[option(blocks)]
    pub spot_tag: Vec<TagConfig>,
    /// Tags of the spot request and its launch template. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub spot_tags: BTreeMap<String, String>,
    /// One of the `fleet_tags`.
    #[option(blocks)]
    pub fleet_tag: Vec<TagConfig>,
    /// Tags of the fleet. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub fleet_tags: BTreeMap<String, String>,
    /// Minutes that a spot machine is kept. AWS offers it no more, so it has no meaning.
    #[option(default = 0, volatile, deprecated = "AWS does not offer it any more")]
    pub block_duration_minutes: i64,
    /// Has no meaning.
    #[option(default = "", volatile, deprecated = "it has no meaning any more")]
    pub spot_price_auto_product: String,
}

/// Finds one image.
#[derive(Clone, Debug, Config)]
pub struct AmiFilterConfig {
    /// Filters by name, in EC2's words. Several values are written with commas between.
    pub filters: BTreeMap<String, String>,
    /// One of the `filters`.
    #[option(blocks)]
    pub filter: Vec<FilterConfig>,
    /// Whose images: ids of accounts, `self`, `amazon`, `aws-marketplace`.
    pub owners: Vec<String>,
    /// Whether the newest of several is taken.
    #[option(default = false)]
    pub most_recent: bool,
    /// Whether deprecated images count.
    #[option(default = false)]
    pub include_deprecated: bool,
}

/// Finds something by filters.
#[derive(Clone, Debug, Config)]
pub struct FiltersConfig {
    /// Filters by name, in EC2's words. Several values are written with commas between.
    #[option(volatile)]
    pub filters: BTreeMap<String, String>,
    /// One of the `filters`.
    #[option(blocks)]
    pub filter: Vec<FilterConfig>,
}

/// Finds a subnet.
#[derive(Clone, Debug, Config)]
pub struct SubnetFilterConfig {
    /// Filters by name, in EC2's words. Several values are written with commas between.
    #[option(volatile)]
    pub filters: BTreeMap<String, String>,
    /// One of the `filters`.
    #[option(blocks)]
    pub filter: Vec<FilterConfig>,
    /// Whether the one with the most free addresses is taken of several.
    #[option(default = false, volatile)]
    pub most_free: bool,
    /// Whether any one is taken of several.
    #[option(default = false, volatile)]
    pub random: bool,
}

/// What a role may do.
#[derive(Clone, Debug, Config)]
pub struct PolicyConfig {
    /// The version of the policy's language.
    #[option(default = "2012-10-17", rename = "Version")]
    pub version: String,
    /// What is allowed or denied.
    #[option(blocks, rename = "Statement")]
    pub statement: Vec<StatementConfig>,
}

/// One thing that is allowed or denied.
#[derive(Clone, Debug, Config)]
pub struct StatementConfig {
    /// `Allow` or `Deny`.
    #[option(default = "Allow", rename = "Effect")]
    pub effect: String,
    /// Which calls: `s3:GetObject`.
    #[option(rename = "Action")]
    pub action: Vec<String>,
    /// On what: ARNs, or `*`.
    #[option(rename = "Resource")]
    pub resource: Vec<String>,
}

/// The metadata service of the machine.
#[derive(Clone, Debug, Config)]
pub struct MetadataConfig {
    /// Whether there is one: `enabled` or `disabled`.
    #[option(default = "enabled", volatile)]
    pub http_endpoint: String,
    /// Whether every question needs a token: `required` (version 2 alone) or `optional`.
    #[option(default = "required", volatile)]
    pub http_tokens: String,
    /// How many hops an answer may take: 1 to 64.
    #[option(default = 1, volatile)]
    pub http_put_response_hop_limit: i32,
    /// Whether the machine's tags are told: `enabled` or `disabled`.
    #[option(default = "disabled", volatile)]
    pub instance_metadata_tags: String,
}

/// The host to run on.
#[derive(Clone, Debug, Config)]
pub struct PlacementConfig {
    /// The group of hosts.
    #[option(default = "", volatile)]
    pub host_resource_group_arn: String,
    /// The host.
    #[option(default = "", volatile)]
    pub host_id: String,
    /// Whose hardware it runs on: `default`, `dedicated` or `host`.
    #[option(default = "", volatile)]
    pub tenancy: String,
}

/// A licence that the machine uses.
#[derive(Clone, Debug, Config)]
pub struct LicenseConfig {
    /// Which.
    #[option(block)]
    pub license_configuration_request: Option<LicenseRequestConfig>,
}

/// Which licence.
#[derive(Clone, Debug, Config)]
pub struct LicenseRequestConfig {
    /// Its ARN.
    #[option(required)]
    pub license_configuration_arn: String,
}

/// Where a build starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    Id(String),
    Filter(ImageFilter),
    /// An empty disk.
    Nothing,
}

/// Finds an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageFilter {
    pub(crate) filters: Vec<(String, Vec<String>)>,
    pub(crate) owners: Vec<String>,
    pub(crate) newest: bool,
    pub(crate) deprecated: bool,
}

/// Finds a subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubnetFilter {
    pub(crate) filters: Vec<(String, Vec<String>)>,
    pub(crate) most_free: bool,
    pub(crate) random: bool,
}

/// Where the machine stands in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) zone: String,
    pub(crate) subnet: String,
    pub(crate) subnet_filter: Option<SubnetFilter>,
    pub(crate) vpc: String,
    pub(crate) vpc_filter: Option<Vec<(String, Vec<String>)>>,
    pub(crate) groups: Vec<String>,
    pub(crate) group_filter: Option<Vec<(String, Vec<String>)>>,
    /// Who may log in; empty stands for the caller alone.
    pub(crate) sources: Vec<String>,
    pub(crate) public_address: Option<bool>,
}

/// What a role that is made may do: a policy as JSON.
pub(crate) type Policy = String;

/// How the machine is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) kind: String,
    /// Whether it is a spot machine, and which.
    #[serde(default)]
    pub(crate) spot: Option<Spot>,
    pub(crate) source: Source,
    pub(crate) profile: String,
    pub(crate) check_profile: bool,
    pub(crate) policy: Option<Policy>,
    pub(crate) tags: Tags,
    pub(crate) metadata: Metadata,
    pub(crate) terminates: bool,
    /// After which time without a word from here it terminates itself.
    #[serde(default)]
    pub(crate) ends_after: Option<std::time::Duration>,
    pub(crate) stops_itself: bool,
    pub(crate) ebs_optimized: bool,
    pub(crate) enclave: bool,
    pub(crate) unlimited: bool,
    pub(crate) reservation: Reservation,
    pub(crate) placement: Placement,
    pub(crate) licences: Vec<String>,
    /// May hold secrets, so it is not stored.
    #[serde(skip)]
    pub(crate) user_data: UserData,
}

/// A spot machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spot {
    /// The most to be paid; that on demand without.
    pub(crate) price: Option<String>,
    /// The types that it may have, where there are several.
    pub(crate) kinds: Vec<String>,
    pub(crate) strategy: String,
    pub(crate) tags: Tags,
    pub(crate) fleet_tags: Tags,
}

/// What the machine is told at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UserData {
    #[default]
    Nothing,
    Text(String),
    File(String),
}

/// The metadata service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) enabled: bool,
    pub(crate) tokens: bool,
    pub(crate) hops: i32,
    pub(crate) tags: bool,
}

/// The capacity reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) open: bool,
    pub(crate) id: String,
    pub(crate) group: String,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placement {
    pub(crate) group: String,
    pub(crate) host: String,
    pub(crate) tenancy: String,
}

impl RunConfig {
    /// Checks the options against each other.
    pub(crate) fn validate(self, cx: &mut ValidateContext<'_>) -> (Launch, Network) {
        let source = self.source(cx);
        self.check_type(cx);
        let spot = self.spot(cx);
        let network = self.network(cx);
        let (reservation, placement) = (self.reservation(cx), self.placement(cx));
        let metadata = self.metadata(cx);
        let user_data = self.user_data(cx);
        if !matches!(&*self.shutdown_behavior, "" | "stop" | "terminate") {
            cx.error(
                "shutdown_behavior",
                "shutdown_behavior only accepts 'stop' or 'terminate' values",
            )
            .detail(format!("\"{}\" is neither.", self.shutdown_behavior));
        }
        if self.disable_stop_instance && self.shutdown_behavior == "terminate" {
            cx.error(
                "shutdown_behavior",
                "a machine that stops by itself must not be terminated by it",
            )
            .hint("leave shutdown_behavior out where disable_stop_instance is set");
        }
        let after = self.terminate_after.0;
        if !after.is_zero() && after < SHORTEST {
            cx.error("terminate_after", "terminate_after is too short")
                .detail("The machine is told to wait on every third of it.")
                .hint("use one minute or more, or \"0s\" for never");
        }
        let policy = self.policy(cx);
        let profile = !self.iam_instance_profile.is_empty() && cx.is_known("iam_instance_profile");
        if policy.is_some() && profile {
            cx.error(
                "temporary_iam_instance_profile_policy_document",
                "the machine has one instance profile: an existing one, or one made for the build",
            )
            .hint("remove it, or iam_instance_profile");
        }
        let unlimited = self.enable_unlimited_credits || self.enable_t2_unlimited;
        let tags = merged("run_tags", &self.run_tags, pairs(&self.run_tag), cx);
        let licences = self.license_specifications.into_iter();
        let licences = licences.filter_map(|l| l.license_configuration_request);
        let terminates = match self.shutdown_behavior.as_str() {
            "" => spot.is_some() || !self.disable_stop_instance,
            given => given == "terminate",
        };
        let launch = Launch {
            kind: match self.instance_type.is_empty() {
                true => self.spot_instance_types.into_iter().next().unwrap_or_default(),
                false => self.instance_type,
            },
            spot,
            source,
            profile: self.iam_instance_profile,
            check_profile: !self.skip_profile_validation,
            policy,
            tags,
            metadata,
            terminates,
            ends_after: Some(after).filter(|after| terminates && !after.is_zero()),
            stops_itself: self.disable_stop_instance,
            ebs_optimized: self.ebs_optimized,
            enclave: self.enable_nitro_enclave,
            unlimited,
            reservation,
            placement,
            licences: licences.map(|l| l.license_configuration_arn).collect(),
            user_data,
        };
        (launch, network)
    }

    fn source(&self, cx: &mut ValidateContext<'_>) -> Source {
        let filter = match &self.source_ami_filter {
            None if self.source_ami.is_empty() => {
                if cx.is_known("source_ami") {
                    cx.block_error("A source_ami or source_ami_filter must be specified")
                        .hint("name the image to start from");
                }
                return Source::Id(String::new());
            }
            Some(filter) if self.source_ami.is_empty() => filter,
            given => {
                if given.is_some() && cx.is_known("source_ami") {
                    cx.error(
                        "source_ami_filter",
                        "both source_ami and source_ami_filter are given",
                    )
                    .hint("remove one of them");
                }
                if !self.source_ami.starts_with("ami-") {
                    cx.error(
                        "source_ami",
                        format!("\"{}\" is not the id of an image", self.source_ami),
                    )
                    .hint(
                        "an id begins with \"ami-\"; source_ami_filter finds an image by its name",
                    );
                }
                return Source::Id(self.source_ami.clone());
            }
        };
        Source::Filter(filter.validate("source_ami_filter", cx))
    }

    fn check_type(&self, cx: &mut ValidateContext<'_>) {
        let kind = &self.instance_type;
        if kind.is_empty() && self.spot_instance_types.is_empty() && cx.is_known("instance_type") {
            cx.block_error("either instance_type or spot_instance_types must be specified")
                .hint("for example instance_type = \"t3.medium\"");
        }
        let known = cx.is_known("instance_type");
        if !kind.is_empty() && !self.spot_instance_types.is_empty() && known {
            cx.error(
                "spot_instance_types",
                "either instance_type or spot_instance_types must be specified, not both",
            );
        }
        let burstable = ["t2.", "t3.", "t3a.", "t4g."].iter().any(|t| kind.starts_with(t));
        let option = if self.enable_t2_unlimited {
            "enable_t2_unlimited"
        } else {
            "enable_unlimited_credits"
        };
        let unlimited = self.enable_unlimited_credits || self.enable_t2_unlimited;
        if unlimited && !burstable && cx.is_known("instance_type") {
            cx.error(option, format!("{kind} has no credits"))
                .hint("types of t2, t3, t3a and t4g have them");
        }
        if self.enable_nitro_enclave && kind.starts_with('t') && cx.is_known("instance_type") {
            cx.error("enable_nitro_enclave", format!("{kind} has no Nitro enclaves"))
                .hint("burstable types have none; choose another instance_type");
        }
    }

    fn spot(&self, cx: &mut ValidateContext<'_>) -> Option<Spot> {
        let priced = !matches!(&*self.spot_price, "" | "0");
        let is_spot = priced || !self.spot_instance_types.is_empty();
        let tags = merged("spot_tags", &self.spot_tags, pairs(&self.spot_tag), cx);
        let fleet_tags = merged("fleet_tags", &self.fleet_tags, pairs(&self.fleet_tag), cx);
        if self.block_duration_minutes % 60 != 0 {
            cx.error("block_duration_minutes", "block_duration_minutes must be multiple of 60");
        }
        let strategy = &self.spot_allocation_strategy;
        if !strategy.is_empty() && !STRATEGIES.contains(&strategy.as_str()) {
            cx.error(
                "spot_allocation_strategy",
                format!("Unknown spot_allocation_strategy: {strategy}"),
            )
            .hint(format!("use one of {}", STRATEGIES.join(", ")));
        }
        let known = cx.is_known("spot_price");
        if !is_spot {
            for (option, given) in [
                ("spot_tags", !tags.is_empty()),
                ("fleet_tags", !fleet_tags.is_empty()),
                ("spot_allocation_strategy", !strategy.is_empty()),
            ] {
                if given && known {
                    let text =
                        format!("{option} should not be set when not requesting a spot instance");
                    cx.error(option, text).hint("set spot_price = \"auto\"");
                }
            }
            return None;
        }
        if priced && self.spot_price != "auto" && self.spot_price.parse::<f64>().is_err() && known {
            cx.error("spot_price", format!("\"{}\" is not a price", self.spot_price))
                .hint("write dollars for an hour like \"0.05\", or \"auto\"");
        }
        let unlimited = self.enable_unlimited_credits || self.enable_t2_unlimited;
        for (option, given, text) in [
            (
                "enable_nitro_enclave",
                self.enable_nitro_enclave,
                "Nitro Enclave cannot be used in conjunction with Spot Instances",
            ),
            (
                "enable_unlimited_credits",
                unlimited && self.instance_type.starts_with("t2."),
                "Unlimited credits cannot be used in conjunction with Spot Instances",
            ),
            (
                "shutdown_behavior",
                self.shutdown_behavior == "stop",
                "a spot machine cannot be stopped",
            ),
        ] {
            if given {
                cx.error(option, text);
            }
        }
        Some(Spot {
            price: Some(self.spot_price.clone()).filter(|p| priced && p != "auto"),
            kinds: self.spot_instance_types.clone(),
            strategy: strategy.clone(),
            tags,
            fleet_tags,
        })
    }

    fn network(&self, cx: &mut ValidateContext<'_>) -> Network {
        let mut groups = self.security_group_ids.clone();
        if !self.security_group_id.is_empty() {
            if !groups.is_empty() && cx.is_known("security_group_ids") {
                cx.error(
                    "security_group_id",
                    "Only one of security_group_id or security_group_ids can be specified",
                );
            }
            groups.push(self.security_group_id.clone());
        }
        for source in &self.temporary_security_group_source_cidrs {
            if !is_network(source) {
                cx.error(
                    "temporary_security_group_source_cidrs",
                    format!("\"{source}\" is not a network"),
                )
                .hint("write it like \"198.51.100.0/24\"");
            }
        }
        if self.temporary_security_group_source_public_ip
            && !self.temporary_security_group_source_cidrs.is_empty()
        {
            cx.error(
                "temporary_security_group_source_public_ip",
                "networks are given beside the own address",
            )
            .hint("remove it, or temporary_security_group_source_cidrs");
        }
        let of = |f: &FiltersConfig| filters(&f.filters, &f.filter);
        Network {
            zone: self.availability_zone.clone(),
            subnet: self.subnet_id.clone(),
            subnet_filter: self.subnet_filter.as_ref().map(|f| SubnetFilter {
                filters: filters(&f.filters, &f.filter),
                most_free: f.most_free,
                random: f.random,
            }),
            vpc: self.vpc_id.clone(),
            vpc_filter: self.vpc_filter.as_ref().map(of),
            groups,
            group_filter: self.security_group_filter.as_ref().map(of),
            sources: self.temporary_security_group_source_cidrs.clone(),
            public_address: self.associate_public_ip_address,
        }
    }

    fn reservation(&self, cx: &mut ValidateContext<'_>) -> Reservation {
        let (id, group) = (&self.capacity_reservation_id, &self.capacity_reservation_group_arn);
        let preference = &self.capacity_reservation_preference;
        let given = [
            ("capacity_reservation_id", id),
            ("capacity_reservation_group_arn", group),
            ("capacity_reservation_preference", preference),
        ];
        let given: Vec<&str> = given
            .iter()
            .filter(|(option, text)| !text.is_empty() && cx.is_known(option))
            .map(|(option, _)| *option)
            .collect();
        if let [first, second, ..] = given.as_slice() {
            cx.error(second, format!("only one of {first} and {second} can be set"));
        }
        if !matches!(&**preference, "" | "none" | "open") {
            cx.error(
                "capacity_reservation_preference",
                "capacity_reservation_preference only accepts 'none' or 'open' values",
            )
            .detail(format!("\"{preference}\" is neither."));
        }
        Reservation { open: preference == "open", id: id.clone(), group: group.clone() }
    }

    fn placement(&self, cx: &mut ValidateContext<'_>) -> Placement {
        let given = self.placement.clone();
        let inner = given.as_ref().map(|p| p.tenancy.clone()).unwrap_or_default();
        if !inner.is_empty() && !self.tenancy.is_empty() && cx.is_known("placement") {
            cx.error(
                "tenancy",
                "Please set only one of placement.tenancy and tenancy (deprecated)",
            );
        }
        let (option, tenancy) = match inner.is_empty() {
            true => ("tenancy", self.tenancy.clone()),
            false => ("placement", inner),
        };
        if !matches!(&*tenancy, "" | "default" | "dedicated" | "host") {
            cx.error(option, format!("Unknown tenancy type {tenancy}"))
                .hint("use default, dedicated or host");
        }
        let group = given.as_ref().map(|p| p.host_resource_group_arn.clone()).unwrap_or_default();
        let host = given.map(|p| p.host_id).unwrap_or_default();
        if !group.is_empty() && !matches!(&*tenancy, "" | "host") {
            cx.error("placement", "a host_resource_group_arn needs tenancy \"host\"");
        }
        Placement { group, host, tenancy }
    }

    fn metadata(&self, cx: &mut ValidateContext<'_>) -> Metadata {
        let Some(given) = &self.metadata_options else {
            return Metadata { enabled: true, tokens: true, hops: 1, tags: false };
        };
        let mut word = |name: &str, given: &str, yes: &str, no: &str| {
            if given != yes && given != no {
                cx.error(
                    "metadata_options",
                    format!("{name} requires either {no} or {yes} as its value"),
                )
                .detail(format!("\"{given}\" is neither."));
            }
            given == yes
        };
        let enabled = word("http_endpoint", &given.http_endpoint, "enabled", "disabled");
        let tokens = word("http_tokens", &given.http_tokens, "required", "optional");
        let tags =
            word("instance_metadata_tags", &given.instance_metadata_tags, "enabled", "disabled");
        let hops = given.http_put_response_hop_limit;
        if !(1..=64).contains(&hops) {
            cx.error(
                "metadata_options",
                "http_put_response_hop_limit requires a number between 1 and 64",
            )
            .detail(format!("{hops} is not."));
        }
        Metadata { enabled, tokens, hops, tags }
    }

    fn user_data(&self, cx: &mut ValidateContext<'_>) -> UserData {
        match (&self.user_data_file, self.user_data.is_empty()) {
            (Some(_), false) if cx.is_known("user_data_file") => {
                cx.error("user_data", "Only one of user_data or user_data_file can be specified");
                UserData::Nothing
            }
            (Some(file), true) if !file.is_empty() => UserData::File(file.clone()),
            (_, false) => UserData::Text(self.user_data.clone()),
            _ => UserData::Nothing,
        }
    }

    fn policy(&self, cx: &mut ValidateContext<'_>) -> Option<Policy> {
        let option = "temporary_iam_instance_profile_policy_document";
        let given = self.temporary_iam_instance_profile_policy_document.as_ref()?;
        if given.statement.is_empty() {
            cx.error(option, "the policy has no Statement").hint("add a Statement block");
        }
        for statement in &given.statement {
            if !matches!(&*statement.effect, "Allow" | "Deny") {
                cx.error(option, format!("\"{}\" is no Effect", statement.effect))
                    .hint("write \"Allow\" or \"Deny\"");
            }
            if statement.action.is_empty() || statement.resource.is_empty() {
                cx.error(option, "a Statement needs Action and Resource");
            }
        }
        let statements: Vec<_> = given
            .statement
            .iter()
            .map(|s| {
                serde_json::json!({ "Effect": s.effect, "Action": s.action, "Resource": s.resource })
            })
            .collect();
        let document = serde_json::json!({ "Version": given.version, "Statement": statements });
        Some(document.to_string())
    }
}

impl AmiFilterConfig {
    /// Checks the filter of the block `option`.
    pub(crate) fn validate(&self, option: &str, cx: &mut ValidateContext<'_>) -> ImageFilter {
        self.checked((option, option), cx)
    }

    /// Checks the filter, whose owners and filters stand in these options.
    pub(crate) fn checked(
        &self,
        (owners, looked_for): (&str, &str),
        cx: &mut ValidateContext<'_>,
    ) -> ImageFilter {
        if self.owners.is_empty() && cx.is_known(owners) {
            cx.error(owners, "For security reasons, your source AMI filter must declare an owner.")
                .hint("anyone can publish an image of any name; name who may, for example owners = [\"099720109477\"]");
        }
        let filters = filters(&self.filters, &self.filter);
        if filters.is_empty() && cx.is_known(looked_for) {
            cx.error(looked_for, "the filter does not say what to look for")
                .hint("for example filters = { name = \"my-image-*\" }");
        }
        ImageFilter {
            filters,
            owners: self.owners.clone(),
            newest: self.most_recent,
            deprecated: self.include_deprecated,
        }
    }
}

/// Whether a text is a network: an address and how many of its bits count.
fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) else {
        return false;
    };
    bits <= if address.is_ipv4() { 32 } else { 128 }
}
