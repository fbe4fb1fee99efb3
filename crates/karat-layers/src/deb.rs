//! Reads Debian packages: an `ar` archive of a version, a control tar and a data tar.
//!
//! The container is so simple (60-byte headers) that reading it here beats a dependency.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::extract::Extractor;
use crate::{Control, Error, Result};

/// One member of the outer archive.
#[derive(Debug, Clone)]
struct Member {
    name: String,
    offset: u64,
    size: u64,
}

/// An opened package.
#[derive(Debug)]
pub(crate) struct Deb {
    what: String,
    file: File,
    members: Vec<Member>,
}

impl Deb {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let what = path.display().to_string();
        let bad = |reason: String| Error::Archive { what: what.clone(), reason };
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic).map_err(Error::io("read", path))?;
        if &magic != b"!<arch>\n" {
            return Err(bad("not a Debian package: it does not begin with `!<arch>`".into()));
        }
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut members = Vec::new();
        let mut offset = 8;
        while offset + 60 <= length {
            let mut header = [0; 60];
            file.seek(SeekFrom::Start(offset)).map_err(Error::io("read", path))?;
            file.read_exact(&mut header).map_err(Error::io("read", path))?;
            let text = |range: std::ops::Range<usize>| {
                String::from_utf8_lossy(&header[range]).trim().trim_end_matches('/').to_owned()
            };
            let name = text(0..16);
            let size: u64 = text(48..58)
                .parse()
                .map_err(|_| bad(format!("member `{name}` has the bad size `{}`", text(48..58))))?;
            offset += 60;
            if offset + size > length {
                return Err(bad(format!("member `{name}` ends after the end of the file")));
            }
            members.push(Member { name, offset, size });
            offset += size + size % 2;
        }
        Ok(Self { what, file, members })
    }

    fn member(&self, stem: &str) -> Result<&Member> {
        self.members.iter().find(|member| member.name.starts_with(stem)).ok_or_else(|| {
            Error::Archive {
                what: self.what.clone(),
                reason: format!("there is no `{stem}` in it"),
            }
        })
    }

    fn reader(&self, member: &Member) -> Result<Box<dyn Read>> {
        let mut file = self.file.try_clone().map_err(Error::io("open", &self.what))?;
        file.seek(SeekFrom::Start(member.offset)).map_err(Error::io("read", &self.what))?;
        decompress(file.take(member.size), &self.what)
    }

    /// Unpacks the files of the package.
    pub(crate) fn extract(&self, to: &mut Extractor, control: &Control) -> Result<()> {
        let reader = self.reader(self.member("data.tar")?)?;
        to.unpack(reader, &self.what, control, |_| true)
    }

    /// Writes the same package with its members uncompressed, so that dpkg need not decompress.
    pub(crate) fn write_uncompressed(&self, to: &Path, control: &Control) -> Result<()> {
        let mut out = File::create(to).map_err(Error::io("make", to))?;
        out.write_all(b"!<arch>\n").map_err(Error::io("write", to))?;
        let mut at = 8u64;
        let mut buffer = vec![0; 256 << 10];
        for stem in ["debian-binary", "control.tar", "data.tar"] {
            control.check()?;
            let member = self.member(stem)?;
            let mut reader = self.reader(member)?;
            // The size is known only at the end; the header is written then.
            out.seek(SeekFrom::Start(at + 60)).map_err(Error::io("write", to))?;
            let mut size = 0u64;
            loop {
                let count = reader.read(&mut buffer).map_err(|e| Error::Archive {
                    what: self.what.clone(),
                    reason: e.to_string(),
                })?;
                if count == 0 {
                    break;
                }
                out.write_all(&buffer[..count]).map_err(Error::io("write", to))?;
                size += count as u64;
            }
            if size % 2 == 1 {
                out.write_all(b"\n").map_err(Error::io("write", to))?;
            }
            let header = format!("{stem:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644);
            out.seek(SeekFrom::Start(at)).map_err(Error::io("write", to))?;
            out.write_all(header.as_bytes()).map_err(Error::io("write", to))?;
            at += 60 + size + size % 2;
        }
        Ok(())
    }
}

/// Decompresses by what the first bytes say: xz, zstd, gzip, or nothing.
pub(crate) fn decompress(reader: impl Read + 'static, what: &str) -> Result<Box<dyn Read>> {
    let bad =
        |error: std::io::Error| Error::Archive { what: what.into(), reason: error.to_string() };
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    let head = std::io::BufRead::fill_buf(&mut reader).map_err(bad)?;
    Ok(if head.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(reader))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(reader).map_err(bad)?)
    } else if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}
