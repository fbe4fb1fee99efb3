//! The messages of a control channel, by which a service and a machine's agent talk about sessions.

use bytes::Bytes;
use serde::Serialize;

use crate::SsmError;
use crate::message::{Message, MessageType};

/// A message: what it is about, and what it says, as JSON.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Its type, such as `interactive_shell`.
    pub kind: String,
    /// Its id, which acknowledgements name.
    pub id: String,
    /// What it says.
    pub payload: Bytes,
}

impl Envelope {
    /// A new message with this content.
    #[must_use]
    pub fn new(kind: &str, content: &impl Serialize) -> Self {
        let message = Message::control(MessageType::Other(kind.to_owned()), content);
        let id = message.id.to_string();
        Self { kind: kind.to_owned(), id, payload: message.payload }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is cut off, too long, or not what its digest says.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, SsmError> {
        let message = Message::from_bytes(bytes)?;
        Ok(Self {
            kind: message.kind.name().to_owned(),
            id: message.id.to_string(),
            payload: message.payload,
        })
    }

    /// The message as it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Message {
            kind: MessageType::Other(self.kind.clone()),
            sequence: 0,
            flags: 3,
            // It was made here or read.
            id: self.id.parse().unwrap_or_default(),
            payload_type: 0,
            payload: self.payload.clone(),
        }
        .to_bytes()
    }
}

/// What tells a client that its session is over.
#[must_use]
pub fn channel_closed(session: &str, why: &str) -> Bytes {
    Message::closed(session, why).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_sent() {
        let sent = Envelope::new("interactive_shell", &serde_json::json!({ "TaskId": "s-1" }));
        let read = Envelope::from_bytes(&sent.to_bytes()).unwrap();
        assert_eq!((&read.kind, &read.id, &read.payload), (&sent.kind, &sent.id, &sent.payload));
        assert_eq!(read.payload, &b"{\"TaskId\":\"s-1\"}"[..]);
        let closed = Envelope::from_bytes(&channel_closed("s-1", "")).unwrap();
        assert_eq!(closed.kind, "channel_closed");
    }
}
