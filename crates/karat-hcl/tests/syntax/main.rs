//! Tests of the text layer.

mod dump;
mod format;
mod properties;
mod schema;
mod suite;
