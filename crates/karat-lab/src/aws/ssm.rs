//! Systems Manager: parameters, and which calls there are.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::Call;
use super::ec2::model::Image;
use super::ec2::resource::seen;
use super::error::{AwsError, Result};
use super::kms::{body_tags, open_text, seal_text};
use super::state::Parameter;
use crate::core::phase::seconds;

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    if let Some(answer) = super::sessions::answer(call, body) {
        return answer;
    }
    if let Some(answer) = super::agents::answer(call, body) {
        return answer;
    }
    match call.action {
        "PutParameter" => put(call, body),
        "GetParameter" => {
            let shown = get(call, need(body, "Name")?, body["WithDecryption"] == true)?;
            Ok(json!({ "Parameter": shown }))
        }
        "GetParameters" => get_several(call, body),
        "GetParametersByPath" => by_path(call, body),
        "GetParameterHistory" => history(call, body),
        "DescribeParameters" => describe(call, body),
        "DeleteParameter" => {
            let name = need(body, "Name")?;
            remove(call, name).map(|()| json!({})).ok_or_else(|| not_found(name))
        }
        "DeleteParameters" => {
            let names = names(body);
            let (gone, missing): (Vec<&str>, Vec<&str>) =
                names.into_iter().partition(|name| remove(call, name).is_some());
            Ok(json!({ "DeletedParameters": gone, "InvalidParameters": missing }))
        }
        "LabelParameterVersion" => label(call, body),
        "AddTagsToResource" | "RemoveTagsFromResource" | "ListTagsForResource" => tags(call, body),
        other => Err(super::front::unknown_operation(other)),
    }
}

fn need<'a>(body: &'a Value, name: &str) -> Result<&'a str> {
    body[name]
        .as_str()
        .filter(|t| !t.is_empty())
        .ok_or_else(|| AwsError::new("ValidationException", format!("{name} has to be given.")))
}

