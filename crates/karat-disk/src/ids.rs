//! Identifiers derived from a seed, so that equal inputs give equal disks.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Derives the UUID for one purpose from the seed of a disk.
///
/// The result is a version 8 UUID (custom content) of SHA-256 over seed and purpose.
#[must_use]
pub fn derive_uuid(seed: &[u8], purpose: &str) -> Uuid {
    let mut hash = Sha256::new();
    hash.update((seed.len() as u64).to_le_bytes());
    hash.update(seed);
    hash.update(purpose.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_differ_and_repeat() {
        let a = derive_uuid(b"seed", "root");
        assert_eq!(a, derive_uuid(b"seed", "root"));
        assert_ne!(a, derive_uuid(b"seed", "esp"));
        assert_ne!(a, derive_uuid(b"other", "root"));
        assert_eq!(a.get_version_num(), 8);
    }
}
