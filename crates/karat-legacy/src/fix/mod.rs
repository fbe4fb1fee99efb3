//! What `fix` mends: options that older versions of Packer knew under other names.
//!
//! The rewriters run one after another in Packer's order, over JSON without places; what comes
//! out is printed with keys in order of the alphabet, byte for byte as Go's `encoding/json` does.

mod builders;
mod json;
mod parts;

use karat_hcl::json_text::Value;

pub use json::{Json, Object};

/// A rewriter.
#[derive(Clone, Copy)]
pub struct Fixer {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    fix: fn(&mut Object) -> Result<(), String>,
}

impl std::fmt::Debug for Fixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixer").field("name", &self.name).finish_non_exhaustive()
    }
}

const fn fixer(
    name: &'static str,
    about: &'static str,
    fix: fn(&mut Object) -> Result<(), String>,
) -> Fixer {
    Fixer { name, about, fix }
}

/// All of them, in the order in which they run.
pub const FIXERS: &[Fixer] = &[
    fixer("iso-md5", "\"iso_md5\" becomes \"iso_checksum\"", builders::iso_md5),
    fixer("createtime", "{{.CreateTime}} becomes {{timestamp}}", builders::create_time),
    fixer(
        "virtualbox-gaattach",
        "\"guest_additions_attach\" becomes \"guest_additions_mode\" in virtualbox",
        builders::guest_additions,
    ),
    fixer(
        "pp-vagrant-override",
        "options of providers go into \"override\" in vagrant post-processors",
        parts::vagrant_override,
    ),
    fixer("virtualbox-rename", "virtualbox becomes virtualbox-iso", parts::virtualbox_rename),
    fixer("vmware-rename", "vmware becomes vmware-iso", builders::vmware_rename),
    fixer("parallels-headless", "\"headless\" goes in parallels", builders::parallels_headless),
    fixer(
        "parallels-deprecations",
        "\"parallels_tools_host_path\" goes, \"guest_os_distribution\" becomes \"guest_os_type\" \
         in parallels",
        builders::parallels_deprecations,
    ),
    fixer(
        "sshkeypath",
        "\"ssh_key_path\" becomes \"ssh_private_key_file\"",
        builders::ssh_key_path,
    ),
    fixer(
        "sshdisableagent",
        "\"ssh_disable_agent\" becomes \"ssh_disable_agent_forwarding\"",
        builders::ssh_disable_agent,
    ),
    fixer(
        "scaleway-access-key",
        "\"access_key\" becomes \"organization_id\" in scaleway",
        builders::scaleway_access_key,
    ),
    fixer(
        "manifest-filename",
        "\"filename\" becomes \"output\" in manifest post-processors",
        parts::manifest_filename,
    ),
    fixer(
        "amazon-shutdown_behavior",
        "\"shutdown_behaviour\" becomes \"shutdown_behavior\" in amazon-*",
        builders::amazon_shutdown_behavior,
    ),
    fixer(
        "amazon-enhanced-networking",
        "\"enhanced_networking\" becomes \"ena_support\" in amazon-*",
        builders::amazon_enhanced_networking,
    ),
    fixer(
        "amazon-private-ip",
        "\"ssh_private_ip\" becomes \"ssh_interface\" in amazon-*",
        builders::amazon_private_ip,
    ),
    fixer(
        "amazon-temp-sec-cidrs",
        "\"temporary_security_group_source_cidr\" becomes a list in amazon-*",
        builders::amazon_source_cidr,
    ),
    fixer("docker-email", "\"login_email\" goes in docker", parts::docker_email),
    fixer("docker-tag-tags", "\"tag\" becomes \"tags\" in docker-tag", parts::docker_tags),
    fixer(
        "powershell-escapes",
        "backquotes before $, \", ' and ` go in powershell's users, passwords and variables",
        parts::powershell_escapes,
    ),
    fixer(
        "vmware-compaction",
        "vmware-iso on esx5 skips compaction where its disks cannot be compacted",
        builders::vmware_compaction,
    ),
    fixer(
        "hyperv-deprecations",
        "\"vhd_temp_path\" goes in hyperv-iso",
        builders::hyperv_temp_path,
    ),
    fixer(
        "hyperv-vmxc-typo",
        "\"clone_from_vmxc_path\" becomes \"clone_from_vmcx_path\" in hyperv-vmcx",
        builders::hyperv_clone_path,
    ),
    fixer(
        "hyperv-cpu-and-ram",
        "\"cpu\" becomes \"cpus\", \"ram_size\" becomes \"memory\" in hyperv-*",
        builders::hyperv_size,
    ),
    fixer(
        "clean-image-name",
        "clean_ami_name and clean_image_name become clean_resource_name",
        builders::clean_image_name,
    ),
    fixer(
        "spot-price-auto-product",
        "\"spot_price_auto_product\" goes in amazon-*",
        builders::spot_price_product,
    ),
    fixer(
        "qemu-disk-size",
        "\"disk_size\" in megabytes gets its unit in qemu",
        builders::qemu_disk_size,
    ),
    fixer(
        "galaxy-command",
        "\"galaxycommand\" becomes \"galaxy_command\" in ansible-local",
        parts::galaxy_command,
    ),
    fixer(
        "comm-config",
        "\"ssh_host_port_min\", \"ssh_host_port_max\" and \"ssh_skip_nat_mapping\" lose their \"ssh_\" in \
         virtualbox-*",
        builders::communicator,
    ),
    fixer(
        "ssh-wait-timeout",
        "\"ssh_wait_timeout\" becomes \"ssh_timeout\"",
        builders::ssh_timeout,
    ),
    fixer(
        "vsphere-iso-net-disk",
        "network and disk options go into \"network_adapters\" and \"storage\" in vsphere-iso",
        builders::vsphere_network_and_disk,
    ),
    fixer(
        "iso-checksum-type-and-url",
        "\"iso_checksum_type\" and \"iso_checksum_url\" go into \"iso_checksum\"",
        builders::iso_checksum,
    ),
    fixer(
        "qemu-host-port",
        "\"ssh_host_port_min\" and \"ssh_host_port_max\" lose their \"ssh_\" in qemu",
        builders::qemu_host_port,
    ),
    fixer(
        "azure-exclude_from_latest",
        "\"exlude_from_latest\" becomes \"exclude_from_latest\" in azure-chroot",
        builders::azure_exclude,
    ),
    fixer("proxmox-type", "proxmox becomes proxmox-iso", builders::proxmox_type),
];

/// Mends a template, and gives its new text.
///
/// # Errors
/// The text says what stands where something else has to.
pub fn fix(template: &Value) -> Result<String, String> {
    let Json::Object(mut root) = Json::from_value(template)? else {
        return Err("the template has to be an object".into());
    };
    for fixer in FIXERS {
        (fixer.fix)(&mut root)?;
    }
    Ok(Json::Object(root).to_text())
}
