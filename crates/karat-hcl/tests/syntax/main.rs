//! Tests of the text layer.

mod any;
mod dump;
mod format;
mod properties;
mod schema;
mod suite;
