//! The built-in post-processors.
