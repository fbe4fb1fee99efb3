//! Objects: brought whole or in parts, fetched, and removed.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;

use super::{Target, body, bucket, document, empty, error, folder, malformed};
use crate::aws::call::{Call, Job};
use crate::aws::ebs::EbsAnswer;
use crate::aws::error::{AwsError, Result};
use crate::aws::kms;
use crate::aws::node::{Node, tree};
use crate::aws::request::Incoming;
use crate::aws::state::{Blob, Object, Upload, UploadedPart};
use crate::core::ids;
use crate::core::phase::{Millis, rfc3339};

/// All parts but the last have as many bytes at least.
const SMALLEST: u64 = 5 << 20;

/// What is kept of the headers that an object comes with, and given back.
fn kept(request: &Incoming) -> BTreeMap<String, String> {
    const KEPT: [&str; 4] =
        ["cache-control", "content-disposition", "content-language", "content-type"];
    let of_user = |name: &str| name.starts_with("x-amz-meta-") || KEPT.contains(&name);
    request.headers.iter().filter(|(name, _)| of_user(name)).cloned().collect()
}

/// How an object is to be encrypted: the headers that say so, with the key's ARN.
fn encryption(call: &Call<'_>, request: &Incoming) -> Result<BTreeMap<String, String>> {
    const KIND: &str = "x-amz-server-side-encryption";
    const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
    let kind = request.header(KIND).unwrap_or_else(|| "AES256".to_owned());
    let mut headers = BTreeMap::from([(KIND.to_owned(), kind.clone())]);
    match kind.as_str() {
        "AES256" => {}
        "aws:kms" => {
            let key = request.header(KEY).unwrap_or_else(|| "alias/aws/s3".to_owned());
            let arn = match key.as_str() {
                "alias/aws/s3" => call.arn("kms", "alias/aws/s3"),
                key => kms::usable_key(call, key)
                    .map_err(|e| error(400, "KMS.NotFoundException", e.message))?,
            };
            headers.insert(KEY.to_owned(), arn);
        }
        _ => {
            let text = "The encryption method specified is not supported";
            return Err(error(400, "InvalidEncryptionAlgorithmError", text));
        }
    }
    Ok(headers)
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn hex_md5(bytes: &[u8]) -> String {
    ids::hex(&Md5::digest(bytes))
}

/// Keeps bytes in a file of their own.
fn store(call: &Call<'_>, bytes: &[u8]) -> Result<Blob> {
    let folder = folder(call);
    std::fs::create_dir_all(&folder).map_err(AwsError::internal)?;
    let blob = Blob { file: ids::uuid(), size: bytes.len() as u64 };
    let mut file = std::fs::File::create(folder.join(&blob.file)).map_err(AwsError::internal)?;
    file.write_all(bytes).map_err(AwsError::internal)?;
    Ok(blob)
}

/// Puts an object in the place of the one of its name.
fn replace(call: &mut Call<'_>, object: Object) {
    let old = call.state.objects.get(&format!("{}/{}", object.bucket, object.key));
    if let Some(old) = old {
        call.jobs.push(Job::DropObjects { files: files_of(&old.blobs) });
    }
    call.state.objects.insert(object);
}

fn files_of(blobs: &[Blob]) -> Vec<String> {
    blobs.iter().map(|blob| blob.file.clone()).collect()
}

fn given_back(headers: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let names = ["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"];
    names.into_iter().filter_map(|name| Some((name, headers.get(name)?.clone()))).collect()
}

pub(super) fn put(call: &mut Call<'_>, request: &Incoming, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let payload = body::read(request)?;
    let encryption = encryption(call, request)?;
    let blob = store(call, &payload.bytes)?;
    let etag = hex_md5(&payload.bytes);
    let mut answer = empty(200);
    answer.headers.push(("etag", quoted(&etag)));
    answer.headers.extend(payload.checksum.clone());
    answer.headers.extend(given_back(&encryption));
    let object = Object {
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        etag,
        size: blob.size,
        blobs: vec![blob],
        modified: call.now,
        headers: kept(request),
        encryption,
        upload: None,
    };
    replace(call, object);
    Ok(answer)
}

/// The object that a copy is made of.
pub(super) fn copied(request: &Incoming) -> Target {
    let from = request.header("x-amz-copy-source").unwrap_or_default();
    let from = percent_decode_str(&from).decode_utf8_lossy().into_owned();
    let from = from.trim_start_matches('/');
    let (bucket, key) = from.split_once('/').unwrap_or((from, ""));
    Target { bucket: bucket.to_owned(), key: key.to_owned() }
}

pub(super) fn copy(call: &mut Call<'_>, request: &Incoming, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let from = find(call, &copied(request))?.clone();
    let encryption = encryption(call, request)?;
    let mut blobs = Vec::new();
    for blob in &from.blobs {
        let copy = Blob { file: ids::uuid(), size: blob.size };
        let folder = folder(call);
        std::fs::copy(folder.join(&blob.file), folder.join(&copy.file))
            .map_err(AwsError::internal)?;
        blobs.push(copy);
    }
    let replaced = request.header("x-amz-metadata-directive").as_deref() == Some("REPLACE");
    let headers = if replaced { kept(request) } else { from.headers };
    let inside = tree! { "ETag": quoted(&from.etag), "LastModified": rfc3339(call.now) };
    let mut answer = document("CopyObjectResult", &inside);
    answer.headers.extend(given_back(&encryption));
    let object = Object {
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        etag: from.etag,
        size: from.size,
        blobs,
        modified: call.now,
        headers,
        encryption,
        upload: None,
    };
    replace(call, object);
    Ok(answer)
}

fn find<'a>(call: &'a Call<'_>, target: &Target) -> Result<&'a Object> {
    bucket(call, &target.bucket)?;
    let found = call.state.objects.get(&target.object());
    found.ok_or_else(|| error(404, "NoSuchKey", "The specified key does not exist."))
}

/// A time as headers have it.
fn http_date(time: Millis) -> String {
    let stamp = jiff::Timestamp::from_millisecond(time).unwrap_or_default();
    stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The bytes that a range asks for: the first, and the one behind the last.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) => (first, size),
        (Err(_), Ok(count)) => (size.saturating_sub(count), size),
        _ => return None,
    };
    (start < end).then_some((start, end))
}

