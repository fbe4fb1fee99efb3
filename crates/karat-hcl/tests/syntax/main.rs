//! Tests of the text layer.

mod dump;
mod format;
mod properties;
mod suite;
