//! The messages of a data channel: a header of 120 bytes, then the payload; numbers big-endian.
//!
//! | offset | length | field |
//! |--:|--:|---|
//! | 0 | 4 | length of the header up to the payload's length: 116 |
//! | 4 | 32 | type, padded with spaces |
//! | 36 | 4 | version of the schema: 1 |
//! | 40 | 8 | time of making, milliseconds since 1970 |
//! | 48 | 8 | sequence number |
//! | 56 | 8 | flags: 1 first, 2 last |
//! | 64 | 16 | id, its less significant half first |
//! | 80 | 32 | SHA-256 of the payload |
//! | 112 | 4 | type of the payload |
//! | 116 | 4 | length of the payload |
//!
//! Source: the open sources of AWS's `amazon-ssm-agent` and `session-manager-plugin`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::SsmError;

/// Offset of the payload's length.
const HEADER: usize = 116;
/// Offset of the payload.
const PAYLOAD: usize = 120;
/// A message longer than this is none: the service's own limit is far lower.
const LONGEST: usize = 1 << 20;

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MessageType {
    /// From the client to the agent.
    Input,
    /// From the agent to the client.
    Output,
    Acknowledge,
    ChannelClosed,
    StartPublication,
    PausePublication,
    /// Something newer than this code.
    Other(String),
}

impl MessageType {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Input => "input_stream_data",
            Self::Output => "output_stream_data",
            Self::Acknowledge => "acknowledge",
            Self::ChannelClosed => "channel_closed",
            Self::StartPublication => "start_publication",
            Self::PausePublication => "pause_publication",
            Self::Other(name) => name,
        }
    }

    fn from_name(name: &str) -> Self {
        let known = [
            Self::Input,
            Self::Output,
            Self::Acknowledge,
            Self::ChannelClosed,
            Self::StartPublication,
            Self::PausePublication,
        ];
        let found = known.into_iter().find(|known| known.name() == name);
        found.unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

/// Types of payloads that are understood here.
pub(crate) mod payload {
    pub(crate) const OUTPUT: u32 = 1;
    pub(crate) const HANDSHAKE_REQUEST: u32 = 5;
    pub(crate) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(crate) const HANDSHAKE_COMPLETE: u32 = 7;
    pub(crate) const CHALLENGE_REQUEST: u32 = 8;
    pub(crate) const CHALLENGE_RESPONSE: u32 = 9;
    pub(crate) const FLAG: u32 = 10;
}

/// What a payload of type "flag" says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// The local side closed its connection to the port.
    DisconnectToPort = 1,
    /// The session is over.
    TerminateSession = 2,
    /// The port cannot be reached.
    ConnectToPortError = 3,
}

impl Flag {
    pub(crate) fn to_payload(self) -> Bytes {
        Bytes::copy_from_slice(&(self as u32).to_be_bytes())
    }

    pub(crate) fn from_payload(payload: &[u8]) -> Option<Self> {
        match u32::from_be_bytes(payload.try_into().ok()?) {
            1 => Some(Self::DisconnectToPort),
            2 => Some(Self::TerminateSession),
            3 => Some(Self::ConnectToPortError),
            _ => None,
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: MessageType,
    pub(crate) sequence: i64,
    pub(crate) flags: u64,
    pub(crate) id: Uuid,
    pub(crate) payload_type: u32,
    pub(crate) payload: Bytes,
}

/// What an acknowledgement says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Acknowledgement {
    acknowledged_message_type: String,
    acknowledged_message_id: String,
    acknowledged_message_sequence_number: i64,
    is_sequential_message: bool,
}

/// What the end of a channel says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ChannelClosed {
    message_id: String,
    created_date: String,
    destination_id: String,
    session_id: String,
    message_type: String,
    schema_version: u32,
    pub(crate) output: String,
}

impl Message {
    /// A part of the stream.
    pub(crate) fn data(
        kind: MessageType,
        sequence: i64,
        payload_type: u32,
        payload: Bytes,
    ) -> Self {
        let flags = u64::from(sequence == 0);
        Self { kind, sequence, flags, id: Uuid::new_v4(), payload_type, payload }
    }

    /// That a message came.
    pub(crate) fn acknowledge(received: &Self) -> Self {
        let content = Acknowledgement {
            acknowledged_message_type: received.kind.name().to_owned(),
            acknowledged_message_id: received.id.to_string(),
            acknowledged_message_sequence_number: received.sequence,
            is_sequential_message: true,
        };
        Self::control(MessageType::Acknowledge, &content)
    }

    /// That the channel is closed, and why.
    pub(crate) fn closed(session: &str, output: &str) -> Self {
        let content = ChannelClosed {
            message_id: Uuid::new_v4().to_string(),
            session_id: session.to_owned(),
            message_type: MessageType::ChannelClosed.name().to_owned(),
            schema_version: 1,
            output: output.to_owned(),
            ..ChannelClosed::default()
        };
        Self::control(MessageType::ChannelClosed, &content)
    }

    pub(crate) fn control(kind: MessageType, content: &impl Serialize) -> Self {
        // Plain structs of texts and numbers can always be written as JSON.
        let payload = serde_json::to_vec(content).unwrap_or_default().into();
        Self { kind, sequence: 0, flags: 3, id: Uuid::new_v4(), payload_type: 0, payload }
    }

