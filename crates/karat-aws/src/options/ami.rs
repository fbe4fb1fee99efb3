//! The options of the image that a build makes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use karat_component::ValidateContext;
use karat_config::{Config, NameRules};
use serde::{Deserialize, Serialize};

use super::tags::{TagConfig, Tags, merged, pairs};

/// The image: its name, where it is copied to, who may use it.
#[derive(Clone, Debug, Config)]
pub struct AmiConfig {
    /// The image's name: 3 to 128 characters, in use once in an account and region.
    #[option(required)]
    pub ami_name: String,
    /// The image's description. `{{ .SourceAMI }}` and its kin can be used.
    #[option(default = "", late)]
    pub ami_description: String,
    /// The architecture that the source image has to have: `x86_64`, `arm64` or `i386`.
    #[option(default = "")]
    pub architecture: String,
    /// The virtualization that the source image has to have: `hvm` or `paravirtual`.
    #[option(default = "")]
    pub ami_virtualization_type: String,
    /// Accounts that may launch the image.
    pub ami_users: Vec<String>,
    /// Groups that may launch the image: `all` makes it public.
    pub ami_groups: Vec<String>,
    /// ARNs of organisations that may launch the image.
    pub ami_org_arns: Vec<String>,
    /// ARNs of organisational units that may launch the image.
    pub ami_ou_arns: Vec<String>,
    /// Product codes for the image. AWS takes none any more.
    #[option(deprecated = "AWS does not support it any more")]
    pub ami_product_codes: Vec<String>,
    /// Regions that the image is copied to, all at once.
    pub ami_regions: Vec<String>,
    /// Whether nobody checks that the regions exist.
    #[option(default = false, volatile)]
    pub skip_region_validation: bool,
    /// Within how many minutes AWS is to finish each copy: a multiple of 15. AWS charges for it.
    #[option(volatile)]
    pub snapshot_copy_duration_minutes: Option<i64>,
    /// One of the `tags`.
    #[option(blocks)]
    pub tag: Vec<TagConfig>,
    /// Tags of the image and its snapshots. `{{ .SourceAMI }}` and its kin can be used.
    #[option(late)]
    pub tags: BTreeMap<String, String>,
    /// One of the `snapshot_tags`.
    #[option(blocks)]
    pub snapshot_tag: Vec<TagConfig>,
    /// Tags of the snapshots, beside or instead of `tags`.
    #[option(late)]
    pub snapshot_tags: BTreeMap<String, String>,
    /// Whether the image supports enhanced networking by ENA; as the source image says, without.
    pub ena_support: Option<bool>,
    /// Whether the image supports enhanced networking by an Intel 82599.
    #[option(default = false)]
    pub sriov_support: bool,
    /// Whether an image of the same name is replaced, in all regions; `-force` means the same. The
    /// old one is deregistered just before the call that makes the new one, since a name is in use
    /// once; if that fails, it is registered again.
    #[option(default = false)]
    pub force_deregister: bool,
    /// Whether the snapshots of an image that is replaced go too, once the build has succeeded.
    /// Means nothing without `force_deregister`.
    #[option(default = false)]
    pub force_delete_snapshot: bool,
    /// Whether the image is encrypted. The build's own volumes are, then, so that no further copy
    /// is needed. Without it the image is encrypted if a key is given or the source image is.
    pub encrypt_boot: Option<bool>,
    /// The key for the build's region: an id, an alias or an ARN. AWS's own without.
    #[option(default = "")]
    pub kms_key_id: String,
    /// The key for each region of `ami_regions`; an empty text stands for AWS's own.
    pub region_kms_key_ids: BTreeMap<String, String>,
    /// Whether only the copies are kept: the image in the build's region has another name and goes
    /// at the end.
    #[option(default = false)]
    pub skip_save_build_region: bool,
    /// `v2.0` if machines of the image are to have the metadata service in version 2 alone.
    #[option(default = "")]
    pub imds_support: String,
    /// When the image is marked as deprecated, such as `2030-01-01T00:00:00Z`.
    #[option(default = "")]
    pub deprecate_at: String,
    /// Protects the image from being deregistered.
    #[option(block)]
    pub deregistration_protection: Option<ProtectionConfig>,
    /// Accounts that may use the snapshots.
    pub snapshot_users: Vec<String>,
    /// Groups that may use the snapshots: `all` makes them public.
    pub snapshot_groups: Vec<String>,
}

