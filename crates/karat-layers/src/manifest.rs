//! The manifest of a layer: every name it adds or removes, sorted, in one canonical text.
//!
//! One line per name, fields apart by one space, paths and targets escaped so that they hold no
//! space, no control byte and nothing outside ASCII (`\xNN`, and `\\` for the backslash):
//!
//! ```text
//! karat-manifest 1
//! d 755 0 0 1700000000 /etc
//! f 644 0 0 1700000000 5 <sha256> /etc/hostname
//! f 755 0 0 1700000000 9 <sha256> /usr/bin/ping security.capability=0100000200200000
//! l 777 0 0 1700000000 usr/bin /bin
//! h /usr/bin/perl /usr/bin/perl5.36.0
//! c 666 0 0 1700000000 1:3 /dev/null
//! o 755 0 0 1700000000 /srv            (a directory that hides what is below it)
//! w /etc/motd                          (a name that is removed)
//! ```
//!
//! The kinds are `f` file, `d` directory, `o` opaque directory, `l` symbolic link, `h` hard link,
//! `c` and `b` devices, `p` named pipe, `s` socket, `w` whiteout. Modes are octal, times are whole
//! seconds. Two trees have the same manifest exactly when an image made of them is the same.

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::{Digest, Error, Result};

const HEADER: &str = "karat-manifest 1";

/// What one name of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Of its content.
        digest: Digest,
    },
    /// A directory.
    Directory {
        /// Whether it hides the directory of the same name in the layers below.
        opaque: bool,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A further name of the file at this path in the same layer.
    Hardlink(Vec<u8>),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// The name is removed, with all that is below it.
    Whiteout,
}

/// One name of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Absolute, `/`-separated, `/` for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `mode & 0o7777`. Like owner and time, 0 for hard links and whiteouts.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// All names of a layer, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    items: Vec<Item>,
}

impl Manifest {
    /// Sorts the items.
    #[must_use]
    pub fn new(mut items: Vec<Item>) -> Self {
        items.sort_by(|a, b| a.path.cmp(&b.path));
        Self { items }
    }

    /// The names, sorted by the bytes of their paths.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The same, to change anything but the paths.
    pub(crate) fn items_mut(&mut self) -> &mut [Item] {
        &mut self.items
    }

    /// Looks up an absolute path in this layer alone.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Item> {
        self.items
            .binary_search_by(|item| item.path.as_slice().cmp(path))
            .ok()
            .map(|at| &self.items[at])
    }

    /// Bytes of all regular files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let of = |item: &Item| if let Kind::File { size, .. } = item.kind { size } else { 0 };
        self.items.iter().map(of).sum()
    }

    /// The canonical text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(self.items.len() * 140 + 32);
        out.push_str(HEADER);
        out.push('\n');
        for item in &self.items {
            write_item(&mut out, item);
        }
        out
    }

    /// The digest of a layer with this manifest on a parent: what names it in the store.
    #[must_use]
    pub fn layer_digest(&self, parent: Option<Digest>) -> Digest {
        Self::digest_of_text(&self.to_text(), parent)
    }

    pub(crate) fn digest_of_text(text: &str, parent: Option<Digest>) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(b"karat-layer 1\n");
        match parent {
            Some(parent) => hasher.update(format!("parent {parent}\n")),
            None => hasher.update(b"parent none\n"),
        }
        hasher.update(text.as_bytes());
        Digest(hasher.finalize().into())
    }

    /// Reads the canonical text of the file `origin`.
    ///
    /// # Errors
    /// [`Error::Format`] with the line that is wrong.
    pub fn parse(text: &str, origin: &Path) -> Result<Self> {
        let fail =
            |line: usize, reason: String| Error::Format { path: origin.into(), line, reason };
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(fail(1, format!("not a layer manifest: the first line is not `{HEADER}`")));
        }
        let mut items: Vec<Item> = Vec::with_capacity(text.len() / 120);
        for (index, line) in lines.enumerate() {
            let number = index + 2;
            let item =
                parse_item(line).ok_or_else(|| fail(number, format!("bad entry `{line}`")))?;
            if items.last().is_some_and(|last| last.path >= item.path) {
                return Err(fail(number, format!("entry out of order: `{line}`")));
            }
            items.push(item);
        }
        Ok(Self { items })
    }
}

fn write_item(out: &mut String, item: &Item) {
    let letter = match &item.kind {
        Kind::File { .. } => 'f',
        Kind::Directory { opaque: false } => 'd',
        Kind::Directory { opaque: true } => 'o',
        Kind::Symlink(_) => 'l',
        Kind::Hardlink(_) => 'h',
        Kind::CharDevice(..) => 'c',
        Kind::BlockDevice(..) => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::Whiteout => 'w',
    };
    out.push(letter);
    if !matches!(item.kind, Kind::Hardlink(_) | Kind::Whiteout) {
        // Writing to a string cannot fail.
        let _ = write!(out, " {:o} {} {} {}", item.mode, item.uid, item.gid, item.mtime);
    }
    out.push(' ');
    match &item.kind {
        Kind::File { size, digest } => {
            let _ = write!(out, "{size} {digest} ");
        }
        Kind::Symlink(target) | Kind::Hardlink(target) => {
            escape(out, target);
            out.push(' ');
        }
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            let _ = write!(out, "{major}:{minor} ");
        }
        _ => {}
    }
    escape(out, &item.path);
    for (name, value) in &item.xattrs {
        out.push(' ');
        escape(out, name);
        out.push('=');
        for byte in value {
            let _ = write!(out, "{byte:02x}");
        }
    }
    out.push('\n');
}

