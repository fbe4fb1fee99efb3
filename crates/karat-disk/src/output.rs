//! Writes a layout to files: raw and qcow2, several at once, with several threads.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::qcow2::{self, CLUSTER, Place, PlainMap};
use crate::segment::{Layout, Segment, Source};

/// Bytes that one thread gathers before it writes.
const BUFFER: usize = 1 << 20;
/// Bytes of content that one piece of work covers.
const PIECE: u64 = 8 << 20;
/// Gaps below this many bytes are written as zeros instead of starting a new write.
const SMALL_GAP: u64 = 4096;
/// Clusters per piece of compression work.
const PACK: usize = 32;

/// Container of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The bytes of the disk, sparse.
    Raw,
    /// QEMU's copy-on-write format, version 3.
    Qcow2 {
        /// Compress clusters with zstd. Smaller to send, slower to write.
        compress: bool,
    },
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The file. It appears under this name only when it is complete.
    pub path: PathBuf,
    /// Its container.
    pub format: Format,
    /// Whether to compute the SHA-256 of the file.
    pub digest: bool,
}

/// How far a write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of content written so far.
    pub done: u64,
    /// Bytes of content in all.
    pub total: u64,
}

/// A file written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its container.
    pub format: Format,
    /// Bytes of the virtual disk.
    pub disk_size: u64,
    /// Length of the file in bytes.
    pub file_size: u64,
    /// Bytes that the file takes on the host's disk.
    pub allocated: u64,
    /// SHA-256 of the file, where asked.
    pub sha256: Option<[u8; 32]>,
    /// Whether a former file was changed in place instead of written anew.
    pub patched: bool,
    /// Tells later whether the file is still as it was written.
    pub stamp: Stamp,
}

/// What changes about a file when something else writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn holds(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && Self::of(&meta) == *self)
    }
}

/// What former files hold, so that they can be changed in place.
pub(crate) struct Former<'a> {
    pub(crate) disk_size: u64,
    /// Everything that is not a hole, ascending: offset and length.
    pub(crate) used: &'a [(u64, u64)],
    pub(crate) stamps: &'a [(PathBuf, Format, Stamp)],
    /// Parts of the disk that hold already what they shall hold: offset and end, ascending.
    pub(crate) unchanged: Vec<(u64, u64)>,
}

impl Former<'_> {
    /// Whether the file of this output can be changed in place.
    fn fits(&self, layout: &Layout, output: &Output) -> bool {
        let known = self.stamps.iter().any(|(path, format, stamp)| {
            *path == output.path && *format == output.format && stamp.holds(path)
        });
        known
            && self.disk_size == layout.size
            && (output.format == Format::Raw
                || qcow2::used_clusters(&self.layout()) == qcow2::used_clusters(layout))
    }

    /// The former disk, with its contents left out.
    fn layout(&self) -> Layout {
        let mut layout = Layout::new(self.disk_size);
        layout.segments.extend(self.used.iter().map(|(offset, len)| Segment {
            offset: *offset,
            len: *len,
            source: Source::Bytes { data: [].into(), start: 0 },
        }));
        layout
    }

    /// What is to be written, and what is to become zero.
    fn difference(&self, layout: &Layout) -> (Layout, Vec<(u64, u64)>) {
        let mut changed = Layout { segments: Vec::new(), ..layout.clone() };
        changed.segments.extend(
            layout
                .segments
                .iter()
                .filter(|segment| {
                    let next = self.unchanged.partition_point(|range| range.1 <= segment.offset);
                    self.unchanged
                        .get(next)
                        .is_none_or(|range| segment.offset < range.0 || segment.end() > range.1)
                })
                .cloned(),
        );
        let mut stale = Vec::new();
        let mut segments = layout.segments.iter().peekable();
        for (offset, len) in self.used {
            let (mut at, end) = (*offset, offset + len);
            while at < end {
                while segments.next_if(|segment| segment.end() <= at).is_some() {}
                let (start, stop) =
                    segments.peek().map_or((end, end), |s| (s.offset.min(end), s.end().min(end)));
                if start > at {
                    stale.push((at, start));
                }
                at = stop.max(start);
            }
        }
        (changed, stale)
    }
}

