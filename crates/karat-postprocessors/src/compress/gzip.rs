//! Gzip (RFC 1952) and its blocked form bgzf (SAM format, section 4.1), made of blocks that are
//! compressed side by side.

use std::io;

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::blocks::Codec;

/// One gzip member: the blocks' deflate data in a row, each ended at a whole byte.
pub(super) struct Gzip {
    pub(super) level: u32,
}

/// The checksum of what was compressed, and its length.
#[derive(Default)]
pub(super) struct Sum {
    crc: Hasher,
    length: u64,
}

/// Magic number, deflate, no flags, no time, no level, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last deflate block.
const LAST_BLOCK: [u8; 2] = [3, 0];

impl Codec for Gzip {
    type Tail = Sum;

    /// A block cannot refer to what stands before it; in a large one that costs little.
    const BLOCK: usize = 1 << 20;

    fn compress(&self, block: &[u8]) -> io::Result<(Vec<u8>, Sum)> {
        let bytes = deflate(block, self.level, FlushCompress::Sync)?;
        let mut crc = Hasher::new();
        crc.update(block);
        Ok((bytes, Sum { crc, length: block.len() as u64 }))
    }

    fn combine(&self, all: &mut Sum, next: Sum) {
        all.crc.combine(&next.crc);
        all.length += next.length;
    }

    fn header(&self) -> Vec<u8> {
        HEADER.to_vec()
    }

    fn footer(&self, all: &Sum) -> Vec<u8> {
        let mut bytes = LAST_BLOCK.to_vec();
        bytes.extend_from_slice(&trailer(all.crc.clone(), all.length));
        bytes
    }
}

/// Many small gzip members, each with its own length in an extra field, so that a reader can
/// start at any of them.
pub(super) struct Bgzf {
    pub(super) level: u32,
}

/// What every member begins with: flag 4 announces the extra field `BC` of two bytes.
const BGZF_HEADER: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, b'B', b'C', 2, 0];
/// The empty member that every such file ends with.
const BGZF_END: [u8; 28] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, b'B', b'C', 2, 0, 27, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0,
    0,
];

impl Codec for Bgzf {
    type Tail = ();

    /// A member has at most 64 KiB, also when it does not get smaller.
    const BLOCK: usize = 65_280;

    fn compress(&self, block: &[u8]) -> io::Result<(Vec<u8>, ())> {
        let mut data = deflate(block, self.level, FlushCompress::Finish)?;
        if data.len() > stored(block).len() {
            data = stored(block);
        }
        let mut crc = Hasher::new();
        crc.update(block);
        let mut bytes = BGZF_HEADER.to_vec();
        let size = BGZF_HEADER.len() + 2 + data.len() + 8;
        let size = u16::try_from(size - 1).map_err(|_| io::Error::other("a block is too large"))?;
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(&trailer(crc, block.len() as u64));
        Ok((bytes, ()))
    }

    fn combine(&self, (): &mut (), (): ()) {}

    fn header(&self) -> Vec<u8> {
        Vec::new()
    }

    fn footer(&self, (): &()) -> Vec<u8> {
        BGZF_END.to_vec()
    }
}

fn deflate(block: &[u8], level: u32, flush: FlushCompress) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let read = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let before = out.len();
        let status =
            compress.compress_vec(&block[read..], &mut out, flush).map_err(io::Error::other)?;
        let read = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            // The flush is through when room is left over.
            _ => read == block.len() && out.len() < out.capacity(),
        };
        if done {
            return Ok(out);
        }
        if out.len() == before && out.len() < out.capacity() {
            return Err(io::Error::other("deflate does not get on"));
        }
        out.reserve(out.capacity().max(1024));
    }
}

/// One stored deflate block, for what does not get smaller.
fn stored(block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
    let mut out = vec![1];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(block);
    out
}

/// Checksum and length, which is cut to 32 bits.
fn trailer(crc: Hasher, length: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&crc.finalize().to_le_bytes());
    bytes[4..].copy_from_slice(&length.to_le_bytes()[..4]);
    bytes
}
