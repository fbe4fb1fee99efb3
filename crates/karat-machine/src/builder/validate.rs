//! What the options are proved to be.

use std::path::PathBuf;
use std::time::Duration;

use karat_component::ValidateContext;
use karat_disk::Firmware;
use karat_layers::{Base, Bootstrap, Digest, ImportFile, ImportImage, Install, Normalise, Variant};
use karat_ssh::SshConfig;
use serde::{Deserialize, Serialize};

use super::config::{BaseConfig, MachineConfig, UserConfig};

/// What makes a bootable system of a bootstrap.
///
/// The network is netplan's and with it systemd-networkd's: that is what cloud-init writes for, and
/// ifupdown fails where cloud-init asks for DHCPv6 and there is no client for it.
const SYSTEM: [&str; 9] = [
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "netbase",
    "netplan.io",
    "procps",
    "systemd-sysv",
    "udev",
];

/// A proved configuration.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Where the stack of layers begins. A layer of another build may not be known yet.
    pub base: Base,
    /// Packages on a base that has its own already.
    pub install: Option<Install>,
    /// The user's package lock.
    pub lock_file: Option<PathBuf>,
    /// The image's host name.
    pub hostname: Option<String>,
    /// Accounts to be made.
    pub users: Vec<User>,
    /// The disks, unless only a layer is asked for.
    pub disk: Option<Disk>,
    /// What the layers forget.
    pub normalise: Normalise,
    /// How provisioners reach the machine.
    pub communicator: Reach,
    /// How long it may take to boot.
    pub boot_timeout: Duration,
    /// How long it may take to power off.
    pub shutdown_timeout: Duration,
}

/// How provisioners reach a machine.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Directly.
    Direct,
    /// Over ssh.
    Ssh(Box<SshConfig>),
    /// Not at all.
    None,
}

/// An account to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// The login shell.
    pub shell: String,
    /// Keys that may log in.
    pub authorized_keys: Vec<String>,
    /// Whether sudo asks for no password.
    pub sudo: bool,
    /// The encrypted password: a secret, so it is not stored.
    #[serde(skip)]
    pub password_hash: Option<String>,
}

/// Disks to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes; content and `free` without.
    pub size: Option<u64>,
    /// Bytes left free where the size is not given.
    pub free: u64,
    /// Whether a raw disk is written.
    pub raw: bool,
    /// Whether a qcow2 disk is written.
    pub qcow2: bool,
    /// Whether the qcow2 disk is compressed.
    pub compress: bool,
    /// Whether the SHA-256 of the disks is taken.
    pub checksum: bool,
    /// `bios`, `uefi` or `both`.
    pub firmware: String,
    /// Words for the kernel's command line.
    pub kernel_command_line: String,
    /// The folder; `output-NAME` without.
    pub directory: Option<PathBuf>,
    /// The name; the source's without.
    pub name: Option<String>,
}

impl Disk {
    pub(super) fn firmware(&self) -> Firmware {
        match self.firmware.as_str() {
            "bios" => Firmware::Bios,
            "uefi" => Firmware::Uefi,
            _ => Firmware::Both,
        }
    }
}

pub(super) fn validate(config: MachineConfig, cx: &mut ValidateContext<'_>) -> Option<Validated> {
    let normalise = Normalise {
        keep_host_keys: config.keep_host_keys,
        keep_logs: config.keep_logs,
        ..Normalise::default()
    };
    let disk = disk(&config, cx);
    let base = base(&config, disk.is_some(), normalise, cx);
    let bootstrap = matches!(&base, Some(Base::Bootstrap(_)));
    let install = (!bootstrap && !config.packages.is_empty()).then(|| Install {
        packages: config.packages.clone(),
        recommends: config.install_recommends,
        sources: None,
        normalise,
    });
    for (place, user) in config.user.iter().enumerate() {
        check_user(user, place, cx);
    }
    if let Some(name) = config.hostname.as_deref().filter(|name| !is_hostname(name)) {
        cx.error("hostname", format!("\"{name}\" is no host name"))
            .hint("letters, digits, hyphens and dots, at most 64");
    }
    let communicator = match config.communicator.as_str() {
        "machine" => Reach::Direct,
        "none" => Reach::None,
        "ssh" => {
            for problem in config.ssh.problems() {
                let error = cx.error(problem.option, problem.summary);
                if !problem.hint.is_empty() {
                    error.hint(problem.hint);
                }
            }
            Reach::Ssh(Box::new(config.ssh.clone()))
        }
        other => {
            cx.error("communicator", format!("unknown communicator \"{other}\""))
                .hint("write \"machine\", \"ssh\" or \"none\"");
            return None;
        }
    };
    Some(Validated {
        base: base?,
        install,
        lock_file: config.lock_file.map(PathBuf::from),
        hostname: config.hostname,
        users: config.user.into_iter().map(user).collect(),
        disk,
        normalise,
        communicator,
        boot_timeout: config.boot_timeout.0,
        shutdown_timeout: config.shutdown_timeout.0,
    })
}

