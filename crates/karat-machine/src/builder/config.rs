//! The options of source `machine`. Their doc comments are the manual.

use karat_config::{Config, Duration};
use karat_ssh::SshConfig;

/// Builds a golden image on the machine that Karat runs on.
///
/// A real system with systemd and network of its own is put together from packages, an archive or
/// what another build made. Provisioners run in it; what they change becomes a layer on the base.
/// Out come bootable disks. Needs root.
#[derive(Clone, Debug, Config)]
pub struct MachineConfig {
    /// What the machine starts from: packages of a suite (Debian 13 without any option), a root
    /// tar, a container image or a disk image. Not together with `from`.
    #[option(block)]
    pub base: Option<BaseConfig>,
    /// The layer that another build made: `artifact.BUILD.machine.NAME.layer`. What that build
    /// made is not built again unless something that goes into it changed.
    pub from: Option<String>,
    /// Packages to be there before provisioners run, as `apt-get install` takes them.
    pub packages: Vec<String>,
    /// Installs what the packages recommend, too.
    pub install_recommends: bool,
    /// Where the exact versions of all packages are written down. With a file in the template's
    /// repository everybody builds the same; without, the lock stays in Karat's state folder.
    /// `karat build -update` resolves anew.
    pub lock_file: Option<String>,
    /// The host name of the image; `localhost` unless the base has one.
    pub hostname: Option<String>,
    /// Accounts to be made before provisioners run.
    #[option(blocks)]
    pub user: Vec<UserConfig>,
    /// Size of the disk, such as `4G` or `20480M`; the content and `disk_free` without.
    pub disk_size: Option<String>,
    /// Free room on a disk whose size is not given.
    #[option(default = "256M")]
    pub disk_free: String,
    /// `raw`, `qcow2`, `both`, or `none` for a layer that other builds start from.
    #[option(default = "qcow2")]
    pub disk_format: String,
    /// Compresses the qcow2 disk.
    pub disk_compress: bool,
    /// Writes down the SHA-256 of the disks.
    pub disk_checksum: bool,
    /// The file system of the root partition: `ext4`.
    #[option(default = "ext4")]
    pub filesystem: String,
    /// What the disk boots by: `bios`, `uefi` or `both`.
    #[option(default = "both")]
    pub firmware: String,
    /// Words for the kernel's command line.
    #[option(default = "console=tty0 console=ttyS0,115200n8")]
    pub kernel_command_line: String,
    /// The folder of the disks; `output-NAME` without.
    pub output_directory: Option<String>,
    /// The disks' name, without ending; the source's name without.
    pub image_name: Option<String>,
    /// Keeps the SSH host keys, for an image of one machine only. Otherwise each machine makes its
    /// own at its first boot.
    pub keep_host_keys: bool,
    /// Keeps what is in `/var/log`.
    pub keep_logs: bool,
    /// How provisioners reach the machine: `machine` (directly), `ssh`, or `none`.
    #[option(default = "machine")]
    pub communicator: String,
    /// How long the machine may take to boot.
    #[option(default = "5m", volatile)]
    pub boot_timeout: Duration,
    /// How long the machine may take to power off before it is stopped hard.
    #[option(default = "2m", volatile)]
    pub shutdown_timeout: Duration,
    /// How to log in, with `communicator = "ssh"`. Without a key or password a key is made for
    /// this build and handed over by the metadata server.
    #[option(flatten)]
    pub ssh: SshConfig,
}

/// What a machine starts from. At most one of `tar`, `oci` and `disk`.
#[derive(Clone, Debug, Default, Config)]
pub struct BaseConfig {
    /// The Debian or Ubuntu suite to take packages from.
    #[option(default = "trixie")]
    pub suite: String,
    /// The mirror of the main archive; the system's own mirrors, with their security archive,
    /// without.
    pub mirror: Option<String>,
    /// Components of the archive, such as `main`, `contrib`.
    pub components: Vec<String>,
    /// Debian's name of the architecture; the host's without.
    pub architecture: Option<String>,
    /// The keyring that checks the archive's signature.
    #[option(input)]
    pub keyring: Option<String>,
    /// How much to start with: `minbase` (essential and required packages) or `essential`.
    #[option(default = "minbase")]
    pub variant: String,
    /// What makes a system of it beside the packages asked for: init, bus, network; and a kernel
    /// where a disk is asked for. An empty list leaves them out.
    pub system_packages: Option<Vec<String>>,
    /// A root tar: plain, gzip, xz or zstd; a path or an https address.
    pub tar: Option<String>,
    /// A container image: a folder or archive in the OCI layout, one from `docker save`, or a
    /// registry's, such as `docker://debian:13`. Logins are those of `docker login` and
    /// `podman login`. A tag is looked up once; again with `-update`.
    pub oci: Option<String>,
    /// Which image of it: a tag.
    pub oci_reference: Option<String>,
    /// A disk image with an ext4 root: raw or qcow2; a path or an https address.
    pub disk: Option<String>,
    /// The SHA-256 that `tar` or `disk` must have.
    pub sha256: Option<String>,
}

/// An account.
#[derive(Clone, Debug, Config)]
pub struct UserConfig {
    /// The login name.
    #[option(required)]
    pub name: String,
    /// Groups beside the user's own. Those that do not exist are made.
    pub groups: Vec<String>,
    /// The login shell.
    #[option(default = "/bin/bash")]
    pub shell: String,
    /// Public keys that may log in, in OpenSSH's format.
    pub authorized_keys: Vec<String>,
    /// The encrypted password, as in `/etc/shadow`; none without, so that only keys log in.
    #[option(secret)]
    pub password_hash: Option<String>,
    /// Whether `sudo` asks for no password.
    pub sudo: bool,
}
