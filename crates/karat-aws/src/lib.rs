//! AWS: the source `amazon-ebs`, data sources and functions.
//!
//! | folder | what |
//! |---|---|
//! | `options/` | the options that the components share, as blocks |
//! | `client/` | reaching AWS: credentials, endpoints, one rate limit, waiting, errors |
//! | `ebs/` | [`AmazonEbs`], step by step |
//! | `data/` | [`AmazonAmi`], [`AmazonParameterStore`], [`AmazonSecretsManager`] |
//! | `functions.rs` | [`Secrets`]: what the template language asks for |
//!
//! The clients of AWS's services are large crates; they stand behind this one alone.

mod client;
mod data;
mod ebs;
mod functions;
mod options;

pub use data::{
    AmazonAmi, AmazonParameterStore, AmazonSecretsManager, AmiDataConfig, ParameterConfig,
    SecretConfig,
};
pub use ebs::{AmazonEbs, EbsConfig, FastLaunchConfig, FastLaunchRegionConfig};
pub use functions::Secrets;
pub use options::{
    AccessConfig, AmiConfig, AmiFilterConfig, AssumeRoleConfig, DeviceConfig, FilterConfig,
    FiltersConfig, LicenseConfig, LicenseRequestConfig, MetadataConfig, PlacementConfig,
    PolicyConfig, PollingConfig, ProtectionConfig, ReachConfig, RunConfig, StatementConfig,
    SubnetFilterConfig, TagConfig, VaultConfig, VolumeTagConfig,
};