/// Protects the image from being deregistered.
#[derive(Clone, Debug, Config)]
pub struct ProtectionConfig {
    /// Whether it is protected.
    #[option(default = false)]
    pub enabled: bool,
    /// Whether the protection lasts for a day after it was taken away. Means `enabled`.
    #[option(default = false)]
    pub with_cooldown: bool,
}

/// The image that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) architecture: String,
    pub(crate) virtualization: String,
    pub(crate) users: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) organisations: Vec<String>,
    pub(crate) units: Vec<String>,
    /// The regions of copies, each once; the build's region may be among them.
    pub(crate) regions: Vec<String>,
    pub(crate) check_regions: bool,
    /// Within how many minutes a copy is to be made.
    #[serde(default)]
    pub(crate) copy_minutes: Option<i64>,
    /// Whether the image goes and its copies stay.
    #[serde(default)]
    pub(crate) only_copies: bool,
    /// Whether an image that has the name gives it up.
    #[serde(default)]
    pub(crate) replaces: bool,
    /// Whether that one's snapshots go, too.
    #[serde(default)]
    pub(crate) deletes_old_snapshots: bool,
    pub(crate) tags: Tags,
    pub(crate) snapshot_tags: Tags,
    pub(crate) ena: Option<bool>,
    pub(crate) sriov: bool,
    pub(crate) encrypt: Option<bool>,
    pub(crate) key: String,
    pub(crate) region_keys: BTreeMap<String, String>,
    pub(crate) imds: String,
    /// Seconds since 1970.
    pub(crate) deprecate_at: Option<i64>,
    /// Whether it is protected, and whether with a cool-down.
    pub(crate) protect: Option<bool>,
    pub(crate) snapshot_users: Vec<String>,
    pub(crate) snapshot_groups: Vec<String>,
}

impl AmiConfig {
    /// Checks the options against each other.
    pub(crate) fn validate(self, region: Option<&str>, cx: &mut ValidateContext<'_>) -> Image {
        self.check_name(cx);
        self.check_encryption(region, cx);
        self.check_sharing(cx);
        if !matches!(&*self.architecture, "" | "x86_64" | "arm64" | "i386") {
            cx.error("architecture", "there is no such architecture")
                .detail(format!("\"{}\" is none of x86_64, arm64 and i386.", self.architecture));
        }
        if !matches!(&*self.ami_virtualization_type, "" | "hvm" | "paravirtual") {
            cx.error("ami_virtualization_type", "there is no such virtualization").detail(format!(
                "\"{}\" is neither hvm nor paravirtual.",
                self.ami_virtualization_type
            ));
        }
        if !matches!(&*self.imds_support, "" | "v2.0") {
            cx.error("imds_support", "imds_support is \"v2.0\" or empty")
                .detail(format!("\"{}\" is neither.", self.imds_support));
        }
        let deprecate_at = self.deprecation(cx);
        let codes = !self.ami_product_codes.is_empty();
        if codes {
            cx.error("ami_product_codes", "AWS takes no product codes any more")
                .hint("remove ami_product_codes");
        }
        for region in &self.ami_regions {
            if !is_region(region) {
                cx.error("ami_regions", format!("\"{region}\" is not the name of a region"))
                    .hint("a region is written like \"us-west-2\"");
            }
        }
        if self.snapshot_copy_duration_minutes.is_some_and(|m| m < 15 || m % 15 != 0) {
            let minutes = self.snapshot_copy_duration_minutes.unwrap_or_default();
            cx.error(
                "snapshot_copy_duration_minutes",
                "a copy is asked for in steps of 15 minutes",
            )
            .detail(format!("{minutes} is not a multiple of 15 from 15 on."));
        }
        let elsewhere = self.ami_regions.iter().any(|r| region != Some(r));
        if self.skip_save_build_region && !elsewhere && cx.is_known("ami_regions") {
            cx.error("skip_save_build_region", "no image would be left")
                .hint("name the regions of its copies in ami_regions");
        }
        late("ami_description", &self.ami_description, cx);
        // A key says that there is to be encryption.
        let with_key = !self.kms_key_id.is_empty() || !self.region_kms_key_ids.is_empty();
        let mut seen = BTreeSet::new();
        let regions =
            self.ami_regions.iter().filter(|r| seen.insert(r.as_str())).cloned().collect();
        Image {
            regions,
            tags: merged("tags", &self.tags, pairs(&self.tag), cx),
            snapshot_tags: merged(
                "snapshot_tags",
                &self.snapshot_tags,
                pairs(&self.snapshot_tag),
                cx,
            ),
            name: self.ami_name,
            description: self.ami_description,
            architecture: self.architecture,
            virtualization: self.ami_virtualization_type,
            users: self.ami_users,
            groups: self.ami_groups,
            organisations: self.ami_org_arns,
            units: self.ami_ou_arns,
            check_regions: !self.skip_region_validation,
            copy_minutes: self.snapshot_copy_duration_minutes,
            only_copies: self.skip_save_build_region,
            replaces: self.force_deregister || cx.prepare.force,
            deletes_old_snapshots: self.force_delete_snapshot,
            ena: self.ena_support,
            sriov: self.sriov_support,
            encrypt: self.encrypt_boot.or(with_key.then_some(true)),
            key: self.kms_key_id,
            region_keys: self.region_kms_key_ids,
            imds: self.imds_support,
            deprecate_at,
            protect: self
                .deregistration_protection
                .filter(|p| p.enabled || p.with_cooldown)
                .map(|p| p.with_cooldown),
            snapshot_users: self.snapshot_users,
            snapshot_groups: self.snapshot_groups,
        }
    }

