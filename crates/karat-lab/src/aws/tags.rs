//! Tags: with what is made, and on what stands.

use super::error::{AwsError, Result};
use super::filters::Tags;
use super::node::{Node, tree};
use super::params::Params;

/// Tags as the list `tagSet`.
pub(crate) fn node(tags: &Tags) -> Node {
    Node::list(tags.iter().map(|(key, value)| tree! { "key": key, "value": value }))
}

/// Tags of a list of `Key` and `Value`.
pub(crate) fn read(list: &[&Params]) -> Result<Tags> {
    let mut tags = Tags::new();
    for tag in list {
        let key = tag.part("Key").and_then(Params::value).unwrap_or_default();
        let value = tag.part("Value").and_then(Params::value).unwrap_or_default();
        check(key, value)?;
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(AwsError::new(
                "InvalidParameterValue",
                format!("Duplicate tag key '{key}' specified."),
            ));
        }
    }
    if tags.len() > 50 {
        return Err(AwsError::new("TagLimitExceeded", "The maximum number of tags is 50."));
    }
    Ok(tags)
}

fn check(key: &str, value: &str) -> Result<()> {
    let wrong = |why: String| Err(AwsError::new("InvalidParameterValue", why));
    if key.is_empty() {
        return wrong("Tag key cannot be empty.".into());
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        return wrong("Tag keys starting with 'aws:' are reserved for internal use".into());
    }
    if key.chars().count() > 127 || value.chars().count() > 255 {
        return wrong(format!("Tag '{key}' is too long: keys have 127 characters, values 255."));
    }
    Ok(())
}

/// What `TagSpecification` says for a type of resource. Every type in it has to be one that the
/// call makes.
pub(crate) fn specified(params: &Params, kind: &str, allowed: &[&str]) -> Result<Tags> {
    let mut tags = Tags::new();
    for part in params.members("TagSpecification") {
        let found = part.need("ResourceType")?;
        if !allowed.contains(&found) {
            return Err(AwsError::new(
                "InvalidParameterValue",
                format!("'{found}' is not a valid taggable resource type for this operation."),
            ));
        }
        let read = read(&part.members("Tag"))?;
        if found == kind {
            tags.extend(read);
        }
    }
    Ok(tags)
}
