//! Key pairs.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use md5::{Digest as _, Md5};
use ring::digest;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey};
use rsa::{BoxedUint, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};

use super::model::KeyPair;
use super::page;
use super::resource::{maybe, one, seen, select};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::node::{Node, tree};
use crate::aws::tags;
use crate::core::ids;
use crate::core::phase::rfc3339;

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let names = call.params.texts("KeyName");
    if let Some(name) = names.iter().find(|name| by_name(call, name).is_none()) {
        return Err(missing(name));
    }
    let with_key = call.params.on("IncludePublicKey")?;
    let ids = call.params.texts("KeyPairId");
    let named = |k: &KeyPair| names.is_empty() || names.contains(&k.name);
    let found = select::<KeyPair>(call, &ids, named, |k, name| match name {
        "key-name" => one(&k.name),
        "key-pair-id" => one(&k.id),
        "fingerprint" => one(&k.fingerprint),
        "key-type" => maybe(Some(&k.kind)),
        _ => None,
    })?;
    let shown = found.iter().map(|k| {
        tree! {
            "keyPairId": &k.id,
            "keyName": &k.name,
            "keyFingerprint": &k.fingerprint,
            "keyType": &k.kind,
            "createTime": rfc3339(k.created),
            "publicKey": with_key.then_some(&k.public),
            "tagSet": tags::node(&k.tags),
        }
    });
    page(call, "keySet", shown.collect())
}

fn missing(name: &str) -> AwsError {
    AwsError::new("InvalidKeyPair.NotFound", format!("The key pair '{name}' does not exist"))
}

/// The key pair of a name.
pub(super) fn by_name<'a>(call: &'a Call<'_>, name: &str) -> Option<&'a KeyPair> {
    seen::<KeyPair>(call).find(|k| k.name == name)
}

/// The key pair of a name that has to be there.
pub(super) fn need<'a>(call: &'a Call<'_>, name: &str) -> Result<&'a KeyPair> {
    by_name(call, name).ok_or_else(|| missing(name))
}

fn free_name(call: &Call<'_>) -> Result<String> {
    let name = call.params.need("KeyName")?;
    if name.len() > 255 {
        return Err(AwsError::value(name, "KeyName", "It may have up to 255 characters."));
    }
    if call.state.key_pairs.iter().any(|k| k.region == call.region && k.name == name) {
        return Err(AwsError::new(
            "InvalidKeyPair.Duplicate",
            format!("The keypair already exists: {name}"),
        ));
    }
    if seen::<KeyPair>(call).count() >= call.settings.quotas.key_pairs {
        return Err(AwsError::new(
            "KeyPairLimitExceeded",
            "The maximum number of key pairs has been reached.",
        ));
    }
    Ok(name.to_owned())
}

fn kept(
    call: &mut Call<'_>,
    name: String,
    kind: &str,
    fingerprint: String,
    public: String,
) -> Result<Node> {
    let pair = KeyPair {
        id: ids::resource("key"),
        region: call.region.to_owned(),
        name,
        kind: kind.to_owned(),
        fingerprint,
        public,
        created: call.now,
        tags: tags::specified(call.params, "key-pair", &["key-pair"])?,
    };
    let node = tree! {
        "keyPairId": &pair.id,
        "keyName": &pair.name,
        "keyFingerprint": &pair.fingerprint,
        "tagSet": tags::node(&pair.tags),
    };
    call.state.key_pairs.insert(pair);
    Ok(node)
}

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let name = free_name(call)?;
    let kind = call.params.text("KeyType").unwrap_or("rsa");
    if !matches!(kind, "rsa" | "ed25519") {
        return Err(AwsError::value(kind, "KeyType", "Key types are rsa and ed25519."));
    }
    if let Some(format) = call.params.text("KeyFormat").filter(|f| *f != "pem") {
        return Err(AwsError::new(
            "UnsupportedOperation",
            format!("The lab gives keys in the format pem, not {format}."),
        ));
    }
    let (private, public) = generate(kind)?;
    let fingerprint = if kind == "rsa" {
        let key = RsaPrivateKey::from_pkcs1_pem(&private).map_err(AwsError::internal)?;
        let der = key.to_pkcs8_der().map_err(AwsError::internal)?;
        let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der.as_bytes());
        with_colons(sum.as_ref())
    } else {
        ed25519_fingerprint(&public)?
    };
    Ok(kept(call, name, kind, fingerprint, public)?.with("keyMaterial", private))
}