/// Everything of a layout that is not a hole, ascending: offset and length.
pub(crate) fn used(layout: &Layout) -> Vec<(u64, u64)> {
    let mut used: Vec<(u64, u64)> = Vec::new();
    for segment in &layout.segments {
        match used.last_mut() {
            Some(last) if last.0 + last.1 == segment.offset => last.1 += segment.len,
            _ => used.push((segment.offset, segment.len)),
        }
    }
    used
}

/// What all threads share.
pub(crate) struct Control<'a> {
    pub(crate) progress: &'a (dyn Fn(Progress) + Sync),
    pub(crate) cancel: &'a AtomicBool,
}

impl Control<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// A word for names of temporary files that no other work on this computer uses now.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A file that is being written; removed unless it is finished.
struct Temporary {
    file: File,
    /// Held while writing. File systems let one writer at a time into a file, and those who wait for
    /// that keep a processor busy.
    writing: Mutex<()>,
    path: PathBuf,
    target: PathBuf,
    done: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Self> {
        let path = Self::hidden(target)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        Ok(Self { file, writing: Mutex::new(()), path, target: target.to_owned(), done: false })
    }

    /// Takes the file that stands at the target, to change it.
    fn adopt(target: &Path) -> Result<Self> {
        let path = Self::hidden(target)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(target)
            .map_err(|error| Error::io("open", target, error))?;
        std::fs::rename(target, &path).map_err(|error| Error::io("rename", target, error))?;
        Ok(Self { file, writing: Mutex::new(()), path, target: target.to_owned(), done: false })
    }

