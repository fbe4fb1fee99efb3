//! IAM, as far as builders need it: roles, their policies, instance profiles. Users and policies
//! that stand by themselves are beside it.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::call::Call;
use super::error::{AwsError, Result};
use super::filters::Tags;
use super::iam_users as users;
use super::node::{Node, tree};
use super::params::Params;
use super::state::{Profile, Role};
use super::tags;
use crate::core::ids;
use crate::core::phase::rfc3339;

type Action = fn(&mut Call<'_>) -> Result<Node>;

const ACTIONS: &[(&str, Action)] = &[
    ("AddRoleToInstanceProfile", add_role),
    ("AttachRolePolicy", attach_policy),
    ("AttachUserPolicy", users::attach_policy),
    ("CreateAccessKey", users::create_key),
    ("CreateInstanceProfile", create_profile),
    ("CreatePolicy", users::create_policy),
    ("CreateRole", create_role),
    ("CreateUser", users::create),
    ("DeleteAccessKey", users::delete_key),
    ("DeleteInstanceProfile", delete_profile),
    ("DeletePolicy", users::delete_managed),
    ("DeleteRole", delete_role),
    ("DeleteRolePolicy", delete_policy),
    ("DeleteUser", users::delete),
    ("DeleteUserPolicy", users::delete_policy),
    ("DetachRolePolicy", detach_policy),
    ("DetachUserPolicy", users::detach_policy),
    ("GetInstanceProfile", get_profile),
    ("GetPolicy", users::get_managed),
    ("GetPolicyVersion", users::get_version),
    ("GetRole", get_role),
    ("GetRolePolicy", get_policy),
    ("GetUser", get_user),
    ("GetUserPolicy", users::get_policy),
    ("ListAccessKeys", users::list_keys),
    ("ListAttachedRolePolicies", list_attached),
    ("ListAttachedUserPolicies", users::list_attached),
    ("ListInstanceProfiles", list_profiles),
    ("ListInstanceProfilesForRole", list_profiles),
    ("ListPolicies", users::list_managed),
    ("ListRolePolicies", list_policies),
    ("ListRoles", list_roles),
    ("ListUserPolicies", users::list_policies),
    ("ListUsers", users::list),
    ("PutRolePolicy", put_policy),
    ("PutUserPolicy", users::put_policy),
    ("RemoveRoleFromInstanceProfile", remove_role),
    ("TagInstanceProfile", tag),
    ("TagRole", tag),
    ("UntagInstanceProfile", tag),
    ("UntagRole", tag),
];

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>) -> Result<Node> {
    let found = ACTIONS.binary_search_by_key(&call.action, |(name, _)| name);
    let index = found.map_err(|_| super::front::unknown_action(call.action))?;
    (ACTIONS[index].1)(call)
}

/// The actions that are answered.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, _)| *name)
}

pub(super) fn missing(noun: &str, name: &str) -> AwsError {
    AwsError::new("NoSuchEntity", format!("{noun} {name} cannot be found.")).status(404)
}

pub(crate) fn role_arn(account: &str, role: &Role) -> String {
    format!("arn:aws:iam::{account}:role{}{}", role.path, role.name)
}

/// The ARN of an instance profile.
pub(crate) fn profile_arn(call: &Call<'_>, name: &str) -> String {
    let path = call.state.profiles.get(name).map_or("/", |p| p.path.as_str());
    format!("arn:aws:iam::{}:instance-profile{path}{name}", call.account())
}

/// The unique id of an instance profile, while it stands.
pub(crate) fn profile_id(call: &Call<'_>, name: &str) -> Option<String> {
    call.state.profiles.get(name).map(|p| p.id.clone())
}

