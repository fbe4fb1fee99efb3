//! YAML 1.1 as templates see it. libyaml's scanner and parser (in `libyaml-safer`) read;
//! what scalars mean and how values are written is decided here.

mod decode;
mod encode;
mod scalar;

pub(crate) use decode::decode;
pub(crate) use encode::encode;