    fn hidden(target: &Path) -> Result<PathBuf> {
        let Some(name) = target.file_name() else {
            return Err(Error::Spec(format!("{} names no file", target.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", unique()));
        Ok(target.with_file_name(hidden))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io("write to", &self.target, error))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| Error::io("resize", &self.target, error))
    }

    fn finish(mut self) -> Result<()> {
        std::fs::rename(&self.path, &self.target)
            .map_err(|error| Error::io("rename the finished file to", &self.target, error))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.done {
            // Nothing more can be done where even removal fails.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where bytes of the virtual disk go.
struct Target {
    temporary: Temporary,
    map: Option<PlainMap>,
}

impl Target {
    fn write(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        let Some(map) = &self.map else { return self.temporary.write(bytes, offset) };
        while !bytes.is_empty() {
            let (at, room) = map.locate(offset);
            let len = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.temporary.write(&bytes[..len], at)?;
            bytes = &bytes[len..];
            offset += len as u64;
        }
        Ok(())
    }

    /// Makes a part of the disk zero that held something.
    fn clear(&self, mut offset: u64, end: u64) -> Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        while offset < end {
            let (at, room) = match &self.map {
                Some(map) => map.locate(offset),
                None => (offset, end - offset),
            };
            let len = room.min(end - offset);
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(&self.temporary.file, flags, at, len).is_err() {
                let zeros = vec![0u8; BUFFER];
                let mut done = 0;
                while done < len {
                    let part = (len - done).min(BUFFER as u64);
                    self.temporary.write(&zeros[..part as usize], at + done)?;
                    done += part;
                }
            }
            offset += len;
        }
        Ok(())
    }
}

/// Reads contents, keeping the file open that was read last.
struct Reader<'a> {
    layout: &'a Layout,
    open: Option<(usize, File)>,
}

impl<'a> Reader<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { layout, open: None }
    }

    /// Fills `buffer` with the bytes of a segment from `at` bytes into it.
    fn read(&mut self, segment: &Segment, at: u64, buffer: &mut [u8]) -> Result<()> {
        match &segment.source {
            Source::Bytes { data, start } => {
                let from = start + at as usize;
                buffer.copy_from_slice(&data[from..from + buffer.len()]);
                Ok(())
            }
            Source::File { index, offset } => {
                let path = &self.layout.files[*index].path;
                if self.open.as_ref().is_none_or(|open| open.0 != *index) {
                    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
                    self.open = Some((*index, file));
                }
                match &self.open {
                    Some((_, file)) => file
                        .read_exact_at(buffer, offset + at)
                        .map_err(|error| Error::io("read", path, error)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A piece of work: part of the segments, the first and last perhaps in part.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// First segment and bytes to skip in it.
    segment: usize,
    skip: u64,
    /// Bytes of content to write.
    len: u64,
}

fn pieces(layout: &Layout) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut current: Option<Piece> = None;
    for (index, segment) in layout.segments.iter().enumerate() {
        let mut at = 0;
        while at < segment.len {
            let piece = current.get_or_insert(Piece { segment: index, skip: at, len: 0 });
            let len = (segment.len - at).min(PIECE - piece.len);
            piece.len += len;
            at += len;
            if piece.len == PIECE {
                out.extend(current.take());
            }
        }
    }
    out.extend(current);
    out
}

/// Writes one piece to all targets.
fn write_piece(
    layout: &Layout,
    piece: Piece,
    targets: &[Target],
    reader: &mut Reader<'_>,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    buffer.clear();
    let mut start = 0;
    let mut left = piece.len;
    let mut skip = piece.skip;
    let flush = |start: u64, buffer: &mut Vec<u8>| -> Result<()> {
        if !buffer.is_empty() {
            for target in targets {
                target.write(buffer, start)?;
            }
            buffer.clear();
        }
        Ok(())
    };
    for segment in &layout.segments[piece.segment..] {
        let mut at = skip;
        skip = 0;
        while at < segment.len && left > 0 {
            let offset = segment.offset + at;
            let position = start + buffer.len() as u64;
            let gap = offset.wrapping_sub(position);
            if buffer.is_empty() || offset < position || gap >= SMALL_GAP {
                flush(start, buffer)?;
                start = offset;
            } else {
                buffer.resize(buffer.len() + gap as usize, 0);
            }
            if buffer.len() >= BUFFER {
                flush(start, buffer)?;
                start = offset;
            }
            let room = (BUFFER - buffer.len()) as u64;
            let len = (segment.len - at).min(left).min(room);
            let from = buffer.len();
            buffer.resize(from + len as usize, 0);
            reader.read(segment, at, &mut buffer[from..])?;
            at += len;
            left -= len;
        }
        if left == 0 {
            break;
        }
    }
    flush(start, buffer)
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 16)
}

/// A file that is written, with what it is for.
struct Begun<'a> {
    output: &'a Output,
    temporary: Temporary,
    patched: bool,
}

/// Writes a layout, whose segments are sorted, to all outputs.
pub(crate) fn write(
    layout: &Layout,
    outputs: &[Output],
    former: Option<&Former<'_>>,
    control: &Control<'_>,
) -> Result<Vec<Written>> {
    control.check()?;
    let content = |layout: &Layout| layout.segments.iter().map(|s| s.len).sum::<u64>();
    let (packed, plain): (Vec<&Output>, Vec<&Output>) =
        outputs.iter().partition(|output| output.format == Format::Qcow2 { compress: true });
    let (patched, plain): (Vec<&Output>, Vec<&Output>) = plain
        .into_iter()
        .partition(|output| former.is_some_and(|former| former.fits(layout, output)));
    let difference = former
        .filter(|_| !patched.is_empty())
        .map(|former| former.difference(layout))
        .unwrap_or_default();
    let rounds = packed.len() as u64 + u64::from(!plain.is_empty());
    let total = content(layout) * rounds + content(&difference.0);
    let meter = Meter { done: AtomicU64::new(0), total };

    let target = |output: &Output, temporary| {
        let map = (output.format != Format::Raw).then(|| PlainMap::new(layout));
        Target { temporary, map }
    };
    let mut begun = Vec::new();
    for (group, patched) in [(plain, false), (patched, true)] {
        if group.is_empty() {
            continue;
        }
        let mut targets = Vec::new();
        for output in &group {
            if patched {
                targets.push(target(output, Temporary::adopt(&output.path)?));
            } else {
                let new = target(output, Temporary::create(&output.path)?);
                let size = new.map.as_ref().map_or(layout.size, |map| map.file_size);
                new.temporary.set_len(size)?;
                targets.push(new);
            }
        }
        if patched {
            for (target, (start, end)) in
                targets.iter().flat_map(|target| difference.1.iter().map(move |r| (target, *r)))
            {
                target.clear(start, end)?;
            }
        }
        let source = if patched { &difference.0 } else { layout };
        write_plain(source, &targets, control, &meter)?;
        for (output, target) in group.into_iter().zip(targets) {
            // The tables of a file that is patched are as they shall be: its map is the same.
            let tables = target.map.iter().flat_map(|map| &map.tables);
            for (offset, bytes) in tables.filter(|_| !patched) {
                target.temporary.write(bytes, *offset)?;
            }
            begun.push(Begun { output, temporary: target.temporary, patched });
        }
    }
    for output in packed {
        let temporary = Temporary::create(&output.path)?;
        write_packed(layout, &temporary, control, &meter)?;
        begun.push(Begun { output, temporary, patched: false });
    }
    finish(layout, outputs, begun, control)
}

struct Meter {
    done: AtomicU64,
    total: u64,
}

impl Meter {
    fn add(&self, bytes: u64, control: &Control<'_>) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (control.progress)(Progress { done, total: self.total });
    }
}

fn write_plain(
    layout: &Layout,
    targets: &[Target],
    control: &Control<'_>,
    meter: &Meter,
) -> Result<()> {
    let pieces = pieces(layout);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads().min(pieces.len().max(1)) {
            scope.spawn(|| {
                let mut reader = Reader::new(layout);
                let mut buffer = Vec::with_capacity(BUFFER);
                while !failed.load(Ordering::Relaxed) {
                    let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        break;
                    };
                    let result = control.check().and_then(|()| {
                        write_piece(layout, *piece, targets, &mut reader, &mut buffer)
                    });
                    if let Err(error) = result {
                        failed.store(true, Ordering::Relaxed);
                        keep(&failure, error);
                        break;
                    }
                    meter.add(piece.len, control);
                }
            });
        }
    });
    match failure.into_inner() {
        Ok(None) => Ok(()),
        Ok(Some(error)) => Err(error),
        Err(poisoned) => poisoned.into_inner().map_or(Ok(()), Err),
    }
}

