//! AWS session manager, both ends: a port of a machine, reached without an open port, a public
//! address, or a program beside this one.
//!
//! The client asks the service for a session and gets the address of a data channel, which is a
//! web socket. Through it the machine's agent connects to one of its own ports. Messages are
//! numbered and acknowledged in each direction, so that a lost web socket costs nothing: another is
//! opened with a new token, and what was not acknowledged is sent again.
//!
//! | file | what |
//! |---|---|
//! | `message.rs` | the messages and their bytes |
//! | `reliable.rs` | numbers, acknowledgements, sending again; no input or output |
//! | `link.rs` | a data channel over one web socket after the other |
//! | `handshake.rs` | what both sides agree on first |
//! | `cipher.rs` | encryption by a key of KMS |
//! | `connect.rs` | opening a web socket, through a proxy where one is set |
//! | `client.rs` | [`PortSession`]: a stream to a port |
//! | `agent.rs` | [`AgentSession`]: the machine's side, for the lab |
//! | `envelope.rs` | [`Envelope`]: messages of control channels, for the lab |
//!
//! The client says that it is older than the version from which on agents put several connections
//! into one session: one connection is all that a build needs.
//!
//! Source of the protocol: the open sources of AWS's `amazon-ssm-agent` and
//! `session-manager-plugin`.

mod agent;
mod cipher;
mod client;
mod connect;
mod envelope;
mod error;
mod handshake;
mod link;
mod message;
mod reliable;

pub use agent::{AgentOptions, AgentSession, Opening, Target, Unlock, read_opening, refuse};
pub use client::{DataKey, Opened, PortSession, Service};
pub use connect::{Connect, Direct, Io};
pub use envelope::{Envelope, channel_closed};
pub use error::SsmError;
pub use link::Socket;
