//! What an import needs of S3: an object is brought, whole or in parts, and removed.
//!
//! Amazon's own client for S3 has a hundred calls that nobody here makes and takes minutes to
//! compile; what signs the calls is Amazon's here, too.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_types::service_config::ServiceConfigKey;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Method;

use super::{Aws, AwsError};

/// Parts are brought side by side, so many at once.
const AT_ONCE: usize = 4;
/// The bytes of a part, at least; of few enough parts at most.
const PART: u64 = 8 << 20;
const MOST_PARTS: u64 = 9000;
/// How long nothing may come before a call is made again.
const SILENCE: Duration = Duration::from_secs(60);

/// Buckets of a region.
#[derive(Debug)]
pub(crate) struct S3 {
    web: reqwest::Client,
    credentials: SharedCredentialsProvider,
    region: String,
    /// Where all buckets are, in the path, where somebody said so.
    endpoint: Option<String>,
    /// The host of a bucket behind its name, otherwise.
    host: String,
    attempts: u32,
}

/// An object in a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
}

/// A call.
struct Ask<'a> {
    method: Method,
    place: Place<'a>,
    /// As it stands in the address.
    query: String,
    headers: &'a [(&'static str, String)],
    body: Vec<u8>,
}

struct Answer {
    etag: String,
    body: String,
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let code = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(code).collect()
}

/// The text of the first element of a name.
fn element(document: &str, name: &str) -> Option<String> {
    let document = roxmltree::Document::parse(document).ok()?;
    let found = document.descendants().find(|node| node.tag_name().name() == name)?;
    found.text().map(str::to_owned)
}

impl S3 {
    /// The buckets of the region of some clients, reached as they reach theirs.
    ///
    /// # Errors
    /// When there are no credentials.
    pub(crate) fn of(aws: &Aws) -> Result<Self, AwsError> {
        let config = aws.config();
        let credentials = config
            .credentials_provider()
            .ok_or_else(|| AwsError::new("no credentials were found"))?;
        let key = ServiceConfigKey::builder().service_id("s3").env("AWS_ENDPOINT_URL");
        let key = key.profile("endpoint_url").build().ok();
        let own = key.and_then(|key| config.service_config()?.load_config(key));
        let endpoint = own.or_else(|| config.endpoint_url().map(str::to_owned));
        let web = karat_data::client_builder()
            .tls_danger_accept_invalid_certs(aws.access.unchecked)
            .no_gzip()
            .read_timeout(SILENCE)
            .build()
            .map_err(|e| AwsError::new(format!("could not prepare for the web: {e}")))?;
        let fips = if config.use_fips() == Some(true) { "-fips" } else { "" };
        let dual = if config.use_dual_stack() == Some(true) { ".dualstack" } else { "" };
        let suffix = match aws.region.split('-').next() {
            Some("cn") => "amazonaws.com.cn",
            _ => "amazonaws.com",
        };
        Ok(Self {
            web,
            credentials,
            region: aws.region.clone(),
            endpoint: endpoint.map(|text| text.trim_end_matches('/').to_owned()),
            host: format!("s3{fips}{dual}.{}.{suffix}", aws.region),
            attempts: aws.access.attempts.max(1),
        })
    }

