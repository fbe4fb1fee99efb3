//! Which build needs which, which are selected, and the fingerprint of each. Pure.

mod fingerprint;
mod graph;
mod select;

pub use fingerprint::{Change, Fingerprint, FingerprintBuilder, Inputs};
pub use graph::Graph;
pub use select::{Selection, SelectionError};
