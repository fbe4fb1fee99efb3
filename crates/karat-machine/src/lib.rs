//! Local machines: content-addressed layers, Debian bootstrap, systemd-nspawn, capture, export.

pub mod runtime;
