//! Buckets, and lists of what is in them.

use super::{Target, asks, bucket, document, empty, encoded, error, malformed};
use crate::aws::call::Call;
use crate::aws::ebs::EbsAnswer;
use crate::aws::error::{AwsError, Result};
use crate::aws::node::{Node, tree};
use crate::aws::request::Incoming;
use crate::aws::state::Bucket;
use crate::core::phase::rfc3339;

pub(super) fn all(call: &Call<'_>) -> Result<EbsAnswer> {
    let one = |b: &Bucket| tree! { "Name": &b.name, "CreationDate": rfc3339(b.created) };
    let mut inside = String::new();
    for bucket in call.state.buckets.iter().filter(|b| call.sees(b.created)) {
        inside.push_str("<Bucket>");
        one(bucket).write("member", &mut inside);
        inside.push_str("</Bucket>");
    }
    let owner = tree! { "ID": call.account(), "DisplayName": call.account() };
    let mut text = String::new();
    tree! { "Owner": owner }.write("member", &mut text);
    text.push_str(&format!("<Buckets>{inside}</Buckets>"));
    Ok(raw("ListAllMyBucketsResult", &text))
}

/// A document of elements that repeat without one around them.
fn raw(name: &str, inside: &str) -> EbsAnswer {
    let mut answer = document(name, &Node::None);
    let end = format!("</{name}>");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    answer.body = text.replace(&end, &format!("{inside}{end}")).into_bytes();
    answer
}

fn good_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (3..=63).contains(&name.len())
        && name.chars().all(inside)
        && ends(name.chars().next())
        && ends(name.chars().last())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

pub(super) fn create(
    call: &mut Call<'_>,
    request: &Incoming,
    target: &Target,
) -> Result<EbsAnswer> {
    if !good_name(&target.bucket) {
        return Err(error(400, "InvalidBucketName", "The specified bucket is not valid."));
    }
    let asked = match request.body.is_empty() {
        true => None,
        false => {
            let text = std::str::from_utf8(&request.body).map_err(|_| malformed())?;
            let document = roxmltree::Document::parse(text).map_err(|_| malformed())?;
            let found =
                document.descendants().find(|n| n.tag_name().name() == "LocationConstraint");
            found.and_then(|node| node.text()).map(str::to_owned)
        }
    };
    let region = asked.unwrap_or_else(|| "us-east-1".to_owned());
    if region != call.region {
        let text = format!(
            "The {region} location constraint is incompatible for the region specific endpoint \
             this request was sent to."
        );
        return Err(error(400, "IllegalLocationConstraintException", text));
    }
    if call.state.buckets.get(&target.bucket).is_some() && region != "us-east-1" {
        let text = "Your previous request to create the named bucket succeeded and you already own \
                    it.";
        return Err(error(409, "BucketAlreadyOwnedByYou", text));
    }
    if call.state.buckets.get(&target.bucket).is_none() {
        let name = target.bucket.clone();
        call.state.buckets.insert(Bucket { name, region, created: call.now });
    }
    let mut answer = empty(200);
    answer.headers.push(("location", format!("/{}", target.bucket)));
    Ok(answer)
}

pub(super) fn delete(call: &mut Call<'_>, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let full = call.state.objects.iter().any(|o| o.bucket == target.bucket);
    if full || call.state.uploads.iter().any(|u| u.bucket == target.bucket) {
        let text = "The bucket you tried to delete is not empty";
        return Err(error(409, "BucketNotEmpty", text));
    }
    call.state.buckets.remove(&target.bucket);
    Ok(empty(204))
}

pub(super) fn head(call: &Call<'_>, target: &Target) -> Result<EbsAnswer> {
    let found = call.state.buckets.get(&target.bucket);
    let found = found.ok_or_else(|| error(404, "NoSuchBucket", "Not Found"))?;
    let mut answer = empty(if found.region == call.region { 200 } else { 301 });
    answer.headers.push(("x-amz-bucket-region", found.region.clone()));
    Ok(answer)
}

