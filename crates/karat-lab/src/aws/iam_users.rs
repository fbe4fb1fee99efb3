//! IAM: users, their keys and policies, and policies that stand by themselves.

use std::collections::BTreeMap;

use super::call::Call;
use super::error::{AwsError, Result};
use super::iam::{checked_name, checked_policy, conflict, encoded, exists, missing, tags_node};
use super::node::{Node, tree};
use super::state::{Credential, ManagedPolicy, User};
use super::tags;
use crate::core::ids;
use crate::core::phase::rfc3339;

/// Keys that a user may have.
const MOST_KEYS: usize = 2;

fn user_arn(call: &Call<'_>, user: &User) -> String {
    format!("arn:aws:iam::{}:user{}{}", call.account(), user.path, user.name)
}

fn no_user(name: &str) -> AwsError {
    missing("The user with name", name)
}

fn user<'a>(call: &'a mut Call<'_>) -> Result<&'a mut User> {
    let name = call.params.need("UserName")?;
    call.state.users.get_mut(name).ok_or_else(|| no_user(name))
}

fn node(call: &Call<'_>, user: &User) -> Node {
    tree! {
        "Path": &user.path,
        "UserName": &user.name,
        "UserId": &user.id,
        "Arn": user_arn(call, user),
        "CreateDate": rfc3339(user.created),
        "Tags": tags_node(&user.tags),
    }
}

pub(super) fn create(call: &mut Call<'_>) -> Result<Node> {
    let name = checked_name(call, "UserName", 64)?.to_owned();
    if call.state.users.get(&name).is_some() || name == call.settings.user {
        return Err(exists("User with name", &name));
    }
    let user = User {
        name,
        id: ids::unique("AIDA"),
        path: call.params.text("Path").unwrap_or("/").to_owned(),
        created: call.now,
        policies: BTreeMap::new(),
        attached: Vec::new(),
        keys: BTreeMap::new(),
        tags: tags::read(&call.params.members("Tags"))?,
    };
    let made = node(call, &user);
    call.state.users.insert(user);
    Ok(tree! { "User": made })
}

pub(super) fn get(call: &Call<'_>, name: &str) -> Result<Node> {
    let user = call.state.users.get(name).ok_or_else(|| no_user(name))?;
    Ok(tree! { "User": node(call, user) })
}

pub(super) fn list(call: &mut Call<'_>) -> Result<Node> {
    let nodes: Vec<Node> = call.state.users.iter().map(|user| node(call, user)).collect();
    Ok(tree! { "Users": nodes, "IsTruncated": false })
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Node> {
    let user = user(call)?.clone();
    if !user.keys.is_empty() {
        return Err(conflict("Cannot delete entity, must delete access keys first."));
    }
    if !user.policies.is_empty() {
        return Err(conflict("Cannot delete entity, must delete policies first."));
    }
    if !user.attached.is_empty() {
        return Err(conflict("Cannot delete entity, must detach all policies first."));
    }
    call.state.users.remove(&user.name);
    Ok(tree! {})
}

pub(super) fn create_key(call: &mut Call<'_>) -> Result<Node> {
    let now = call.now;
    let found = user(call)?;
    if found.keys.len() >= MOST_KEYS {
        return Err(AwsError::new(
            "LimitExceeded",
            format!("Cannot exceed quota for AccessKeysPerUser: {MOST_KEYS}"),
        )
        .status(409));
    }
    let access_key = ids::unique("AKIA")[..20].to_owned();
    found.keys.insert(access_key.clone(), now);
    let user = found.clone();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let credential = Credential {
        access_key,
        secret: ids::token(alphabet, 40),
        token: None,
        arn: user_arn(call, &user),
        id: user.id.clone(),
        expires: None,
    };
    let made = tree! {
        "UserName": &user.name,
        "AccessKeyId": &credential.access_key,
        "Status": "Active",
        "SecretAccessKey": &credential.secret,
        "CreateDate": rfc3339(call.now),
    };
    call.state.credentials.insert(credential);
    Ok(tree! { "AccessKey": made })
}

pub(super) fn delete_key(call: &mut Call<'_>) -> Result<Node> {
    let key = call.params.need("AccessKeyId")?.to_owned();
    let removed = user(call)?.keys.remove(&key);
    removed.ok_or_else(|| missing("The Access Key with id", &key))?;
    call.state.credentials.remove(&key);
    Ok(tree! {})
}

pub(super) fn list_keys(call: &mut Call<'_>) -> Result<Node> {
    let user = user(call)?;
    let nodes = user.keys.iter().map(|(key, made)| {
        tree! {
            "UserName": &user.name,
            "AccessKeyId": key,
            "Status": "Active",
            "CreateDate": rfc3339(*made),
        }
    });
    let nodes: Vec<Node> = nodes.collect();
    Ok(tree! { "AccessKeyMetadata": nodes, "IsTruncated": false })
}

pub(super) fn put_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = checked_name(call, "PolicyName", 128)?.to_owned();
    let policy = checked_policy(call, "PolicyDocument")?.to_owned();
    user(call)?.policies.insert(name, policy);
    Ok(tree! {})
}

pub(super) fn get_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = call.params.need("PolicyName")?.to_owned();
    let user = user(call)?;
    let policy = user.policies.get(&name);
    let policy = policy.ok_or_else(|| missing("The user policy with name", &name))?;
    Ok(tree! {
        "UserName": &user.name,
        "PolicyName": name,
        "PolicyDocument": encoded(policy),
    })
}

