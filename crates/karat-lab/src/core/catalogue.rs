//! Base images: what filters for those of Debian, Canonical and Amazon find.

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
    /// The root device's name.
    #[serde(default = "xvda")]
    pub device: String,
    /// Size of the root volume, GiB.
    #[serde(default = "eight")]
    pub size: u32,
    /// `x86_64` or `arm64`; the machine's own without.
    #[serde(default)]
    pub architecture: Option<String>,
}

fn amazon() -> String {
    "137112412989".into()
}
fn new_year() -> String {
    "2026-01-05T00:00:00Z".into()
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

/// Debian's account in AWS.
const DEBIAN: &str = "136693071363";
/// Canonical's account in AWS.
const CANONICAL: &str = "099720109477";

/// The base images that come with the lab.
#[must_use]
pub fn defaults() -> Vec<Entry> {
    let arm = host_architecture() == "arm64";
    let (debian, amazon_linux) = if arm { ("arm64", "arm64") } else { ("amd64", "x86_64") };
    let entry = |name: String, owner: &str, device: &str| Entry {
        description: name.clone(),
        name,
        id: None,
        owner: owner.into(),
        owner_alias: None,
        created: new_year(),
        device: device.into(),
        size: eight(),
        architecture: None,
    };
    let mut all = Vec::new();
    for release in ["12", "13"] {
        let name = format!("debian-{release}-{debian}-20260105-2348");
        all.push(entry(name, DEBIAN, "/dev/xvda"));
    }
    for path in [
        "hvm-ssd/ubuntu-focal-20.04",
        "hvm-ssd/ubuntu-jammy-22.04",
        "hvm-ssd-gp3/ubuntu-noble-24.04",
    ] {
        let name = format!("ubuntu/images/{path}-{debian}-server-20260105");
        all.push(entry(name, CANONICAL, "/dev/sda1"));
    }
    for name in [
        format!("al2023-ami-2023.9.20260105.0-kernel-6.1-{amazon_linux}"),
        format!("amzn2-ami-hvm-2.0.20260105.0-{amazon_linux}-gp2"),
    ] {
        let alias = Some("amazon".into());
        all.push(Entry { owner_alias: alias, ..entry(name, &amazon(), "/dev/xvda") });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_templates_look_for() {
        let names: Vec<String> = defaults().into_iter().map(|e| e.name).collect();
        let found = |start: &str| names.iter().filter(|n| n.starts_with(start)).count();
        assert_eq!(found("ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-"), 1);
        assert_eq!(found("debian-12-"), 1);
        assert_eq!(found("al2023-ami-2023"), 1);
    }
}
