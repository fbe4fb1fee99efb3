//! Whose a request is: version 4 of AWS's signatures, checked.
//!
//! The region and the service are those of the credential's scope, which is how one port serves all
//! of them. Source: "Signature Version 4 signing process" in AWS's general reference.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::{digest, hmac};

use super::error::AwsError;
use super::request::Incoming;
use crate::core::ids::hex;
use crate::core::phase::Millis;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far clocks may be apart.
const SKEW: Millis = 15 * 60 * 1000;
/// What is not encoded in a canonical request.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PLAIN_PATH: &AsciiSet = &PLAIN.remove(b'/');

/// Where a request belongs, as its signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) access_key: String,
    date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    signed_headers: String,
    signature: String,
}

impl Scope {
    /// Reads the header `Authorization`; none when there is none.
    pub(crate) fn of(request: &Incoming) -> Result<Option<Self>, AwsError> {
        let Some(header) = request.header("authorization") else { return Ok(None) };
        let wrong = || {
            AwsError::new(
                "IncompleteSignature",
                "Authorization header requires AWS4-HMAC-SHA256 with Credential, SignedHeaders \
                 and Signature.",
            )
        };
        let rest = header.strip_prefix(ALGORITHM).ok_or_else(wrong)?;
        let part = |name: &str| {
            rest.split(',').find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let credential = part("Credential").ok_or_else(wrong)?;
        let mut from_end = credential.rsplitn(5, '/');
        let mut next = || from_end.next().filter(|s| !s.is_empty()).map(str::to_owned);
        let (end, service, region) = (next(), next(), next());
        let (date, access_key) = (next(), next());
        if end.as_deref() != Some("aws4_request") {
            return Err(wrong());
        }
        Ok(Some(Self {
            access_key: access_key.ok_or_else(wrong)?,
            date: date.ok_or_else(wrong)?,
            region: region.ok_or_else(wrong)?,
            service: service.ok_or_else(wrong)?,
            signed_headers: part("SignedHeaders").ok_or_else(wrong)?.to_owned(),
            signature: part("Signature").ok_or_else(wrong)?.to_owned(),
        }))
    }

    /// Checks the signature with the secret of its access key.
    pub(crate) fn check(
        &self,
        request: &Incoming,
        secret: &str,
        now: Millis,
    ) -> Result<(), AwsError> {
        let date = request.header("x-amz-date").unwrap_or_default();
        let stamp = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &date)
            .ok()
            .and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|z| z.timestamp().as_millisecond());
        match stamp {
            Some(stamp) if (stamp - now).abs() <= SKEW && date.starts_with(&self.date) => {}
            Some(_) => {
                return Err(AwsError::new("RequestExpired", "Request has expired.").status(400));
            }
            None => {
                return Err(AwsError::new(
                    "IncompleteSignature",
                    "The request must contain a valid X-Amz-Date header.",
                ));
            }
        }
        let mismatch = |why: &str| {
            AwsError::new(
                "SignatureDoesNotMatch",
                format!(
                    "The request signature we calculated does not match the signature you \
                     provided. Check your AWS Secret Access Key and signing method.{why}"
                ),
            )
            .status(403)
        };
        let payload = match request.header("x-amz-content-sha256") {
            Some(told) if told.len() == 64 => {
                if told != sha256(&request.body) {
                    return Err(mismatch(" The body is not the one that was signed."));
                }
                told
            }
            Some(told) => told,
            None => sha256(&request.body),
        };
        let canonical = self.canonical(request, &payload);
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let key = signing_key(secret, &self.date, &self.region, &self.service);
        let expected = hex(sign(&key, &text).as_ref());
        if expected == self.signature { Ok(()) } else { Err(mismatch("")) }
    }

    fn canonical(&self, request: &Incoming, payload: &str) -> String {
        // S3 takes the path as it was sent, all others encode it once more.
        let path = match self.service.as_str() {
            "s3" => request.path.clone(),
            _ => utf8_percent_encode(&request.path, PLAIN_PATH).to_string(),
        };
        let mut pairs: Vec<String> = request
            .query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let code = |text: &str| {
                    let bytes: Vec<u8> = percent_decode_str(text).collect();
                    percent_encoding::percent_encode(&bytes, PLAIN).to_string()
                };
                format!("{}={}", code(key), code(value))
            })
            .collect();
        pairs.sort();
        let mut headers = String::new();
        for name in self.signed_headers.split(';') {
            let value = request.header(name).unwrap_or_default();
            let value: Vec<&str> = value.split_whitespace().collect();
            headers.push_str(&format!("{name}:{}\n", value.join(" ")));
        }
        format!(
            "{}\n{path}\n{}\n{headers}\n{}\n{payload}",
            request.method,
            pairs.join("&"),
            self.signed_headers
        )
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for text in [date, region, service, "aws4_request"] {
        key = sign(&key, text).as_ref().to_vec();
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of AWS's general reference, "Create a signed request" for IAM.
    fn example() -> Incoming {
        let authorization = "AWS4-HMAC-SHA256 \
             Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Incoming {
            method: "GET".into(),
            path: "/".into(),
            query: "Action=ListUsers&Version=2010-05-08".into(),
            headers: vec![
                header("host", "iam.amazonaws.com"),
                header("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                header("x-amz-date", "20150830T123600Z"),
                header("authorization", authorization),
            ],
            body: Vec::new(),
        }
    }

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const THEN: Millis = 1_440_938_160_000;

    #[test]
    fn amazons_own_example_holds() {
        let request = example();
        let scope = Scope::of(&request).unwrap().unwrap();
        assert_eq!((scope.region.as_str(), scope.service.as_str()), ("us-east-1", "iam"));
        scope.check(&request, SECRET, THEN).unwrap();
    }

    #[test]
    fn another_secret_body_or_time_is_refused() {
        let mut request = example();
        let scope = Scope::of(&request).unwrap().unwrap();
        let code = |r: Result<(), AwsError>| r.unwrap_err().code;
        assert_eq!(code(scope.check(&request, "x", THEN)), "SignatureDoesNotMatch");
        assert_eq!(code(scope.check(&request, SECRET, THEN + SKEW + 1)), "RequestExpired");
        request.body = b"x".to_vec();
        assert_eq!(code(scope.check(&request, SECRET, THEN)), "SignatureDoesNotMatch");
        request.headers.retain(|(name, _)| name != "authorization");
        assert!(Scope::of(&request).unwrap().is_none());
    }
}