pub(super) fn delete_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = call.params.need("PolicyName")?.to_owned();
    let removed = user(call)?.policies.remove(&name);
    removed.map(|_| tree! {}).ok_or_else(|| missing("The user policy with name", &name))
}

pub(super) fn list_policies(call: &mut Call<'_>) -> Result<Node> {
    let names: Vec<String> = user(call)?.policies.keys().cloned().collect();
    Ok(tree! { "PolicyNames": names, "IsTruncated": false })
}

/// A policy that can be attached: one that AWS keeps, or one of the account.
pub(super) fn check_policy(call: &Call<'_>, arn: &str) -> Result<()> {
    let is_aws = arn.starts_with("arn:aws:iam::aws:policy/");
    let known = is_aws || call.state.policies.get(arn).is_some();
    known.then_some(()).ok_or_else(|| missing("Policy", arn))
}

pub(super) fn attached_node(attached: &[String]) -> Node {
    let nodes = attached.iter().map(|arn| {
        tree! { "PolicyArn": arn, "PolicyName": arn.rsplit('/').next().unwrap_or_default() }
    });
    let nodes: Vec<Node> = nodes.collect();
    tree! { "AttachedPolicies": nodes, "IsTruncated": false }
}

pub(super) fn attach_policy(call: &mut Call<'_>) -> Result<Node> {
    let arn = call.params.need("PolicyArn")?.to_owned();
    check_policy(call, &arn)?;
    let user = user(call)?;
    if !user.attached.contains(&arn) {
        user.attached.push(arn);
    }
    Ok(tree! {})
}

pub(super) fn detach_policy(call: &mut Call<'_>) -> Result<Node> {
    let arn = call.params.need("PolicyArn")?.to_owned();
    let user = user(call)?;
    if !user.attached.contains(&arn) {
        return Err(missing("Policy", &arn));
    }
    user.attached.retain(|a| *a != arn);
    Ok(tree! {})
}

pub(super) fn list_attached(call: &mut Call<'_>) -> Result<Node> {
    Ok(attached_node(&user(call)?.attached))
}

/// How many users and roles have a policy.
fn holders(call: &Call<'_>, arn: &str) -> usize {
    let has = |attached: &[String]| attached.iter().any(|a| a == arn);
    let users = call.state.users.iter().filter(|user| has(&user.attached)).count();
    users + call.state.roles.iter().filter(|role| has(&role.attached)).count()
}

fn policy_node(call: &Call<'_>, policy: &ManagedPolicy) -> Node {
    tree! {
        "PolicyName": &policy.name,
        "PolicyId": &policy.id,
        "Arn": &policy.arn,
        "Path": &policy.path,
        "Description": policy.description.as_deref(),
        "DefaultVersionId": "v1",
        "AttachmentCount": holders(call, &policy.arn) as u64,
        "IsAttachable": true,
        "CreateDate": rfc3339(policy.created),
        "UpdateDate": rfc3339(policy.created),
        "Tags": tags_node(&policy.tags),
    }
}

pub(super) fn create_policy(call: &mut Call<'_>) -> Result<Node> {
    let name = checked_name(call, "PolicyName", 128)?.to_owned();
    let path = call.params.text("Path").unwrap_or("/").to_owned();
    let arn = format!("arn:aws:iam::{}:policy{path}{name}", call.account());
    if call.state.policies.get(&arn).is_some() {
        return Err(exists("A policy called", &name));
    }
    let policy = ManagedPolicy {
        arn,
        name,
        id: ids::unique("ANPA"),
        path,
        description: call.params.text("Description").map(str::to_owned),
        created: call.now,
        document: checked_policy(call, "PolicyDocument")?.to_owned(),
        tags: tags::read(&call.params.members("Tags"))?,
    };
    let made = policy_node(call, &policy);
    call.state.policies.insert(policy);
    Ok(tree! { "Policy": made })
}

fn managed(call: &Call<'_>) -> Result<ManagedPolicy> {
    let arn = call.params.need("PolicyArn")?;
    call.state.policies.get(arn).cloned().ok_or_else(|| missing("Policy", arn))
}

pub(super) fn get_managed(call: &mut Call<'_>) -> Result<Node> {
    let policy = managed(call)?;
    Ok(tree! { "Policy": policy_node(call, &policy) })
}

pub(super) fn get_version(call: &mut Call<'_>) -> Result<Node> {
    let policy = managed(call)?;
    let version = call.params.need("VersionId")?;
    if version != "v1" {
        return Err(missing("Policy version", version));
    }
    Ok(tree! { "PolicyVersion": tree! {
        "Document": encoded(&policy.document),
        "VersionId": "v1",
        "IsDefaultVersion": true,
        "CreateDate": rfc3339(policy.created),
    } })
}

pub(super) fn list_managed(call: &mut Call<'_>) -> Result<Node> {
    let nodes: Vec<Node> = call.state.policies.iter().map(|p| policy_node(call, p)).collect();
    Ok(tree! { "Policies": nodes, "IsTruncated": false })
}

pub(super) fn delete_managed(call: &mut Call<'_>) -> Result<Node> {
    let policy = managed(call)?;
    if holders(call, &policy.arn) > 0 {
        return Err(conflict("Cannot delete a policy attached to entities."));
    }
    call.state.policies.remove(&policy.arn);
    Ok(tree! {})
}
