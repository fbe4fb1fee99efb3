//! Asking a body for what it should hold.
