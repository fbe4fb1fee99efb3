//! Block devices.

use karat_component::ValidateContext;
use karat_config::Config;
use serde::{Deserialize, Serialize};

use super::ami::is_key;

/// One block device.
#[derive(Clone, Debug, Config)]
pub struct DeviceConfig {
    /// The device as the image names it: `/dev/sda1`.
    #[option(default = "")]
    pub device_name: String,
    /// Size in GiB; that of the snapshot without.
    pub volume_size: Option<i32>,
    /// `gp2`, `gp3`, `io1`, `io2`, `st1`, `sc1` or `standard`; AWS's default without.
    #[option(default = "")]
    pub volume_type: String,
    /// Operations a second that are paid for.
    pub iops: Option<i32>,
    /// MiB a second, of a `gp3` volume.
    pub throughput: Option<i32>,
    /// Whether the volume is encrypted.
    pub encrypted: Option<bool>,
    /// The key that it is encrypted with.
    #[option(default = "")]
    pub kms_key_id: String,
    /// The snapshot that it begins with.
    #[option(default = "")]
    pub snapshot_id: String,
    /// Whether it goes with the machine. `false` keeps the build's volume, too; without it that one
    /// goes, and the volumes of machines of the image stay.
    pub delete_on_termination: Option<bool>,
    /// Whether the image's device of this name is left out.
    #[option(default = false)]
    pub no_device: bool,
    /// An instance store: `ephemeral0`, ….
    #[option(default = "")]
    pub virtual_name: String,
}

/// A block device that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) size: Option<i32>,
    pub(crate) kind: String,
    pub(crate) iops: Option<i32>,
    pub(crate) throughput: Option<i32>,
    pub(crate) encrypted: Option<bool>,
    pub(crate) key: String,
    pub(crate) snapshot: String,
    /// Whether it goes with the machine, where the template says so.
    pub(crate) goes_with_machine: Option<bool>,
    pub(crate) left_out: bool,
    pub(crate) store: String,
}

const KINDS: [&str; 7] = ["gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"];

impl DeviceConfig {
    /// Checks the options of the block `option` against each other. Bounds of numbers are AWS's to
    /// tell: they change.
    pub(crate) fn validate(self, option: &str, cx: &mut ValidateContext<'_>) -> Device {
        let name = &self.device_name;
        if name.is_empty() {
            cx.error(option, "the device_name must be specified for every block device")
                .hint("write it as the image does, for example device_name = \"/dev/xvda\"");
        }
        if !self.volume_type.is_empty() && !KINDS.contains(&self.volume_type.as_str()) {
            cx.error(option, format!("{name}: there is no volume_type \"{}\"", self.volume_type))
                .hint(format!("use one of {}", KINDS.join(", ")));
        }
        if !self.kms_key_id.is_empty() && self.encrypted == Some(false) {
            cx.error(option, format!("{name}: a kms_key_id needs encrypted = true"));
        }
        if !self.kms_key_id.is_empty() && !is_key(&self.kms_key_id) {
            cx.error(option, format!("{name}: \"{}\" is not a valid KMS key id", self.kms_key_id))
                .hint("give the key's id, \"alias/NAME\" or its ARN");
        }
        if self.throughput.is_some() && !matches!(&*self.volume_type, "gp3" | "") {
            let text =
                format!("{name}: throughput is for gp3 volumes, and this is {}", self.volume_type);
            cx.error(option, text);
        }
        if self.iops.is_some() && !matches!(&*self.volume_type, "gp3" | "io1" | "io2" | "") {
            let text = format!(
                "{name}: iops is for gp3, io1 and io2 volumes, and this is {}",
                self.volume_type
            );
            cx.error(option, text);
        }
        for (what, number) in [
            ("volume_size", self.volume_size),
            ("iops", self.iops),
            ("throughput", self.throughput),
        ] {
            if number.is_some_and(|n| n < 1) {
                cx.error(option, format!("{name}: {what} is a number from 1 on"));
            }
        }
        let volume = self.volume_size.is_some() || !self.snapshot_id.is_empty();
        if !self.virtual_name.is_empty() && volume {
            let text = format!("{name}: an instance store has neither volume_size nor snapshot_id");
            cx.error(option, text);
        }
        Device {
            name: self.device_name,
            size: self.volume_size,
            kind: self.volume_type,
            iops: self.iops,
            throughput: self.throughput,
            encrypted: self.encrypted,
            key: self.kms_key_id,
            snapshot: self.snapshot_id,
            goes_with_machine: self.delete_on_termination,
            left_out: self.no_device,
            store: self.virtual_name,
        }
    }
}
