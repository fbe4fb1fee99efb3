//! An image before it is written: pieces of content at byte offsets, with holes between them.
//!
//! Every writer of this crate (FAT, ext4, GPT) only decides what stands where. The bytes of files
//! stay on the host until the output is written, in order and by several threads.

use std::path::PathBuf;
use std::sync::Arc;

/// Where the bytes of a segment are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// In memory, from `start` in the shared buffer.
    Bytes { data: Arc<[u8]>, start: usize },
    /// In the file with this index in [`Layout::files`], from this offset.
    File { index: usize, offset: u64 },
}

/// A run of bytes of the image that is not zero by definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) source: Source,
}

impl Segment {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// A host file that segments read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFile {
    pub(crate) path: PathBuf,
}

/// An image laid out: everything not covered by a segment is zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) size: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) files: Vec<HostFile>,
}

impl Layout {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// Places bytes at an offset.
    pub(crate) fn put(&mut self, offset: u64, data: impl Into<Arc<[u8]>>) {
        let data = data.into();
        let len = data.len() as u64;
        if len > 0 {
            self.segments.push(Segment { offset, len, source: Source::Bytes { data, start: 0 } });
        }
    }

    /// Takes over the segments of a part of this image that begins at `offset`.
    pub(crate) fn embed(&mut self, offset: u64, part: Layout) {
        let base = self.files.len();
        self.files.extend(part.files);
        self.segments.extend(part.segments.into_iter().map(|mut segment| {
            segment.offset += offset;
            if let Source::File { index, .. } = &mut segment.source {
                *index += base;
            }
            segment
        }));
    }

    /// Sorts the segments by offset. They never overlap.
    pub(crate) fn sort(&mut self) {
        self.segments.sort_by_key(|segment| segment.offset);
        debug_assert!(self.segments.windows(2).all(|pair| pair[0].end() <= pair[1].offset));
        debug_assert!(self.segments.last().is_none_or(|last| last.end() <= self.size));
    }
}
