//! Data sources: values for templates from elsewhere. They read only.
//!
//! | file | what |
//! |---|---|
//! | `null.rs` | gives back what it is given |
//! | `http.rs` | the answer to one HTTP request |
//! | `external.rs`, `program.rs` | what a program of one's own prints |

mod external;
mod http;
mod null;
mod program;

pub use external::{External, ExternalConfig, ExternalRaw, ExternalRawConfig};
pub use http::{Http, HttpConfig, Request, client_builder};
pub use null::{Null, NullConfig};
pub use program::Program;
