//! STS: who asks, and keys for a while.

use super::call::Call;
use super::error::{AwsError, Result};
use super::iam;
use super::node::{Node, tree};
use super::state::{Credential, State};
use crate::core::ids;
use crate::core::phase::{Millis, rfc3339};

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>) -> Result<Node> {
    match call.action {
        "GetCallerIdentity" => Ok(tree! {
            "Arn": &call.caller.arn,
            "UserId": &call.caller.id,
            "Account": call.account(),
        }),
        "AssumeRole" => assume_role(call),
        "GetSessionToken" => session_token(call),
        other => Err(super::front::unknown_action(other)),
    }
}

/// A new key that stands for someone for some seconds.
pub(crate) fn temporary(call: &mut Call<'_>, arn: String, id: String, seconds: i64) -> Credential {
    temporary_in(call.state, arn, id, call.now + seconds * 1000)
}

/// A new key that stands for someone until a time.
pub(super) fn temporary_in(
    state: &mut State,
    arn: String,
    id: String,
    expires: Millis,
) -> Credential {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let credential = Credential {
        access_key: ids::unique("ASIA")[..20].to_owned(),
        secret: ids::token(alphabet, 40),
        token: Some(ids::token(alphabet, 160)),
        arn,
        id,
        expires: Some(expires),
    };
    state.credentials.insert(credential.clone());
    credential
}

fn node(credential: &Credential) -> Node {
    tree! {
        "AccessKeyId": &credential.access_key,
        "SecretAccessKey": &credential.secret,
        "SessionToken": credential.token.as_deref(),
        "Expiration": credential.expires.map(rfc3339),
    }
}

fn seconds(call: &Call<'_>, default: i64) -> Result<i64> {
    let seconds = call.params.number("DurationSeconds")?.unwrap_or(default);
    if (900..=43_200).contains(&seconds) {
        return Ok(seconds);
    }
    Err(AwsError::new("ValidationError", "DurationSeconds has to be from 900 to 43200."))
}

fn assume_role(call: &mut Call<'_>) -> Result<Node> {
    let arn = call.params.need("RoleArn")?.to_owned();
    let session = call.params.need("RoleSessionName")?.to_owned();
    let role = call
        .state
        .roles
        .iter()
        .find(|role| iam::role_arn(call.account(), role) == arn)
        .map(|role| (role.id.clone(), role.name.clone()))
        .ok_or_else(|| {
            AwsError::new(
                "AccessDenied",
                format!(
                    "{} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                    call.caller.arn
                ),
            )
            .status(403)
        })?;
    let lasts = seconds(call, 3600)?;
    let assumed = format!("arn:aws:sts::{}:assumed-role/{}/{session}", call.account(), role.1);
    let id = format!("{}:{session}", role.0);
    let credential = temporary(call, assumed.clone(), id.clone(), lasts);
    Ok(tree! {
        "Credentials": node(&credential),
        "AssumedRoleUser": tree! { "AssumedRoleId": id, "Arn": assumed },
    })
}

fn session_token(call: &mut Call<'_>) -> Result<Node> {
    let lasts = seconds(call, 43_200)?;
    let (arn, id) = (call.caller.arn.clone(), call.caller.id.clone());
    let credential = temporary(call, arn, id, lasts);
    Ok(tree! { "Credentials": node(&credential) })
}
