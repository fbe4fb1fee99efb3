//! Writes the archive.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use karat_component::{ComponentError, Events};
use liblzma::stream::{Check, MtStreamBuilder};
use liblzma::write::XzEncoder;
use tokio_util::sync::CancellationToken;
use zip::write::SimpleFileOptions;

use super::blocks::Blocks;
use super::entries::{self, Entry};
use super::format::{Algorithm, Archive, Format};
use super::gzip::{Bgzf, Gzip};
use crate::work;
use crate::written::Written;

/// The level where none is given.
const LEVEL: u32 = 6;
/// The same for zstd, whose levels mean something else.
const ZSTD_LEVEL: i32 = 3;
/// How much of the input one thread of xz takes at once, as `xz -T` at level 6. It is fixed so
/// that the file does not depend on the number of threads.
const XZ_BLOCK: u64 = 24 << 20;
/// How often to tell how far it got.
const PAUSE: Duration = Duration::from_millis(200);

/// What is to be packed, and how.
pub(super) struct Job {
    pub(super) files: Vec<PathBuf>,
    pub(super) format: Format,
    pub(super) level: Option<u32>,
    pub(super) threads: usize,
    pub(super) what: String,
    pub(super) events: Events,
}

impl Job {
    /// Writes the archive into a file that is not at its place yet.
    pub(super) fn run(
        &self,
        written: &Written,
        cancel: &CancellationToken,
    ) -> Result<(), ComponentError> {
        let entries = entries::of(&self.files)?;
        let mut meter = Meter {
            job: self,
            cancel,
            done: 0,
            total: entries.iter().map(|e| e.size).sum(),
            told: Instant::now(),
        };
        let failed = |e: io::Error| {
            let full = e.kind() == io::ErrorKind::StorageFull;
            let error = ComponentError::because("cannot write the archive", e);
            if full { error.with_hint("the file system is full") } else { error }
        };
        let out = BufWriter::with_capacity(1 << 18, written.file()?);
        match self.format.archive {
            Archive::Zip => self.zip(out, &entries, &mut meter).map_err(failed),
            _ => self.compressed(out, &entries, &mut meter).map_err(failed),
        }
    }

    fn level(&self) -> u32 {
        self.level.unwrap_or(LEVEL)
    }

    fn compressed(
        &self,
        out: BufWriter<File>,
        entries: &[Entry],
        meter: &mut Meter<'_>,
    ) -> io::Result<()> {
        let threads = u32::try_from(self.threads).unwrap_or(1);
        let mut out = match self.format.algorithm {
            Algorithm::None => self.body(out, entries, meter)?,
            Algorithm::Gzip => {
                let codec = Gzip { level: self.level() };
                self.body(Blocks::new(out, codec, self.threads)?, entries, meter)?.finish()?
            }
            Algorithm::Bgzf => {
                let codec = Bgzf { level: self.level() };
                self.body(Blocks::new(out, codec, self.threads)?, entries, meter)?.finish()?
            }
            Algorithm::Lz4 => {
                let encoder = lz4_flex::frame::FrameEncoder::new(out);
                self.body(encoder, entries, meter)?.finish().map_err(io::Error::other)?
            }
            Algorithm::Xz => {
                let stream = MtStreamBuilder::new()
                    .threads(threads)
                    .block_size(XZ_BLOCK)
                    .preset(self.level())
                    .check(Check::Crc64)
                    .encoder()?;
                self.body(XzEncoder::new_stream(out, stream), entries, meter)?.finish()?
            }
            Algorithm::Zstd => {
                let level = self.level.map_or(Ok(ZSTD_LEVEL), i32::try_from);
                let level = level.map_err(io::Error::other)?;
                let mut encoder = zstd::Encoder::new(out, level)?;
                encoder.multithread(threads)?;
                encoder.include_checksum(true)?;
                self.body(encoder, entries, meter)?.finish()?
            }
        };
        out.flush()
    }

    /// The tar, or the only file as it is.
    fn body<W: Write>(
        &self,
        mut out: W,
        entries: &[Entry],
        meter: &mut Meter<'_>,
    ) -> io::Result<W> {
        if self.format.archive == Archive::None {
            for entry in entries {
                io::copy(&mut meter.open(entry)?, &mut out)?;
            }
            return Ok(out);
        }
        let mut tar = tar::Builder::new(out);
        for entry in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(entry.size);
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_username("root")?;
            header.set_groupname("root")?;
            tar.append_data(&mut header, &entry.name, meter.open(entry)?)?;
        }
        tar.into_inner()
    }

    fn zip(
        &self,
        out: BufWriter<File>,
        entries: &[Entry],
        meter: &mut Meter<'_>,
    ) -> io::Result<()> {
        const BIG: u64 = u32::MAX as u64;
        let mut zip = zip::ZipWriter::new(FirstError { inner: out, failed: false });
        for entry in entries {
            let options = SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Deflated)
                .compression_level(Some(i64::from(self.level())))
                .last_modified_time(zip::DateTime::default())
                .unix_permissions(entry.mode)
                .large_file(entry.size >= BIG);
            zip.start_file(entry.name.to_string_lossy(), options).map_err(zip_error)?;
            io::copy(&mut meter.open(entry)?, &mut zip)?;
        }
        zip.finish().map_err(zip_error)?.inner.flush()
    }
}

fn zip_error(error: zip::result::ZipError) -> io::Error {
    match error {
        zip::result::ZipError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// After the first error takes everything without writing it: the zip writer tries to end the
/// archive when it is dropped, and would tell on the terminal that it cannot.
struct FirstError<W> {
    inner: W,
    failed: bool,
}

impl<W: Write> Write for FirstError<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Ok(bytes.len());
        }
        self.inner.write(bytes).inspect_err(|_| self.failed = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed { Ok(()) } else { self.inner.flush().inspect_err(|_| self.failed = true) }
    }
}

impl<W: Seek> Seek for FirstError<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.failed { Ok(0) } else { self.inner.seek(to).inspect_err(|_| self.failed = true) }
    }
}

/// Reads the files, tells how far it got, and stops when the run is cancelled.
struct Meter<'a> {
    job: &'a Job,
    cancel: &'a CancellationToken,
    done: u64,
    total: u64,
    told: Instant,
}

impl<'a> Meter<'a> {
    /// Exactly as many bytes as were announced: a file that changes meanwhile is an error.
    fn open(&mut self, entry: &Entry) -> io::Result<Metered<'_, 'a>> {
        Ok(Metered { file: File::open(&entry.path)?, left: entry.size, meter: self })
    }

    fn add(&mut self, count: usize) {
        self.done += count as u64;
        if self.told.elapsed() >= PAUSE {
            self.job.events.progress(&self.job.what, self.done, Some(self.total), "bytes");
            self.told = Instant::now();
        }
    }
}

struct Metered<'m, 'a> {
    file: File,
    left: u64,
    meter: &'m mut Meter<'a>,
}

impl Read for Metered<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        work::check(self.meter.cancel)?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && self.left > 0 && most > 0 {
            return Err(io::Error::other("a file became shorter while it was read"));
        }
        self.left -= count as u64;
        self.meter.add(count);
        Ok(count)
    }
}
