//! The tree of entries as inodes: numbers, parents, names, link counts.

use std::collections::HashMap;

use super::{FIRST_INODE, ROOT_INODE};
use crate::error::{Error, Result};
use crate::tree::{Entry, Kind, Timestamp};

/// Largest number of names a file may have.
const MAX_LINKS: u32 = 65_000;

/// One inode to be.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) number: u32,
    /// The entry it is made from; `None` for directories that no entry describes.
    pub(super) entry: Option<&'a Entry>,
    pub(super) path: &'a [u8],
    /// Number of names.
    pub(super) links: u32,
    /// For a directory: inode of the parent, and names with index of node and file type.
    pub(super) directory: Option<Directory<'a>>,
}

#[derive(Debug)]
pub(super) struct Directory<'a> {
    pub(super) parent: u32,
    pub(super) children: Vec<(&'a [u8], u32, u8)>,
}

impl Node<'_> {
    pub(super) fn mtime(&self, default: Timestamp) -> Timestamp {
        self.entry.map_or(default, |entry| entry.mtime)
    }
}

/// Sorts so that a directory precedes what is in it and siblings stay together.
fn by_components(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0u8 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// Splits an absolute path in parent and name; the parent of `/a` is the empty path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    (&path[..slash], &path[slash + 1..])
}

fn check_path(path: &[u8]) -> Result<()> {
    let problem = if path.first() != Some(&b'/') {
        "the path is not absolute"
    } else if path.contains(&0) {
        "the path contains a zero byte"
    } else {
        let mut problem = "";
        for part in path[1..].split(|byte| *byte == b'/') {
            problem = match part {
                b"" => "the path has an empty component",
                b"." | b".." => "the path has a component `.` or `..`",
                part if part.len() > 255 => "a component of the path is longer than 255 bytes",
                _ => continue,
            };
            break;
        }
        problem
    };
    if problem.is_empty() { Ok(()) } else { Err(Error::entry(path, problem)) }
}

struct Builder<'a> {
    nodes: Vec<Node<'a>>,
    index: HashMap<&'a [u8], usize>,
    next: u32,
}

impl<'a> Builder<'a> {
    fn parent(&mut self, path: &'a [u8]) -> Result<usize> {
        if let Some(&index) = self.index.get(path) {
            if self.nodes[index].directory.is_none() {
                return Err(Error::entry(path, "is not a directory, but other entries are in it"));
            }
            return Ok(index);
        }
        self.add(path, None)
    }

    fn add(&mut self, path: &'a [u8], entry: Option<&'a Entry>) -> Result<usize> {
        let (parent_path, name) = split(path);
        let parent = self.parent(parent_path)?;
        let number = if path == b"/lost+found" {
            FIRST_INODE
        } else {
            self.next += 1;
            self.next - 1
        };
        let kind = entry.map_or(&Kind::Directory, |entry| &entry.kind);
        let directory = matches!(kind, Kind::Directory)
            .then(|| Directory { parent: self.nodes[parent].number, children: Vec::new() });
        let links = if directory.is_some() { 2 } else { 1 };
        if directory.is_some() {
            self.nodes[parent].links += 1;
        }
        self.link(parent, name, number, kind);
        self.nodes.push(Node { number, entry, path, links, directory });
        self.index.insert(path, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    fn link(&mut self, parent: usize, name: &'a [u8], number: u32, kind: &Kind) {
        if let Some(directory) = &mut self.nodes[parent].directory {
            directory.children.push((name, number, file_type(kind)));
        }
    }
}

/// The type byte of directory entries.
fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } | Kind::Hardlink(_) => 1,
        Kind::Directory => 2,
        Kind::CharDevice { .. } => 3,
        Kind::BlockDevice { .. } => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// Makes the inodes, in path order. The first is the root directory.
pub(super) fn build<'a>(entries: &[&'a Entry]) -> Result<Vec<Node<'a>>> {
    let mut sorted = entries.to_vec();
    sorted.sort_by(|a, b| by_components(&a.path, &b.path));
    let mut root = None;
    if let Some(first) = sorted.first()
        && first.path == b"/"
    {
        if !matches!(first.kind, Kind::Directory) {
            return Err(Error::entry(b"/", "the root is not a directory"));
        }
        root = Some(*first);
        sorted.remove(0);
    }
    let mut builder = Builder {
        nodes: Vec::with_capacity(sorted.len() + 2),
        index: HashMap::with_capacity(sorted.len() + 2),
        next: FIRST_INODE + 1,
    };
    builder.nodes.push(Node {
        number: ROOT_INODE,
        entry: root,
        path: b"/",
        links: 2,
        directory: Some(Directory { parent: ROOT_INODE, children: Vec::new() }),
    });
    builder.index.insert(b"", 0);
    let mut links = Vec::new();
    for entry in sorted {
        check_path(&entry.path)?;
        if let Kind::Hardlink(target) = &entry.kind {
            links.push((entry, target.as_slice()));
        } else if builder.index.contains_key(entry.path.as_slice()) {
            return Err(Error::entry(&entry.path, "stands twice in the tree"));
        } else {
            builder.add(&entry.path, Some(entry))?;
        }
    }
    add_links(&mut builder, &links)?;
    if let Some(&index) = builder.index.get(b"/lost+found".as_slice()) {
        if builder.nodes[index].directory.is_none() {
            return Err(Error::entry(b"/lost+found", "must be a directory on ext4"));
        }
    } else {
        builder.add(b"/lost+found", None)?;
    }
    for node in &mut builder.nodes {
        if let Some(directory) = &mut node.directory {
            directory.children.sort_unstable();
        }
    }
    builder.nodes.sort_by_key(|node| node.number);
    Ok(builder.nodes)
}

/// Adds further names of files. A link may point at another link.
fn add_links<'a>(builder: &mut Builder<'a>, links: &[(&'a Entry, &'a [u8])]) -> Result<()> {
    let targets: HashMap<&[u8], &[u8]> =
        links.iter().map(|(entry, target)| (entry.path.as_slice(), *target)).collect();
    if targets.len() != links.len() {
        let mut seen = std::collections::HashSet::new();
        for (entry, _) in links {
            if !seen.insert(&entry.path) {
                return Err(Error::entry(&entry.path, "stands twice in the tree"));
            }
        }
    }
    for (entry, target) in links {
        if builder.index.contains_key(entry.path.as_slice()) {
            return Err(Error::entry(&entry.path, "stands twice in the tree"));
        }
        let mut target = *target;
        let mut hops = 0;
        while let Some(next) = targets.get(target) {
            target = next;
            hops += 1;
            if hops > links.len() {
                return Err(Error::entry(&entry.path, "is a hard link that leads to itself"));
            }
        }
        let shown = String::from_utf8_lossy(target);
        let Some(&index) = builder.index.get(target) else {
            let reason = format!("is a hard link to {shown}, which is not in the tree");
            return Err(Error::entry(&entry.path, reason));
        };
        let (parent_path, name) = split(&entry.path);
        let parent = builder.parent(parent_path)?;
        let node = &mut builder.nodes[index];
        if node.directory.is_some() {
            let reason = format!("is a hard link to the directory {shown}");
            return Err(Error::entry(&entry.path, reason));
        }
        node.links += 1;
        if node.links > MAX_LINKS {
            let reason = format!("{shown} has more than {MAX_LINKS} names");
            return Err(Error::entry(&entry.path, reason));
        }
        let number = node.number;
        if let Some(entry) = node.entry {
            builder.link(parent, name, number, &entry.kind);
        }
    }
    Ok(())
}