fn parse_item(line: &str) -> Option<Item> {
    let mut fields = line.split(' ');
    let letter = fields.next()?;
    let (mut mode, mut uid, mut gid, mut mtime) = (0, 0, 0, 0);
    if !matches!(letter, "h" | "w") {
        mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        uid = fields.next()?.parse().ok()?;
        gid = fields.next()?.parse().ok()?;
        mtime = fields.next()?.parse().ok()?;
    }
    let device = |field: Option<&str>| {
        let (major, minor) = field?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let kind = match letter {
        "f" => {
            Kind::File { size: fields.next()?.parse().ok()?, digest: fields.next()?.parse().ok()? }
        }
        "d" => Kind::Directory { opaque: false },
        "o" => Kind::Directory { opaque: true },
        "l" => Kind::Symlink(unescape(fields.next()?)?),
        "h" => Kind::Hardlink(unescape(fields.next()?)?),
        "c" => device(fields.next()).map(|(major, minor)| Kind::CharDevice(major, minor))?,
        "b" => device(fields.next()).map(|(major, minor)| Kind::BlockDevice(major, minor))?,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "w" => Kind::Whiteout,
        _ => return None,
    };
    let path = unescape(fields.next()?)?;
    let mut xattrs = Vec::new();
    for field in fields {
        let (name, hex) = field.split_once('=')?;
        xattrs.push((unescape(name)?, unhex(hex)?));
    }
    let clean = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    let good =
        path == b"/" || path.strip_prefix(b"/").is_some_and(|p| p.split(|b| *b == b'/').all(clean));
    good.then_some(Item { path, kind, mode, uid, gid, mtime, xattrs })
}

fn escape(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'=' | 0..=0x20 | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02x}");
            }
            _ => out.push(byte as char),
        }
    }
    if bytes.is_empty() {
        // An empty target cannot exist on Linux, but a field must not be empty.
        out.push_str("\\e");
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\\' => out.push(b'\\'),
            b'e' => {}
            b'x' => {
                let high = (bytes.next()? as char).to_digit(16)?;
                let low = (bytes.next()? as char).to_digit(16)?;
                out.push((high * 16 + low) as u8);
            }
            _ => return None,
        }
    }
    Some(out)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = Kind> {
        let bytes = || prop::collection::vec(1u8..=255, 1..12);
        prop_oneof![
            (any::<u64>(), any::<[u8; 32]>())
                .prop_map(|(size, digest)| Kind::File { size, digest: Digest(digest) }),
            any::<bool>().prop_map(|opaque| Kind::Directory { opaque }),
            bytes().prop_map(Kind::Symlink),
            bytes().prop_map(Kind::Hardlink),
            (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Kind::CharDevice(a, b)),
            (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Kind::BlockDevice(a, b)),
            Just(Kind::Fifo),
            Just(Kind::Socket),
            Just(Kind::Whiteout),
        ]
    }

    fn item() -> impl Strategy<Value = Item> {
        let name = prop::collection::vec((1u8..=255).prop_filter("slash", |b| *b != b'/'), 1..6)
            .prop_filter("dots", |n| n != b"." && n != b"..");
        let path = prop::collection::vec(name, 1..4)
            .prop_map(|parts| parts.iter().fold(Vec::new(), |acc, p| [&acc[..], b"/", p].concat()));
        let xattrs = prop::collection::btree_map(
            prop::collection::vec(1u8..=255, 1..5),
            prop::collection::vec(any::<u8>(), 0..5),
            0..2,
        );
        (path, kind(), 0u32..0o10000, any::<u32>(), any::<u32>(), any::<i64>(), xattrs).prop_map(
            |(path, kind, mode, uid, gid, mtime, xattrs)| {
                if matches!(kind, Kind::Hardlink(_) | Kind::Whiteout) {
                    return Item { path, kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: vec![] };
                }
                Item { path, kind, mode, uid, gid, mtime, xattrs: xattrs.into_iter().collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn text_reads_back(items in prop::collection::vec(item(), 0..8)) {
            let mut items = items;
            items.sort_by(|a, b| a.path.cmp(&b.path));
            items.dedup_by(|a, b| a.path == b.path);
            let manifest = Manifest::new(items);
            let text = manifest.to_text();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(Manifest::parse(&text, Path::new("m")).unwrap(), manifest);
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let text = "karat-manifest 1\nd 755 0 0 0 /a\nf 644 0 0 0 zzz /b\n";
        let error = Manifest::parse(text, Path::new("m")).unwrap_err();
        assert_eq!(error.to_string(), "m:3: bad entry `f 644 0 0 0 zzz /b`");
        let text = "karat-manifest 1\nw /b\nw /a\n";
        assert!(
            Manifest::parse(text, Path::new("m")).unwrap_err().to_string().contains("out of order")
        );
        assert!(Manifest::parse("karat-manifest 1\nw /a/../b\n", Path::new("m")).is_err());
    }

    #[test]
    fn parent_is_part_of_the_digest() {
        let manifest = Manifest::default();
        assert_ne!(manifest.layer_digest(None), manifest.layer_digest(Some(Digest::of("x"))));
    }
}
