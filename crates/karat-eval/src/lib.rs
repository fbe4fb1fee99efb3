//! Evaluates expressions of the template language. Pure.
