//! Digests, passwords, keys, identifiers.

use karat_value::{Type, Value};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};
use sha2::Digest as _;
use uuid::Uuid;

use super::collections::fixed;
use super::encoding::decode_base64;
use crate::args::{Outcome, fail, fail_at, string, text, whole};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};

const STR: Param = Param::new("str", Kind::String);

/// The greatest cost of a password hash that is computed without complaint: some
/// minutes. Packer goes up to 31, which is weeks.
const MAX_COST: i64 = 20;
/// The cost where none, or too small a one, is given.
const DEFAULT_COST: i64 = 10;
/// The longest password in bytes.
const MAX_PASSWORD: usize = 72;

const fn digest(name: &'static str, doc: &'static str, body: crate::function::BodyFn) -> Function {
    Function { not_null: false, ..fixed(name, &[STR], Kind::String, doc, &[], body) }
}

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        variadic: Some(Param::new("cost", Kind::Number)),
        not_null: false,
        ..fixed(
            "bcrypt",
            &[STR],
            Kind::String,
            "Hashes a password of at most 72 bytes with bcrypt, at the given cost or 10. Every call gives another hash.",
            &[],
            bcrypt,
        )
    },
    digest("md5", "Gives the MD5 digest of a text in hexadecimal digits.", |args, _, _| {
        string(hex(&md5::Md5::digest(text(&args[0]))))
    }),
    Function {
        not_null: false,
        ..fixed(
            "rsadecrypt",
            &[Param::new("ciphertext", Kind::String), Param::new("privatekey", Kind::String)],
            Kind::String,
            "Decrypts Base64 with an RSA key in PEM (PKCS #1, no password), padded by PKCS #1 v1.5.",
            &[],
            rsadecrypt,
        )
    },
    digest("sha1", "Gives the SHA-1 digest of a text in hexadecimal digits.", |args, _, _| {
        string(hex(&sha1::Sha1::digest(text(&args[0]))))
    }),
    digest("sha256", "Gives the SHA-256 digest of a text in hexadecimal digits.", |args, _, _| {
        string(hex(&sha2::Sha256::digest(text(&args[0]))))
    }),
    digest("sha512", "Gives the SHA-512 digest of a text in hexadecimal digits.", |args, _, _| {
        string(hex(&sha2::Sha512::digest(text(&args[0]))))
    }),
    Function {
        not_null: false,
        ..fixed("uuidv4", &[], Kind::String, "Makes a new random UUID at every call.", &[], uuidv4)
    },
    Function {
        not_null: false,
        ..fixed(
            "uuidv5",
            &[Param::new("namespace", Kind::String), Param::new("name", Kind::String)],
            Kind::String,
            "Makes the UUID of a name in a namespace: dns, url, oid, x500 or a UUID.",
            &[("uuidv5(\"dns\", \"example.com\")", "cfbff0d1-9375-5685-968c-48ce8b15ae17")],
            uuidv5,
        )
    },
];

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn bcrypt(args: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    if args.len() > 2 {
        return fail("at most a text and a cost may be given");
    }
    let cost = match args.get(1) {
        Some(cost) => whole(cost)?,
        None => DEFAULT_COST,
    };
    // Too small a cost is replaced in silence, as Packer does.
    let cost = if cost < 4 { DEFAULT_COST } else { cost };
    if cost > 31 {
        return fail_at(1, "the cost must not be above 31");
    }
    if cost > MAX_COST {
        return fail_at(1, format!("a cost above {MAX_COST} would take hours"));
    }
    let password = text(&args[0]);
    if password.len() > MAX_PASSWORD {
        return fail_at(0, format!("the text is longer than {MAX_PASSWORD} bytes"));
    }
    let mut salt = [0; 16];
    random(cx, &mut salt)?;
    let cost = u32::try_from(cost).unwrap_or(10);
    match bcrypt::hash_with_salt(password, cost, salt) {
        Ok(parts) => string(parts.format_for_version(bcrypt::Version::TwoA)),
        Err(error) => fail(format!("cannot hash: {error}")),
    }
}

fn random(cx: &dyn CallContext, buffer: &mut [u8]) -> Result<(), FunctionError> {
    cx.world()
        .random(buffer)
        .map_err(|error| FunctionError::new(format!("no random bytes: {error}")))
}

fn rsadecrypt(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let cipher = decode_base64(text(&args[0]))
        .map_err(|error| FunctionError::argument(0, format!("no valid Base64: {error}")))?;
    let der = pem_block(text(&args[1])).map_err(|message| FunctionError::argument(1, message))?;
    let key = RsaPrivateKey::from_pkcs1_der(&der).map_err(|error| {
        FunctionError::argument(1, format!("no RSA private key of PKCS #1: {error}"))
    })?;
    if cipher.len() > key.size() {
        return fail_at(0, "longer than the key; it was not encrypted with it");
    }
    let Ok(plain) = key.decrypt(Pkcs1v15Encrypt, &cipher) else {
        return fail("cannot decrypt: it was not encrypted with this key");
    };
    match String::from_utf8(plain) {
        Ok(plain) => string(plain),
        // Text of templates is UTF-8 throughout; what is not becomes replacement characters.
        Err(bytes) => string(String::from_utf8_lossy(bytes.as_bytes()).into_owned()),
    }
}

/// The bytes of the first block of PEM, whatever its label.
fn pem_block(pem: &str) -> Result<Vec<u8>, String> {
    let no_key = || "no key found; a PEM block begins with -----BEGIN".to_owned();
    let mut lines = pem.lines().map(str::trim_end);
    let begins = |line: &&str| line.starts_with("-----BEGIN ") && line.ends_with("-----");
    let begin = lines.by_ref().find(begins).ok_or_else(no_key)?;
    let end = begin.replacen("BEGIN", "END", 1);
    let mut body = String::new();
    for line in lines {
        if line == end {
            return decode_base64(&body).map_err(|error| format!("no valid PEM: {error}"));
        }
        if let Some((name, value)) = line.split_once(':') {
            if name == "Proc-Type" && value.trim() == "4,ENCRYPTED" {
                return Err("the key has a password; give one without".to_owned());
            }
        } else {
            body.push_str(line.trim());
        }
    }
    Err(no_key())
}

fn uuidv4(_: &[Value], _: &Type, cx: &dyn CallContext) -> Outcome {
    let mut bytes = [0; 16];
    random(cx, &mut bytes)?;
    string(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

fn uuidv5(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let name = text(&args[0]);
    let namespace = match name {
        "dns" => Uuid::NAMESPACE_DNS,
        "url" => Uuid::NAMESPACE_URL,
        "oid" => Uuid::NAMESPACE_OID,
        "x500" => Uuid::NAMESPACE_X500,
        other => Uuid::parse_str(other).map_err(|error| {
            FunctionError::argument(
                0,
                format!("{other:?} is neither dns, url, oid, x500 nor a UUID: {error}"),
            )
        })?,
    };
    string(Uuid::new_v5(&namespace, text(&args[1]).as_bytes()).to_string())
}
