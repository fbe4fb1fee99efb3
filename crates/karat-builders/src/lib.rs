//! The sources `null` and `file`.
