//! KMS: symmetric keys, aliases, data keys, grants.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

use super::call::Call;
use super::ec2::snapshots::json_tags;
use super::error::{AwsError, Result};
use super::filters::Tags;
use super::state::{KmsAlias, KmsKey, State};
use crate::core::ids;
use crate::core::phase::{Millis, seconds};

/// The key that EBS takes where none is named.
pub(crate) const EBS_ALIAS: &str = "alias/aws/ebs";
/// The keys that AWS holds.
const MANAGED: [&str; 3] = [EBS_ALIAS, "alias/aws/ssm", "alias/aws/secretsmanager"];

/// Makes the keys that every region has from the start.
pub(crate) fn make_managed_keys(state: &mut State, account: &str, region: &str, now: Millis) {
    for name in MANAGED {
        let digits = ids::derived("", &format!("{account} {region} {name}"));
        let id = format!("00000000-0000-4000-8000-{}", &digits[1..13]);
        let alias =
            KmsAlias { name: name.into(), region: region.into(), key: id.clone(), created: now };
        let purpose = name.trim_start_matches("alias/aws/");
        let description =
            format!("Default key that protects my {purpose} data when no other key is defined");
        let key = new_key(account, region, id, description, now, Tags::new());
        state.keys.insert(KmsKey { managed: true, ..key });
        state.aliases.insert(alias);
    }
}

fn new_key(
    account: &str,
    region: &str,
    id: String,
    description: String,
    now: Millis,
    tags: Tags,
) -> KmsKey {
    KmsKey {
        arn: format!("arn:aws:kms:{region}:{account}:key/{id}"),
        id,
        region: region.into(),
        description,
        created: now,
        managed: false,
        enabled: true,
        deletion: None,
        material: ids::hex(&ids::random::<32>()),
        grants: BTreeMap::new(),
        tags,
    }
}

/// The key that a name stands for: id, ARN, alias or an alias's ARN.
fn resolve<'a>(call: &'a Call<'_>, name: &str) -> Result<&'a KmsKey> {
    let missing = || {
        let text = if name.contains("alias/") {
            format!("Alias {} is not found.", call.arn("kms", name))
        } else {
            format!("Key '{}' does not exist", call.arn("kms", &format!("key/{name}")))
        };
        AwsError::new("NotFoundException", text)
    };
    let local = match name.strip_prefix("arn:aws:kms:") {
        Some(rest) => {
            let mut parts = rest.splitn(3, ':');
            let (region, _, rest) = (parts.next(), parts.next(), parts.next());
            if region != Some(call.region) {
                return Err(AwsError::new(
                    "NotFoundException",
                    format!("Invalid arn {}", region.unwrap_or_default()),
                ));
            }
            rest.unwrap_or_default()
        }
        None => name,
    };
    let id = if local.starts_with("alias/") {
        let alias = call.state.aliases.get(&format!("{}/{local}", call.region));
        alias.ok_or_else(missing)?.key.as_str()
    } else {
        local.strip_prefix("key/").unwrap_or(local)
    };
    call.state.keys.get(&format!("{}/{id}", call.region)).ok_or_else(missing)
}

/// The key that a request is about: its ARN and its tags.
pub(crate) fn asked_key(call: &Call<'_>, body: &Value) -> Option<(String, Tags)> {
    let named = ["KeyId", "TargetKeyId", "DestinationKeyId"].iter().find_map(|n| text(body, n));
    let sealed = || {
        let sealed = bytes(body, "CiphertextBlob").ok()?;
        let (length, rest) = sealed.split_first()?;
        let id = rest.get(..usize::from(*length))?;
        String::from_utf8(id.to_vec()).ok()
    };
    let name = named.map(str::to_owned).or_else(sealed)?;
    let key = resolve(call, &name).ok()?;
    Some((key.arn.clone(), key.tags.clone()))
}

