//! What a call takes: which actions on which resources, and what is known of them.
//!
//! Source: the Service Authorization Reference of AWS, as far as the lab answers calls.

use serde_json::Value;

use super::Claim;
use super::policy::Keys;
use crate::aws::call::Call;
use crate::aws::ec2::resource::described;
use crate::aws::filters::Tags;
use crate::aws::params::Params;
use crate::aws::request::Incoming;
use crate::aws::{ebs, iam, kms, s3, ssm};

/// Calls of EC2 that make something, and the types of what they make.
const MAKERS: &[(&str, &[&str])] = &[
    ("CopyImage", &["image", "snapshot"]),
    ("CopySnapshot", &["snapshot"]),
    ("CreateFleet", &["fleet", "instance", "volume", "network-interface"]),
    ("CreateImage", &["image", "snapshot"]),
    ("CreateInternetGateway", &["internet-gateway"]),
    ("CreateKeyPair", &["key-pair"]),
    ("CreateLaunchTemplate", &["launch-template"]),
    ("CreateRouteTable", &["route-table"]),
    ("CreateSecurityGroup", &["security-group"]),
    ("CreateSnapshot", &["snapshot"]),
    ("CreateSubnet", &["subnet"]),
    ("CreateVolume", &["volume"]),
    ("CreateVpc", &["vpc"]),
    ("ImportImage", &["import-image-task"]),
    ("ImportKeyPair", &["key-pair"]),
    ("RegisterImage", &["image"]),
    ("RequestSpotInstances", &["spot-instances-request"]),
    ("RunInstances", &["instance", "network-interface", "volume"]),
];

/// Calls of EC2 whose names say that they look, and for which a resource counts nevertheless.
const LOOKS_AT: [&str; 2] = ["GetConsoleOutput", "GetPasswordData"];

/// Parameters in which no resource is named.
const NOT_RESOURCES: [&str; 7] =
    ["ClientToken", "Description", "Filter", "Name", "Tag", "TagSpecification", "UserData"];

/// Everything that has to be allowed for a call.
pub(crate) fn of(call: &Call<'_>, service: &str, body: &Value, request: &Incoming) -> Vec<Claim> {
    match service {
        "ec2" => ec2(call),
        "iam" => iam_claims(call),
        "sts" => sts(call),
        "kms" => kms_claims(call, body),
        "ssm" => ssm_claims(call, body),
        "secretsmanager" => secrets(call, body),
        "ebs" => ebs_claims(call, request),
        "s3" => {
            let needs = s3::needs(call.action, request).into_iter();
            needs.map(|(action, arn)| claim(action.to_owned(), arn, Keys::new())).collect()
        }
        _ => vec![plain(format!("{service}:{}", call.action))],
    }
}

fn plain(action: String) -> Claim {
    claim(action, "*".to_owned(), Keys::new())
}

fn claim(action: String, resource: String, keys: Keys) -> Claim {
    Claim { action, resources: vec![resource], keys }
}

fn put(keys: &mut Keys, name: &str, value: &str) {
    keys.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
}

/// What is known of a resource by its tags.
fn resource_tags(service: &str, tags: &Tags) -> Keys {
    let mut keys = Keys::new();
    for (key, value) in tags {
        put(&mut keys, &format!("aws:ResourceTag/{key}"), value);
        put(&mut keys, &format!("{service}:ResourceTag/{key}"), value);
    }
    keys
}

/// What is known of a request by the tags in it.
fn request_tags(keys: &mut Keys, tags: &Tags) {
    for (key, value) in tags {
        put(keys, &format!("aws:RequestTag/{key}"), value);
        put(keys, "aws:TagKeys", key);
    }
}

/// Tags as a list of parameters has them.
fn listed_tags(params: &Params, path: &str) -> Tags {
    let pair = |part: &&Params| {
        let value = |name: &str| part.part(name).and_then(Params::value).unwrap_or_default();
        (value("Key").to_owned(), value("Value").to_owned())
    };
    params.members(path).iter().map(pair).collect()
}