    /// The number of the message that an acknowledgement is about.
    pub(crate) fn acknowledged(&self) -> Result<i64, SsmError> {
        let content: Acknowledgement = self.json("an acknowledgement")?;
        Ok(content.acknowledged_message_sequence_number)
    }

    /// The payload as JSON. `what` names it in errors.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, SsmError> {
        serde_json::from_slice(&self.payload)
            .map_err(|error| SsmError::Protocol(format!("{what} cannot be read: {error}")))
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(PAYLOAD + self.payload.len());
        bytes.extend((HEADER as u32).to_be_bytes());
        bytes.extend(format!("{:<32.32}", self.kind.name()).into_bytes());
        bytes.extend(1u32.to_be_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        bytes.extend((now.as_millis() as u64).to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        let (high, low) = self.id.as_u64_pair();
        bytes.extend(low.to_be_bytes());
        bytes.extend(high.to_be_bytes());
        bytes.extend(Sha256::digest(&self.payload));
        bytes.extend(self.payload_type.to_be_bytes());
        bytes.extend((self.payload.len() as u32).to_be_bytes());
        bytes.extend(&self.payload);
        bytes.into()
    }

    /// Reads a message and checks its digest.
    pub(crate) fn from_bytes(bytes: &Bytes) -> Result<Self, SsmError> {
        let wrong = |what: &str| SsmError::Protocol(format!("a message has {what}"));
        if bytes.len() > LONGEST {
            return Err(wrong(&format!("{} bytes, which is too many", bytes.len())));
        }
        let mut at = 0;
        let mut take = |length: usize| {
            let part = bytes.get(at..at + length).ok_or_else(|| wrong("an incomplete header"))?;
            at += length;
            Ok::<&[u8], SsmError>(part)
        };
        let number = |part: &[u8]| part.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        // Older and newer headers may be longer; what follows the known part is passed over.
        let header = number(take(4)?) as usize;
        let name = String::from_utf8_lossy(take(32)?).trim_end_matches(['\0', ' ']).to_owned();
        let _schema = take(4)?;
        let _created = take(8)?;
        let sequence = number(take(8)?) as i64;
        let flags = number(take(8)?);
        let low = number(take(8)?);
        let id = Uuid::from_u64_pair(number(take(8)?), low);
        let digest = take(32)?;
        let payload_type = number(take(4)?) as u32;
        if !(HEADER..=LONGEST).contains(&header) {
            return Err(wrong(&format!("a header of {header} bytes")));
        }
        let length = bytes.get(header..header + 4).ok_or_else(|| wrong("an incomplete header"))?;
        let start = header + 4;
        let payload = start
            .checked_add(number(length) as usize)
            .filter(|end| *end <= bytes.len())
            .map(|end| bytes.slice(start..end))
            .ok_or_else(|| wrong("a payload that is cut off"))?;
        // The service's own messages may come without a digest.
        if digest.iter().any(|byte| *byte != 0) && digest != Sha256::digest(&payload).as_slice() {
            return Err(wrong("a payload that does not fit its digest"));
        }
        let kind = MessageType::from_name(&name);
        Ok(Self { kind, sequence, flags, id, payload_type, payload })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_agent_reads_it() {
        let mut message =
            Message::data(MessageType::Input, 258, payload::OUTPUT, Bytes::from_static(b"ab"));
        message.id = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        let bytes = message.to_bytes();
        assert_eq!(bytes.len(), 122);
        assert_eq!(bytes[..4], [0, 0, 0, 116]);
        assert_eq!(&bytes[4..36], b"input_stream_data               ");
        assert_eq!(bytes[36..40], [0, 0, 0, 1]);
        assert_eq!(bytes[48..56], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes[64..72], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!(bytes[72..80], [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        assert_eq!(bytes[80..84], [0xfb, 0x8e, 0x20, 0xfc]);
        assert_eq!(bytes[112..120], [0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(Message::from_bytes(&bytes).unwrap(), message);
    }

    #[test]
    fn an_acknowledgement_names_what_came() {
        let came = Message::data(MessageType::Output, 7, payload::OUTPUT, Bytes::new());
        let said = Message::acknowledge(&came);
        assert_eq!((said.flags, said.acknowledged().unwrap()), (3, 7));
        let text = String::from_utf8(said.payload.to_vec()).unwrap();
        let wanted = format!(
            "{{\"AcknowledgedMessageType\":\"output_stream_data\",\"AcknowledgedMessageId\":\"{}\",\
             \"AcknowledgedMessageSequenceNumber\":7,\"IsSequentialMessage\":true}}",
            came.id
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_damaged_message_is_refused() {
        let message =
            Message::data(MessageType::Input, 0, payload::OUTPUT, Bytes::from_static(b"a"));
        let bytes = message.to_bytes();
        let mut other = bytes.to_vec();
        other[120] = b'b';
        let error = Message::from_bytes(&other.into()).unwrap_err().to_string();
        assert!(error.contains("digest"), "{error}");
        for cut in 0..bytes.len() {
            assert!(Message::from_bytes(&bytes.slice(..cut)).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::from_bytes(&bytes.into());
        }

        #[test]
        fn a_wrong_length_does_not_panic(at in 0usize..120, byte: u8) {
            let message = Message::data(MessageType::Input, 1, 1, Bytes::from_static(b"text"));
            let mut bytes = message.to_bytes().to_vec();
            bytes[at] = byte;
            let _ = Message::from_bytes(&bytes.into());
        }
    }
}
