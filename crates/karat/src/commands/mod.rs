//! One command, one file: the arguments, whose doc comments are the help text, and `run`.

pub(crate) mod build;
pub(crate) mod completion;
pub(crate) mod console;
pub(crate) mod docs;
pub(crate) mod fix;
pub(crate) mod fmt;
pub(crate) mod gc;
pub(crate) mod hcl2_upgrade;
pub(crate) mod iam_policy;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod lab;
pub(crate) mod logs;
pub(crate) mod lsp;
pub(crate) mod plan;
pub(crate) mod plugins;
pub(crate) mod recover;
pub(crate) mod resume;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod validate;
pub(crate) mod verify_build;
pub(crate) mod version;
