//! Extended attributes, in the inode where they fit and else in a block of their own.

use super::{BLOCK, crc};
use crate::bytes::{put16, put32};
use crate::error::{Error, Result};
use crate::tree::Xattr;

const MAGIC: u32 = 0xEA02_0000;
/// Bytes of an inode behind its fixed fields, where attributes may stand.
pub(super) const IN_INODE: usize = super::INODE - 160;
/// Bytes of the header of an attribute block.
const HEADER: usize = 32;

/// An attribute in the form that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Stored {
    fn record(&self) -> usize {
        16 + self.name.len().next_multiple_of(4)
    }

    fn room(&self) -> usize {
        self.record() + self.value.len().next_multiple_of(4)
    }
}

/// Prefixes and the numbers that stand for them.
pub(super) const PREFIXES: [(u8, &[u8]); 6] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

/// The attributes of one inode, split in the two places.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    in_inode: Vec<Stored>,
    in_block: Vec<Stored>,
}

impl Attributes {
    /// Sorts attributes into the two places.
    ///
    /// # Errors
    /// A name without a known prefix, an ACL that is none, or more than fits in one block.
    pub(super) fn new(path: &[u8], xattrs: &[Xattr]) -> Result<Self> {
        let mut all = xattrs.iter().map(|x| store(path, x)).collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| (a.index, a.name.len(), &a.name).cmp(&(b.index, b.name.len(), &b.name)));
        if let Some(pair) =
            all.windows(2).find(|p| p[0].index == p[1].index && p[0].name == p[1].name)
        {
            let name = String::from_utf8_lossy(&pair[0].name);
            return Err(Error::entry(path, format!("the attribute {name} stands twice")));
        }
        let mut attributes = Self::default();
        // Magic and the end mark take four bytes each.
        let mut left = IN_INODE - 8;
        for stored in all {
            if stored.room() <= left {
                left -= stored.room();
                attributes.in_inode.push(stored);
            } else {
                attributes.in_block.push(stored);
            }
        }
        let needed: usize = attributes.in_block.iter().map(Stored::room).sum();
        if needed > BLOCK as usize - HEADER - 4 {
            let reason = format!(
                "its extended attributes need {needed} bytes; ext4 holds {} in a block",
                BLOCK as usize - HEADER - 4
            );
            return Err(Error::entry(path, reason));
        }
        Ok(attributes)
    }

    pub(super) fn needs_block(&self) -> bool {
        !self.in_block.is_empty()
    }

    /// Writes the part in the inode; `place` are the bytes behind its fixed fields.
    pub(super) fn write_inode(&self, place: &mut [u8]) {
        if !self.in_inode.is_empty() {
            put32(place, 0, MAGIC);
            write(&self.in_inode, &mut place[4..], 0, false);
        }
    }

    /// The block with the rest. `seed` is the file system's checksum seed.
    pub(super) fn block(&self, number: u64, seed: u32) -> Vec<u8> {
        let mut block = vec![0u8; BLOCK as usize];
        put32(&mut block, 0, MAGIC);
        put32(&mut block, 4, 1);
        put32(&mut block, 8, 1);
        let hash = write(&self.in_block, &mut block, HEADER, true);
        put32(&mut block, 12, hash);
        let sum = crc(crc(seed, &number.to_le_bytes()), &block);
        put32(&mut block, 16, sum);
        block
    }
}

/// Writes records upwards from `start` and values downwards from the end; gives the joint hash.
fn write(stored: &[Stored], place: &mut [u8], start: usize, hashed: bool) -> u32 {
    let mut at = start;
    let mut end = place.len();
    let mut joint = 0u32;
    for attribute in stored {
        let padded = attribute.value.len().next_multiple_of(4);
        end -= padded;
        place[end..end + attribute.value.len()].copy_from_slice(&attribute.value);
        let hash = if hashed { hash(attribute) } else { 0 };
        joint = joint.rotate_left(16) ^ hash;
        place[at] = attribute.name.len() as u8;
        place[at + 1] = attribute.index;
        let offset = if attribute.value.is_empty() { 0 } else { end };
        put16(place, at + 2, offset as u16);
        put32(place, at + 8, attribute.value.len() as u32);
        put32(place, at + 12, hash);
        place[at + 16..at + 16 + attribute.name.len()].copy_from_slice(&attribute.name);
        at += attribute.record();
    }
    joint
}

fn hash(attribute: &Stored) -> u32 {
    let named = attribute.name.iter().fold(0u32, |h, b| h.rotate_left(5) ^ u32::from(*b));
    attribute.value.chunks(4).fold(named, |h, chunk| {
        let mut word = [0u8; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        h.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

fn store(path: &[u8], xattr: &Xattr) -> Result<Stored> {
    let shown = String::from_utf8_lossy(&xattr.name);
    for (index, prefix) in PREFIXES {
        let Some(rest) = xattr.name.strip_prefix(prefix) else { continue };
        let acl = index == 2 || index == 3;
        if acl != rest.is_empty() {
            continue;
        }
        if rest.len() > 255 {
            let reason = format!("the attribute name {shown} is too long");
            return Err(Error::entry(path, reason));
        }
        let value = if acl {
            acl_to_disk(&xattr.value)
                .ok_or_else(|| Error::entry(path, format!("the value of {shown} is no ACL")))?
        } else {
            xattr.value.clone()
        };
        return Ok(Stored { index, name: rest.to_vec(), value });
    }
    let reason = format!(
        "ext4 cannot hold the attribute {shown}; names begin with user., trusted., security. or system."
    );
    Err(Error::entry(path, reason))
}

/// Whether an ACL entry of this tag names a user or group.
fn has_id(tag: u16) -> bool {
    tag == 0x02 || tag == 0x08
}

/// ACLs are stored shorter than `getxattr` gives them: only named entries have an id.
fn acl_to_disk(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    let mut out = 1u32.to_le_bytes().to_vec();
    let chunks = entries.chunks_exact(8);
    if !chunks.remainder().is_empty() {
        return None;
    }
    for entry in chunks {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        out.extend(&entry[..if has_id(tag) { 8 } else { 4 }]);
    }
    Some(out)
}

/// The reverse of storing an ACL.
pub(super) fn acl_from_disk(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value.strip_prefix(&1u32.to_le_bytes())?;
    let mut out = 2u32.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let tag = u16::from_le_bytes([*rest.first()?, *rest.get(1)?]);
        let len = if has_id(tag) { 8 } else { 4 };
        out.extend(rest.get(..len)?);
        if len == 4 {
            out.extend(u32::MAX.to_le_bytes());
        }
        rest = &rest[len..];
    }
    Some(out)
}