pub(super) fn get(call: &Call<'_>, request: &Incoming, target: &Target) -> Result<EbsAnswer> {
    let object = find(call, target)?;
    if let Some(wanted) = request.header("if-match")
        && wanted.trim_matches('"') != object.etag
    {
        let text = "At least one of the pre-conditions you specified did not hold";
        return Err(error(412, "PreconditionFailed", text));
    }
    let asked = request.header("range").filter(|text| text.starts_with("bytes="));
    let part = asked.as_ref().map(|text| {
        range(text, object.size)
            .ok_or_else(|| error(416, "InvalidRange", "The requested range is not satisfiable"))
    });
    let part = part.transpose()?;
    let (start, end) = part.unwrap_or((0, object.size));
    let mut answer = empty(if part.is_some() { 206 } else { 200 });
    answer.headers.clear();
    let known = ["cache-control", "content-disposition", "content-language", "content-type"];
    answer.headers.push(("content-type", "binary/octet-stream".to_owned()));
    for name in known {
        if let Some(value) = object.headers.get(name) {
            answer.headers.retain(|(other, _)| *other != name);
            answer.headers.push((name, value.clone()));
        }
    }
    answer.headers.push(("etag", quoted(&object.etag)));
    answer.headers.push(("last-modified", http_date(object.modified)));
    answer.headers.push(("accept-ranges", "bytes".to_owned()));
    answer.headers.extend(given_back(&object.encryption));
    if part.is_some() {
        let text = format!("bytes {start}-{}/{}", end - 1, object.size);
        answer.headers.push(("content-range", text));
    }
    if call.action == "HeadObject" {
        answer.headers.push(("content-length", (end - start).to_string()));
    } else {
        answer.body = read(call, object, start, end).map_err(AwsError::internal)?;
    }
    Ok(answer)
}

