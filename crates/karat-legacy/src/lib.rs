//! Packer's older templates, `packer.json`: their model, what `fix` mends in them, and what
//! `hcl2_upgrade` makes of them. Pure.
//!
//! [`parse`] reads a text into a [`Template`], which keeps the order and the place of everything;
//! [`Template::check`] tells what is wrong between its parts. Together they find what Packer finds
//! without starting a plugin.
//!
//! - [`model`]: the parts of a template
//! - `read`: JSON to model, with Packer's leniency in types

mod check;
pub mod fix;
mod gotext;
pub mod model;
mod read;
mod upgrade;

pub use model::{Builder, PostProcessor, Provisioner, Template, Variable};
pub use read::parse;
pub use upgrade::{Options, Upgraded, upgrade};