/// The tags that a call of EC2 gives to what it makes of a type.
fn tags_of_made(call: &Call<'_>, kind: &str) -> Tags {
    let parts = call.params.members("TagSpecification");
    let of = parts.iter().filter(|part| part.text("ResourceType") == Some(kind));
    of.flat_map(|part| listed_tags(part, "Tag")).collect()
}

/// Images and snapshots have no account in their ARNs.
fn ec2_arn(call: &Call<'_>, region: &str, kind: &str, id: &str) -> String {
    let account = if matches!(kind, "image" | "snapshot") { "" } else { call.account() };
    format!("arn:aws:ec2:{region}:{account}:{kind}/{id}")
}

fn ec2(call: &Call<'_>) -> Vec<Claim> {
    let action = format!("ec2:{}", call.action);
    let looks = ["Describe", "Get", "List"].iter().any(|verb| call.action.starts_with(verb));
    if looks && !LOOKS_AT.contains(&call.action) {
        return vec![plain(action)];
    }
    let mut claims = existing(call, &action);
    let made = MAKERS.iter().find(|(name, _)| *name == call.action);
    for kind in made.map(|(_, kinds)| *kinds).unwrap_or_default() {
        let tags = tags_of_made(call, kind);
        let mut keys = Keys::new();
        request_tags(&mut keys, &tags);
        let name = match *kind {
            "key-pair" => call.params.text("KeyName").unwrap_or("*"),
            _ => "*",
        };
        let arn = ec2_arn(call, call.region, kind, name);
        claims.push(claim(action.clone(), arn.clone(), keys.clone()));
        if !tags.is_empty() {
            put(&mut keys, "ec2:CreateAction", call.action);
            claims.push(claim("ec2:CreateTags".into(), arn, keys));
        }
    }
    if call.action == "RunInstances" {
        claims.extend(launch(call, &action));
    }
    claims.extend(passed_role(call));
    claims.extend(used_keys(call));
    if claims.is_empty() {
        claims.push(plain(action));
    }
    claims
}

/// Claims on the resources that the parameters name.
fn existing(call: &Call<'_>, action: &str) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut add = |region: &str, kind: &str, id: &str, tags: Option<&Tags>| {
        let mut keys = tags.map(|tags| resource_tags("ec2", tags)).unwrap_or_default();
        if matches!(call.action, "CreateTags" | "DeleteTags") {
            request_tags(&mut keys, &listed_tags(call.params, "Tag"));
        }
        let found = claim(action.to_owned(), ec2_arn(call, region, kind, id), keys);
        if !claims.contains(&found) {
            claims.push(found);
        }
    };
    for (path, value) in call.params.flat() {
        let first = path.split('.').next().unwrap_or_default();
        if NOT_RESOURCES.contains(&first) {
            continue;
        }
        let region = match path.as_str() {
            "SourceImageId" | "SourceSnapshotId" => call.params.text("SourceRegion"),
            _ => None,
        };
        let region = region.unwrap_or(call.region);
        if let Some((kind, tags)) = described(call.state, region, &value) {
            add(region, kind, &value, tags);
        }
    }
    let creates_key = matches!(call.action, "CreateKeyPair" | "ImportKeyPair");
    if let Some(name) = call.params.text("KeyName").filter(|_| !creates_key) {
        let here = |k: &&crate::aws::ec2::model::KeyPair| k.region == call.region && k.name == name;
        add(call.region, "key-pair", name, call.state.key_pairs.iter().find(here).map(|k| &k.tags));
    }
    let mut names = call.params.texts("SecurityGroup");
    if call.action != "CreateSecurityGroup" {
        names.extend(call.params.text("GroupName").map(str::to_owned));
    }
    for name in names {
        let here =
            |g: &&crate::aws::ec2::model::SecurityGroup| g.region == call.region && g.name == name;
        let group = call.state.groups.iter().find(here);
        add(
            call.region,
            "security-group",
            group.map_or("*", |g| g.id.as_str()),
            group.map(|g| &g.tags),
        );
    }
    claims
}