/// The ARN of a key that EC2 may use.
pub(crate) fn usable_key(call: &Call<'_>, name: &str) -> Result<String> {
    let key = resolve(call, name).map_err(|e| {
        AwsError::new(
            "InvalidParameterValue",
            format!("The KMS key '{name}' cannot be used: {}", e.message),
        )
    })?;
    if !key.enabled || key.deletion.is_some() {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("The KMS key '{name}' cannot be used: it is not enabled."),
        ));
    }
    Ok(key.arn.clone())
}

/// Whether a key is one that AWS holds.
pub(crate) fn is_managed(call: &Call<'_>, arn: &str) -> bool {
    call.state.keys.iter().any(|key| key.arn == arn && key.managed)
}

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    match call.action {
        "CreateKey" => create_key(call, body),
        "DescribeKey" => {
            Ok(json!({ "KeyMetadata": metadata(call, resolve(call, key_id(body)?)?) }))
        }
        "ListKeys" => {
            let keys = call.state.keys.iter().filter(|k| k.region == call.region);
            let keys: Vec<Value> =
                keys.map(|k| json!({ "KeyId": k.id, "KeyArn": k.arn })).collect();
            Ok(json!({ "Keys": keys, "Truncated": false }))
        }
        "CreateAlias" | "UpdateAlias" => put_alias(call, body),
        "DeleteAlias" => delete_alias(call, body),
        "ListAliases" => list_aliases(call, body),
        "EnableKey" | "DisableKey" => {
            let on = call.action == "EnableKey";
            changed(call, body, |key| key.enabled = on)?;
            Ok(json!({}))
        }
        "ScheduleKeyDeletion" => schedule_deletion(call, body),
        "CancelKeyDeletion" => {
            let id = changed(call, body, |key| {
                key.deletion = None;
                key.enabled = false;
            })?;
            Ok(json!({ "KeyId": id }))
        }
        "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => data_key(call, body),
        "Encrypt" => encrypt_call(call, body),
        "Decrypt" => decrypt_call(call, body),
        "ReEncrypt" => re_encrypt(call, body),
        "CreateGrant" => create_grant(call, body),
        "ListGrants" => {
            let key = resolve(call, key_id(body)?)?;
            let grants: Vec<&Value> = key.grants.values().collect();
            Ok(json!({ "Grants": grants, "Truncated": false }))
        }
        "RetireGrant" | "RevokeGrant" => revoke_grant(call, body),
        "GetKeyPolicy" => {
            let key = resolve(call, key_id(body)?)?;
            let policy = json!({ "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow",
                "Principal": { "AWS": format!("arn:aws:iam::{}:root", call.account()) },
                "Action": "kms:*", "Resource": key.arn,
            }]});
            Ok(json!({ "Policy": policy.to_string(), "PolicyName": "default" }))
        }
        "GetKeyRotationStatus" => {
            let managed = resolve(call, key_id(body)?)?.managed;
            Ok(json!({ "KeyRotationEnabled": managed }))
        }
        "ListResourceTags" => {
            let key = resolve(call, key_id(body)?)?;
            let tags: Vec<Value> =
                key.tags.iter().map(|(k, v)| json!({ "TagKey": k, "TagValue": v })).collect();
            Ok(json!({ "Tags": tags, "Truncated": false }))
        }
        other => Err(super::front::unknown_operation(other)),
    }
}

fn text<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body[name].as_str().filter(|t| !t.is_empty())
}

fn need<'a>(body: &'a Value, name: &str) -> Result<&'a str> {
    text(body, name)
        .ok_or_else(|| AwsError::new("ValidationException", format!("{name} has to be given.")))
}

fn key_id(body: &Value) -> Result<&str> {
    need(body, "KeyId")
}

fn metadata(call: &Call<'_>, key: &KmsKey) -> Value {
    let state = match (key.deletion, key.enabled) {
        (Some(_), _) => "PendingDeletion",
        (None, true) => "Enabled",
        (None, false) => "Disabled",
    };
    let mut shown = json!({
        "AWSAccountId": call.account(),
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": seconds(key.created),
        "Enabled": state == "Enabled",
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": state,
        "Origin": "AWS_KMS",
        "KeyManager": if key.managed { "AWS" } else { "CUSTOMER" },
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": false,
    });
    if let Some(at) = key.deletion {
        shown["DeletionDate"] = json!(seconds(at));
    }
    shown
}