    fn check_name(&self, cx: &mut ValidateContext<'_>) {
        let length = self.ami_name.chars().count();
        if !(3..=128).contains(&length) {
            cx.error("ami_name", "ami_name must be between 3 and 128 characters long")
                .detail(format!("\"{}\" has {length}.", self.ami_name));
        }
        let clean = NameRules::Amazon.clean(&self.ami_name);
        if clean != self.ami_name {
            cx.error("ami_name", "ami_name has characters that AWS does not take")
                .detail(format!(
                    "\"{}\" may hold letters, digits, spaces and any of ( ) [ ] . / - ' @ _",
                    self.ami_name
                ))
                .hint(format!("\"{clean}\" would do"));
        }
    }

    fn check_encryption(&self, region: Option<&str>, cx: &mut ValidateContext<'_>) {
        for (option, given) in [
            ("kms_key_id", !self.kms_key_id.is_empty()),
            ("region_kms_key_ids", self.region_kms_key_ids.values().any(|k| !k.is_empty())),
        ] {
            if given && self.encrypt_boot == Some(false) && cx.is_known("encrypt_boot") {
                cx.error(option, format!("{option} needs encrypt_boot"))
                    .detail("A key is given for an image that is not to be encrypted.")
                    .hint("set encrypt_boot = true");
            }
        }
        for (option, key) in std::iter::once(("kms_key_id", &self.kms_key_id))
            .chain(self.region_kms_key_ids.values().map(|key| ("region_kms_key_ids", key)))
        {
            if !key.is_empty() && !is_key(key) {
                cx.error(option, format!("\"{key}\" is not a valid KMS key id"))
                    .hint("give the key's id, \"alias/NAME\" or its ARN");
            }
        }
        if self.region_kms_key_ids.is_empty() {
            return;
        }
        if !cx.is_known("ami_regions") || !cx.is_known("region_kms_key_ids") {
            return;
        }
        for name in self.region_kms_key_ids.keys() {
            if !self.ami_regions.contains(name) && region != Some(name) {
                cx.error(
                    "region_kms_key_ids",
                    format!("Region {name} is in region_kms_key_ids but not in ami_regions"),
                )
                .hint("add it to ami_regions, or remove its key");
            }
        }
        for name in &self.ami_regions {
            if !self.region_kms_key_ids.contains_key(name) {
                cx.error(
                    "ami_regions",
                    format!("Region {name} is in ami_regions but not in region_kms_key_ids"),
                )
                .hint(format!("give it a key, or \"{name}\" = \"\" for AWS's own"));
            }
        }
    }

