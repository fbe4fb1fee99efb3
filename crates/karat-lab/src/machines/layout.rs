//! Layers as disks, for those who read a snapshot of a machine block by block.
//!
//! The same layer and size give the same blocks. Identifiers on the disk are those of the lowest
//! layer, as a disk keeps them while it is written to, so that two snapshots of one machine differ
//! in what was written between them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use karat_disk::{BootSpec, DiskSpec, Entry, Format, Output, Report, write_disk};
use karat_layers::{Control, Digest};

use super::roots::{NoRoot, Removed};
use super::{Hub, Root, chain};
use crate::aws::Disks;

impl Disks for Hub {
    fn lay_out(
        &self,
        snapshot: &str,
        root: Root,
        bytes: u64,
    ) -> Result<Vec<(u32, Vec<u8>)>, String> {
        tracing::info!(snapshot, "laying its files out as a disk");
        let work = async {
            let _one = self.making.lock().await;
            self.fetched(root, &self.end).await
        };
        // A thread that may wait.
        let made = tokio::runtime::Handle::current().block_on(work);
        let made = made.and_then(|root| self.make(snapshot, root, &Control::default()));
        let layer = made.map_err(|error| match error {
            NoRoot::Failed(why) => why,
            NoRoot::Cancelled => "the lab ends".to_owned(),
        })?;
        self.disk_of(snapshot, layer, bytes)
    }
}

impl Hub {
    fn disk_of(
        &self,
        snapshot: &str,
        layer: Digest,
        bytes: u64,
    ) -> Result<Vec<(u32, Vec<u8>)>, String> {
        let told = |error: karat_layers::Error| chain(&error);
        let entries = self.store.merged_entries(layer).map_err(told)?;
        let stack = self.store.stack(layer).map_err(told)?;
        let seed = stack.first().map_or_else(String::new, |lowest| lowest.digest.to_string());
        let spec = DiskSpec {
            seed: seed.into_bytes(),
            size: Some(bytes),
            time: self.store.info(layer).map_err(told)?.epoch,
            boot: has_kernel(&entries).then(BootSpec::default),
            ..DiskSpec::default()
        };
        let path = self.dir.join(format!("{snapshot}.disk"));
        let removed = Removed(path.clone());
        let report = write(&spec, &entries, &path).or_else(|error| {
            if spec.boot.is_none() {
                return Err(error);
            }
            // The programs of a boot loader may be missing here.
            tracing::warn!(snapshot, error = chain(&error), "its disk has no boot loader");
            write(&DiskSpec { boot: None, ..spec.clone() }, &entries, &path)
        });
        let report = report.map_err(|error| chain(&error))?;
        let blocks = self.front.blocks.take_apart(&path, &report.block_map.used);
        drop(removed);
        blocks.map_err(|error| format!("cannot read or keep the disk: {error}"))
    }
}

fn has_kernel(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.path.starts_with(b"/boot/vmlinuz-"))
}

fn write(spec: &DiskSpec, entries: &[Entry], path: &Path) -> karat_disk::Result<Report> {
    let output = Output { path: path.to_owned(), format: Format::Raw, digest: false };
    write_disk(spec, entries, &[output], &|_| {}, &AtomicBool::new(false))
}
