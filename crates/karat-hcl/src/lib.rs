//! HCL2 text: lossless syntax tree, typed views, diagnostics and formatter. Pure.

pub mod ast;
pub mod diag;
pub mod json;
pub mod schema;
