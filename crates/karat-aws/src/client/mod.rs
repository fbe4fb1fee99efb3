//! How AWS is asked: credentials and endpoints, one rate limit for all, and what errors say.
//!
//! | file | what |
//! |---|---|
//! | `access.rs` | [`Access`]: what is needed to reach AWS, as a step stores it |
//! | `connect.rs` | [`Aws`]: the clients of one region |
//! | `role.rs` | credentials of roles, second factors |
//! | `s3.rs` | the few calls of S3 |
//! | `trusting.rs` | the web without a look at certificates |
//! | `error.rs` | [`AwsError`]: what a service answered |
//! | `watch.rs` | waiting, one question for all who wait in a region |

mod access;
mod connect;
mod error;
mod role;
pub(crate) mod s3;
mod trusting;
mod watch;

pub use access::REHEARSAL;
pub(crate) use access::{Access, Code, Keys, Role};
pub(crate) use connect::Aws;
pub(crate) use error::{AwsError, Explain, has_code};
pub(crate) use watch::{Patience, Seen, Watch, Watched};
