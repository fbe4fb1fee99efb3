//! The table of plugins: where each is published and what it brings, as the plugin's own main file
//! registers it.

use crate::plugins::KnownPlugin;

/// What Packer itself brings, with no plugin asked for.
pub const PACKER: &str = "github.com/hashicorp/packer";

const fn plugin(source: &'static str) -> KnownPlugin {
    KnownPlugin { source, sources: &[], provisioners: &[], post_processors: &[], data_sources: &[] }
}

/// A plugin with nothing but sources.
const fn sources(source: &'static str, sources: &'static [&'static str]) -> KnownPlugin {
    KnownPlugin { sources, ..plugin(source) }
}

/// A plugin with nothing but provisioners.
const fn provisioners(source: &'static str, provisioners: &'static [&'static str]) -> KnownPlugin {
    KnownPlugin { provisioners, ..plugin(source) }
}

/// A plugin with nothing but data sources.
const fn data_sources(source: &'static str, data_sources: &'static [&'static str]) -> KnownPlugin {
    KnownPlugin { data_sources, ..plugin(source) }
}

/// Sources, and post-processors that import or export their images.
const fn with_posts(
    source: &'static str,
    sources: &'static [&'static str],
    post_processors: &'static [&'static str],
) -> KnownPlugin {
    KnownPlugin { sources, post_processors, ..plugin(source) }
}

/// Packer's own components first, then the plugins by their names.
pub(crate) const KNOWN: &[KnownPlugin] = &[
    KnownPlugin {
        sources: &["file", "null"],
        provisioners: &[
            "breakpoint",
            "file",
            "hcp-sbom",
            "powershell",
            "shell",
            "shell-local",
            "sleep",
            "windows-restart",
            "windows-shell",
        ],
        post_processors: &[
            "artifice",
            "checksum",
            "compress",
            "manifest",
            "provenance",
            "shell-local",
        ],
        data_sources: &[
            "hcp-packer-artifact",
            "hcp-packer-image",
            "hcp-packer-iteration",
            "hcp-packer-version",
            "http",
            "null",
        ],
        ..plugin(PACKER)
    },
    with_posts("github.com/hashicorp/alicloud", &["alicloud-ecs"], &["alicloud-import"]),
    KnownPlugin {
        sources: &[
            "amazon-chroot",
            "amazon-ebs",
            "amazon-ebssurrogate",
            "amazon-ebsvolume",
            "amazon-instance",
        ],
        post_processors: &["amazon-import"],
        data_sources: &["amazon-ami", "amazon-parameterstore", "amazon-secretsmanager"],
        ..plugin("github.com/hashicorp/amazon")
    },
    KnownPlugin {
        post_processors: &["amazon-ami-management"],
        ..plugin("github.com/wata727/amazon-ami-management")
    },
    with_posts(
        "github.com/veertuinc/veertu-anka",
        &["veertu-anka-vm-clone", "veertu-anka-vm-create"],
        &["veertu-anka-registry-push"],
    ),
    provisioners("github.com/hashicorp/ansible", &["ansible", "ansible-local"]),
    with_posts("github.com/solo-io/arm-image", &["arm-image"], &["arm-image"]),
    KnownPlugin {
        sources: &["azure-arm", "azure-chroot", "azure-dtl"],
        provisioners: &["azure-dtlartifact"],
        data_sources: &["azure-keyvaultsecret"],
        ..plugin("github.com/hashicorp/azure")
    },
    provisioners("github.com/hashicorp/chef", &["chef-client", "chef-solo"]),
    sources("github.com/hashicorp/cloudstack", &["cloudstack"]),
    provisioners("github.com/mondoohq/cnspec", &["cnspec"]),
    provisioners("github.com/hashicorp/converge", &["converge"]),
    sources("github.com/michalfita/cross", &["cross"]),
    KnownPlugin {
        sources: &["digitalocean"],
        post_processors: &["digitalocean-import"],
        data_sources: &["digitalocean-image"],
        ..plugin("github.com/digitalocean/digitalocean")
    },
    with_posts(
        "github.com/hashicorp/docker",
        &["docker"],
        &["docker-import", "docker-push", "docker-save", "docker-tag"],
    ),
    with_posts("github.com/exoscale/exoscale", &["exoscale"], &["exoscale-import"]),
    data_sources("github.com/joomcode/external", &["external", "external-raw"]),
    data_sources("github.com/ethanmdavidson/git", &["git-commit", "git-repository", "git-tree"]),
    KnownPlugin {
        sources: &["googlecompute"],
        post_processors: &["googlecompute-export", "googlecompute-import"],
        data_sources: &[
            "googlecompute-image",
            "googlecompute-parametermanager",
            "googlecompute-secretsmanager",
        ],
        ..plugin("github.com/hashicorp/googlecompute")
    },
    provisioners("github.com/YaleUniversity/goss", &["goss"]),
    sources("github.com/gridscale/gridscale", &["gridscale"]),
    sources("github.com/hetznercloud/hcloud", &["hcloud"]),
    with_posts("github.com/huaweicloud/huaweicloud", &["huaweicloud-ecs"], &["huaweicloud-import"]),
    sources("github.com/hashicorp/hyperone", &["hyperone"]),
    sources("github.com/hashicorp/hyperv", &["hyperv-iso", "hyperv-vmcx"]),
    with_posts(
        "github.com/IBM/ibmcloud",
        &["ibmcloud-classic", "ibmcloud-vpc"],
        &["ibmcloud-export-image"],
    ),
    provisioners("github.com/hashicorp/inspec", &["inspec"]),
    sources("github.com/hashicorp/jdcloud", &["jdcloud"]),
    sources("github.com/hashicorp/kubevirt", &["kubevirt-iso"]),
    sources("github.com/thomasklein94/libvirt", &["libvirt"]),
    KnownPlugin {
        sources: &["linode"],
        data_sources: &["linode-image"],
        ..plugin("github.com/linode/linode")
    },
    sources("github.com/hashicorp/lxc", &["lxc"]),
    sources("github.com/hashicorp/lxd", &["lxd"]),
    sources("github.com/macstadium/macstadium-orka", &["macstadium-orka"]),
    sources("github.com/hashicorp/ncloud", &["ncloud"]),
    sources("github.com/nutanix-cloud-native/nutanix", &["nutanix"]),
    sources("github.com/hashicorp/oneandone", &["oneandone"]),
    sources("github.com/hashicorp/openstack", &["openstack"]),
    sources("github.com/hashicorp/oracle", &["oracle-classic", "oracle-oci"]),
    KnownPlugin {
        sources: &[
            "outscale-bsu",
            "outscale-bsusurrogate",
            "outscale-bsuvolume",
            "outscale-chroot",
        ],
        data_sources: &["outscale-omi"],
        ..plugin("github.com/outscale/outscale")
    },
    KnownPlugin {
        sources: &["oxide-instance"],
        data_sources: &["oxide-image"],
        ..plugin("github.com/oxidecomputer/oxide")
    },
    sources(
        "github.com/Parallels/parallels",
        &["parallels-ipsw", "parallels-iso", "parallels-macvm", "parallels-pvm"],
    ),
    sources("github.com/hashicorp/profitbricks", &["profitbricks"]),
    sources("github.com/hashicorp/proxmox", &["proxmox", "proxmox-clone", "proxmox-iso"]),
    provisioners("github.com/hashicorp/puppet", &["puppet-masterless", "puppet-server"]),
    sources("github.com/hashicorp/qemu", &["qemu"]),
    sources("github.com/sacloud/sakuracloud", &["sakuracloud"]),
    provisioners("github.com/hashicorp/salt", &["salt-masterless"]),
    sources("github.com/scaleway/scaleway", &["scaleway"]),
    data_sources("github.com/ivoronin/sshkey", &["sshkey"]),
    sources("github.com/cirruslabs/tart", &["tart-cli"]),
    sources("github.com/hashicorp/tencentcloud", &["tencentcloud-cvm"]),
    provisioners("github.com/mschuchard/testinfra", &["testinfra"]),
    sources("github.com/hashicorp/triton", &["triton"]),
    with_posts("github.com/ucloud/ucloud", &["ucloud-uhost"], &["ucloud-import"]),
    with_posts("github.com/UpCloudLtd/upcloud", &["upcloud"], &["upcloud-import"]),
    with_posts("github.com/naveenrajm7/utm", &["utm-utm"], &["utm-zip"]),
    with_posts(
        "github.com/hashicorp/vagrant",
        &["vagrant"],
        &["vagrant", "vagrant-cloud", "vagrant-registry"],
    ),
    sources(
        "github.com/hashicorp/virtualbox",
        &["virtualbox-iso", "virtualbox-ovf", "virtualbox-vm"],
    ),
    sources("github.com/hashicorp/vmware", &["vmware-iso", "vmware-vmx"]),
    sources("github.com/volcengine/volcengine", &["volcengine-ecs"]),
    KnownPlugin {
        sources: &["vsphere-clone", "vsphere-iso", "vsphere-supervisor"],
        post_processors: &["vsphere", "vsphere-template"],
        data_sources: &["vsphere-virtualmachine"],
        ..plugin("github.com/hashicorp/vsphere")
    },
    sources("github.com/vultr/vultr", &["vultr"]),
    provisioners("github.com/rgl/windows-update", &["windows-update"]),
    sources("github.com/vatesfr/xenserver", &["xenserver-iso", "xenserver-xva"]),
    with_posts("github.com/hashicorp/yandex", &["yandex"], &["yandex-export", "yandex-import"]),
];