/// Some bytes of an object, whichever blobs they are in.
fn read(call: &Call<'_>, object: &Object, start: u64, end: u64) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut at) = (Vec::new(), 0);
    for blob in &object.blobs {
        let (first, last) = (start.max(at), end.min(at + blob.size));
        if first < last {
            let mut file = std::fs::File::open(folder(call).join(&blob.file))?;
            file.seek(SeekFrom::Start(first - at))?;
            file.take(last - first).read_to_end(&mut bytes)?;
        }
        at += blob.size;
    }
    Ok(bytes)
}

fn remove(call: &mut Call<'_>, bucket: &str, key: &str) {
    if let Some(object) = call.state.objects.remove(&format!("{bucket}/{key}")) {
        call.jobs.push(Job::DropObjects { files: files_of(&object.blobs) });
    }
}

pub(super) fn delete(call: &mut Call<'_>, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    remove(call, &target.bucket, &target.key);
    Ok(empty(204))
}

/// Texts of all elements of a name.
fn elements(body: &[u8], name: &str) -> Result<Vec<String>> {
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let document = roxmltree::Document::parse(text).map_err(|_| malformed())?;
    let all = document.descendants().filter(|node| node.tag_name().name() == name);
    Ok(all.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect())
}

/// The keys that a request for removing several names.
pub(super) fn named(body: &[u8]) -> Result<Vec<String>> {
    elements(body, "Key")
}

pub(super) fn delete_all(
    call: &mut Call<'_>,
    request: &Incoming,
    target: &Target,
) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let payload = body::read(request)?;
    let keys = named(&payload.bytes)?;
    let quiet = elements(&payload.bytes, "Quiet")?.iter().any(|text| text == "true");
    let mut answer = document("DeleteResult", &Node::None);
    let mut inside = String::new();
    for key in keys {
        remove(call, &target.bucket, &key);
        if !quiet {
            inside.push_str("<Deleted>");
            tree! { "Key": &key }.write("member", &mut inside);
            inside.push_str("</Deleted>");
        }
    }
    let text = String::from_utf8_lossy(&answer.body).replace("</DeleteResult>", "");
    answer.body = format!("{text}{inside}</DeleteResult>").into_bytes();
    Ok(answer)
}

pub(super) fn begin(call: &mut Call<'_>, request: &Incoming, target: &Target) -> Result<EbsAnswer> {
    bucket(call, &target.bucket)?;
    let encryption = encryption(call, request)?;
    let id = ids::uuid().replace('-', "");
    let inside = tree! { "Bucket": &target.bucket, "Key": &target.key, "UploadId": &id };
    let mut answer = document("InitiateMultipartUploadResult", &inside);
    answer.headers.extend(given_back(&encryption));
    call.state.uploads.insert(Upload {
        id,
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        started: call.now,
        headers: kept(request),
        encryption,
        parts: BTreeMap::new(),
    });
    Ok(answer)
}

fn no_upload() -> AwsError {
    let text = "The specified upload does not exist. The upload ID may be invalid, or the upload \
                may have been aborted or completed.";
    error(404, "NoSuchUpload", text)
}

fn upload<'a>(call: &'a Call<'_>, request: &Incoming, target: &Target) -> Result<&'a Upload> {
    bucket(call, &target.bucket)?;
    let id = request.query_value("uploadId").unwrap_or_default();
    let found = call.state.uploads.get(&id);
    found.filter(|u| u.bucket == target.bucket && u.key == target.key).ok_or_else(no_upload)
}

pub(super) fn put_part(
    call: &mut Call<'_>,
    request: &Incoming,
    target: &Target,
) -> Result<EbsAnswer> {
    let id = upload(call, request, target)?.id.clone();
    let number = request.query_value("partNumber").and_then(|text| text.parse::<u32>().ok());
    let number = number.filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
        error(400, "InvalidArgument", "Part number must be an integer between 1 and 10000")
    })?;
    let payload = body::read(request)?;
    let blob = store(call, &payload.bytes)?;
    let etag = hex_md5(&payload.bytes);
    let mut answer = empty(200);
    answer.headers.push(("etag", quoted(&etag)));
    answer.headers.extend(payload.checksum);
    let part = UploadedPart { etag, blob };
    let old = call.state.uploads.get_mut(&id).and_then(|u| u.parts.insert(number, part));
    if let Some(old) = old {
        call.jobs.push(Job::DropObjects { files: vec![old.blob.file] });
    }
    Ok(answer)
}

