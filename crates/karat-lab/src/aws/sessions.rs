//! Systems Manager: sessions with instances.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::{Call, Job};
use super::ec2::model::{Instance, InstanceState};
use super::ec2::resource::seen;
use super::error::{AwsError, Result};
use crate::core::ids;
use crate::core::phase::{Millis, now, seconds};

/// A session that was begun and not ended.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Lets a web socket in; a new one for each.
    pub(crate) token: String,
    pub(crate) region: String,
    pub(crate) instance: String,
    pub(crate) document: String,
    pub(crate) owner: String,
    reason: Option<String>,
    started: Millis,
    pub(crate) leads: Leads,
    /// The key that it is encrypted with.
    pub(crate) key: Option<String>,
    /// Lets the web socket of an agent in that is not the lab's own.
    pub(crate) agent_token: Option<String>,
}

/// What a session leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// A port of the instance, or of a host that it reaches.
    Port { host: Option<String>, port: u16, properties: Value },
    /// A shell, or the command that is given.
    Shell { command: Option<String> },
}

/// All sessions, by their ids. They end with the lab.
pub(crate) type Sessions = BTreeMap<String, Session>;

/// Answers a call about sessions; `None` for any other.
pub(crate) fn answer(call: &mut Call<'_>, body: &Value) -> Option<Result<Value>> {
    Some(match call.action {
        "StartSession" => start(call, body),
        "ResumeSession" => resume(call, body),
        "TerminateSession" => terminate(call, body),
        "DescribeSessions" => describe(call, body),
        "DescribeInstanceInformation" => information(call, body),
        "GetConnectionStatus" => status(call, body),
        _ => return None,
    })
}

/// Whether the agent of an instance has announced itself: it runs, and has a role to do it with.
fn is_connected(call: &Call<'_>, i: &Instance) -> bool {
    let role = i.profile.as_ref().and_then(|name| call.state.profiles.get(name)?.role.as_ref());
    call.machines && i.phase.at(call.now) == InstanceState::Running && role.is_some()
}

fn connected<'a>(call: &'a Call<'_>, id: &str) -> Option<&'a Instance> {
    seen::<Instance>(call).find(|i| i.id == id && is_connected(call, i))
}

fn need<'a>(body: &'a Value, name: &str) -> Result<&'a str> {
    body[name]
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| AwsError::new("ValidationException", format!("{name} has to be given.")))
}

fn invalid(text: String) -> AwsError {
    AwsError::new("InvalidParameters", text)
}

/// What a document with its parameters leads to.
fn leads(document: &str, parameters: &Value) -> Result<Leads> {
    let given = |name: &str| {
        let value = &parameters[name];
        value.as_str().or_else(|| value[0].as_str()).filter(|text| !text.is_empty())
    };
    let port = |default: &str| {
        let text = given("portNumber").unwrap_or(default);
        text.parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| invalid(format!("The port number \"{text}\" is not one.")))
    };
    let forwarding = |port: u16, host: Option<String>| {
        let mut properties = json!({
            "portNumber": port.to_string(),
            "localPortNumber": given("localPortNumber").unwrap_or("0"),
            "type": "LocalPortForwarding",
        });
        if let Some(host) = &host {
            properties["host"] = json!(host);
        }
        Leads::Port { host, port, properties }
    };
    match document {
        "AWS-StartPortForwardingSession" => Ok(forwarding(port("80")?, None)),
        "AWS-StartPortForwardingSessionToRemoteHost" => {
            let host = given("host").ok_or_else(|| invalid("The host is missing.".into()))?;
            Ok(forwarding(port("80")?, Some(host.to_owned())))
        }
        "AWS-StartSSHSession" => {
            let port = port("22")?;
            let properties = json!({ "portNumber": port.to_string() });
            Ok(Leads::Port { host: None, port, properties })
        }
        "SSM-SessionManagerRunShell" => Ok(Leads::Shell { command: None }),
        "AWS-StartInteractiveCommand" | "AWS-StartNonInteractiveCommand" => {
            let command = given("command");
            let command = command.ok_or_else(|| invalid("The command is missing.".into()))?;
            Ok(Leads::Shell { command: Some(command.to_owned()) })
        }
        other => Err(AwsError::new(
            "InvalidDocument",
            format!("Document with name {other} does not exist."),
        )),
    }
}

pub(super) fn new_token() -> String {
    ids::token(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 120)
}

fn shown(call: &Call<'_>, session: &Session) -> Value {
    json!({
        "SessionId": session.id,
        "TokenValue": session.token,
        "StreamUrl": format!(
            "ws://{}/v1/data-channel/{}?role=publish_subscribe",
            call.host, session.id
        ),
    })
}