fn names(body: &Value) -> Vec<&str> {
    body["Names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The parameters that a request names.
pub(crate) fn asked_parameters(body: &Value) -> Vec<String> {
    let one = ["Name", "Path", "ResourceId"].iter().filter_map(|name| body[*name].as_str());
    one.chain(names(body)).map(str::to_owned).collect()
}

fn not_found(name: &str) -> AwsError {
    AwsError::new("ParameterNotFound", format!("Parameter {name} not found."))
}

fn at(call: &Call<'_>, name: &str) -> String {
    format!("{}/{name}", call.region)
}

fn remove(call: &mut Call<'_>, name: &str) -> Option<()> {
    let key = at(call, name);
    call.state.parameters.remove(&key).map(drop)
}

fn arn(call: &Call<'_>, name: &str) -> String {
    let slash = if name.starts_with('/') { "" } else { "/" };
    call.arn("ssm", &format!("parameter{slash}{name}"))
}

fn put(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let name = need(body, "Name")?.to_owned();
    let value = need(body, "Value")?.to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let lower = name.trim_start_matches('/').to_ascii_lowercase();
    if name.len() > 1011 || !name.chars().all(plain) {
        return Err(AwsError::new(
            "ValidationException",
            format!(
                "Parameter name: can't be \"{name}\". It may have letters, digits and the symbols . - _ /"
            ),
        ));
    }
    if lower.starts_with("aws") || lower.starts_with("ssm") {
        return Err(AwsError::new(
            "AccessDeniedException",
            format!("No access to reserved parameter name: {name}."),
        ));
    }
    let key = at(call, &name);
    let old = call.state.parameters.get(&key).cloned();
    if old.is_some() && body["Overwrite"] != true {
        return Err(AwsError::new(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in \
             the request to true.",
        ));
    }
    let kind = body["Type"].as_str().map(str::to_owned).or(old.as_ref().map(|o| o.kind.clone()));
    let kind = kind.ok_or_else(|| {
        AwsError::new(
            "ValidationException",
            "A parameter type is required when you create a parameter.",
        )
    })?;
    if !["String", "StringList", "SecureString"].contains(&kind.as_str()) {
        return Err(AwsError::new("UnsupportedParameterType", format!("There is no type {kind}.")));
    }
    let most = if body["Tier"] == "Advanced" { 8192 } else { 4096 };
    if value.len() > most {
        return Err(AwsError::new(
            "ValidationException",
            format!("The parameter value can have {most} characters."),
        ));
    }
    let secret = kind == "SecureString";
    let key_name = secret.then(|| body["KeyId"].as_str().unwrap_or("alias/aws/ssm").to_owned());
    let kept = match &key_name {
        Some(key) => {
            seal_text(call, key, &value).map_err(|e| AwsError::new("InvalidKeyId", e.message))?
        }
        None => value,
    };
    let mut parameter = old.unwrap_or(Parameter {
        name,
        region: call.region.to_owned(),
        kind: kind.clone(),
        values: Vec::new(),
        labels: BTreeMap::new(),
        key: None,
        description: None,
        tags: body_tags(body)?,
    });
    parameter.kind = kind;
    parameter.key = key_name;
    if let Some(text) = body["Description"].as_str() {
        parameter.description = Some(text.to_owned());
    }
    parameter.values.push((kept, call.now));
    let version = parameter.values.len();
    call.state.parameters.insert(parameter);
    Ok(json!({ "Version": version, "Tier": "Standard" }))
}

/// A parameter by name, `name:version`, `name:label` or ARN.
fn get(call: &Call<'_>, asked: &str, decrypt: bool) -> Result<Value> {
    let prefix = call.arn("ssm", "parameter");
    let local = asked.strip_prefix(&prefix).unwrap_or(asked);
    if let Some(shown) = public_parameter(call, local) {
        return Ok(shown);
    }
    let (name, selector) = match local.split_once(':') {
        Some((name, selector)) => (name, Some(selector)),
        None => (local, None),
    };
    let found = call.state.parameters.get(&at(call, name));
    let found =
        found.or_else(|| call.state.parameters.get(&at(call, name.trim_start_matches('/'))));
    let parameter = found.ok_or_else(|| not_found(asked))?;
    let version = match selector {
        None => parameter.values.len(),
        Some(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => parameter.labels.get(text).copied().unwrap_or(0),
        },
    };
    if version == 0 || version > parameter.values.len() {
        return Err(AwsError::new(
            "ParameterVersionNotFound",
            format!(
                "Systems Manager could not find version {} of {name}.",
                selector.unwrap_or_default()
            ),
        ));
    }
    let mut shown = shown(call, parameter, version, decrypt)?;
    if let Some(selector) = selector {
        shown["Selector"] = json!(format!(":{selector}"));
    }
    Ok(shown)
}

fn shown(call: &Call<'_>, parameter: &Parameter, version: usize, decrypt: bool) -> Result<Value> {
    let (value, set) = &parameter.values[version - 1];
    let value = match parameter.kind.as_str() {
        "SecureString" if decrypt => open_text(call, value)?,
        _ => value.clone(),
    };
    Ok(json!({
        "Name": parameter.name,
        "Type": parameter.kind,
        "Value": value,
        "Version": version,
        "LastModifiedDate": seconds(*set),
        "ARN": arn(call, &parameter.name),
        "DataType": "text",
    }))
}

/// Parameters that AWS publishes: ids of the newest images.
fn public_parameter(call: &Call<'_>, name: &str) -> Option<Value> {
    let (owner, part) = if name.starts_with("/aws/service/ami-amazon-linux-latest/al2023") {
        ("137112412989", "al2023-ami")
    } else if name.starts_with("/aws/service/ami-amazon-linux-latest/amzn2") {
        ("137112412989", "amzn2-ami")
    } else if let Some(rest) = name.strip_prefix("/aws/service/debian/release/") {
        ("136693071363", if rest.starts_with("12") { "debian-12" } else { "debian-13" })
    } else if let Some(rest) = name.strip_prefix("/aws/service/canonical/ubuntu/server/") {
        let part = if rest.starts_with("20.04") {
            "focal"
        } else if rest.starts_with("22.04") {
            "jammy"
        } else {
            "noble"
        };
        ("099720109477", part)
    } else {
        return None;
    };
    let mut images: Vec<&Image> =
        seen::<Image>(call).filter(|i| i.owner == owner && i.name.contains(part)).collect();
    images.sort_by_key(|i| i.created);
    let image = images.pop()?;
    Some(json!({
        "Name": name,
        "Type": "String",
        "Value": image.id,
        "Version": 1,
        "LastModifiedDate": seconds(image.created),
        "ARN": format!("arn:aws:ssm:{}::parameter{name}", call.region),
        "DataType": "text",
    }))
}

fn get_several(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let decrypt = body["WithDecryption"] == true;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names(body) {
        match get(call, name, decrypt) {
            Ok(shown) => found.push(shown),
            Err(e) if e.code.contains("NotFound") => missing.push(name),
            Err(e) => return Err(e),
        }
    }
    Ok(json!({ "Parameters": found, "InvalidParameters": missing }))
}

/// A page of a list: what is shown, and the token of the next.
fn paged(body: &Value, items: Vec<Value>, name: &str, most: u64) -> Result<Value> {
    let most = usize::try_from(body["MaxResults"].as_u64().unwrap_or(most)).unwrap_or(10).max(1);
    let start = match body["NextToken"].as_str() {
        None => 0,
        Some(token) => STANDARD
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok())
            .ok_or_else(|| {
                AwsError::new("InvalidNextToken", "The specified token is not valid.")
            })?,
    };
    let total = items.len();
    let end = (start + most).min(total);
    let shown: Vec<Value> = items.into_iter().take(end).skip(start).collect();
    let mut answer = json!({ name: shown });
    if end < total {
        answer["NextToken"] = json!(STANDARD.encode(end.to_string()));
    }
    Ok(answer)
}

fn by_path(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let path = need(body, "Path")?;
    let deep = body["Recursive"] == true;
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let below = |p: &&Parameter| {
        p.region == call.region
            && p.name.strip_prefix(&prefix).is_some_and(|rest| deep || !rest.contains('/'))
    };
    let decrypt = body["WithDecryption"] == true;
    let all: Vec<Value> = call
        .state
        .parameters
        .iter()
        .filter(below)
        .map(|p| shown(call, p, p.values.len(), decrypt))
        .collect::<Result<_>>()?;
    paged(body, all, "Parameters", 10)
}

fn history(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let name = need(body, "Name")?;
    let parameter = call.state.parameters.get(&at(call, name)).ok_or_else(|| not_found(name))?;
    let decrypt = body["WithDecryption"] == true;
    let all = (1..=parameter.values.len())
        .map(|version| {
            let mut one = shown(call, parameter, version, decrypt)?;
            let labels = parameter.labels.iter().filter(|(_, v)| **v == version);
            one["Labels"] = json!(labels.map(|(l, _)| l).collect::<Vec<_>>());
            Ok(one)
        })
        .collect::<Result<_>>()?;
    paged(body, all, "Parameters", 50)
}

fn describe(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let filters = body["ParameterFilters"].as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for p in call.state.parameters.iter().filter(|p| p.region == call.region) {
        let mut passes = true;
        for filter in &filters {
            let values: Vec<&str> = filter["Values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let have = match filter["Key"].as_str().unwrap_or_default() {
                "Name" => Some(p.name.as_str()),
                "Type" => Some(p.kind.as_str()),
                "KeyId" => p.key.as_deref(),
                "Path" => Some(p.name.as_str()),
                key => match key.strip_prefix("tag:") {
                    Some(tag) => p.tags.get(tag).map(String::as_str),
                    None => {
                        return Err(AwsError::new(
                            "InvalidFilterKey",
                            format!("The specified filter {key} is not valid."),
                        ));
                    }
                },
            };
            let how = filter["Option"].as_str().unwrap_or(if filter["Key"] == "Path" {
                "Recursive"
            } else {
                "Equals"
            });
            passes &= have.is_some_and(|have| {
                values.is_empty()
                    || values.iter().any(|v| match how {
                        "BeginsWith" | "Recursive" => have.starts_with(v),
                        "Contains" => have.contains(v),
                        _ => have == *v,
                    })
            });
        }
        if passes {
            let (_, set) = p.values.last().cloned().unwrap_or_default();
            all.push(json!({
                "Name": p.name, "ARN": arn(call, &p.name), "Type": p.kind, "KeyId": p.key,
                "LastModifiedDate": seconds(set), "LastModifiedUser": call.caller.arn,
                "Description": p.description, "Version": p.values.len(), "Tier": "Standard",
                "DataType": "text",
            }));
        }
    }
    paged(body, all, "Parameters", 50)
}

fn label(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let name = need(body, "Name")?;
    let key = at(call, name);
    let parameter = call.state.parameters.get_mut(&key).ok_or_else(|| not_found(name))?;
    let asked = body["ParameterVersion"].as_u64().and_then(|v| usize::try_from(v).ok());
    let version = asked.unwrap_or(parameter.values.len());
    if version == 0 || version > parameter.values.len() {
        return Err(AwsError::new(
            "ParameterVersionNotFound",
            format!("Systems Manager could not find version {version} of {name}."),
        ));
    }
    for label in body["Labels"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        parameter.labels.insert(label.to_owned(), version);
    }
    Ok(json!({ "InvalidLabels": [], "ParameterVersion": version }))
}

fn tags(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    if body["ResourceType"] != "Parameter" {
        return Err(AwsError::new("InvalidResourceType", "The lab has tags on parameters only."));
    }
    let name = need(body, "ResourceId")?;
    let key = at(call, name);
    let new = body_tags(body)?;
    let unknown = || AwsError::new("InvalidResourceId", format!("There is no parameter {name}."));
    let parameter = call.state.parameters.get_mut(&key).ok_or_else(unknown)?;
    parameter.tags.extend(new);
    for gone in body["TagKeys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        parameter.tags.remove(gone);
    }
    let list: Vec<Value> =
        parameter.tags.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    Ok(if call.action == "ListTagsForResource" { json!({ "TagList": list }) } else { json!({}) })
}
