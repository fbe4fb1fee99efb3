//! Data sources: values for templates from elsewhere. They read only.

mod null;

pub use null::{Null, NullConfig};
