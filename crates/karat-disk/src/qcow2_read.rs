//! Reads qcow2 (versions 2 and 3) into a sparse raw file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::bytes::{get32_be, get64_be};
use crate::error::{Error, Result};

/// Offsets in table entries.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;

/// What a qcow2 file begins with.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xFB";

struct Reader<'a> {
    path: &'a Path,
    file: &'a File,
    cluster_bits: u32,
    zstd: bool,
    file_len: u64,
}

impl Reader<'_> {
    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::image(self.path, reason)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, at).map_err(|error| Error::io("read", self.path, error))
    }

    /// Reads a table of so many 64-bit numbers.
    fn table(&self, at: u64, entries: u64) -> Result<Vec<u8>> {
        if at.checked_add(entries * 8).is_none_or(|end| end > self.file_len) {
            return Err(self.damaged("a table lies beyond the end of the qcow2 file"));
        }
        let mut table = vec![0u8; (entries * 8) as usize];
        self.read(at, &mut table)?;
        Ok(table)
    }

    fn compressed(&self, entry: u64, out: &mut [u8]) -> Result<()> {
        let shift = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << shift) - 1);
        let sectors = (entry & !(3 << 62)) >> shift;
        let len = (sectors + 1) * 512 - (offset & 511);
        let len = len.min(self.file_len.saturating_sub(offset));
        let mut packed = vec![0u8; len as usize];
        self.read(offset, &mut packed)?;
        let result = if self.zstd {
            zstd::stream::read::Decoder::with_buffer(packed.as_slice())
                .and_then(|decoder| decoder.single_frame().read_exact(out))
        } else {
            flate2::read::DeflateDecoder::new(packed.as_slice()).read_exact(out)
        };
        result.map_err(|error| self.damaged(format!("a compressed cluster is damaged: {error}")))
    }
}

/// Writes the virtual disk of a qcow2 file to `out` as a sparse raw image.
///
/// # Errors
/// The file is damaged, encrypted, or needs a backing file or other data file.
pub(crate) fn unpack(path: &Path, file: &File, out: &File, out_path: &Path) -> Result<()> {
    let mut header = vec![0u8; 112];
    file.read_exact_at(&mut header[..72], 0).map_err(|error| Error::io("read", path, error))?;
    let version = get32_be(&header, 4);
    if version >= 3 {
        file.read_exact_at(&mut header, 0).map_err(|error| Error::io("read", path, error))?;
    }
    let features = if version >= 3 { get64_be(&header, 72) } else { 0 };
    let cluster_bits = get32_be(&header, 20);
    let size = get64_be(&header, 24);
    let file_len = file.metadata().map_err(|error| Error::io("read", path, error))?.len();
    let long_header = version >= 3 && get32_be(&header, 100) > 104;
    let zstd = features & 8 != 0 && long_header && header[104] == 1;
    let reader = Reader { path, file, cluster_bits, zstd, file_len };
    if !(2..=3).contains(&version) || !(9..=21).contains(&cluster_bits) {
        return Err(reader.damaged("is a qcow2 file of an unknown version"));
    }
    if get64_be(&header, 8) != 0 {
        let text = "has a backing file; flatten it first (qemu-img convert -O qcow2)";
        return Err(reader.damaged(text));
    }
    if get32_be(&header, 32) != 0 {
        return Err(reader.damaged("is encrypted"));
    }
    // Bit 0 (dirty reference counts) and 3 (compression type) do not hinder reading.
    if features & !(1 | 8) != 0 {
        let text = format!("uses qcow2 features that are not read here (0x{features:x})");
        return Err(reader.damaged(text));
    }
    let cluster = 1u64 << cluster_bits;
    let per_table = cluster / 8;
    let clusters = size.div_ceil(cluster);
    let entries = clusters.div_ceil(per_table);
    if u64::from(get32_be(&header, 36)) < entries {
        return Err(reader.damaged("its level-1 table is too short"));
    }
    out.set_len(size).map_err(|error| Error::io("resize", out_path, error))?;
    let l1 = reader.table(get64_be(&header, 40), entries)?;
    let mut buffer = vec![0u8; cluster as usize];
    for index in 0..entries {
        let table_at = get64_be(&l1, index as usize * 8) & OFFSET;
        if table_at == 0 {
            continue;
        }
        let table = reader.table(table_at, per_table)?;
        for slot in 0..per_table.min(clusters - index * per_table) {
            let entry = get64_be(&table, slot as usize * 8);
            let at = (index * per_table + slot) * cluster;
            if entry >> 62 & 1 == 1 {
                reader.compressed(entry, &mut buffer)?;
            } else if entry & OFFSET != 0 && entry & 1 == 0 {
                // The last cluster of a file may be cut short.
                let offset = entry & OFFSET;
                if offset >= reader.file_len {
                    return Err(reader.damaged("is cut off: data lies beyond its end"));
                }
                let len = cluster.min(reader.file_len.saturating_sub(offset)) as usize;
                buffer[len..].fill(0);
                reader.read(offset, &mut buffer[..len])?;
            } else {
                continue;
            }
            let len = cluster.min(size - at) as usize;
            if buffer[..len].iter().any(|byte| *byte != 0) {
                out.write_all_at(&buffer[..len], at)
                    .map_err(|error| Error::io("write to", out_path, error))?;
            }
        }
    }
    Ok(())
}