/// What a launch takes beside what it names: the network and group of the region, where it names
/// none.
fn launch(call: &Call<'_>, action: &str) -> Vec<Claim> {
    let named = |part: &str| call.params.flat().keys().any(|path| path.contains(part));
    let mut claims = Vec::new();
    if !named("SubnetId") {
        claims.push(("subnet", "*"));
    }
    if !named("SecurityGroup") {
        claims.push(("security-group", "*"));
    }
    let arn = |kind: &str, id: &str| ec2_arn(call, call.region, kind, id);
    claims.into_iter().map(|(k, id)| claim(action.to_owned(), arn(k, id), Keys::new())).collect()
}

/// A role that an instance gets.
fn passed_role(call: &Call<'_>) -> Option<Claim> {
    let profile = call.params.part("IamInstanceProfile")?;
    let arn_name = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
    let name = profile.text("Name").map(str::to_owned);
    let name = name.or_else(|| profile.text("Arn").map(arn_name))?;
    let role = call.state.profiles.get(&name)?.role.as_ref()?;
    pass(call, role)
}

fn pass(call: &Call<'_>, role: &str) -> Option<Claim> {
    let arn = iam::role_arn(call.account(), call.state.roles.get(role)?);
    let mut keys = Keys::new();
    put(&mut keys, "iam:PassedToService", "ec2.amazonaws.com");
    Some(claim("iam:PassRole".into(), arn, keys))
}

/// Keys of one's own that disks are encrypted with: EC2 uses them in the caller's name.
fn used_keys(call: &Call<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (path, name) in call.params.flat() {
        if path.rsplit('.').next() != Some("KmsKeyId") || name.is_empty() {
            continue;
        }
        let Ok(arn) = kms::usable_key(call, &name) else { continue };
        if kms::is_managed(call, &arn) {
            continue;
        }
        for action in ["kms:GenerateDataKeyWithoutPlaintext", "kms:CreateGrant"] {
            let mut keys = Keys::new();
            put(&mut keys, "kms:GrantIsForAWSResource", "true");
            put(&mut keys, "kms:ViaService", &format!("ec2.{}.amazonaws.com", call.region));
            claims.push(claim(action.into(), arn.clone(), keys));
        }
    }
    claims
}

fn iam_claims(call: &Call<'_>) -> Vec<Claim> {
    let action = format!("iam:{}", call.action);
    let path = call.params.text("Path").unwrap_or("/");
    let arn = |kind: &str, path: &str, name: &str| {
        format!("arn:aws:iam::{}:{kind}{path}{name}", call.account())
    };
    let profile = call.params.text("InstanceProfileName");
    let (resource, mut keys) = if let Some(name) = profile {
        let found = call.state.profiles.get(name);
        let tags = found.map(|p| resource_tags("iam", &p.tags)).unwrap_or_default();
        (arn("instance-profile", found.map_or(path, |p| &p.path), name), tags)
    } else if let Some(name) = call.params.text("RoleName") {
        let found = call.state.roles.get(name);
        let tags = found.map(|r| resource_tags("iam", &r.tags)).unwrap_or_default();
        (arn("role", found.map_or(path, |r| &r.path), name), tags)
    } else if let Some(name) = call.params.text("UserName") {
        (arn("user", path, name), Keys::new())
    } else if let Some(policy) = call.params.text("PolicyArn") {
        (policy.to_owned(), Keys::new())
    } else if let Some(name) = call.params.text("PolicyName") {
        (arn("policy", path, name), Keys::new())
    } else {
        ("*".to_owned(), Keys::new())
    };
    request_tags(&mut keys, &listed_tags(call.params, "Tags"));
    let mut claims = vec![claim(action, resource, keys)];
    if call.action == "AddRoleToInstanceProfile"
        && let Some(role) = call.params.text("RoleName")
    {
        claims.extend(pass(call, role));
    }
    claims
}

fn sts(call: &Call<'_>) -> Vec<Claim> {
    match (call.action, call.params.text("RoleArn")) {
        ("AssumeRole", Some(arn)) => {
            vec![claim("sts:AssumeRole".into(), arn.to_owned(), Keys::new())]
        }
        // Everybody may ask who they are.
        _ => Vec::new(),
    }
}

