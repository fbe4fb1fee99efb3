//! Base images: what they are called in the cloud, and what their roots are made from here.

use karat_layers::{Base, Bootstrap, Variant};
use serde::{Deserialize, Serialize};

/// A base image, in every region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, as filters look for it.
    pub name: String,
    /// A fixed id, the same in every region, for templates that have one in them.
    #[serde(default)]
    pub id: Option<String>,
    /// The account it belongs to.
    #[serde(default = "amazon")]
    pub owner: String,
    /// The owner's alias, `amazon` say.
    #[serde(default)]
    pub owner_alias: Option<String>,
    /// What it says of itself.
    #[serde(default)]
    pub description: String,
    /// When it was made, RFC 3339.
    #[serde(default = "new_year")]
    pub created: String,
    /// The account that one logs in to.
    #[serde(default = "ec2_user")]
    pub user: String,
    /// The root device's name.
    #[serde(default = "xvda")]
    pub device: String,
    /// Size of the root volume, GiB.
    #[serde(default = "eight")]
    pub size: u32,
    /// `x86_64` or `arm64`; the machine's own without.
    #[serde(default)]
    pub architecture: Option<String>,
    /// `windows` for an image that counts as one of Windows, for rehearsals with records; Linux
    /// without.
    #[serde(default)]
    pub platform: Option<String>,
    /// What the root is made from.
    #[serde(default)]
    pub root: Option<Base>,
    /// What it really is, where that is not what the name says.
    #[serde(default)]
    pub remark: Option<String>,
}

fn amazon() -> String {
    "137112412989".into()
}
fn new_year() -> String {
    "2026-01-05T00:00:00Z".into()
}
fn ec2_user() -> String {
    "ec2-user".into()
}
fn xvda() -> String {
    "/dev/xvda".into()
}
const fn eight() -> u32 {
    8
}

/// The architecture of this machine, as AWS calls it.
#[must_use]
pub fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

/// What an image in a cloud has beside a bare system.
const CLOUD_PACKAGES: [&str; 19] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "cloud-init",
    "openssh-server",
    "openssh-sftp-server",
    "sudo",
    "ca-certificates",
    "curl",
    "iproute2",
    "iputils-ping",
    "procps",
    "less",
    "rsync",
    "python3",
    "apt-utils",
    "e2fsprogs",
    "fdisk",
];

/// A Debian system with what an image in a cloud has.
#[must_use]
pub fn debian(suite: &str) -> Base {
    Base::Bootstrap(Bootstrap {
        suite: suite.into(),
        variant: Variant::Minbase,
        packages: CLOUD_PACKAGES.iter().map(ToString::to_string).collect(),
        ..Bootstrap::default()
    })
}

/// Debian's account in AWS.
const DEBIAN: &str = "136693071363";
/// Canonical's account in AWS.
const CANONICAL: &str = "099720109477";

/// The base images that come with the lab. Where a machine reaches Debian's mirror alone, all of
/// them are Debian, and say so.
#[must_use]
pub fn defaults() -> Vec<Entry> {
    let arm = host_architecture() == "arm64";
    let (debian_name, amazon_name) = if arm { ("arm64", "arm64") } else { ("amd64", "x86_64") };
    let entry = |name: String, owner: &str, user: &str, device: &str, size, suite: &str| Entry {
        description: name.clone(),
        name,
        id: None,
        owner: owner.into(),
        owner_alias: None,
        created: new_year(),
        user: user.into(),
        device: device.into(),
        size,
        architecture: None,
        root: Some(debian(suite)),
        platform: None,
        remark: None,
    };
    let mut all = Vec::new();
    for (number, suite) in [("12", "bookworm"), ("13", "trixie")] {
        let name = format!("debian-{number}-{debian_name}-20260105-2348");
        all.push(entry(name, DEBIAN, "admin", "/dev/xvda", 8, suite));
    }
    let ubuntu = [
        ("hvm-ssd/ubuntu-focal-20.04", "bookworm"),
        ("hvm-ssd/ubuntu-jammy-22.04", "bookworm"),
        ("hvm-ssd-gp3/ubuntu-noble-24.04", "trixie"),
    ];
    for (path, suite) in ubuntu {
        let name = format!("ubuntu/images/{path}-{debian_name}-server-20260105");
        let mut found = entry(name, CANONICAL, "ubuntu", "/dev/sda1", 8, suite);
        found.remark = Some(format!("a Debian {suite} root under Ubuntu's name"));
        all.push(found);
    }
    for (name, device) in [
        (format!("al2023-ami-2023.9.20260105.0-kernel-6.1-{amazon_name}"), "/dev/xvda"),
        (format!("amzn2-ami-hvm-2.0.20260105.0-{amazon_name}-gp2"), "/dev/xvda"),
    ] {
        let mut found = entry(name, &amazon(), "ec2-user", device, 8, "trixie");
        found.owner_alias = Some("amazon".into());
        found.remark = Some("a Debian trixie root under Amazon Linux's name".into());
        all.push(found);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_what_they_say_have_a_remark() {
        for entry in defaults() {
            let honest = entry.name.starts_with("debian-");
            assert_eq!(entry.remark.is_none(), honest, "{}", entry.name);
            assert!(matches!(entry.root, Some(Base::Bootstrap(_))));
        }
    }
}
