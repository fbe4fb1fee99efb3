//! S3 by REST, with the bucket in the path: what clients need to bring objects, look at them, fetch
//! and remove them.
//!
//! | file | what |
//! |---|---|
//! | `body.rs` | what was sent: chunks with trailers, and checksums |
//! | `buckets.rs` | buckets, and lists of what is in them |
//! | `objects.rs` | objects, whole or in parts |

mod body;
mod buckets;
mod objects;

use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::call::Call;
use super::ebs::EbsAnswer;
use super::error::{AwsError, Result};
use super::front::unknown_operation;
use super::node::Node;
use super::request::Incoming;
use super::state::Bucket;

/// All calls that are answered.
const CALLS: [&str; 18] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteBucket",
    "DeleteObject",
    "DeleteObjects",
    "GetBucketLocation",
    "GetObject",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListMultipartUploads",
    "ListObjects",
    "ListObjectsV2",
    "PutObject",
    "UploadPart",
];

/// The calls that the lab answers.
pub fn actions() -> impl Iterator<Item = &'static str> {
    CALLS.into_iter()
}

/// A bucket and a key, as the path has them.
pub(super) struct Target {
    pub(super) bucket: String,
    pub(super) key: String,
}

impl Target {
    pub(super) fn of(request: &Incoming) -> Self {
        let path = request.path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Self { bucket: plain(bucket), key: plain(key) }
    }

    fn object(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }
}

/// Whether a name stands in the query, with a value or without.
fn asks(request: &Incoming, name: &str) -> bool {
    request.query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

/// The name of the call that a request stands for.
pub(crate) fn action(request: &Incoming) -> Option<&'static str> {
    let target = Target::of(request);
    let asks = |name: &str| asks(request, name);
    let method = request.method.as_str();
    Some(match (method, target.bucket.as_str(), target.key.as_str()) {
        ("GET", "", _) => "ListBuckets",
        ("PUT", _, "") => "CreateBucket",
        ("DELETE", _, "") => "DeleteBucket",
        ("HEAD", _, "") => "HeadBucket",
        ("POST", _, "") if asks("delete") => "DeleteObjects",
        ("GET", _, "") if asks("location") => "GetBucketLocation",
        ("GET", _, "") if asks("uploads") => "ListMultipartUploads",
        ("GET", _, "") if asks("list-type") => "ListObjectsV2",
        // What a bucket has beside objects.
        ("GET", _, "") if OTHERS.iter().any(|name| asks(name)) => return None,
        ("GET", _, "") => "ListObjects",
        ("PUT", ..) if asks("partNumber") => "UploadPart",
        ("PUT", ..) if request.header("x-amz-copy-source").is_some() => "CopyObject",
        ("POST", ..) if asks("uploads") => "CreateMultipartUpload",
        ("POST", ..) if asks("uploadId") => "CompleteMultipartUpload",
        ("DELETE", ..) if asks("uploadId") => "AbortMultipartUpload",
        (_, _, key) if !key.is_empty() && OTHERS.iter().any(|name| asks(name)) => return None,
        ("PUT", ..) => "PutObject",
        ("GET", ..) => "GetObject",
        ("HEAD", ..) => "HeadObject",
        ("DELETE", ..) => "DeleteObject",
        _ => return None,
    })
}

/// Parts of S3 that are not there.
const OTHERS: [&str; 12] = [
    "acl",
    "cors",
    "encryption",
    "lifecycle",
    "object-lock",
    "policy",
    "publicAccessBlock",
    "replication",
    "tagging",
    "versioning",
    "versions",
    "website",
];

