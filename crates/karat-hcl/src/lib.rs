//! HCL2 text: lossless syntax tree, typed views, diagnostics and formatter. Pure.

pub mod diag;
