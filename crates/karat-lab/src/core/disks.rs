//! Where disks of volumes lie.

use std::path::{Path, PathBuf};

/// The folder of the disks of a lab's volumes.
pub(crate) fn folder_of(dir: &Path) -> PathBuf {
    dir.join("volumes")
}

/// The disk of a volume, once a machine has had it.
pub(crate) fn file_of(dir: &Path, volume: &str) -> PathBuf {
    folder_of(dir).join(format!("{volume}.disk"))
}