pub(super) fn location(call: &Call<'_>, target: &Target) -> Result<EbsAnswer> {
    let missing = || error(404, "NoSuchBucket", "The specified bucket does not exist");
    let found = call.state.buckets.get(&target.bucket).ok_or_else(missing)?;
    // The first region has no name there.
    let region = Some(found.region.as_str()).filter(|region| *region != "us-east-1");
    Ok(document("LocationConstraint", &Node::from(region)))
}

pub(super) fn uploads(call: &Call<'_>, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let mut inside = format!("<Bucket>{}</Bucket><IsTruncated>false</IsTruncated>", target.bucket);
    for upload in call.state.uploads.iter().filter(|u| u.bucket == target.bucket) {
        inside.push_str("<Upload>");
        let node = tree! {
            "Key": &upload.key, "UploadId": &upload.id, "Initiated": rfc3339(upload.started),
        };
        node.write("member", &mut inside);
        inside.push_str("</Upload>");
    }
    Ok(raw("ListMultipartUploadsResult", &inside))
}

/// Both versions of the list of a bucket's objects.
pub(super) fn list(call: &Call<'_>, request: &Incoming, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let second = asks(request, "list-type");
    let text = |name: &str| request.query_value(name).unwrap_or_default();
    let wrong = || AwsError::new("InvalidArgument", "max-keys is not a number");
    let most = request.query_value("max-keys").map_or(Ok(1000), |n| n.parse::<usize>());
    let most = most.map_err(|_| wrong())?.min(1000);
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    // A page's token is the last key of the one before.
    let after = match second {
        true => text("continuation-token").max(text("start-after")),
        false => text("marker"),
    };
    let show = |key: &str| match text("encoding-type") == "url" {
        true => encoded(key),
        false => key.to_owned(),
    };
    let (mut shown, mut count, mut last, mut more) = (String::new(), 0, String::new(), false);
    let mut groups: Vec<String> = Vec::new();
    let all = call.state.objects.iter().filter(|o| o.bucket == target.bucket);
    for object in all.filter(|o| o.key.starts_with(&prefix) && o.key > after) {
        let rest = &object.key[prefix.len()..];
        let cut = rest.find(&delimiter).filter(|_| !delimiter.is_empty());
        let group = cut.map(|at| format!("{prefix}{}", &rest[..at + delimiter.len()]));
        if group.as_ref().is_some_and(|g| groups.contains(g) || after.starts_with(g.as_str())) {
            last.clone_from(&object.key);
            continue;
        }
        if count == most {
            more = true;
            break;
        }
        count += 1;
        last.clone_from(&object.key);
        match group {
            Some(group) => groups.push(group),
            None => {
                shown.push_str("<Contents>");
                let node = tree! {
                    "Key": show(&object.key), "LastModified": rfc3339(object.modified),
                    "ETag": format!("\"{}\"", object.etag), "Size": object.size,
                    "StorageClass": "STANDARD",
                };
                node.write("member", &mut shown);
                shown.push_str("</Contents>");
            }
        }
    }
    for group in &groups {
        shown.push_str("<CommonPrefixes>");
        tree! { "Prefix": show(group) }.write("member", &mut shown);
        shown.push_str("</CommonPrefixes>");
    }
    let coding = request.query_value("encoding-type");
    let head = tree! {
        "Name": &target.bucket, "Prefix": show(&prefix), "MaxKeys": most,
        "Delimiter": Some(show(&delimiter)).filter(|text| !text.is_empty()),
        "EncodingType": coding, "IsTruncated": more,
        "KeyCount": second.then_some(count),
        "NextContinuationToken": Some(&last).filter(|_| more && second).cloned(),
        "NextMarker": Some(show(&last)).filter(|_| more && !second),
    };
    let mut inside = String::new();
    head.write("member", &mut inside);
    inside.push_str(&shown);
    Ok(raw("ListBucketResult", &inside))
}
