//! Runs a plan: dispatcher, executor, cancellation, event stream.
