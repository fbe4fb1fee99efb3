//! The WinRM communicator: commands and files of Windows machines over WS-Management.
//!
//! A request is the unit of cost: a shell is opened for a command and closed after it, and a file or
//! a whole folder is one stream into one process, in pieces as large as any server takes. (Packer
//! appends to a file with a command for every few kilobytes.)
//!
//! The protocol is [MS-WSMV], the part of it that remote shells need; the login is HTTP's Basic or
//! NTLM as in [MS-NTHT]. NTLM's own encryption is not spoken: over plain HTTP a server has to allow
//! unencrypted traffic, as with Packer.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | [`WinrmConfig`]: the options |
//! | `envelope.rs`, `answer.rs` | what is sent, and what comes back |
//! | `client.rs`, `ntlm.rs` | requests over HTTP, and the login |
//! | `shell.rs` | a shell, and one command in it |
//! | `powershell.rs` | the scripts that move files |
//! | `session.rs` | [`WinrmSession`]: waiting for a machine, commands, files |
//! | `communicator.rs` | [`WinrmCommunicator`]: all of it as a [`karat_component::Communicator`] |
//!
//! [MS-WSMV]: https://learn.microsoft.com/openspecs/windows_protocols/ms-wsmv
//! [MS-NTHT]: https://learn.microsoft.com/openspecs/windows_protocols/ms-ntht

mod answer;
mod client;
mod communicator;
mod config;
mod envelope;
mod error;
mod ntlm;
mod powershell;
mod session;
mod shell;

pub use communicator::WinrmCommunicator;
pub use config::{WinrmConfig, WinrmProblem};
pub use error::WinrmError;
pub use session::WinrmSession;
