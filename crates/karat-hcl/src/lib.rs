//! HCL2 text: lossless syntax tree, typed views, diagnostics and formatter. Pure.

pub mod ast;
pub mod diag;
pub mod format;
pub mod json;
pub mod parser;
pub mod schema;
pub mod token;

pub use format::format;
pub use parser::{Parsed, is_identifier, parse, parse_expression, parse_template};
