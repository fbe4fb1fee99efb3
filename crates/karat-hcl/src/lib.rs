//! HCL2 text: tokens without loss, typed trees, diagnostics and layout. Pure.
//!
//! [`parse`] reads a file in native syntax, [`parse_json`] one in JSON syntax; both give a
//! [`Body`](ast::Body) to be asked with a [`Schema`], and every error at once. [`parse_expression`]
//! and [`parse_template`] read a part of a text. [`format`](format()) lays a file out.
//!
//! - [`token`]: text to tokens, which print back what was read
//! - [`parser`]: tokens to trees, with recovery
//! - [`ast`]: the trees
//! - [`json`], [`schema`]: JSON syntax, and what bodies hold
//! - [`json_text`]: JSON as such, with places
//! - [`mod@format`]: `karat fmt`
//! - [`diag`]: errors as data

pub mod ast;
pub mod diag;
pub mod format;
pub mod json;
pub mod json_text;
pub mod parser;
pub mod schema;
pub mod token;

pub use format::format;
pub use json::{JsonBody, Strings, expression_in_string, parse_json};
pub use parser::{Parsed, is_identifier, parse, parse_expression, parse_template};
pub use schema::{Content, Schema};