fn create_key(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    if let Some(spec) = text(body, "KeySpec").filter(|s| *s != "SYMMETRIC_DEFAULT") {
        return Err(AwsError::new(
            "UnsupportedOperationException",
            format!("The lab has symmetric keys only, not {spec}."),
        ));
    }
    let list = body["Tags"].as_array().into_iter().flatten();
    let tags = list.filter_map(|tag| {
        Some((tag["TagKey"].as_str()?.to_owned(), tag["TagValue"].as_str()?.to_owned()))
    });
    let description = text(body, "Description").unwrap_or_default().to_owned();
    let (account, region) = (call.account().to_owned(), call.region);
    let key = new_key(&account, region, ids::uuid(), description, call.now, tags.collect());
    let shown = metadata(call, &key);
    call.state.keys.insert(key);
    Ok(json!({ "KeyMetadata": shown }))
}

/// Changes a key of the account's own; gives its ARN.
fn changed(call: &mut Call<'_>, body: &Value, change: impl FnOnce(&mut KmsKey)) -> Result<String> {
    let key = resolve(call, key_id(body)?)?;
    if key.managed {
        return Err(AwsError::new(
            "AccessDeniedException",
            format!("{} is not authorized to change a key that AWS holds.", call.caller.arn),
        ));
    }
    let key = format!("{}/{}", key.region, key.id);
    let key = call.state.keys.get_mut(&key).ok_or_else(|| AwsError::internal("no key"))?;
    change(key);
    Ok(key.arn.clone())
}

fn schedule_deletion(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let days = body["PendingWindowInDays"].as_i64().unwrap_or(30);
    if !(7..=30).contains(&days) {
        return Err(AwsError::new("ValidationException", "PendingWindowInDays is 7 to 30."));
    }
    let at = call.now + days * 24 * 3600 * 1000;
    let arn = changed(call, body, |key| key.deletion = Some(at))?;
    Ok(json!({
        "KeyId": arn, "DeletionDate": seconds(at), "KeyState": "PendingDeletion",
        "PendingWindowInDays": days,
    }))
}

fn put_alias(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let name = need(body, "AliasName")?;
    if !name.starts_with("alias/") || name.starts_with("alias/aws/") {
        return Err(AwsError::new(
            "InvalidAliasNameException",
            "Alias must start with the prefix \"alias/\", and not with \"alias/aws/\".",
        ));
    }
    let at = format!("{}/{name}", call.region);
    let exists = call.state.aliases.get(&at).is_some();
    match (call.action, exists) {
        ("CreateAlias", true) => {
            return Err(AwsError::new(
                "AlreadyExistsException",
                format!("An alias with the name {} already exists", call.arn("kms", name)),
            ));
        }
        ("UpdateAlias", false) => {
            return Err(AwsError::new(
                "NotFoundException",
                format!("Alias {} is not found.", call.arn("kms", name)),
            ));
        }
        _ => {}
    }
    let key = resolve(call, need(body, "TargetKeyId")?)?.id.clone();
    call.state.aliases.insert(KmsAlias {
        name: name.to_owned(),
        region: call.region.to_owned(),
        key,
        created: call.now,
    });
    Ok(json!({}))
}

fn delete_alias(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let name = need(body, "AliasName")?;
    let removed = call.state.aliases.remove(&format!("{}/{name}", call.region));
    removed.map(|_| json!({})).ok_or_else(|| {
        AwsError::new("NotFoundException", format!("Alias {} is not found.", call.arn("kms", name)))
    })
}

