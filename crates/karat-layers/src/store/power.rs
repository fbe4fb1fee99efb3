//! Layers after the machine lost power: whether they are what they were made as.

use std::fs;
use std::sync::Arc;

use super::{LayerInfo, Store};
use crate::{Control, Digest, Error, Result};

/// What tells this boot of the machine from others.
pub(super) fn this_boot() -> Option<Arc<str>> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().into())
}

impl Store {
    /// What is written down about a layer, if it is here and whole. One of an earlier boot of the
    /// machine is read and compared; when it is whole, this is written down, and when it is not, it
    /// is removed.
    pub(super) fn survived(&self, digest: Digest) -> Option<LayerInfo> {
        match self.try_survived(digest) {
            Ok(info) => info,
            // Whoever may not read it all cannot judge it: it is judged when it is built on, as root.
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                self.info(digest).ok()
            }
            Err(error) => {
                tracing::warn!(%digest, %error, "a layer cannot be read");
                None
            }
        }
    }

    fn try_survived(&self, digest: Digest) -> Result<Option<LayerInfo>> {
        let info = match self.info(digest) {
            Ok(info) => info,
            Err(Error::NoLayer { .. }) if !self.layer_dir(digest).exists() => return Ok(None),
            // Only a loss of power leaves such.
            Err(error @ (Error::NoLayer { .. } | Error::Format { .. })) => {
                return self.remove_damaged(digest, &error.to_string()).map(|()| None);
            }
            Err(error) => return Err(error),
        };
        if info.boot.is_none() || info.boot.as_deref() == self.boot.as_deref() {
            return Ok(Some(info));
        }
        if let Some(problem) = self.verify(digest, &Control::default())?.first() {
            return self.remove_damaged(digest, &problem.what).map(|()| None);
        }
        let whole = LayerInfo { boot: None, ..info };
        self.write(&format!("layers/{digest}"), "layer.json", &whole.to_json()?)?;
        Ok(Some(whole))
    }

    fn remove_damaged(&self, digest: Digest, what: &str) -> Result<()> {
        tracing::warn!(%digest, what, "a layer did not outlive a loss of power; it is made anew");
        self.remove_layer(digest)
    }
}