/// The profile that a launch names, once EC2 sees it and its role.
pub(crate) fn asked_profile(call: &Call<'_>, part: Option<&Params>) -> Result<Option<String>> {
    let Some(part) = part else { return Ok(None) };
    let (name, kind, text) = match (part.text("Name"), part.text("Arn")) {
        (Some(name), None) => (name, "name", name),
        (None, Some(arn)) => (arn.rsplit('/').next().unwrap_or_default(), "arn", arn),
        (Some(_), Some(_)) => {
            return Err(AwsError::combination(
                "The parameter iamInstanceProfile.name may not be used in combination with \
                 iamInstanceProfile.arn",
            ));
        }
        (None, None) => return Ok(None),
    };
    let invalid = |what: &str| {
        AwsError::new(
            "InvalidParameterValue",
            format!("Value ({text}) for parameter iamInstanceProfile.{kind} is invalid. {what}"),
        )
    };
    let lag = call.settings.durations.iam;
    let profile = call
        .state
        .profiles
        .get(name)
        .filter(|p| p.created + lag <= call.now)
        .ok_or_else(|| invalid("Invalid IAM Instance Profile name"))?;
    if kind == "arn" && profile_arn(call, name) != text {
        return Err(invalid("Invalid IAM Instance Profile ARN"));
    }
    if profile.role.is_none() || profile.changed + lag > call.now {
        return Err(invalid("IAM Instance Profile has no associated IAM Roles"));
    }
    Ok(Some(name.to_owned()))
}

fn role_node(call: &Call<'_>, role: &Role) -> Node {
    tree! {
        "Path": &role.path,
        "RoleName": &role.name,
        "RoleId": &role.id,
        "Arn": role_arn(call.account(), role),
        "CreateDate": rfc3339(role.created),
        "AssumeRolePolicyDocument": encoded(&role.trust),
        "Description": role.description.as_deref(),
        "MaxSessionDuration": role.max_session,
        "Tags": tags_node(&role.tags),
    }
}

pub(super) fn tags_node(tags: &Tags) -> Node {
    Node::list(tags.iter().map(|(key, value)| tree! { "Key": key, "Value": value }))
}

/// A policy as IAM gives it back: percent-encoded.
pub(super) fn encoded(policy: &str) -> String {
    utf8_percent_encode(policy, NON_ALPHANUMERIC).to_string()
}

fn profile_node(call: &Call<'_>, profile: &Profile) -> Node {
    let role = profile.role.as_ref().and_then(|name| call.state.roles.get(name));
    tree! {
        "Path": &profile.path,
        "InstanceProfileName": &profile.name,
        "InstanceProfileId": &profile.id,
        "Arn": profile_arn(call, &profile.name),
        "CreateDate": rfc3339(profile.created),
        "Roles": Node::list(role.map(|role| role_node(call, role))),
        "Tags": tags_node(&profile.tags),
    }
}

pub(super) fn checked_name<'a>(
    call: &'a Call<'_>,
    parameter: &str,
    most: usize,
) -> Result<&'a str> {
    let name = call.params.need(parameter)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if name.len() > most || !name.chars().all(plain) {
        return Err(AwsError::new(
            "ValidationError",
            format!(
                "The specified value for {parameter} is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_- and have at most {most} of them."
            ),
        ));
    }
    Ok(name)
}

pub(super) fn checked_policy<'a>(call: &'a Call<'_>, parameter: &str) -> Result<&'a str> {
    let text = call.params.need(parameter)?;
    let document: serde_json::Value = serde_json::from_str(text).map_err(|_| {
        AwsError::new("MalformedPolicyDocument", "This policy contains invalid Json")
    })?;
    let statements = match &document["Statement"] {
        serde_json::Value::Array(list) => list.iter().collect(),
        serde_json::Value::Object(_) => vec![&document["Statement"]],
        _ => {
            return Err(AwsError::new(
                "MalformedPolicyDocument",
                "Syntax errors in policy: a Statement is missing.",
            ));
        }
    };
    let effect = |s: &&serde_json::Value| !matches!(s["Effect"].as_str(), Some("Allow" | "Deny"));
    if statements.iter().any(effect) {
        return Err(AwsError::new(
            "MalformedPolicyDocument",
            "Syntax errors in policy: an Effect is Allow or Deny.",
        ));
    }
    Ok(text)
}