fn base(
    config: &MachineConfig,
    bootable: bool,
    normalise: Normalise,
    cx: &mut ValidateContext<'_>,
) -> Option<Base> {
    if let Some(from) = &config.from {
        if config.base.is_some() {
            cx.error("from", "only one of \"base\" and \"from\" can be set")
                .hint("\"from\" is the layer of another build, \"base\" a system to begin with");
        }
        // Before the other build is done its layer is not known.
        if !cx.is_known("from") {
            return Some(Base::Layer(Digest([0; 32])));
        }
        return match from.parse() {
            Ok(digest) => Some(Base::Layer(digest)),
            Err(_) => {
                cx.error("from", format!("\"{from}\" is no layer"))
                    .hint("write from = artifact.BUILD.machine.NAME.layer");
                None
            }
        };
    }
    let base = match &config.base {
        Some(base) => base.clone(),
        None => BaseConfig {
            suite: "trixie".into(),
            variant: "minbase".into(),
            ..BaseConfig::default()
        },
    };
    let chosen: Vec<&str> = [("tar", &base.tar), ("oci", &base.oci), ("disk", &base.disk)]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|_| name))
        .collect();
    if chosen.len() > 1 {
        cx.error("base", format!("only one of {} can be set in \"base\"", chosen.join(" and ")));
        return None;
    }
    let sha256 = match &base.sha256 {
        None => None,
        Some(text) => match text.parse() {
            Ok(digest) => Some(digest),
            Err(_) => {
                cx.error("base", format!("\"{text}\" is no SHA-256: it has 64 hexadecimal digits"));
                None
            }
        },
    };
    let file = |source: &String| ImportFile { source: source.clone(), sha256, normalise };
    if let Some(tar) = &base.tar {
        return Some(Base::Tar(file(tar)));
    }
    if let Some(disk) = &base.disk {
        return Some(Base::Disk(file(disk)));
    }
    if let Some(oci) = &base.oci {
        let (source, reference) = (oci.clone(), base.oci_reference);
        if karat_oci::is_address(oci) {
            if let Err(error) = karat_oci::check(oci) {
                cx.error("base", error.to_string()).hint(
                    "write it as \"docker://debian:13\" or \"docker://HOST/NAME@sha256:...\"",
                );
                return None;
            }
            if reference.is_some() {
                cx.error(
                    "base",
                    "\"oci_reference\" chooses among the images of a folder or archive",
                )
                .hint("the address of a registry's image ends in its tag or digest");
                return None;
            }
        }
        return Some(Base::Oci(ImportImage { source, fetched: None, reference, normalise }));
    }
    bootstrap(config, base, bootable, normalise, cx).map(Base::Bootstrap)
}

fn bootstrap(
    config: &MachineConfig,
    base: BaseConfig,
    bootable: bool,
    normalise: Normalise,
    cx: &mut ValidateContext<'_>,
) -> Option<Bootstrap> {
    let variant = match base.variant.as_str() {
        "minbase" => Variant::Minbase,
        "essential" => Variant::Essential,
        other => {
            cx.error("base", format!("unknown variant \"{other}\""))
                .hint("write \"minbase\" or \"essential\"");
            return None;
        }
    };
    let mut packages = base.system_packages.unwrap_or_else(|| {
        let mut system: Vec<String> = SYSTEM.iter().map(|p| (*p).to_owned()).collect();
        // In older suites the resolver is part of systemd itself.
        if !["bullseye", "focal", "jammy"].contains(&base.suite.as_str()) {
            system.push("systemd-resolved".into());
        }
        let has_kernel = config.packages.iter().any(|p| p.starts_with("linux-image"));
        if bootable && !has_kernel {
            system.push(kernel(&base.suite, base.architecture.as_deref()));
        }
        system
    });
    packages.extend(config.packages.iter().cloned());
    Some(Bootstrap {
        suite: base.suite,
        mirror: base.mirror,
        sources: Vec::new(),
        components: base.components,
        architecture: base.architecture,
        keyring: base.keyring.map(PathBuf::from),
        variant,
        packages,
        recommends: config.install_recommends,
        normalise,
    })
}