fn list_aliases(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let of = text(body, "KeyId").map(|id| resolve(call, id)).transpose()?.map(|k| k.id.clone());
    let fits = |a: &&KmsAlias| a.region == call.region && of.as_ref().is_none_or(|id| *id == a.key);
    let aliases: Vec<Value> = call
        .state
        .aliases
        .iter()
        .filter(fits)
        .map(|a| {
            json!({
                "AliasName": a.name, "AliasArn": call.arn("kms", &a.name), "TargetKeyId": a.key,
                "CreationDate": seconds(a.created), "LastUpdatedDate": seconds(a.created),
            })
        })
        .collect();
    Ok(json!({ "Aliases": aliases, "Truncated": false }))
}

/// What binds a ciphertext to its context.
fn context(body: &Value, name: &str) -> Vec<u8> {
    let pairs: BTreeMap<&str, &str> = body[name]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
        .collect();
    serde_json::to_vec(&pairs).unwrap_or_default()
}

fn cipher(key: &KmsKey) -> Result<LessSafeKey> {
    let digits = key.material.as_bytes();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let key = UnboundKey::new(&AES_256_GCM, &bytes)
        .map_err(|_| AwsError::internal("a key's material is not 32 bytes"))?;
    Ok(LessSafeKey::new(key))
}

/// Ciphertexts: the length of the key's id, the id, 12 bytes of nonce, what is sealed.
fn seal(key: &KmsKey, plain: &[u8], context: &[u8]) -> Result<Vec<u8>> {
    if !key.enabled || key.deletion.is_some() {
        return Err(AwsError::new(
            if key.deletion.is_some() { "KMSInvalidStateException" } else { "DisabledException" },
            format!("{} is not enabled.", key.arn),
        ));
    }
    let nonce = ids::random::<12>();
    let mut sealed = plain.to_vec();
    cipher(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut sealed,
        )
        .map_err(|_| AwsError::internal("cannot encrypt"))?;
    let length = u8::try_from(key.id.len()).map_err(AwsError::internal)?;
    let mut out = vec![length];
    out.extend_from_slice(key.id.as_bytes());
    out.extend_from_slice(&nonce);
    out.append(&mut sealed);
    Ok(out)
}

fn open<'a>(call: &'a Call<'_>, sealed: &[u8], context: &[u8]) -> Result<(&'a KmsKey, Vec<u8>)> {
    open_with(call.state, call.region, sealed, context)
}

/// What a ciphertext holds, for the lab itself.
///
/// # Errors
/// When no key of the region made it, or for another context.
pub(crate) fn unlocked(
    state: &State,
    region: &str,
    sealed: &[u8],
    context: &BTreeMap<String, String>,
) -> std::result::Result<Vec<u8>, String> {
    let context = serde_json::to_vec(context).unwrap_or_default();
    let opened = open_with(state, region, sealed, &context);
    opened.map(|(_, plain)| plain).map_err(|_| "the data key is not for this session".to_owned())
}

fn open_with<'a>(
    state: &'a State,
    region: &str,
    sealed: &[u8],
    context: &[u8],
) -> Result<(&'a KmsKey, Vec<u8>)> {
    let invalid = || AwsError::new("InvalidCiphertextException", "");
    let (length, rest) = sealed.split_first().ok_or_else(invalid)?;
    let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(invalid)?;
    let (nonce, rest) = rest.split_at_checked(12).ok_or_else(invalid)?;
    let id = std::str::from_utf8(id).map_err(|_| invalid())?;
    let key = state.keys.get(&format!("{region}/{id}")).ok_or_else(invalid)?;
    let nonce: [u8; 12] = nonce.try_into().map_err(|_| invalid())?;
    let mut buffer = rest.to_vec();
    let plain = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut buffer)
        .map_err(|_| invalid())?;
    Ok((key, plain.to_vec()))
}

fn bytes(body: &Value, name: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(need(body, name)?)
        .map_err(|_| AwsError::new("ValidationException", format!("{name} is not base64.")))
}