fn role<'a>(call: &'a mut Call<'_>) -> Result<&'a mut Role> {
    let name = call.params.need("RoleName")?;
    call.state.roles.get_mut(name).ok_or_else(|| missing("The role with name", name))
}

fn profile<'a>(call: &'a mut Call<'_>) -> Result<&'a mut Profile> {
    let name = call.params.need("InstanceProfileName")?;
    call.state.profiles.get_mut(name).ok_or_else(|| missing("Instance Profile", name))
}

pub(super) fn exists(noun: &str, name: &str) -> AwsError {
    AwsError::new("EntityAlreadyExists", format!("{noun} {name} already exists.")).status(409)
}

pub(super) fn conflict(message: &str) -> AwsError {
    AwsError::new("DeleteConflict", message).status(409)
}

fn create_role(call: &mut Call<'_>) -> Result<Node> {
    let name = checked_name(call, "RoleName", 64)?.to_owned();
    if call.state.roles.get(&name).is_some() {
        return Err(exists("Role with name", &name));
    }
    let role = Role {
        name,
        id: ids::unique("AROA"),
        path: call.params.text("Path").unwrap_or("/").to_owned(),
        trust: checked_policy(call, "AssumeRolePolicyDocument")?.to_owned(),
        description: call.params.text("Description").map(str::to_owned),
        max_session: call.params.number("MaxSessionDuration")?.unwrap_or(3600),
        created: call.now,
        policies: BTreeMap::new(),
        attached: Vec::new(),
        tags: tags::read(&call.params.members("Tags"))?,
    };
    let node = role_node(call, &role);
    call.state.roles.insert(role);
    Ok(tree! { "Role": node })
}

fn get_role(call: &mut Call<'_>) -> Result<Node> {
    let role = role(call)?.clone();
    Ok(tree! { "Role": role_node(call, &role) })
}

fn list_roles(call: &mut Call<'_>) -> Result<Node> {
    let nodes = call.state.roles.iter().map(|r| role_node(call, r)).collect::<Vec<_>>();
    Ok(tree! { "Roles": nodes, "IsTruncated": false })
}

fn delete_role(call: &mut Call<'_>) -> Result<Node> {
    let role = role(call)?.clone();
    if call.state.profiles.iter().any(|p| p.role.as_ref() == Some(&role.name)) {
        return Err(conflict(
            "Cannot delete entity, must remove roles from instance profile first.",
        ));
    }
    if !role.policies.is_empty() {
        return Err(conflict("Cannot delete entity, must delete policies first."));
    }
    if !role.attached.is_empty() {
        return Err(conflict("Cannot delete entity, must detach all policies first."));
    }
    call.state.roles.remove(&role.name);
    Ok(tree! {})
}

fn put_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = checked_name(call, "PolicyName", 128)?.to_owned();
    let policy = checked_policy(call, "PolicyDocument")?.to_owned();
    role(call)?.policies.insert(name, policy);
    Ok(tree! {})
}

fn get_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = call.params.need("PolicyName")?.to_owned();
    let role = role(call)?;
    let policy = role.policies.get(&name);
    let policy = policy.ok_or_else(|| missing("The role policy with name", &name))?;
    Ok(tree! {
        "RoleName": &role.name,
        "PolicyName": name,
        "PolicyDocument": encoded(policy),
    })
}

fn delete_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = call.params.need("PolicyName")?.to_owned();
    let removed = role(call)?.policies.remove(&name);
    removed.map(|_| tree! {}).ok_or_else(|| missing("The role policy with name", &name))
}

fn list_policies(call: &mut Call<'_>) -> Result<Node> {
    let names: Vec<String> = role(call)?.policies.keys().cloned().collect();
    Ok(tree! { "PolicyNames": names, "IsTruncated": false })
}

fn attach_policy(call: &mut Call<'_>) -> Result<Node> {
    let arn = call.params.need("PolicyArn")?.to_owned();
    users::check_policy(call, &arn)?;
    let role = role(call)?;
    if !role.attached.contains(&arn) {
        role.attached.push(arn);
    }
    Ok(tree! {})
}

