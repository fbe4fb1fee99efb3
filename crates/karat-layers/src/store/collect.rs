//! Collecting layers that nothing needs, and checking those that stay.

use std::collections::BTreeSet;
use std::fs;

use super::Store;
use crate::manifest::Manifest;
use crate::{Control, Digest, Error, Result, scan};

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The layers.
    pub layers: Vec<Digest>,
    /// Bytes of their regular files.
    pub bytes: u64,
    /// Keys that led to nothing any more.
    pub records: usize,
}

/// Something wrong with a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The layer.
    pub layer: Digest,
    /// What is wrong, in words.
    pub what: String,
}

impl Store {
    /// Removes every layer that is not in `keep` or below one that is, with what refers to it.
    /// A build that runs at the same time must have its layers in `keep`.
    ///
    /// # Errors
    /// When a kept layer is missing (nothing is removed then), or a removal fails.
    pub fn gc(&self, keep: &[Digest]) -> Result<Collected> {
        let _lock = self.lock("collect", &Control::default())?;
        let mut live = BTreeSet::new();
        for &digest in keep {
            let mut next = Some(digest);
            while let Some(digest) = next.filter(|digest| live.insert(*digest)) {
                next = self.info(digest)?.parent;
            }
        }
        let mut out = Collected::default();
        for digest in self.layers()?.difference(&live) {
            out.bytes += self.info(*digest).map_or(0, |info| info.size);
            self.remove_layer(*digest)?;
            out.layers.push(*digest);
        }
        let dir = self.dir().join("keys");
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let at = entry.map_err(Error::io("list", &dir))?.path();
            let target = fs::read_to_string(&at).ok().and_then(|text| text.trim().parse().ok());
            if !target.is_some_and(|digest| live.contains(&digest)) {
                fs::remove_file(&at).map_err(Error::io("remove", &at))?;
                out.records += 1;
            }
        }
        self.sweep_strays()?;
        Ok(out)
    }

    /// Removes a layer, whatever stands on it.
    pub(super) fn remove_layer(&self, digest: Digest) -> Result<()> {
        // Out of sight first, so that a crash leaves no half layer under its name.
        let trash = self.scratch("collect")?;
        let from = self.layer_dir(digest);
        fs::rename(&from, trash.path().join("layer")).map_err(Error::io("remove", &from))
    }

    /// Removes small files that killed processes were about to move into place. Ones younger than
    /// an hour may belong to a process that lives.
    fn sweep_strays(&self) -> Result<()> {
        let dir = self.dir().join("tmp");
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            let name = entry.file_name();
            let ours = name.as_encoded_bytes().starts_with(b"write-");
            let age = entry.metadata().and_then(|meta| meta.modified()).ok();
            let age = age.and_then(|time| time.elapsed().ok());
            if ours && age.is_some_and(|age| age.as_secs() > 3600) {
                // Another collection may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Reads a layer's files again and compares them with its manifest.
    ///
    /// # Errors
    /// When files cannot be read. Differences are in the list, not errors.
    pub fn verify(&self, digest: Digest, control: &Control) -> Result<Vec<Problem>> {
        let problem = |what: String| Problem { layer: digest, what };
        let layer = match self.layer(digest) {
            Ok(layer) => layer,
            Err(error @ (Error::Mismatch { .. } | Error::Format { .. })) => {
                return Ok(vec![problem(error.to_string())]);
            }
            Err(error) => return Err(error),
        };
        let found = scan::scan(&layer.root(), control)?;
        Ok(differences(&layer.manifest, &found).into_iter().map(problem).collect())
    }
}

/// What differs between two manifests, in words, in order of paths.
#[must_use]
pub fn differences(expected: &Manifest, actual: &Manifest) -> Vec<String> {
    let paths: BTreeSet<&[u8]> =
        expected.items().iter().chain(actual.items()).map(|item| item.path.as_slice()).collect();
    let mut out = Vec::new();
    for path in paths {
        let name = String::from_utf8_lossy(path);
        match (expected.get(path), actual.get(path)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                let mut what = Vec::new();
                if a.kind != b.kind {
                    what.push(format!("was {:?}, is {:?}", a.kind, b.kind));
                }
                if a.mode != b.mode {
                    what.push(format!("mode was {:o}, is {:o}", a.mode, b.mode));
                }
                if (a.uid, a.gid) != (b.uid, b.gid) {
                    what.push(format!("owner was {}:{}, is {}:{}", a.uid, a.gid, b.uid, b.gid));
                }
                if a.mtime != b.mtime {
                    what.push(format!("time was {}, is {}", a.mtime, b.mtime));
                }
                if a.xattrs != b.xattrs {
                    what.push("extended attributes differ".to_owned());
                }
                out.push(format!("{name}: {}", what.join(", ")));
            }
            (Some(_), None) => out.push(format!("{name}: missing")),
            (None, _) => out.push(format!("{name}: not in the manifest")),
        }
    }
    out
}
