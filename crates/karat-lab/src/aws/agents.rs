//! Agents of Systems Manager that are not the lab's own: how they announce themselves, and what lets
//! their channels in.
//!
//! Source of the protocol: the open source of `amazon-ssm-agent`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::Call;
use super::ebs::EbsAnswer;
use super::ec2::model::Instance;
use super::error::{AwsError, Result};
use super::request::Incoming;
use super::sessions::new_token;
use crate::core::ids;

/// An agent in an instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    /// What it told about itself.
    pub(crate) information: Value,
    /// Lets its control channel in.
    pub(crate) token: Option<String>,
}

/// Agents by their instances. They announce themselves anew when the lab starts again.
pub(crate) type Agents = BTreeMap<String, Announced>;

/// The name of the call that a method and a path stand for.
pub(crate) fn action(method: &str, path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", ["v1", "control-channel", _]) => Some("CreateControlChannel"),
        ("POST", ["v1", "data-channel", _]) => Some("CreateDataChannel"),
        _ => None,
    }
}

/// Answers a call of Systems Manager that agents make; `None` for any other.
pub(crate) fn answer(call: &mut Call<'_>, body: &Value) -> Option<Result<Value>> {
    Some(match call.action {
        "UpdateInstanceInformation" => update(call, body),
        "RegisterManagedInstance" => {
            asking(call).map(|instance| json!({ "InstanceId": instance.id }))
        }
        "ListInstanceAssociations" | "ListAssociations" => Ok(json!({ "Associations": [] })),
        "PutInventory" | "PutComplianceItems" | "UpdateInstanceAssociationStatus" => Ok(json!({})),
        _ => return None,
    })
}

/// Answers a call of the older message service: there never are messages.
pub(crate) fn messages(call: &Call<'_>, body: &Value) -> Result<Value> {
    match call.action {
        "GetMessages" => Ok(json!({
            "Destination": body["Destination"],
            "Messages": [],
            "MessagesRequestId": ids::uuid(),
        })),
        "AcknowledgeMessage" | "DeleteMessage" | "FailMessage" | "SendReply" | "GetEndpoint" => {
            Ok(json!({}))
        }
        other => Err(super::front::unknown_operation(other)),
    }
}

fn denied(text: String) -> AwsError {
    AwsError::new("AccessDeniedException", text).status(403)
}

/// The instance that asks with the keys of its role.
fn asking<'a>(call: &'a Call<'_>) -> Result<&'a Instance> {
    let name = call.caller.arn.rsplit('/').next().unwrap_or_default();
    let found = call.state.instances.get(name).filter(|i| i.region == call.region);
    found.ok_or_else(|| denied(format!("{} is no instance.", call.caller.arn)))
}

fn update(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    let id = asking(call)?.id.clone();
    if body["InstanceId"] != id.as_str() {
        return Err(denied("An agent can tell about its own instance alone.".into()));
    }
    call.agents.entry(id).or_default().information = body.clone();
    Ok(json!({}))
}

/// Answers a call of the service that carries messages to agents.
pub(crate) fn channels(call: &mut Call<'_>, request: &Incoming) -> Result<EbsAnswer> {
    let id = request.path.trim_matches('/').rsplit('/').next().unwrap_or_default();
    let instance = asking(call)?.id.clone();
    let token = new_token();
    if call.action == "CreateControlChannel" {
        if id != instance {
            return Err(denied(format!("{instance} is not {id}.")));
        }
        call.agents.entry(instance).or_default().token = Some(token.clone());
    } else {
        let session = call.sessions.get_mut(id).filter(|s| s.instance == instance);
        // The words by which an agent knows that it need not try again.
        let over = || AwsError::new("DoesNotExistException", "Session is already terminated");
        session.ok_or_else(over)?.agent_token = Some(token.clone());
    }
    let action = call.action;
    let body = format!(
        "<{action}Response><MessageSchemaVersion>1.0</MessageSchemaVersion>\
         <TokenValue>{token}</TokenValue></{action}Response>"
    );
    Ok(EbsAnswer {
        status: 201,
        headers: vec![("content-type", "application/xml".into())],
        body: body.into_bytes(),
    })
}
