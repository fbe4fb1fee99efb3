//! Secrets Manager.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::Call;
use super::error::{AwsError, Result};
use super::kms::{body_tags, open_text, seal_text};
use super::state::{Secret, SecretVersion};
use crate::core::ids;
use crate::core::phase::seconds;

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
const DEFAULT_KEY: &str = "alias/aws/secretsmanager";

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    match call.action {
        "CreateSecret" => create(call, body),
        "GetSecretValue" => get(call, body),
        "PutSecretValue" | "UpdateSecret" => put(call, body),
        "DescribeSecret" => {
            let key = find(call, body)?;
            call.state.secrets.get(&key).map(describe).ok_or_else(missing)
        }
        "ListSecrets" => {
            let own = call.state.secrets.iter().filter(|s| s.region == call.region);
            let list: Vec<Value> = own.filter(|s| s.deletion.is_none()).map(describe).collect();
            Ok(json!({ "SecretList": list }))
        }
        "ListSecretVersionIds" => versions(call, body),
        "DeleteSecret" => delete(call, body),
        "RestoreSecret" => {
            let key = find(call, body)?;
            let secret = call.state.secrets.get_mut(&key).ok_or_else(missing)?;
            secret.deletion = None;
            Ok(json!({ "ARN": secret.arn, "Name": secret.name }))
        }
        "TagResource" | "UntagResource" => {
            let new = body_tags(body)?;
            let key = find(call, body)?;
            let secret = call.state.secrets.get_mut(&key).ok_or_else(missing)?;
            secret.tags.extend(new);
            for gone in body["TagKeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                secret.tags.remove(gone);
            }
            Ok(json!({}))
        }
        other => Err(super::front::unknown_operation(other)),
    }
}

