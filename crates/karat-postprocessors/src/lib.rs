//! The built-in post-processors.
//!
//! | file | what |
//! |---|---|
//! | `manifest.rs` | [`Manifest`]: writes down what was built |
//! | `checksum/` | [`Checksum`]: digests of the artifact's files |
//! | `compress/` | [`Compress`]: one archive of the artifact's files |
//! | `artifice.rs` | [`Artifice`]: takes other files as the artifact |
//! | `shell_local.rs` | [`ShellLocal`]: runs scripts where the program runs |
//! | `names.rs` | the names that file name options may use |
//! | `lock.rs`, `written.rs` | files that several builds write, files that appear whole |

mod artifice;
mod checksum;
mod compress;
mod lock;
mod manifest;
mod names;
mod shell_local;
mod work;
mod written;

pub use artifice::{Artifice, ArtificeConfig};
pub use checksum::{Checksum, ChecksumConfig, ChecksumValidated};
pub use compress::{Compress, CompressConfig, CompressValidated};
pub use manifest::{Manifest, ManifestConfig};
pub use shell_local::{ShellLocal, ShellLocalConfig};