/// Keeps the first failure.
fn keep(failure: &Mutex<Option<Error>>, error: Error) {
    let mut slot = failure.lock().unwrap_or_else(PoisonError::into_inner);
    slot.get_or_insert(error);
}

/// A cluster after compression.
enum Packed {
    Zero,
    Small(Vec<u8>),
    Whole(Vec<u8>),
}

/// Reads one cluster of the virtual disk.
fn read_cluster(
    layout: &Layout,
    cluster: u64,
    reader: &mut Reader<'_>,
    buffer: &mut [u8],
) -> Result<u64> {
    buffer.fill(0);
    let start = cluster * CLUSTER;
    let end = start + CLUSTER;
    let first = layout.segments.partition_point(|segment| segment.end() <= start);
    let mut read = 0;
    for segment in layout.segments[first..].iter().take_while(|s| s.offset < end) {
        let from = segment.offset.max(start);
        let to = segment.end().min(end);
        let place = &mut buffer[(from - start) as usize..(to - start) as usize];
        reader.read(segment, from - segment.offset, place)?;
        read += to - from;
    }
    Ok(read)
}

fn write_packed(
    layout: &Layout,
    temporary: &Temporary,
    control: &Control<'_>,
    meter: &Meter,
) -> Result<()> {
    let clusters: Vec<u64> =
        qcow2::used_clusters(layout).iter().flat_map(|run| run.0..run.0 + run.1).collect();
    let batches: Vec<&[u64]> = clusters.chunks(PACK).collect();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::sync_channel(threads() * 2);
    let mut places: Vec<(u64, Place)> = Vec::with_capacity(clusters.len());
    let mut counts: Vec<u16> = vec![1];
    let result = std::thread::scope(|scope| {
        for _ in 0..threads() {
            let sender = sender.clone();
            let (batches, next, stop) = (&batches, &next, &stop);
            scope.spawn(move || {
                let mut reader = Reader::new(layout);
                let mut buffer = vec![0u8; CLUSTER as usize];
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(batch) = batches.get(index) else { break };
                    let packed = batch
                        .iter()
                        .map(|cluster| {
                            control.check()?;
                            let read = read_cluster(layout, *cluster, &mut reader, &mut buffer)?;
                            meter.add(read, control);
                            pack(&buffer)
                        })
                        .collect::<Result<Vec<_>>>();
                    if sender.send((index, packed)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut writer = PackedWriter { temporary, at: CLUSTER, pending: Vec::new() };
        let mut waiting = BTreeMap::new();
        let mut expected = 0;
        let outcome = (|| {
            for (index, packed) in &receiver {
                waiting.insert(index, packed);
                while let Some(packed) = waiting.remove(&expected) {
                    for (cluster, packed) in batches[expected].iter().zip(packed?) {
                        if let Some(place) = writer.push(packed, &mut counts)? {
                            places.push((*cluster, place));
                        }
                    }
                    expected += 1;
                }
            }
            writer.flush()?;
            Ok(writer.at)
        })();
        stop.store(true, Ordering::Relaxed);
        // Ends threads that wait to hand over.
        drop(receiver);
        outcome
    });
    let end = result?.next_multiple_of(CLUSTER);
    let tables = qcow2::tables(layout.size, places.into_iter(), end, &mut counts, true);
    temporary.set_len(counts.len() as u64 * CLUSTER)?;
    for (offset, bytes) in &tables {
        temporary.write(bytes, *offset)?;
    }
    Ok(())
}

fn pack(buffer: &[u8]) -> Result<Packed> {
    if buffer.iter().all(|byte| *byte == 0) {
        return Ok(Packed::Zero);
    }
    let small = zstd::bulk::compress(buffer, 3)
        .map_err(|error| Error::io("compress", Path::new("a cluster"), error))?;
    // A little saving is not worth reading through the decompressor.
    if small.len() + 4096 < buffer.len() {
        Ok(Packed::Small(small))
    } else {
        Ok(Packed::Whole(buffer.to_vec()))
    }
}

struct PackedWriter<'a> {
    temporary: &'a Temporary,
    /// End of what was placed.
    at: u64,
    pending: Vec<u8>,
}

impl PackedWriter<'_> {
    fn push(&mut self, packed: Packed, counts: &mut Vec<u16>) -> Result<Option<Place>> {
        let (bytes, whole) = match packed {
            Packed::Zero => return Ok(None),
            Packed::Small(bytes) => (bytes, false),
            Packed::Whole(bytes) => (bytes, true),
        };
        if whole {
            let aligned = self.at.next_multiple_of(CLUSTER);
            self.pending.resize(self.pending.len() + (aligned - self.at) as usize, 0);
            self.at = aligned;
        }
        let first = self.at / CLUSTER;
        let last = (self.at + bytes.len() as u64 - 1) / CLUSTER;
        counts.resize(counts.len().max(last as usize + 1), 0);
        for cluster in first..=last {
            counts[cluster as usize] += 1;
        }
        let place =
            if whole { Place::Plain(self.at) } else { Place::Packed(self.at, bytes.len() as u64) };
        self.at += bytes.len() as u64;
        self.pending.extend(bytes);
        if self.pending.len() >= BUFFER {
            self.flush()?;
        }
        Ok(Some(place))
    }

    fn flush(&mut self) -> Result<()> {
        self.temporary.write(&self.pending, self.at - self.pending.len() as u64)?;
        self.pending.clear();
        Ok(())
    }
}

/// Digests, renames, and reports in the order of the outputs.
fn finish(
    layout: &Layout,
    outputs: &[Output],
    files: Vec<Begun<'_>>,
    control: &Control<'_>,
) -> Result<Vec<Written>> {
    let digests = std::thread::scope(|scope| {
        let running: Vec<_> = files
            .iter()
            .map(|begun| {
                let digest = || digest(layout, begun.output, &begun.temporary, control);
                begun.output.digest.then(|| scope.spawn(digest))
            })
            .collect();
        running
            .into_iter()
            .map(|thread| match thread.map(std::thread::ScopedJoinHandle::join) {
                None => Ok(None),
                Some(Ok(digest)) => digest.map(Some),
                Some(Err(panic)) => std::panic::resume_unwind(panic),
            })
            .collect::<Result<Vec<_>>>()
    })?;
    control.check()?;
    let mut written = Vec::new();
    for (Begun { output, temporary, patched }, sha256) in files.into_iter().zip(digests) {
        use std::os::unix::fs::MetadataExt;
        temporary.finish()?;
        let meta = std::fs::metadata(&output.path)
            .map_err(|error| Error::io("read", &output.path, error))?;
        written.push(Written {
            path: output.path.clone(),
            format: output.format,
            disk_size: layout.size,
            file_size: meta.len(),
            allocated: meta.blocks() * 512,
            sha256,
            patched,
            stamp: Stamp::of(&meta),
        });
    }
    written.sort_by_key(|w| outputs.iter().position(|output| output.path == w.path));
    Ok(written)
}

/// SHA-256 of a file; holes of a raw image are known and need no reading.
fn digest(
    layout: &Layout,
    output: &Output,
    temporary: &Temporary,
    control: &Control<'_>,
) -> Result<[u8; 32]> {
    let len = temporary
        .file
        .metadata()
        .map_err(|error| Error::io("read", &temporary.target, error))?
        .len();
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; BUFFER];
    let zeros = vec![0u8; BUFFER];
    let mut read = |hash: &mut Sha256, mut at: u64, end: u64| -> Result<()> {
        while at < end {
            control.check()?;
            let part = &mut buffer[..(end - at).min(BUFFER as u64) as usize];
            temporary
                .file
                .read_exact_at(part, at)
                .map_err(|error| Error::io("read", &temporary.target, error))?;
            hash.update(&*part);
            at += part.len() as u64;
        }
        Ok(())
    };
    if output.format == Format::Raw {
        let mut at = 0;
        let mut run: Option<(u64, u64)> = None;
        let end = (layout.size, layout.size);
        let ranges = layout.segments.iter().map(|s| (s.offset, s.end())).chain([end]);
        for (start, stop) in ranges {
            match &mut run {
                Some(run) if start < run.1 + SMALL_GAP && start < layout.size => run.1 = stop,
                _ => {
                    if let Some((from, to)) = run.take() {
                        skip(&mut hash, &zeros, from - at);
                        read(&mut hash, from, to)?;
                        at = to;
                    }
                    run = Some((start, stop));
                }
            }
        }
        skip(&mut hash, &zeros, layout.size - at);
    } else {
        read(&mut hash, 0, len)?;
    }
    Ok(hash.finalize().into())
}

fn skip(hash: &mut Sha256, zeros: &[u8], mut len: u64) {
    while len > 0 {
        let part = len.min(zeros.len() as u64);
        hash.update(&zeros[..part as usize]);
        len -= part;
    }
}
