//! Tags: maps, and the blocks that say the same.

use std::collections::BTreeMap;

use karat_component::ValidateContext;
use karat_config::Config;

/// One tag.
#[derive(Clone, Debug, Config)]
pub struct TagConfig {
    /// The tag's key.
    #[option(required, late)]
    pub key: String,
    /// The tag's value.
    #[option(required, late)]
    pub value: String,
}

/// One tag of a volume.
#[derive(Clone, Debug, Config)]
pub struct VolumeTagConfig {
    /// The tag's key.
    #[option(required, late)]
    pub name: String,
    /// The tag's value.
    #[option(required, late)]
    pub value: String,
}

/// One filter.
#[derive(Clone, Debug, Config)]
pub struct FilterConfig {
    /// What is compared, in EC2's words (`tag:Name`, `vpc-id`, …).
    #[option(required)]
    pub name: String,
    /// The value it has to have; several are written with commas between.
    #[option(required)]
    pub value: String,
}

/// Tags by key. The texts are rendered later.
pub(crate) type Tags = BTreeMap<String, String>;

/// What AWS takes of a resource's tags.
const MOST: usize = 50;

/// The map and the blocks in one, checked.
pub(crate) fn merged(
    option: &str,
    map: &Tags,
    blocks: impl IntoIterator<Item = (String, String)>,
    cx: &mut ValidateContext<'_>,
) -> Tags {
    let mut tags = map.clone();
    tags.extend(blocks);
    if tags.len() > MOST {
        cx.error(option, format!("{} tags are too many", tags.len()))
            .detail(format!("A resource takes {MOST} tags, those of AWS itself included."));
    }
    for (key, value) in &tags {
        karat_provisioners::late::check(option, key, cx);
        karat_provisioners::late::check(option, value, cx);
        if key.is_empty() {
            cx.error(option, "a tag has no key");
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            cx.error(option, "keys that begin with \"aws:\" belong to AWS")
                .detail(format!("\"{key}\" cannot be set."));
        }
    }
    tags
}

/// Pairs of blocks.
pub(crate) fn pairs(blocks: &[TagConfig]) -> impl Iterator<Item = (String, String)> + '_ {
    blocks.iter().map(|t| (t.key.clone(), t.value.clone()))
}

/// Pairs of blocks of a volume.
pub(crate) fn volume_pairs(
    blocks: &[VolumeTagConfig],
) -> impl Iterator<Item = (String, String)> + '_ {
    blocks.iter().map(|t| (t.name.clone(), t.value.clone()))
}

/// Filters of a map and of blocks: a name and the values it may have.
pub(crate) fn filters(map: &Tags, blocks: &[FilterConfig]) -> Vec<(String, Vec<String>)> {
    let mut all = map.clone();
    all.extend(blocks.iter().map(|f| (f.name.clone(), f.value.clone())));
    all.into_iter()
        .map(|(name, value)| {
            let values = value.split(',').map(str::to_owned).collect();
            (name, values)
        })
        .collect()
}
