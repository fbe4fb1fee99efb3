//! The ssh communicator: one connection per machine, one exchange per script.
//!
//! A round trip is the unit of cost. After the login nothing is asked that need not be: channels
//! are opened before they are needed, a script is sent, run and removed by one command, a folder
//! is one stream, and a large file goes over several channels at once, since a server lets only
//! about 2 MB wait on each.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | [`SshConfig`]: the options |
//! | `connect.rs`, `auth.rs`, `host_key.rs`, `tunnel.rs` | from options to a connection |
//! | `wait.rs` | waiting for a machine that comes up, and saying so |
//! | `handler.rs` | what the server may start by itself |
//! | `session.rs` | [`Session`]: the connection, made again when lost, and its channels |
//! | `channel.rs`, `shell.rs` | one command on one channel; command lines |
//! | `script.rs` | a script in one exchange |
//! | `transfer.rs`, `folder.rs`, `sftp.rs` | files |
//! | `communicator.rs` | [`SshCommunicator`]: all of it as a [`karat_component::Communicator`] |

mod auth;
mod channel;
mod communicator;
mod config;
mod connect;
mod error;
mod folder;
mod handler;
mod host_key;
mod script;
mod session;
mod sftp;
mod shell;
mod transfer;
mod tunnel;
mod wait;

pub use communicator::SshCommunicator;
pub use config::{ConfigProblem, SshConfig};
pub use connect::{Carrier, Way};
pub use error::SshError;
pub use host_key::SeenHostKeys;
pub use session::Session;
pub use tunnel::{Forward, ForwardError};
