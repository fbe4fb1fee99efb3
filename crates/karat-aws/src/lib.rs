//! AWS: the sources `amazon-ebs`, `amazon-ebssurrogate`, `amazon-ebsvolume` and `amazon-chroot`, data
//! sources and functions.
//!
//! | folder | what |
//! |---|---|
//! | `options/` | the options that the components share, as blocks |
//! | `client/` | reaching AWS: credentials, endpoints, one rate limit, waiting, errors |
//! | `ebs/` | [`AmazonEbs`] and its kin, step by step |
//! | `import/` | [`Import`], [`AmazonImport`]: a disk becomes an image without a machine |
//! | `policy.rs` | [`Policy`]: the least that builds need of IAM |
//! | `data/` | [`AmazonAmi`], [`AmazonParameterStore`], [`AmazonSecretsManager`] |
//! | `functions.rs` | [`Secrets`]: what the template language asks for |
//!
//! The clients of AWS's services are large crates; they stand behind this one alone.

mod client;
mod data;
mod ebs;
mod functions;
mod import;
mod options;
mod policy;

pub use client::REHEARSAL;
pub use data::{
    AmazonAmi, AmazonParameterStore, AmazonSecretsManager, AmiDataConfig, ParameterConfig,
    SecretConfig,
};
pub use ebs::{
    AmazonChroot, AmazonEbs, AmazonEbsSurrogate, AmazonEbsVolume, ChrootConfig, EbsConfig,
    FastLaunchConfig, FastLaunchRegionConfig, KeptVolumeConfig, RootDeviceConfig, SurrogateConfig,
    SurrogateDeviceConfig, VolumesConfig,
};
pub use functions::Secrets;
pub use import::{
    AmazonImport, AmazonImportConfig, AmazonImportValidated, Container, Import, Imported, Say,
};
pub use options::{
    AccessConfig, AmiConfig, AmiFilterConfig, AssumeRoleConfig, DeviceConfig, FilterConfig,
    FiltersConfig, LicenseConfig, LicenseRequestConfig, MetadataConfig, PlacementConfig,
    PolicyConfig, PollingConfig, ProtectionConfig, ReachConfig, RunConfig, StatementConfig,
    SubnetFilterConfig, TagConfig, VaultConfig, VolumeTagConfig,
};
pub use policy::Policy;
