//! HCL2 text: lossless syntax tree, typed views, diagnostics and formatter. Pure.

pub mod ast;
pub mod diag;
pub mod format;
pub mod json;
mod json_text;
pub mod parser;
pub mod schema;
pub mod token;

pub use format::format;
pub use json::{JsonBody, Strings, expression_in_string, parse_json};
pub use parser::{Parsed, is_identifier, parse, parse_expression, parse_template};
pub use schema::{Content, Schema};