pub(super) fn complete(
    call: &mut Call<'_>,
    request: &Incoming,
    target: &Target,
) -> Result<EbsAnswer> {
    let done = |target: &Target, etag: &str| {
        let inside = tree! {
            "Location": format!("/{}", target.object()),
            "Bucket": &target.bucket, "Key": &target.key, "ETag": quoted(etag),
        };
        document("CompleteMultipartUploadResult", &inside)
    };
    let upload = match upload(call, request, target) {
        Ok(upload) => upload.clone(),
        Err(error) => {
            // Asked again after an answer that was lost.
            let id = request.query_value("uploadId");
            let object = call.state.objects.get(&target.object());
            let own = object.filter(|object| object.upload.is_some() && object.upload == id);
            return own.map(|object| done(target, &object.etag)).ok_or(error);
        }
    };
    let payload = body::read(request)?.bytes;
    let numbers = elements(&payload, "PartNumber")?;
    let etags = elements(&payload, "ETag")?;
    if numbers.is_empty() || numbers.len() != etags.len() {
        return Err(malformed());
    }
    let (mut blobs, mut sums, mut last) = (Vec::new(), Vec::new(), 0);
    for (index, (number, etag)) in numbers.iter().zip(&etags).enumerate() {
        let number: u32 = number.parse().map_err(|_| malformed())?;
        if number <= last {
            let text = "The list of parts was not in ascending order.";
            return Err(error(400, "InvalidPartOrder", text));
        }
        last = number;
        let part = upload.parts.get(&number).filter(|p| p.etag == etag.trim_matches('"'));
        let part = part.ok_or_else(|| {
            error(400, "InvalidPart", "One or more of the specified parts could not be found.")
        })?;
        if part.blob.size < SMALLEST && index + 1 < numbers.len() {
            let text = "Your proposed upload is smaller than the minimum allowed size";
            return Err(error(400, "EntityTooSmall", text));
        }
        blobs.push(part.blob.clone());
        sums.push(part.etag.clone());
    }
    let digests: Vec<u8> = sums.iter().flat_map(|sum| unhex(sum)).collect();
    let etag = format!("{}-{}", hex_md5(&digests), sums.len());
    let used = |blob: &Blob| blobs.iter().any(|b| b.file == blob.file);
    let unused: Vec<Blob> =
        upload.parts.values().map(|p| p.blob.clone()).filter(|blob| !used(blob)).collect();
    call.jobs.push(Job::DropObjects { files: files_of(&unused) });
    let object = Object {
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        etag: etag.clone(),
        size: blobs.iter().map(|blob| blob.size).sum(),
        blobs,
        modified: call.now,
        headers: upload.headers,
        encryption: upload.encryption,
        upload: Some(upload.id.clone()),
    };
    replace(call, object);
    call.state.uploads.remove(&upload.id);
    Ok(done(target, &etag))
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or_default(), 16);
    (0..text.len()).step_by(2).filter_map(|at| byte(at).ok()).collect()
}

pub(super) fn abort(call: &mut Call<'_>, request: &Incoming, target: &Target) -> Result<EbsAnswer> {
    let upload = upload(call, request, target)?.clone();
    let files = upload.parts.values().map(|part| part.blob.file.clone()).collect();
    call.jobs.push(Job::DropObjects { files });
    call.state.uploads.remove(&upload.id);
    Ok(empty(204))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("bytes=0-4", 10), Some((0, 5)));
        assert_eq!(range("bytes=5-", 10), Some((5, 10)));
        assert_eq!(range("bytes=-3", 10), Some((7, 10)));
        assert_eq!(range("bytes=5-99", 10), Some((5, 10)));
        assert_eq!(range("bytes=10-", 10), None);
        assert_eq!(range("lines=1-2", 10), None);
    }
}
