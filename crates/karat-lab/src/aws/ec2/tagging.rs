//! Tags on what stands.

use super::done;
use super::page;
use super::resource::{all_tags, one, tags_of};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::tags;

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("ResourceId");
    let new = tags::read(&call.params.members("Tag"))?;
    if ids.is_empty() {
        return Err(AwsError::missing("resourceIdSet"));
    }
    if new.is_empty() {
        return Err(AwsError::missing("tagSet"));
    }
    for id in &ids {
        let tags = tags_of(call, id)?;
        tags.extend(new.clone());
        if tags.len() > 50 {
            return Err(AwsError::new("TagLimitExceeded", "The maximum number of tags is 50."));
        }
    }
    Ok(done())
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let ids = call.params.texts("ResourceId");
    let gone: Vec<(String, Option<String>)> = call
        .params
        .members("Tag")
        .iter()
        .map(|tag| {
            let value = tag.part("Value").and_then(Params::value).map(str::to_owned);
            Ok((tag.need("Key")?.to_owned(), value))
        })
        .collect::<Result<_>>()?;
    for id in &ids {
        let tags = tags_of(call, id)?;
        if gone.is_empty() {
            tags.clear();
        }
        for (key, value) in &gone {
            if value.is_none() || tags.get(key) == value.as_ref() {
                tags.remove(key);
            }
        }
    }
    Ok(done())
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for (id, kind, tags) in all_tags(call) {
        for (key, value) in &tags {
            let passes = filters.pass(&Tags::new(), |name| match name {
                "resource-id" => one(&id),
                "resource-type" => one(kind),
                "key" => one(key),
                "value" => one(value),
                _ => None,
            })?;
            if passes {
                all.push(tree! {
                    "resourceId": &id,
                    "resourceType": kind,
                    "key": key,
                    "value": value,
                });
            }
        }
    }
    page(call, "tagSet", all)
}
