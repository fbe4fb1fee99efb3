//! What a stack of layers looks like from above, computed from manifests alone.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use karat_disk::{Content, Entry, Timestamp, Xattr};

use crate::manifest::{Item, Kind};
use crate::scan::host_path;
use crate::store::Layer;

/// One file system object of the merged view; several paths may share it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Index of the layer in the stack, from the bottom.
    pub(crate) layer: usize,
    /// What it is; its path is the one where its content lies in that layer.
    pub(crate) item: Arc<Item>,
}

/// Every path that is visible on top of the stack.
pub(crate) fn merge(stack: &[Layer]) -> BTreeMap<Vec<u8>, Node> {
    let mut view: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
    for (layer, found) in stack.iter().enumerate() {
        let mut originals: HashMap<&[u8], Arc<Item>> = HashMap::new();
        for item in found.manifest.items() {
            match &item.kind {
                Kind::Whiteout => {
                    remove_below(&mut view, &item.path, layer);
                    if view.get(&item.path).is_some_and(|node| node.layer != layer) {
                        view.remove(&item.path);
                    }
                    continue;
                }
                Kind::Directory { opaque: false } => {
                    let was_dir = view
                        .get(&item.path)
                        .is_some_and(|node| matches!(node.item.kind, Kind::Directory { .. }));
                    if !was_dir {
                        remove_below(&mut view, &item.path, layer);
                    }
                }
                _ => remove_below(&mut view, &item.path, layer),
            }
            let shared = match &item.kind {
                Kind::Hardlink(target) => match originals.get(target.as_slice()) {
                    Some(original) => Arc::clone(original),
                    None => continue,
                },
                _ => {
                    let shared = Arc::new(item.clone());
                    originals.insert(&item.path, Arc::clone(&shared));
                    shared
                }
            };
            view.insert(item.path.clone(), Node { layer, item: shared });
        }
    }
    view
}

/// Removes what lower layers have below a path.
fn remove_below(view: &mut BTreeMap<Vec<u8>, Node>, path: &[u8], layer: usize) {
    let (mut from, mut to) = (path.to_vec(), path.to_vec());
    if path != b"/" {
        from.push(b'/');
        to.push(b'0'); // the byte after '/'
    } else {
        from.push(0);
        to = b"0".to_vec();
    }
    let gone: Vec<Vec<u8>> = view
        .range(from..to)
        .filter(|(_, node)| node.layer != layer)
        .map(|(path, _)| path.clone())
        .collect();
    for path in gone {
        view.remove(&path);
    }
}

/// The merged view as the input of a disk.
pub(crate) fn entries(stack: &[Layer]) -> Vec<Entry> {
    let view = merge(stack);
    let mut first: HashMap<*const Item, Vec<u8>> = HashMap::new();
    let mut out = Vec::with_capacity(view.len());
    for (path, node) in &view {
        let item = &node.item;
        let kind = match &item.kind {
            Kind::Directory { .. } => karat_disk::Kind::Directory,
            _ => match first.get(&Arc::as_ptr(item)) {
                Some(original) => karat_disk::Kind::Hardlink(original.clone()),
                None => {
                    first.insert(Arc::as_ptr(item), path.clone());
                    disk_kind(item, host_path(&stack[node.layer].root(), &item.path))
                }
            },
        };
        out.push(Entry {
            path: path.clone(),
            kind,
            mode: item.mode,
            uid: item.uid,
            gid: item.gid,
            mtime: Timestamp::from_secs(item.mtime),
            xattrs: item
                .xattrs
                .iter()
                .map(|(name, value)| Xattr { name: name.clone(), value: value.clone() })
                .collect(),
        });
    }
    out
}

fn disk_kind(item: &Item, host: PathBuf) -> karat_disk::Kind {
    match &item.kind {
        Kind::File { size, digest } => karat_disk::Kind::File {
            size: *size,
            content: Content::HostFile(host),
            digest: Some(digest.0),
        },
        // Links and whiteouts were resolved by `merge`.
        Kind::Directory { .. } | Kind::Whiteout => karat_disk::Kind::Directory,
        Kind::Symlink(target) => karat_disk::Kind::Symlink(target.clone()),
        Kind::Hardlink(target) => karat_disk::Kind::Hardlink(target.clone()),
        Kind::CharDevice(major, minor) => {
            karat_disk::Kind::CharDevice { major: *major, minor: *minor }
        }
        Kind::BlockDevice(major, minor) => {
            karat_disk::Kind::BlockDevice { major: *major, minor: *minor }
        }
        Kind::Fifo => karat_disk::Kind::Fifo,
        Kind::Socket => karat_disk::Kind::Socket,
    }
}