    fn address(&self, place: Place<'_>, query: &str) -> String {
        let Place { bucket, key } = place;
        let key = encoded(key);
        let base = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}/{key}"),
            // A certificate is good for one name before the host.
            None if bucket.contains('.') => format!("https://{}/{bucket}/{key}", self.host),
            None => format!("https://{bucket}.{}/{key}", self.host),
        };
        if query.is_empty() { base } else { format!("{base}?{query}") }
    }

    /// Makes a call, again where that may help.
    async fn call(&self, ask: Ask<'_>) -> Result<Answer, AwsError> {
        let mut delay = Duration::from_millis(200);
        let mut left = self.attempts;
        loop {
            left -= 1;
            let (error, again) = match self.try_once(&ask).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !again || left == 0 {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(10));
        }
    }

    /// The error, and whether the call may be made again.
    async fn try_once(&self, ask: &Ask<'_>) -> Result<Answer, (AwsError, bool)> {
        let address = self.address(ask.place, &ask.query);
        let lost = |e: reqwest::Error| {
            let text = format!("S3 cannot be reached: {}", deepest(&e.without_url()));
            (AwsError::new(text), true)
        };
        let mut request = self.web.request(ask.method.clone(), &address);
        for (name, value) in ask.headers {
            request = request.header(*name, value);
        }
        for (name, value) in self.signature(ask, &address).await.map_err(|e| (e, false))? {
            request = request.header(name, value);
        }
        let answer = request.body(ask.body.clone()).send().await.map_err(lost)?;
        let status = answer.status();
        let etag = answer.headers().get("etag").and_then(|value| value.to_str().ok());
        let etag = etag.unwrap_or_default().to_owned();
        let body = answer.text().await.map_err(lost)?;
        // What is begun with success may end as an error all the same.
        let code = element(&body, "Code").filter(|_| body.contains("<Error>"));
        if status.is_success() && code.is_none() {
            return Ok(Answer { etag, body });
        }
        let message = element(&body, "Message").map(|text| text.trim_end_matches('.').to_owned());
        let error = AwsError {
            code: code.unwrap_or_default(),
            message: message.unwrap_or_else(|| format!("S3 answered with {status}")),
            hint: None,
        };
        let again = status.is_server_error()
            || status.as_u16() == 429
            || status.is_success()
            || ["SlowDown", "RequestTimeout", "InternalError"].contains(&error.code.as_str());
        Err((hinted(error), again))
    }

    /// The headers that say whose call it is.
    async fn signature(
        &self,
        ask: &Ask<'_>,
        address: &str,
    ) -> Result<Vec<(&'static str, String)>, AwsError> {
        let known = self.credentials.provide_credentials().await;
        let known = known.map_err(|e| AwsError::new(format!("no credentials: {}", deepest(&e))))?;
        let identity = known.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        // The body's digest is signed, and S3 compares it with what arrives.
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let wrong = |e: &dyn std::error::Error| AwsError::new(format!("could not sign: {e}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|e| wrong(&e))?
            .into();
        let headers = ask.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let body = SignableBody::Bytes(&ask.body);
        let request = SignableRequest::new(ask.method.as_str(), address, headers, body);
        let request = request.map_err(|e| wrong(&e))?;
        let signed = sign(request, &params).map_err(|e| wrong(&e))?;
        let (headers, _) = signed.into_parts().0.into_parts();
        Ok(headers.iter().map(|h| (h.name(), h.value().to_owned())).collect())
    }

    /// Brings a file. `begun` is told the id of an upload in parts, by which it can be given up.
    ///
    /// # Errors
    /// Why it did not get there. An upload in parts is given up then.
    pub(crate) async fn upload(
        &self,
        place: Place<'_>,
        file: &Path,
        headers: &[(&'static str, String)],
        begun: &(dyn Fn(&str) -> Result<(), AwsError> + Sync),
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), AwsError> {
        let unread =
            |e: std::io::Error| AwsError::new(format!("could not read {}: {e}", file.display()));
        let opened = Arc::new(File::open(file).map_err(unread)?);
        let size = opened.metadata().map_err(unread)?.len();
        if size <= PART {
            let body = part(Arc::clone(&opened), 0, size).await.map_err(unread)?;
            let method = Method::PUT;
            self.call(Ask { method, place, query: String::new(), headers, body }).await?;
            progress(size, size);
            return Ok(());
        }
        begun("")?;
        let query = "uploads=".to_owned();
        let ask = Ask { method: Method::POST, place, query, headers, body: Vec::new() };
        let answer = self.call(ask).await?;
        let id = element(&answer.body, "UploadId")
            .ok_or_else(|| AwsError::new("S3 did not name the upload that it began"))?;
        begun(&id)?;
        let length = size.div_ceil(MOST_PARTS).max(PART).next_multiple_of(1 << 20);
        let done = self.parts(place, &opened, &id, (size, length), progress).await;
        if done.is_err() {
            // The error that led here is the one to report.
            let _ = self.give_up(place, &id).await;
        }
        done
    }

    async fn parts(
        &self,
        place: Place<'_>,
        file: &Arc<File>,
        id: &str,
        (size, length): (u64, u64),
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), AwsError> {
        let all = futures::stream::iter(0..size.div_ceil(length)).map(|index| async move {
            let start = index * length;
            let read = part(Arc::clone(file), start, length.min(size - start)).await;
            let body = read.map_err(|e| AwsError::new(format!("could not read the disk: {e}")))?;
            let query = format!("partNumber={}&uploadId={}", index + 1, encoded(id));
            let ask = Ask { method: Method::PUT, place, query, headers: &[], body };
            self.call(ask).await.map(|answer| (index + 1, answer.etag))
        });
        let mut list = Vec::new();
        let mut parts = all.buffered(AT_ONCE);
        while let Some((number, etag)) = parts.try_next().await? {
            list.push(format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
            progress((number * length).min(size), size);
        }
        let list = list.concat();
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let query = format!("uploadId={}", encoded(id));
        let body = body.into_bytes();
        self.call(Ask { method: Method::POST, place, query, headers: &[], body }).await.map(drop)
    }

    /// Removes an object; one that is not there is removed.
    ///
    /// # Errors
    /// What S3 says.
    pub(crate) async fn delete(&self, place: Place<'_>) -> Result<(), AwsError> {
        let (method, query) = (Method::DELETE, String::new());
        let done = self.call(Ask { method, place, query, headers: &[], body: Vec::new() }).await;
        match done {
            Err(error) if error.code != "NoSuchBucket" => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives up an upload in parts.
    ///
    /// # Errors
    /// What S3 says.
    pub(crate) async fn give_up(&self, place: Place<'_>, id: &str) -> Result<(), AwsError> {
        let (method, query) = (Method::DELETE, format!("uploadId={}", encoded(id)));
        let done = self.call(Ask { method, place, query, headers: &[], body: Vec::new() }).await;
        match done {
            Err(error) if error.code != "NoSuchUpload" && error.code != "NoSuchBucket" => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// The uploads in parts of an object that nobody ended.
    ///
    /// # Errors
    /// What S3 says.
    pub(crate) async fn uploads(&self, place: Place<'_>) -> Result<Vec<String>, AwsError> {
        let (method, bucket) = (Method::GET, Place { key: "", ..place });
        let query = format!("prefix={}&uploads=", encoded(place.key).replace('/', "%2F"));
        let ask = Ask { method, place: bucket, query, headers: &[], body: Vec::new() };
        let body = self.call(ask).await?.body;
        let unread = |e| AwsError::new(format!("S3's list of uploads cannot be read: {e}"));
        let document = roxmltree::Document::parse(&body).map_err(unread)?;
        let all = document.descendants().filter(|node| node.tag_name().name() == "Upload");
        let text = |node: roxmltree::Node<'_, '_>, name: &str| {
            let found = node.children().find(|child| child.tag_name().name() == name);
            found.and_then(|child| child.text()).unwrap_or_default().to_owned()
        };
        let own = all.filter(|node| text(*node, "Key") == place.key);
        Ok(own.map(|node| text(node, "UploadId")).collect())
    }
}

async fn part(file: Arc<File>, start: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start).map(|()| bytes)
    });
    read.await.map_err(std::io::Error::other)?
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn hinted(mut error: AwsError) -> AwsError {
    let hint = match error.code.as_str() {
        "NoSuchBucket" => "make the bucket first, in the region of the import",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
            "the bucket is in another region: the import's has to be the same"
        }
        "AccessDenied" => "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload are needed",
        _ => return error,
    };
    error.hint = Some(hint.to_owned());
    error
}
