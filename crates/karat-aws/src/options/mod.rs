//! The options of the AWS components, in the blocks that they share.
//!
//! | file | what |
//! |---|---|
//! | `access.rs` | region, credentials, endpoints |
//! | `ami.rs` | the image: names, copies, sharing, encryption |
//! | `run.rs` | the machine that builds: type, network, access, roles, spot |
//! | `device.rs` | block devices |
//! | `reach.rs` | how the machine is reached |
//! | `tags.rs` | tags and filters |

mod access;
mod ami;
mod device;
mod reach;
mod run;
mod tags;

pub use access::{AccessConfig, AssumeRoleConfig, PollingConfig, VaultConfig};
pub use ami::{AmiConfig, ProtectionConfig};
pub use device::DeviceConfig;
pub use reach::ReachConfig;
pub use run::{
    AmiFilterConfig, FiltersConfig, LicenseConfig, LicenseRequestConfig, MetadataConfig,
    PlacementConfig, PolicyConfig, RunConfig, StatementConfig, SubnetFilterConfig,
};
pub use tags::{FilterConfig, TagConfig, VolumeTagConfig};

pub(crate) use ami::{Image, is_key};
pub(crate) use device::Device;
pub(crate) use reach::{Interface, Login, Reach, Windows};
pub(crate) use run::{ImageFilter, Launch, Network, Source, Spot, UserData};
pub(crate) use tags::{Tags, merged, pairs, volume_pairs};