    /// What is encrypted with AWS's own key cannot be used by another account.
    fn check_sharing(&self, cx: &mut ValidateContext<'_>) {
        let own = self.kms_key_id.is_empty() && self.region_kms_key_ids.is_empty();
        let own = own && self.encrypt_boot == Some(true)
            || self.region_kms_key_ids.values().any(String::is_empty);
        let shared = [
            ("ami_users", !self.ami_users.is_empty()),
            ("ami_org_arns", !self.ami_org_arns.is_empty()),
            ("ami_ou_arns", !self.ami_ou_arns.is_empty()),
            ("snapshot_users", !self.snapshot_users.is_empty()),
        ];
        for (option, given) in shared {
            if given && own && cx.is_known("kms_key_id") && cx.is_known("region_kms_key_ids") {
                cx.error(option, "what is encrypted with AWS's own key cannot be shared")
                    .detail(format!("\"{option}\" shares it with others, who cannot use that key."))
                    .hint("set kms_key_id, or region_kms_key_ids for every region");
            }
        }
        let encrypted = self.encrypt_boot == Some(true);
        for (option, groups) in
            [("ami_groups", &self.ami_groups), ("snapshot_groups", &self.snapshot_groups)]
        {
            for group in groups.iter().filter(|g| *g != "all") {
                cx.error(option, format!("there is no group \"{group}\""))
                    .hint("AWS knows \"all\"");
            }
            if encrypted && !groups.is_empty() {
                cx.error(option, "what is encrypted cannot be public")
                    .hint("share it with ami_users or ami_org_arns");
            }
        }
        for (option, users) in
            [("ami_users", &self.ami_users), ("snapshot_users", &self.snapshot_users)]
        {
            for user in users {
                if user.len() != 12 || !user.bytes().all(|b| b.is_ascii_digit()) {
                    cx.error(option, format!("\"{user}\" is not the id of an account"))
                        .hint("an account's id has twelve digits");
                }
            }
        }
    }

    fn deprecation(&self, cx: &mut ValidateContext<'_>) -> Option<i64> {
        if self.deprecate_at.is_empty() {
            return None;
        }
        match self.deprecate_at.parse::<Timestamp>() {
            Ok(time) => Some(time.as_second()),
            Err(_) => {
                cx.error("deprecate_at", "deprecate_at is not a valid time")
                    .detail(format!("\"{}\" cannot be read.", self.deprecate_at))
                    .hint("write it like \"2030-01-01T00:00:00Z\"");
                None
            }
        }
    }
}

/// Checks a text that is rendered once the source image is known.
fn late(option: &str, text: &str, cx: &mut ValidateContext<'_>) {
    karat_provisioners::late::check(option, text, cx);
}

/// Whether a text looks like the name of a region: `us-west-2`, `us-gov-east-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [first @ .., last] = parts.as_slice() else { return false };
    parts.len() >= 3
        && first.iter().all(|p| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
        && !last.is_empty()
        && last.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text can name a KMS key: an id, an alias, or the ARN of either.
pub(crate) fn is_key(text: &str) -> bool {
    let named = |text: &str| {
        if let Some(alias) = text.strip_prefix("alias/") {
            let part = |b: u8| b.is_ascii_alphanumeric() || b":/_-".contains(&b);
            return !alias.is_empty() && alias.bytes().all(part);
        }
        let id = text.strip_prefix("mrk-").unwrap_or(text);
        id.len() > 1
            && !id.starts_with('-')
            && id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let Some(arn) = text.strip_prefix("arn:") else { return named(text) };
    let parts: Vec<&str> = arn.splitn(5, ':').collect();
    let [partition, "kms", _, account, resource] = parts.as_slice() else { return false };
    let key = resource
        .strip_prefix("key/")
        .or_else(|| resource.starts_with("alias/").then_some(resource));
    partition.starts_with("aws")
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && key.is_some_and(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_form() {
        for good in [
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "mrk-1234abcd12ab34cd56ef1234567890ab",
            "alias/foo/bar",
            "arn:aws:kms:us-east-1:012345678910:key/abcd1234-a123-456a-a12b-a123b4cd56ef",
            "arn:aws-us-gov:kms:us-gov-east-1:123456789012:key/12345678-1234-abcd-0000-123456789012",
            "arn:aws:kms:us-east-1:012345678910:alias/foo/bar",
        ] {
            assert!(is_key(good), "{good}");
        }
        for bad in [
            "",
            "foo/bar",
            "arn:aws:kms:us-east-1:012345678910:foo",
            "arn:foo:kms:us-east-1:012345678910:key/abcd1234-a123-456a-a12b-a123b4cd56ef",
            "arn:aws:kms:us-east-1:012:key/abcd1234",
            "arn:aws:s3:us-east-1:012345678910:key/abcd1234",
        ] {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[test]
    fn regions_are_known_by_their_form() {
        for good in ["us-west-2", "ap-northeast-1", "us-gov-east-1", "cn-north-1", "us-isob-east-1"]
        {
            assert!(is_region(good), "{good}");
        }
        for bad in ["", "us", "us-west", "us-west-2a", "US-WEST-2", "us--1", "-"] {
            assert!(!is_region(bad), "{bad}");
        }
    }
}