fn start(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let target = need(body, "Target")?;
    let document = body["DocumentName"].as_str().unwrap_or("SSM-SessionManagerRunShell");
    let leads = leads(document, &body["Parameters"])?;
    if connected(call, target).is_none() {
        return Err(AwsError::new("TargetNotConnected", format!("{target} is not connected.")));
    }
    let key = match &call.settings.session_key {
        Some(name) => Some(super::kms::usable_key(call, name)?),
        None => None,
    };
    let user = call.caller.arn.rsplit('/').next().unwrap_or("lab").to_owned();
    let session = Session {
        id: ids::resource(&user),
        token: new_token(),
        region: call.region.to_owned(),
        instance: target.to_owned(),
        document: document.to_owned(),
        owner: call.caller.arn.clone(),
        reason: body["Reason"].as_str().map(str::to_owned),
        started: call.now,
        leads,
        key,
        agent_token: None,
    };
    let answer = shown(call, &session);
    call.sessions.insert(session.id.clone(), session);
    Ok(answer)
}

fn missing(id: &str) -> AwsError {
    AwsError::new("DoesNotExistException", format!("Session {id} does not exist."))
}

fn resume(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let id = need(body, "SessionId")?;
    let region = call.region;
    let found = call.sessions.get_mut(id).filter(|s| s.region == region);
    let session = found.ok_or_else(|| missing(id))?;
    session.token = new_token();
    let session = session.clone();
    Ok(shown(call, &session))
}

fn terminate(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let id = need(body, "SessionId")?;
    // One that has ended is terminated already.
    if call.sessions.remove(id).is_some() {
        call.jobs.push(Job::EndSession { session: id.to_owned() });
    }
    Ok(json!({ "SessionId": id }))
}

fn describe(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let active = need(body, "State")? == "Active";
    let here = call.sessions.values().filter(|s| active && s.region == call.region);
    let shown: Vec<Value> = here
        .map(|s| {
            json!({
                "SessionId": s.id,
                "Target": s.instance,
                "Status": "Connected",
                "StartDate": seconds(s.started),
                "DocumentName": s.document,
                "Owner": s.owner,
                "Reason": s.reason,
            })
        })
        .collect();
    Ok(json!({ "Sessions": shown }))
}

fn information(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let filters = body["Filters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|f| (f["Key"].as_str().unwrap_or_default(), f["Values"].as_array()));
    let older = body["InstanceInformationFilterList"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|f| (f["key"].as_str().unwrap_or_default(), f["valueSet"].as_array()));
    let wanted: Vec<&str> = filters
        .chain(older)
        .filter(|(key, _)| *key == "InstanceIds")
        .filter_map(|(_, values)| values)
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let time = seconds(now());
    let shown: Vec<Value> = seen::<Instance>(call)
        .filter(|i| is_connected(call, i))
        .filter(|i| wanted.is_empty() || wanted.contains(&i.id.as_str()))
        .map(|i| {
            // An agent of its own has told about itself.
            let told = call.agents.get(&i.id).map(|agent| &agent.information);
            let or = |name: &str, own: &str| {
                let told = told.and_then(|told| told[name].as_str());
                told.unwrap_or(own).to_owned()
            };
            let name = format!("ip-{}", i.private_address.replace('.', "-"));
            json!({
                "InstanceId": i.id,
                "PingStatus": "Online",
                "LastPingDateTime": time,
                "AgentVersion": or("AgentVersion", "3.0.196.0"),
                "IsLatestVersion": true,
                "PlatformType": or("PlatformType", "Linux"),
                "PlatformName": or("PlatformName", "Debian GNU/Linux"),
                "PlatformVersion": or("PlatformVersion", ""),
                "ResourceType": "EC2Instance",
                "IPAddress": or("IPAddress", &i.private_address),
                "ComputerName": or("ComputerName", &name),
            })
        })
        .collect();
    Ok(json!({ "InstanceInformationList": shown }))
}

fn status(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let target = need(body, "Target")?;
    let status = if connected(call, target).is_some() { "connected" } else { "notconnected" };
    Ok(json!({ "Target": target, "Status": status }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lead_to_ports_and_shells() {
        let parameters = json!({ "portNumber": ["22"], "localPortNumber": ["8022"] });
        let Leads::Port { host: None, port: 22, properties } =
            leads("AWS-StartPortForwardingSession", &parameters).unwrap()
        else {
            panic!("no port")
        };
        assert_eq!(properties["localPortNumber"], "8022");
        let shell = leads("SSM-SessionManagerRunShell", &Value::Null).unwrap();
        assert_eq!(shell, Leads::Shell { command: None });
        let wrong = leads("AWS-StartSSHSession", &json!({ "portNumber": ["x"] })).unwrap_err();
        assert_eq!(wrong.code, "InvalidParameters");
        assert_eq!(leads("Nothing", &Value::Null).unwrap_err().code, "InvalidDocument");
    }
}