/// A new key: its private half as PEM, its public half in OpenSSH's form.
fn generate(kind: &str) -> Result<(String, String)> {
    let dir = std::env::temp_dir().join(format!("karat-lab-{}", ids::uuid()));
    std::fs::create_dir(&dir).map_err(AwsError::internal)?;
    let file = dir.join("key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-C", "", "-t", kind]);
    if kind == "rsa" {
        command.args(["-b", "2048", "-m", "PEM"]);
    }
    let result = (|| {
        let made = command.arg("-f").arg(&file).output();
        let made = made.map_err(|e| AwsError::internal(format!("cannot run ssh-keygen: {e}")))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(AwsError::internal(format!("ssh-keygen: {}", said.trim())));
        }
        let read = |path| std::fs::read_to_string(path).map_err(AwsError::internal);
        let public = read(file.with_extension("pub"))?;
        Ok((read(file.clone())?.trim_end().to_owned(), public.trim().to_owned()))
    })();
    std::fs::remove_dir_all(&dir).map_err(AwsError::internal)?;
    result
}

fn with_colons(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// The words of a public key in OpenSSH's form: its kind and its bytes.
fn blob(public: &str) -> Option<(&str, Vec<u8>)> {
    let mut words = public.split_whitespace();
    let kind = words.next()?;
    let bytes = STANDARD.decode(words.next()?).ok()?;
    Some((kind, bytes))
}

fn ed25519_fingerprint(public: &str) -> Result<String> {
    let (_, bytes) = blob(public).ok_or_else(format_error)?;
    let sum = digest::digest(&digest::SHA256, &bytes);
    Ok(format!("{}=", STANDARD_NO_PAD.encode(sum.as_ref())))
}

fn format_error() -> AwsError {
    AwsError::new("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
}

/// The fields of an SSH key's bytes: each has its length before it.
fn fields(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        fields.push(rest.get(..length)?);
        bytes = &rest[length..];
    }
    Some(fields)
}

/// The kind and the fingerprint of an imported key.
fn imported(public: &str) -> Result<(&'static str, String)> {
    let (kind, bytes) = blob(public).ok_or_else(format_error)?;
    let parts = fields(&bytes).ok_or_else(format_error)?;
    if parts.first() != Some(&kind.as_bytes()) {
        return Err(format_error());
    }
    match (kind, parts.as_slice()) {
        ("ssh-ed25519", [_, key]) if key.len() == 32 => {
            Ok(("ed25519", ed25519_fingerprint(public)?))
        }
        ("ssh-rsa", [_, exponent, modulus]) => {
            let der = rsa_key(modulus, exponent).to_public_key_der().map_err(|_| format_error())?;
            Ok(("rsa", with_colons(&Md5::digest(der.as_bytes()))))
        }
        _ => Err(format_error()),
    }
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> RsaPublicKey {
    let number = BoxedUint::from_be_slice_vartime;
    RsaPublicKey::new_unchecked(number(modulus), number(exponent))
}

/// A short text that only the private key's owner can read (PKCS #1 1.5), as base64. EC2 does so
/// for RSA keys alone.
pub(super) fn sealed(pair: &KeyPair, plain: &str) -> Option<String> {
    let (_, bytes) = blob(&pair.public)?;
    let parts = fields(&bytes)?;
    let [b"ssh-rsa", exponent, modulus] = parts.as_slice() else { return None };
    let key = rsa_key(modulus, exponent);
    let sealed = key.encrypt(&mut rand::rng(), Pkcs1v15Encrypt, plain.as_bytes()).ok()?;
    Some(STANDARD.encode(sealed))
}

pub(super) fn import(call: &mut Call<'_>) -> Result<Node> {
    let name = free_name(call)?;
    let material = call.params.need("PublicKeyMaterial")?;
    let bytes = STANDARD.decode(material).map_err(|_| format_error())?;
    let public = String::from_utf8(bytes).map_err(|_| format_error())?;
    let public = public.trim();
    let (kind, fingerprint) = imported(public)?;
    kept(call, name, kind, fingerprint, public.to_owned())
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let found = match (call.params.text("KeyPairId"), call.params.text("KeyName")) {
        (Some(id), _) => seen::<KeyPair>(call).find(|k| k.id == id),
        (None, Some(name)) => by_name(call, name),
        (None, None) => return Err(AwsError::missing("KeyName")),
    };
    // A key pair that is not there is deleted already.
    let id = found.map(|k| k.id.clone());
    if let Some(id) = &id {
        call.state.key_pairs.remove(id);
    }
    Ok(tree! { "return": true, "keyPairId": id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_have_the_fingerprints_that_ssh_keygen_gives() {
        let (private, public) = generate("ed25519").unwrap();
        assert!(private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        let (kind, fingerprint) = imported(&public).unwrap();
        assert_eq!((kind, fingerprint.len()), ("ed25519", 44));
        let (private, public) = generate("rsa").unwrap();
        assert!(private.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{private}");
        let (kind, fingerprint) = imported(&public).unwrap();
        assert_eq!((kind, fingerprint.len()), ("rsa", 47));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "ssh-rsa", "ssh-rsa !!", "ssh-rsa AAAA", "ssh-dss AAAAB3NzaC1kc3M="] {
            assert_eq!(imported(text).unwrap_err().code, "InvalidKey.Format", "{text}");
        }
    }
}