/// The package that holds the kernel.
fn kernel(suite: &str, architecture: Option<&str>) -> String {
    const UBUNTU: [&str; 6] = ["focal", "jammy", "noble", "oracular", "plucky", "questing"];
    if UBUNTU.contains(&suite) {
        return "linux-image-virtual".into();
    }
    let architecture = architecture.unwrap_or(match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    });
    format!("linux-image-{architecture}")
}

fn disk(config: &MachineConfig, cx: &mut ValidateContext<'_>) -> Option<Disk> {
    let (raw, qcow2) = match config.disk_format.as_str() {
        "raw" => (true, false),
        "qcow2" => (false, true),
        "both" => (true, true),
        "none" => return None,
        other => {
            cx.error("disk_format", format!("unknown disk format \"{other}\""))
                .hint("write \"raw\", \"qcow2\", \"both\" or \"none\"");
            return None;
        }
    };
    if config.filesystem != "ext4" {
        cx.error("filesystem", format!("unknown file system \"{}\"", config.filesystem))
            .hint("\"ext4\" is what Karat writes");
    }
    if !["bios", "uefi", "both"].contains(&config.firmware.as_str()) {
        cx.error("firmware", format!("unknown firmware \"{}\"", config.firmware))
            .hint("write \"bios\", \"uefi\" or \"both\"");
    }
    let mut bytes = |option: &str, text: &str| match parse_size(text) {
        Ok(bytes) => Some(bytes),
        Err(reason) => {
            cx.error(option, format!("\"{text}\" is no size"))
                .detail(format!("{reason}."))
                .hint("write it like \"4G\" or \"512M\"");
            None
        }
    };
    let size = config.disk_size.as_ref().and_then(|text| bytes("disk_size", text));
    let free = bytes("disk_free", &config.disk_free).unwrap_or(256 << 20);
    Some(Disk {
        size,
        free,
        raw,
        qcow2,
        compress: config.disk_compress,
        checksum: config.disk_checksum,
        firmware: config.firmware.clone(),
        kernel_command_line: config.kernel_command_line.clone(),
        directory: config.output_directory.as_ref().map(PathBuf::from),
        name: config.image_name.clone(),
    })
}

/// Bytes of `20G`, `512M`, `1024`; whole MiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| "it has no number".to_owned())?;
    let shift = match text[digits..].trim().trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        other => return Err(format!("\"{other}\" is no unit")),
    };
    let bytes = number.checked_shl(shift).filter(|b| b >> shift == number);
    let bytes = bytes.ok_or("it is too large")?;
    if bytes == 0 || bytes % (1 << 20) != 0 {
        return Err("a disk has whole MiB".into());
    }
    Ok(bytes)
}

fn is_hostname(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

fn check_user(user: &UserConfig, place: usize, cx: &mut ValidateContext<'_>) {
    let name = &user.name;
    let good = |text: &str| {
        !text.is_empty()
            && text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
    };
    if !good(name) {
        cx.error("user", format!("\"{name}\" is no login name (user {})", place + 1))
            .hint("it begins with a small letter and has small letters, digits, _ and -");
    }
    if let Some(group) = user.groups.iter().find(|g| !good(g)) {
        cx.error("user", format!("\"{group}\" is no group name (user \"{name}\")"));
    }
    if !user.shell.starts_with('/') {
        cx.error(
            "user",
            format!("the shell \"{}\" of user \"{name}\" is no absolute path", user.shell),
        );
    }
    for key in user.authorized_keys.iter().filter(|k| k.split_whitespace().count() < 2) {
        cx.error("user", format!("\"{key}\" is no public key (user \"{name}\")"))
            .hint("a key is a line like: ssh-ed25519 AAAA… name");
    }
}

fn user(config: UserConfig) -> User {
    User {
        name: config.name,
        groups: config.groups,
        shell: config.shell,
        authorized_keys: config.authorized_keys,
        sudo: config.sudo,
        password_hash: config.password_hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4G"), Ok(4 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("2097152"), Ok(2 << 20));
        for wrong in ["", "G", "0", "1000", "1X", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
