//! AWS over the core: its protocols, its services, its rules.
//!
//! | file | what |
//! |---|---|
//! | `request.rs`, `signature.rs` | a request, and whose it is |
//! | `params.rs`, `node.rs`, `error.rs` | parameters of the query protocol, answers, errors |
//! | `call.rs` | what a service works with: records, region, time, jobs |
//! | `state.rs` | all records of the account |
//! | `filters.rs`, `tags.rs` | what all resources have |
//! | `ec2/` | EC2 |
//! | `ebs.rs` | EBS direct |
//! | `s3/` | S3 |
//! | `access/` | what a caller's policies allow |
//! | `iam.rs`, `iam_users.rs`, `sts.rs`, `kms.rs`, `ssm.rs`, `secrets.rs`, `quotas.rs` | the others |
//! | `front.rs` | from a request to a service and back |
//! | `imds.rs` | what an instance is told about itself |
//! | `sessions.rs`, `agents.rs` | sessions of Systems Manager, and agents that serve them |
//! | `audit.rs` | what is left over |

mod access;
mod agents;
pub mod audit;
mod call;
mod ebs;
mod ec2;
mod error;
mod filters;
mod front;
mod iam;
mod iam_users;
mod imds;
mod kms;
mod node;
mod params;
mod quotas;
mod request;
mod s3;
mod secrets;
mod sessions;
mod signature;
mod ssm;
mod state;
mod sts;
mod tags;

pub(crate) use call::Job;
pub use ec2::actions as ec2_actions;
pub(crate) use ec2::machines::{Begins, Beside};
pub(crate) use front::{Disks, Front};
pub use iam::actions as iam_actions;
pub(crate) use imds::Imds;
pub(crate) use request::Incoming;
pub use s3::actions as s3_actions;
pub(crate) use sessions::{Leads, Session};
