//! What a request brings: its bytes, freed of chunks and trailers, and compared with the checksums
//! that the client gives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::digest;

use super::error;
use crate::aws::error::Result;
use crate::aws::request::Incoming;

/// The bytes of a request, and the checksum that came with them, by its header.
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) checksum: Option<(&'static str, String)>,
}

/// The headers of checksums, as they are sent and given back.
const SUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

/// Reads the body of a request.
pub(super) fn read(request: &Incoming) -> Result<Payload> {
    let streamed = request.header("x-amz-content-sha256");
    let streamed = streamed.is_some_and(|told| told.starts_with("STREAMING-"));
    let (bytes, trailers) = match streamed {
        true => unchunked(&request.body).ok_or_else(|| {
            error(400, "IncompleteBody", "The request body terminated unexpectedly")
        })?,
        false => (request.body.clone(), Vec::new()),
    };
    let wrong = |code: &str| {
        error(400, code, "The checksum you specified did not match the calculated checksum.")
    };
    if let Some(told) = request.header("content-md5")
        && told != STANDARD.encode(Md5::digest(&bytes))
    {
        return Err(wrong("BadDigest"));
    }
    let trailer = |name: &str| {
        let found = trailers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    let mut checksum = None;
    for name in SUMS {
        let Some(told) = request.header(name).or_else(|| trailer(name)) else { continue };
        if told != sum(name, &bytes) {
            return Err(wrong("BadDigest"));
        }
        checksum = Some((name, told));
    }
    Ok(Payload { bytes, checksum })
}

fn sum(header: &str, bytes: &[u8]) -> String {
    let of = |kind| digest::digest(kind, bytes).as_ref().to_vec();
    let sum = match header.trim_start_matches("x-amz-checksum-") {
        "crc32" => crc32fast::hash(bytes).to_be_bytes().to_vec(),
        "crc32c" => crc32c::crc32c(bytes).to_be_bytes().to_vec(),
        "crc64nvme" => crc64(bytes).to_be_bytes().to_vec(),
        "sha1" => of(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        _ => of(&digest::SHA256),
    };
    STANDARD.encode(sum)
}

/// CRC-64/NVME, of the NVM Express command set specification.
fn crc64(bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut value, mut bit) = (byte as u64, 0);
            while bit < 8 {
                let low = value & 1;
                value >>= 1;
                if low == 1 {
                    value ^= 0x9a6c_9329_ac4b_c9b5;
                }
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !bytes
        .iter()
        .fold(u64::MAX, |sum, byte| TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)] ^ (sum >> 8))
}

type Trailers = Vec<(String, String)>;

/// The bytes in chunks, each behind its length as a hexadecimal number, and what stands after them.
fn unchunked(mut body: &[u8]) -> Option<(Vec<u8>, Trailers)> {
    let line = |from: &mut &[u8]| {
        let end = from.windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(&from[..end]).ok()?.to_owned();
        *from = &from[end + 2..];
        Some(text)
    };
    let mut bytes = Vec::new();
    loop {
        let head = line(&mut body)?;
        let length = usize::from_str_radix(head.split(';').next()?, 16).ok()?;
        if length == 0 {
            break;
        }
        let (chunk, rest) = body.split_at_checked(length)?;
        bytes.extend_from_slice(chunk);
        body = rest.strip_prefix(b"\r\n")?;
    }
    let mut trailers = Vec::new();
    while let Some(text) = line(&mut body) {
        if let Some((name, value)) = text.split_once(':') {
            trailers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Some((bytes, trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_their_definitions() {
        // The check values of the catalogue of CRCs, for the digits from 1 to 9.
        assert_eq!(crc64(b"123456789"), 0xae8b_1486_0a79_9888);
        assert_eq!(sum("x-amz-checksum-crc32", b"123456789"), "y/Q5Jg==");
        assert_eq!(sum("x-amz-checksum-crc32c", b"123456789"), "4waSgw==");
    }

    fn request(headers: &[(&str, &str)], body: &[u8]) -> Incoming {
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Incoming {
            method: "PUT".into(),
            path: "/b/k".into(),
            query: String::new(),
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn chunks_are_put_together_and_trailers_compared() {
        let kind = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        let body = b"4\r\n1234\r\n5;chunk-signature=x\r\n56789\r\n0\r\n\
                     x-amz-checksum-crc32:y/Q5Jg==\r\n\r\n";
        let read_of = |headers: &[(&str, &str)], body: &[u8]| read(&request(headers, body));
        let payload = read_of(&[kind], body).unwrap();
        assert_eq!(payload.bytes, b"123456789");
        assert_eq!(payload.checksum, Some(("x-amz-checksum-crc32", "y/Q5Jg==".to_owned())));
        let code = |result: Result<Payload>| result.map(|_| ()).unwrap_err().code;
        let other = [kind, ("x-amz-checksum-sha1", "AAAA")];
        assert_eq!(code(read_of(&other, body)), "BadDigest");
        assert_eq!(code(read_of(&[kind], &body[..20])), "IncompleteBody");
        assert_eq!(code(read_of(&[("content-md5", "AAAA")], b"x")), "BadDigest");
    }
}
