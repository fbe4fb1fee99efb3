//! Debian packages: which ones (resolving, by `apt` itself), their files, and the lock between.

pub(crate) mod fetch;
mod lock;
mod narrow;
mod resolve;
mod sources;

pub use lock::{Lock, LockedPackage, ReleaseFile};
pub(crate) use resolve::{Request, resolve};
pub(crate) use sources::parse_sources;
pub use sources::{AptSource, system_sources};
