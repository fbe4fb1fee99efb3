//! Content-addressed layers: the store, the Debian bootstrap, imports of tars, disks and OCI images.
//!
//! A [`Layer`] is a directory tree with a canonical [`Manifest`]; its name is the digest of the
//! manifest and of its parent's name. Layers come from a [`Bootstrap`], from packages installed on
//! another layer ([`Install`]), from the upper directory of a machine ([`Capture`]), or from an
//! import. [`Store::merged_entries`] turns a stack of layers into the input of a disk.
//!
//! | file | what is in it |
//! |---|---|
//! | `store.rs`, `store/` | the state directory, locks, publishing, collection, layers after a loss of power |
//! | `manifest.rs`, `scan.rs`, `merge.rs` | the text of a layer, reading one from disk, stacking |
//! | `key.rs` | what decides whether a layer can be reused |
//! | `normalise.rs`, `capture.rs` | making a tree forget its making; upper directory to layer |
//! | `apt/` | sources, resolving by apt, the lock, downloads |
//! | `bootstrap.rs`, `install.rs`, `dpkg.rs`, `boot.rs` | building layers from packages |
//! | `sandbox.rs`, `run.rs` | namespaces for maintainer scripts; running programs |
//! | `deb.rs`, `extract.rs`, `import/` | archives |
//!
//! Everything here is synchronous; callers in async code use a blocking thread. Building needs
//! Linux and root, reading the store does not.

mod apt;
mod boot;
mod bootstrap;
mod capture;
mod control;
mod deb;
mod digest;
mod dpkg;
mod error;
mod extract;
mod import;
mod install;
mod key;
pub mod manifest;
mod merge;
mod normalise;
mod nosync;
mod run;
mod sandbox;
mod scan;
mod store;

pub use apt::{AptSource, Lock as PackageLock, LockedPackage, ReleaseFile, system_sources};
pub use bootstrap::{Bootstrap, LISTS_MAX_AGE, Resolving, Variant};
pub use capture::Capture;
pub use control::{Control, Progress};
pub use digest::Digest;
pub use error::{Error, Result};
pub use import::{Base, ImportFile, ImportImage, container_architecture};
pub use install::Install;
pub use key::{BUILDER_ABI, LayerKey};
pub use manifest::Manifest;
pub use normalise::Normalise;
pub use store::{
    Collected, Layer, LayerInfo, Lock, Problem, Scratch, Store, default_cache_dir,
    default_state_dir, differences,
};