fn data_key(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let length = match (body["NumberOfBytes"].as_u64(), text(body, "KeySpec")) {
        (Some(n @ 1..=1024), None) => usize::try_from(n).map_err(AwsError::internal)?,
        (None, Some("AES_256") | None) => 32,
        (None, Some("AES_128")) => 16,
        _ => {
            return Err(AwsError::new(
                "ValidationException",
                "Please specify either number of bytes or key spec.",
            ));
        }
    };
    let plain: Vec<u8> = (0..length).map(|_| ids::random::<1>()[0]).collect();
    let key = resolve(call, key_id(body)?)?;
    let sealed = seal(key, &plain, &context(body, "EncryptionContext"))?;
    let mut answer = json!({ "CiphertextBlob": STANDARD.encode(sealed), "KeyId": key.arn });
    if call.action == "GenerateDataKey" {
        answer["Plaintext"] = json!(STANDARD.encode(plain));
    }
    Ok(answer)
}

fn encrypt_call(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let key = resolve(call, key_id(body)?)?;
    let sealed = seal(key, &bytes(body, "Plaintext")?, &context(body, "EncryptionContext"))?;
    Ok(json!({
        "CiphertextBlob": STANDARD.encode(sealed), "KeyId": key.arn,
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    }))
}

fn decrypt_call(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let context = context(body, "EncryptionContext");
    let (key, plain) = open(call, &bytes(body, "CiphertextBlob")?, &context)?;
    if let Some(asked) = text(body, "KeyId")
        && resolve(call, asked)?.id != key.id
    {
        return Err(AwsError::new(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        ));
    }
    Ok(json!({
        "Plaintext": STANDARD.encode(plain), "KeyId": key.arn,
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    }))
}

fn re_encrypt(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let from = context(body, "SourceEncryptionContext");
    let (source, plain) = open(call, &bytes(body, "CiphertextBlob")?, &from)?;
    let key = resolve(call, need(body, "DestinationKeyId")?)?;
    let sealed = seal(key, &plain, &context(body, "DestinationEncryptionContext"))?;
    Ok(json!({
        "CiphertextBlob": STANDARD.encode(sealed), "SourceKeyId": source.arn, "KeyId": key.arn,
    }))
}

fn create_grant(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let id = ids::hex(&ids::random::<32>());
    let key = resolve(call, key_id(body)?)?;
    let grant = json!({
        "KeyId": key.arn,
        "GrantId": id,
        "Name": text(body, "Name").unwrap_or_default(),
        "GranteePrincipal": need(body, "GranteePrincipal")?,
        "Operations": body["Operations"],
        "CreationDate": seconds(call.now),
        "IssuingAccount": format!("arn:aws:iam::{}:root", call.account()),
    });
    let key = format!("{}/{}", key.region, key.id);
    if let Some(key) = call.state.keys.get_mut(&key) {
        key.grants.insert(id.clone(), grant);
    }
    Ok(json!({ "GrantId": id, "GrantToken": STANDARD.encode(&id) }))
}

fn revoke_grant(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let id = need(body, "GrantId")?;
    let key = resolve(call, key_id(body)?)?;
    let key = format!("{}/{}", key.region, key.id);
    let removed = call.state.keys.get_mut(&key).and_then(|key| key.grants.remove(id));
    removed
        .map(|_| json!({}))
        .ok_or_else(|| AwsError::new("NotFoundException", format!("Grant ID {id} not found")))
}

/// A text sealed with a key, for the services that keep secrets.
pub(crate) fn seal_text(call: &Call<'_>, key: &str, plain: &str) -> Result<String> {
    Ok(STANDARD.encode(seal(resolve(call, key)?, plain.as_bytes(), b"")?))
}

/// Opens such a text.
pub(crate) fn open_text(call: &Call<'_>, sealed: &str) -> Result<String> {
    let bytes = STANDARD.decode(sealed).map_err(AwsError::internal)?;
    let (_, plain) = open(call, &bytes, b"")?;
    String::from_utf8(plain).map_err(AwsError::internal)
}

/// Tags of a body with `Key` and `Value`.
pub(crate) fn body_tags(body: &Value) -> Result<Tags> {
    json_tags(body.get("Tags"))
}
