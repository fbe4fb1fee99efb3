//! The configuration of a component as data: its schema, an evaluated block, decoding. Pure.
//!
//! An option is written once, as a field of a struct with a doc comment:
//!
//! ```ignore
//! /// Runs scripts on the machine.
//! #[derive(Debug, Config)]
//! struct Shell {
//!     /// Commands, each a line of one script.
//!     inline: Vec<String>,
//!     /// Where the script lies on the machine.
//!     #[option(default = "/tmp")]
//!     remote_folder: String,
//! }
//! ```
//!
//! From it come the [`Schema`] (decoding, "did you mean", the manual, editor schemas), and the
//! decoder from a [`Body`]. A component whose schema arrives at run time builds the same
//! [`Schema`] by hand.

// The derive names this crate by its absolute path; inside the crate too.
extern crate self as karat_config;

mod body;
mod decode;
mod duration;
mod kind;
mod names;
mod schema;

pub use body::{Attribute, Block, Body};
pub use decode::{Config, Decoder, OptionValue};
pub use duration::{Duration, DurationError};
pub use karat_config_derive::Config;
pub use kind::ComponentKind;
pub use names::NameRules;
pub use schema::{OptionKind, OptionSchema, OptionType, Schema};
