//! HCL's JSON syntax.

/// A JSON object that stands where a body does.
#[derive(Clone, Debug)]
pub struct JsonBody {}
