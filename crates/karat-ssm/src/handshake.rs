//! What both sides agree on before data flows: JSON in payloads of their own types.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The agent's first message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request {
    #[serde(default)]
    pub(crate) agent_version: String,
    pub(crate) requested_client_actions: Vec<Requested>,
}

/// Something that the client shall do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Requested {
    pub(crate) action_type: String,
    #[serde(default)]
    pub(crate) action_parameters: Value,
}

/// Asks for encryption.
pub(crate) const ENCRYPTION: &str = "KMSEncryption";
/// Tells the type of the session.
pub(crate) const SESSION_TYPE: &str = "SessionType";

/// Parameters of [`ENCRYPTION`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EncryptionRequest {
    #[serde(rename = "KMSKeyId")]
    pub(crate) key_id: String,
    /// Part of the encryption context where the client says that it took it.
    #[serde(rename = "Challenge", default)]
    pub(crate) challenge: String,
}

/// Result of [`ENCRYPTION`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EncryptionResult {
    #[serde(rename = "KMSCipherTextKey")]
    pub(crate) key: Base64,
    #[serde(rename = "KMSCipherTextHash", default)]
    pub(crate) hash: Base64,
    #[serde(rename = "ChallengeAcknowledgement", default)]
    pub(crate) challenge_acknowledgement: bool,
}

/// The client's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(default)]
    pub(crate) client_version: String,
    #[serde(default)]
    pub(crate) processed_client_actions: Vec<Processed>,
    #[serde(default)]
    pub(crate) errors: Option<Vec<String>>,
}

/// What came of an action.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Processed {
    pub(crate) action_type: String,
    #[serde(default)]
    pub(crate) action_status: u32,
    #[serde(default)]
    pub(crate) action_result: Value,
    #[serde(default)]
    pub(crate) error: String,
}

/// Values of [`Processed::action_status`].
pub(crate) mod status {
    pub(crate) const DONE: u32 = 1;
    pub(crate) const FAILED: u32 = 2;
    pub(crate) const UNSUPPORTED: u32 = 3;
}

/// Some bytes that the other side shall decrypt, encrypt, and send back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Challenge {
    pub(crate) challenge: Base64,
}

/// The handshake is over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Complete {
    /// Nanoseconds.
    #[serde(default)]
    pub(crate) handshake_time_to_complete: u64,
    #[serde(default)]
    pub(crate) customer_message: String,
}

/// The names of the encryption context.
pub(crate) mod context {
    pub(crate) const SESSION: &str = "aws:ssm:SessionId";
    pub(crate) const TARGET: &str = "aws:ssm:TargetId";
    pub(crate) const CHALLENGE: &str = "aws:ssm:RandomChallenge";
}

/// Bytes, as base64 in JSON.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Go writes no bytes as null.
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}