/// What has to be allowed for a request: actions and ARNs.
pub(crate) fn needs(action: &str, request: &Incoming) -> Vec<(&'static str, String)> {
    let target = Target::of(request);
    let bucket = format!("arn:aws:s3:::{}", target.bucket);
    let object = |key: &str| format!("{bucket}/{key}");
    let own = || object(&target.key);
    match action {
        "ListBuckets" => vec![("s3:ListAllMyBuckets", "*".into())],
        "CreateBucket" => vec![("s3:CreateBucket", bucket)],
        "DeleteBucket" => vec![("s3:DeleteBucket", bucket)],
        "HeadBucket" | "ListObjects" | "ListObjectsV2" => vec![("s3:ListBucket", bucket)],
        "GetBucketLocation" => vec![("s3:GetBucketLocation", bucket)],
        "ListMultipartUploads" => vec![("s3:ListBucketMultipartUploads", bucket)],
        "GetObject" | "HeadObject" => vec![("s3:GetObject", own())],
        "DeleteObject" => vec![("s3:DeleteObject", own())],
        "DeleteObjects" => {
            let keys = objects::named(&request.body).unwrap_or_default();
            keys.iter().map(|key| ("s3:DeleteObject", object(key))).collect()
        }
        "AbortMultipartUpload" => vec![("s3:AbortMultipartUpload", own())],
        "CopyObject" => {
            let from = objects::copied(request);
            let from = format!("arn:aws:s3:::{}/{}", from.bucket, from.key);
            vec![("s3:GetObject", from), ("s3:PutObject", own())]
        }
        _ => vec![("s3:PutObject", own())],
    }
}

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>, request: &Incoming) -> Result<EbsAnswer> {
    let target = Target::of(request);
    match call.action {
        "ListBuckets" => buckets::all(call),
        "CreateBucket" => buckets::create(call, request, &target),
        "DeleteBucket" => buckets::delete(call, &target),
        "HeadBucket" => buckets::head(call, &target),
        "GetBucketLocation" => buckets::location(call, &target),
        "ListObjects" | "ListObjectsV2" => buckets::list(call, request, &target),
        "ListMultipartUploads" => buckets::uploads(call, &target),
        "PutObject" => objects::put(call, request, &target),
        "CopyObject" => objects::copy(call, request, &target),
        "GetObject" | "HeadObject" => objects::get(call, request, &target),
        "DeleteObject" => objects::delete(call, &target),
        "DeleteObjects" => objects::delete_all(call, request, &target),
        "CreateMultipartUpload" => objects::begin(call, request, &target),
        "UploadPart" => objects::put_part(call, request, &target),
        "CompleteMultipartUpload" => objects::complete(call, request, &target),
        "AbortMultipartUpload" => objects::abort(call, request, &target),
        other => Err(unknown_operation(other)),
    }
}

/// Where the bytes of objects lie.
pub(crate) fn folder(call: &Call<'_>) -> PathBuf {
    call.settings.dir.join("objects")
}

/// A bucket of the account, in the region that was asked.
fn bucket<'a>(call: &'a Call<'_>, name: &str) -> Result<&'a Bucket> {
    let missing = || error(404, "NoSuchBucket", "The specified bucket does not exist");
    let found = call.state.buckets.get(name).ok_or_else(missing)?;
    if found.region != call.region {
        let text = format!(
            "The bucket you are attempting to access must be addressed using the endpoint of its \
             region, {}.",
            found.region
        );
        return Err(error(301, "PermanentRedirect", text));
    }
    Ok(found)
}

fn error(status: u16, code: &str, message: impl Into<String>) -> AwsError {
    AwsError::new(code, message).status(status)
}

fn malformed() -> AwsError {
    error(400, "MalformedXML", "The XML you provided was not well-formed")
}

fn document(name: &str, inside: &Node) -> EbsAnswer {
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    body.push_str(&format!("<{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"));
    inside.write("member", &mut body);
    body.push_str(&format!("</{name}>"));
    let headers = vec![("content-type", "application/xml".to_owned())];
    EbsAnswer { status: 200, headers, body: body.into_bytes() }
}

fn empty(status: u16) -> EbsAnswer {
    let headers = vec![("content-type", "application/xml".to_owned())];
    EbsAnswer { status, headers, body: Vec::new() }
}

/// What is left as it is in a key that a client wants encoded.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}