fn missing() -> AwsError {
    AwsError::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

/// The key of the record that `SecretId` names: a name, an ARN, or an ARN without its last six
/// characters.
fn find(call: &Call<'_>, body: &Value) -> Result<String> {
    let asked = body["SecretId"]
        .as_str()
        .filter(|t| !t.is_empty())
        .ok_or_else(|| AwsError::new("ValidationException", "SecretId has to be given."))?;
    let is = |s: &&Secret| {
        s.region == call.region
            && (s.name == asked
                || s.arn == asked
                || s.arn
                    .strip_prefix(asked)
                    .is_some_and(|rest| rest.len() == 7 && rest.starts_with('-')))
    };
    let found = call.state.secrets.iter().find(is).ok_or_else(missing)?;
    Ok(format!("{}/{}", found.region, found.name))
}

/// A version of what a request gives, if it gives something.
fn version(call: &Call<'_>, body: &Value, key: Option<&str>) -> Result<Option<SecretVersion>> {
    let (text, binary) = (body["SecretString"].as_str(), body["SecretBinary"].as_str());
    if text.is_some() && binary.is_some() {
        return Err(AwsError::new(
            "InvalidParameterException",
            "You can't specify both a binary secret value and a string secret value in the same secret.",
        ));
    }
    if text.is_none() && binary.is_none() {
        return Ok(None);
    }
    let key = key.unwrap_or(DEFAULT_KEY);
    let sealed = |text: &str| seal_text(call, key, text);
    if binary.is_some_and(|b| STANDARD.decode(b).is_err()) {
        return Err(AwsError::new("ValidationException", "SecretBinary is not base64."));
    }
    Ok(Some(SecretVersion {
        id: body["ClientRequestToken"].as_str().map_or_else(ids::uuid, str::to_owned),
        created: call.now,
        text: text.map(sealed).transpose()?,
        binary: binary.map(sealed).transpose()?,
        stages: vec![CURRENT.into()],
    }))
}

fn create(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let name = body["Name"].as_str().unwrap_or_default().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    if name.is_empty() || name.len() > 512 || !name.chars().all(plain) {
        return Err(AwsError::new(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        ));
    }
    let at = format!("{}/{name}", call.region);
    if let Some(old) = call.state.secrets.get(&at) {
        if old.deletion.is_some() {
            return Err(AwsError::new(
                "InvalidRequestException",
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            ));
        }
        return Err(AwsError::new(
            "ResourceExistsException",
            format!("The operation failed because the secret {name} already exists."),
        ));
    }
    let key = body["KmsKeyId"].as_str().map(str::to_owned);
    let first = version(call, body, key.as_deref())?;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let suffix = ids::token(alphabet, 6);
    let secret = Secret {
        arn: call.arn("secretsmanager", &format!("secret:{name}-{suffix}")),
        name,
        region: call.region.to_owned(),
        description: body["Description"].as_str().map(str::to_owned),
        key,
        created: call.now,
        changed: call.now,
        deletion: None,
        versions: first.into_iter().collect(),
        tags: body_tags(body)?,
    };
    let answer = json!({
        "ARN": secret.arn,
        "Name": secret.name,
        "VersionId": secret.versions.first().map(|v| &v.id),
    });
    call.state.secrets.insert(secret);
    Ok(answer)
}

fn get(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let key = find(call, body)?;
    let secret = call.state.secrets.get(&key).ok_or_else(missing)?;
    if secret.deletion.is_some() {
        return Err(AwsError::new(
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        ));
    }
    let id = body["VersionId"].as_str();
    let stage = body["VersionStage"].as_str().or(if id.is_none() { Some(CURRENT) } else { None });
    let fits = |v: &&SecretVersion| {
        id.is_none_or(|id| v.id == id)
            && stage.is_none_or(|stage| v.stages.iter().any(|s| s == stage))
    };
    let version = secret.versions.iter().find(fits).ok_or_else(|| {
        AwsError::new(
            "ResourceNotFoundException",
            format!(
                "Secrets Manager can't find the specified secret value for {}: {}",
                if id.is_some() { "VersionId" } else { "staging label" },
                id.or(stage).unwrap_or_default()
            ),
        )
    })?;
    let mut answer = json!({
        "ARN": secret.arn, "Name": secret.name, "VersionId": version.id,
        "VersionStages": version.stages, "CreatedDate": seconds(version.created),
    });
    if let Some(text) = &version.text {
        answer["SecretString"] = json!(open_text(call, text)?);
    }
    if let Some(binary) = &version.binary {
        answer["SecretBinary"] = json!(open_text(call, binary)?);
    }
    Ok(answer)
}

fn put(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let at = find(call, body)?;
    let old = call.state.secrets.get(&at).cloned().ok_or_else(missing)?;
    let new = version(call, body, body["KmsKeyId"].as_str().or(old.key.as_deref()))?;
    if new.is_none() && call.action == "PutSecretValue" {
        return Err(AwsError::new(
            "InvalidRequestException",
            "You must provide either SecretString or SecretBinary.",
        ));
    }
    let now = call.now;
    let secret = call.state.secrets.get_mut(&at).ok_or_else(missing)?;
    if let Some(text) = body["Description"].as_str() {
        secret.description = Some(text.to_owned());
    }
    secret.changed = now;
    let mut answer = json!({ "ARN": secret.arn, "Name": secret.name });
    if let Some(new) = new {
        for version in &mut secret.versions {
            let was = version.stages.iter().any(|s| s == CURRENT);
            version.stages.retain(|s| s != CURRENT && s != PREVIOUS);
            if was {
                version.stages.push(PREVIOUS.into());
            }
        }
        answer["VersionId"] = json!(new.id);
        answer["VersionStages"] = json!(new.stages);
        secret.versions.push(new);
    }
    Ok(answer)
}

fn describe(secret: &Secret) -> Value {
    let stages: serde_json::Map<String, Value> = secret
        .versions
        .iter()
        .filter(|v| !v.stages.is_empty())
        .map(|v| (v.id.clone(), json!(v.stages)))
        .collect();
    let tags: Vec<Value> =
        secret.tags.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    let mut shown = json!({
        "ARN": secret.arn,
        "Name": secret.name,
        "CreatedDate": seconds(secret.created),
        "LastChangedDate": seconds(secret.changed),
        "Tags": tags,
        "VersionIdsToStages": stages,
    });
    if let Some(text) = &secret.description {
        shown["Description"] = json!(text);
    }
    if let Some(key) = &secret.key {
        shown["KmsKeyId"] = json!(key);
    }
    if let Some(at) = secret.deletion {
        shown["DeletedDate"] = json!(seconds(at));
    }
    shown
}

fn versions(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let at = find(call, body)?;
    let secret = call.state.secrets.get(&at).ok_or_else(missing)?;
    let all = body["IncludeDeprecated"] == true;
    let list: Vec<Value> = secret
        .versions
        .iter()
        .filter(|v| all || !v.stages.is_empty())
        .map(|v| {
            json!({
                "VersionId": v.id, "VersionStages": v.stages, "CreatedDate": seconds(v.created),
            })
        })
        .collect();
    Ok(json!({ "ARN": secret.arn, "Name": secret.name, "Versions": list }))
}

fn delete(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let at = find(call, body)?;
    let days = body["RecoveryWindowInDays"].as_i64().unwrap_or(30);
    if !(7..=30).contains(&days) {
        return Err(AwsError::new(
            "InvalidParameterException",
            "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
        ));
    }
    let forced = body["ForceDeleteWithoutRecovery"] == true;
    let when = if forced { call.now } else { call.now + days * 24 * 3600 * 1000 };
    let secret = call.state.secrets.get_mut(&at).ok_or_else(missing)?;
    secret.deletion = Some(when);
    let answer = json!({ "ARN": secret.arn, "Name": secret.name, "DeletionDate": seconds(when) });
    if forced {
        call.state.secrets.remove(&at);
    }
    Ok(answer)
}