fn kms_claims(call: &Call<'_>, body: &Value) -> Vec<Claim> {
    let action = format!("kms:{}", call.action);
    match kms::asked_key(call, body) {
        Some((arn, tags)) => vec![claim(action, arn, resource_tags("kms", &tags))],
        None => vec![plain(action)],
    }
}

fn ssm_claims(call: &Call<'_>, body: &Value) -> Vec<Claim> {
    let action = format!("ssm:{}", call.action);
    let (region, account) = (call.region, call.account());
    let session = |id: &str| {
        // A session's name begins with its owner's, and in ARNs with the owner's id.
        let rest = id.rsplit('-').next().unwrap_or_default();
        let arn = |id: &str| format!("arn:aws:ssm:{region}:{account}:session/{id}");
        let resources = vec![arn(id), arn(&format!("{}-{rest}", call.caller.id))];
        vec![Claim { action: action.clone(), resources, keys: Keys::new() }]
    };
    match (call.action, body["SessionId"].as_str()) {
        ("ResumeSession" | "TerminateSession", Some(id)) => return session(id),
        ("StartSession", _) => {
            let target = body["Target"].as_str().unwrap_or("*");
            let found = described(call.state, region, target);
            let tags = found.and_then(|(_, tags)| tags);
            let keys = tags.map(|tags| resource_tags("ssm", tags)).unwrap_or_default();
            let document = body["DocumentName"].as_str().unwrap_or("SSM-SessionManagerRunShell");
            let owner = if document.starts_with("AWS-") { "" } else { account };
            let document = format!("arn:aws:ssm:{region}:{owner}:document/{document}");
            return vec![
                claim(action.clone(), ec2_arn(call, region, "instance", target), keys),
                claim(action, document, Keys::new()),
            ];
        }
        _ => {}
    }
    let names = ssm::asked_parameters(body);
    if names.is_empty() {
        return vec![plain(action)];
    }
    let arn = |name: &String| {
        format!("arn:aws:ssm:{region}:{account}:parameter/{}", name.trim_start_matches('/'))
    };
    names.iter().map(|name| claim(action.clone(), arn(name), Keys::new())).collect()
}

fn secrets(call: &Call<'_>, body: &Value) -> Vec<Claim> {
    let action = format!("secretsmanager:{}", call.action);
    let here = |name: &str| {
        let all = call.state.secrets.iter().filter(|s| s.region == call.region);
        all.into_iter().find(|s| s.name == name || s.arn == name)
    };
    let arn = |name: &str| {
        format!("arn:aws:secretsmanager:{}:{}:secret:{name}", call.region, call.account())
    };
    match (body["SecretId"].as_str(), body["Name"].as_str()) {
        (Some(id), _) => match here(id) {
            Some(secret) => {
                let keys = resource_tags("secretsmanager", &secret.tags);
                vec![claim(action, secret.arn.clone(), keys)]
            }
            None => vec![claim(action, arn(id), Keys::new())],
        },
        (None, Some(name)) => vec![claim(action, arn(&format!("{name}-??????")), Keys::new())],
        (None, None) => vec![plain(action)],
    }
}

fn ebs_claims(call: &Call<'_>, request: &Incoming) -> Vec<Claim> {
    let action = format!("ebs:{}", call.action);
    let mut claims = Vec::new();
    for id in ebs::named_in(request) {
        let tags = described(call.state, call.region, &id).and_then(|(_, tags)| tags);
        let keys = tags.map(|tags| resource_tags("ec2", tags)).unwrap_or_default();
        claims.push(claim(action.clone(), ec2_arn(call, call.region, "snapshot", &id), keys));
    }
    if call.action == "StartSnapshot" {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut keys = Keys::new();
        for tag in body["Tags"].as_array().into_iter().flatten() {
            let text = |name: &str| tag[name].as_str().unwrap_or_default().to_owned();
            request_tags(&mut keys, &Tags::from([(text("Key"), text("Value"))]));
        }
        claims.push(claim(action, ec2_arn(call, call.region, "snapshot", "*"), keys));
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_are_in_the_order_of_their_names() {
        assert!(MAKERS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
