//! Whether a caller may do what it asks for: identity policies of users and roles.
//!
//! The user that `karat lab env` stands for may do everything. Policies of resources, boundaries
//! and sessions are not looked at.
//!
//! | file | what |
//! |---|---|
//! | `policy.rs` | what a policy says |
//! | `claims.rs` | what a call takes: actions, resources, what is known of them |

pub(crate) mod claims;
pub(crate) mod policy;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::policy::{Keys, Question, Verdict, verdict};
use super::call::Call;
use super::error::{AwsError, Result};
use super::state::Role;

/// One thing that has to be allowed for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) action: String,
    /// ARNs, of which one has to be allowed; `*` where the call is about nothing in particular.
    pub(crate) resources: Vec<String>,
    pub(crate) keys: Keys,
}

/// Whose policies apply.
enum Holder<'a> {
    /// Nobody restricts it.
    Anyone,
    User(&'a str),
    Role(&'a str),
}

fn holder<'a>(call: &'a Call<'_>) -> Holder<'a> {
    let rest = call.caller.arn.rsplit(':').next().unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').collect();
    match parts.as_slice() {
        ["user", .., name] if *name != call.settings.user => Holder::User(name),
        ["assumed-role", role, ..] => Holder::Role(role),
        _ => Holder::Anyone,
    }
}

/// The name that `aws:username` stands for.
fn user_name<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    let rest = call.caller.arn.rsplit(':').next().unwrap_or_default();
    rest.strip_prefix("user/").and_then(|path| path.rsplit('/').next())
}

/// Whether a role's policies let it do something, by itself.
pub(crate) fn role_may(call: &Call<'_>, role: &Role, action: &str, resource: &str) -> bool {
    let documents = read_documents(call, &role.policies, &role.attached);
    let question = Question { action, resource, keys: &Keys::new() };
    verdict(&documents, question) == Verdict::Allowed
}

/// The documents of a caller; none where nothing restricts it.
fn documents(call: &Call<'_>) -> Option<Vec<Value>> {
    let (inline, attached) = match holder(call) {
        Holder::Anyone => return None,
        Holder::User(name) => {
            let user = call.state.users.get(name);
            user.map(|user| (user.policies.clone(), user.attached.clone())).unwrap_or_default()
        }
        Holder::Role(name) => {
            let role = call.state.roles.get(name);
            role.map(|role| (role.policies.clone(), role.attached.clone())).unwrap_or_default()
        }
    };
    Some(read_documents(call, &inline, &attached))
}

fn read_documents(
    call: &Call<'_>,
    inline: &BTreeMap<String, String>,
    attached: &[String],
) -> Vec<Value> {
    // They were read when they were put.
    let read = |text: &String| serde_json::from_str(text).ok();
    let mut all: Vec<Value> = inline.values().filter_map(read).collect();
    for arn in attached {
        all.extend(managed(arn));
        all.extend(call.state.policies.get(arn).and_then(|policy| read(&policy.document)));
    }
    all
}

/// Of the policies that AWS keeps, those that the lab knows what is in.
fn managed(arn: &str) -> Option<Value> {
    let name = arn.strip_prefix("arn:aws:iam::aws:policy/")?.rsplit('/').next()?;
    let allow = |key: &str, actions: &[&str]| json!({ "Statement": { "Effect": "Allow", key: actions, "Resource": "*" } });
    Some(match name {
        "AdministratorAccess" => allow("Action", &["*"]),
        "PowerUserAccess" => allow("NotAction", &["iam:*"]),
        "ReadOnlyAccess" => allow("Action", &["*:Describe*", "*:Get*", "*:List*"]),
        "AmazonEC2FullAccess" => allow("Action", &["ec2:*"]),
        "AmazonEC2ReadOnlyAccess" => allow("Action", &["ec2:Describe*"]),
        "IAMFullAccess" => allow("Action", &["iam:*"]),
        "AmazonS3FullAccess" => allow("Action", &["s3:*"]),
        "AmazonS3ReadOnlyAccess" => allow("Action", &["s3:Get*", "s3:List*"]),
        "AmazonSSMFullAccess" => allow("Action", &["ssm:*"]),
        "AmazonSSMManagedInstanceCore" => allow(
            "Action",
            &[
                "ec2messages:*",
                "ssm:DescribeAssociation",
                "ssm:DescribeDocument",
                "ssm:GetDeployablePatchSnapshotForInstance",
                "ssm:GetDocument",
                "ssm:GetManifest",
                "ssm:GetParameter",
                "ssm:GetParameters",
                "ssm:ListAssociations",
                "ssm:ListInstanceAssociations",
                "ssm:PutComplianceItems",
                "ssm:PutConfigurePackageResult",
                "ssm:PutInventory",
                "ssm:UpdateAssociationStatus",
                "ssm:UpdateInstanceAssociationStatus",
                "ssm:UpdateInstanceInformation",
                "ssmmessages:*",
            ],
        ),
        _ => return None,
    })
}

/// Refuses what the caller's policies do not allow.
///
/// # Errors
/// What is not allowed, as the service says it.
pub(crate) fn check(call: &Call<'_>, service: &str, claims: Vec<Claim>) -> Result<()> {
    let Some(documents) = documents(call) else { return Ok(()) };
    for claim in claims {
        let mut keys = claim.keys;
        let mut know = |name: &str, value: &str| {
            keys.entry(name.to_owned()).or_insert_with(|| vec![value.to_owned()]);
        };
        know("aws:requestedregion", call.region);
        know("aws:userid", &call.caller.id);
        know("aws:principalarn", &call.caller.arn);
        know("aws:principalaccount", call.account());
        if let Some(name) = user_name(call) {
            know("aws:username", name);
        }
        let says = |resource: &String| {
            verdict(&documents, Question { action: &claim.action, resource, keys: &keys })
        };
        let verdicts: Vec<Verdict> = claim.resources.iter().map(says).collect();
        if verdicts.contains(&Verdict::Denied) || !verdicts.contains(&Verdict::Allowed) {
            let resource = claim.resources.first().map_or("*", String::as_str);
            let denied = verdicts.contains(&Verdict::Denied);
            return Err(refusal(service, &call.caller.arn, &claim.action, resource, denied));
        }
    }
    Ok(())
}

fn refusal(service: &str, who: &str, action: &str, resource: &str, denied: bool) -> AwsError {
    let why = if denied {
        "with an explicit deny in an identity-based policy".to_owned()
    } else {
        format!("because no identity-based policy allows the {action} action")
    };
    let text =
        format!("User: {who} is not authorized to perform: {action} on resource: {resource} {why}");
    match service {
        "ec2" => AwsError::new(
            "UnauthorizedOperation",
            format!("You are not authorized to perform this operation. {text}"),
        )
        .status(403),
        "iam" | "sts" => AwsError::new("AccessDenied", text).status(403),
        "ebs" => AwsError::new("AccessDeniedException", text).status(403),
        "s3" => AwsError::new("AccessDenied", text).status(403),
        _ => AwsError::new("AccessDeniedException", text),
    }
}
