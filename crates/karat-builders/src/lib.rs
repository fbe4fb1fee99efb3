//! The sources `null` and `file`.

mod file;
mod null;

pub use file::File;
pub use null::{ConnectAndProvision, Null};