fn detach_policy(call: &mut Call<'_>) -> Result<Node> {
    let arn = call.params.need("PolicyArn")?.to_owned();
    let role = role(call)?;
    if !role.attached.contains(&arn) {
        return Err(missing("Policy", &arn));
    }
    role.attached.retain(|a| *a != arn);
    Ok(tree! {})
}

fn list_attached(call: &mut Call<'_>) -> Result<Node> {
    Ok(users::attached_node(&role(call)?.attached))
}

fn create_profile(call: &mut Call<'_>) -> Result<Node> {
    let name = checked_name(call, "InstanceProfileName", 128)?.to_owned();
    if call.state.profiles.get(&name).is_some() {
        return Err(exists("Instance Profile", &name));
    }
    let profile = Profile {
        name,
        id: ids::unique("AIPA"),
        path: call.params.text("Path").unwrap_or("/").to_owned(),
        created: call.now,
        changed: call.now,
        role: None,
        tags: tags::read(&call.params.members("Tags"))?,
    };
    let node = profile_node(call, &profile);
    call.state.profiles.insert(profile);
    Ok(tree! { "InstanceProfile": node })
}

fn get_profile(call: &mut Call<'_>) -> Result<Node> {
    let profile = profile(call)?.clone();
    Ok(tree! { "InstanceProfile": profile_node(call, &profile) })
}

fn list_profiles(call: &mut Call<'_>) -> Result<Node> {
    let of = call.params.text("RoleName");
    let fits = |p: &&Profile| of.is_none() || p.role.as_deref() == of;
    let nodes: Vec<Node> =
        call.state.profiles.iter().filter(fits).map(|p| profile_node(call, p)).collect();
    Ok(tree! { "InstanceProfiles": nodes, "IsTruncated": false })
}

fn delete_profile(call: &mut Call<'_>) -> Result<Node> {
    let profile = profile(call)?;
    if profile.role.is_some() {
        return Err(conflict(
            "Cannot delete entity, must remove roles from instance profile first.",
        ));
    }
    let name = profile.name.clone();
    call.state.profiles.remove(&name);
    Ok(tree! {})
}

fn add_role(call: &mut Call<'_>) -> Result<Node> {
    let name = role(call)?.name.clone();
    let now = call.now;
    let profile = profile(call)?;
    if profile.role.is_some() {
        return Err(AwsError::new(
            "LimitExceeded",
            "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1",
        )
        .status(409));
    }
    profile.role = Some(name);
    profile.changed = now;
    Ok(tree! {})
}

fn remove_role(call: &mut Call<'_>) -> Result<Node> {
    let name = role(call)?.name.clone();
    let now = call.now;
    let profile = profile(call)?;
    if profile.role.as_ref() != Some(&name) {
        return Err(missing("The role in the instance profile with name", &name));
    }
    profile.role = None;
    profile.changed = now;
    Ok(tree! {})
}

fn tag(call: &mut Call<'_>) -> Result<Node> {
    let new = tags::read(&call.params.members("Tags"))?;
    let gone = call.params.texts("TagKeys");
    let tags = if call.action.ends_with("Role") {
        &mut role(call)?.tags
    } else {
        &mut profile(call)?.tags
    };
    tags.extend(new);
    tags.retain(|key, _| !gone.contains(key));
    Ok(tree! {})
}

fn get_user(call: &mut Call<'_>) -> Result<Node> {
    let name = call.settings.user.as_str();
    let own = call.caller.arn.rsplit_once(":user/").map(|(_, path)| path);
    let own = own.and_then(|path| path.rsplit('/').next());
    if let Some(asked) = call.params.text("UserName").or(own).filter(|asked| *asked != name) {
        return users::get(call, asked);
    }
    Ok(tree! { "User": tree! {
        "Path": "/",
        "UserName": name,
        "UserId": &call.caller.id,
        "Arn": &call.caller.arn,
        "CreateDate": rfc3339(0),
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_in_the_order_of_their_names() {
        assert!(ACTIONS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
