//! Finds the parts of a host file that hold data, so that holes stay holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};

use crate::error::Error;
use crate::tree::Content;

/// Why the content of an entry cannot be read as stated.
#[derive(Debug)]
pub(crate) enum Problem {
    Io(&'static str, PathBuf, io::Error),
    Size { path: PathBuf, stated: u64, found: u64 },
    Kind(PathBuf),
}

impl Problem {
    /// The problem as an error of the entry at this path of the image.
    pub(crate) fn at(self, entry: &[u8]) -> Error {
        match self {
            Self::Io(action, path, source) => Error::io(action, &path, source),
            Self::Size { path, stated, found } => Error::entry(
                entry,
                format!(
                    "{} has {found} bytes where {stated} were stated; did it change meanwhile?",
                    path.display()
                ),
            ),
            Self::Kind(path) => {
                Error::entry(entry, format!("{} is not a regular file", path.display()))
            }
        }
    }
}

/// Runs of blocks that hold data: first block and count, ascending.
pub(crate) fn data_runs(
    content: &Content,
    size: u64,
    block: u64,
) -> Result<Vec<(u64, u64)>, Problem> {
    let whole = || if size == 0 { Vec::new() } else { vec![(0, size.div_ceil(block))] };
    let (path, start, exact) = match content {
        Content::Bytes(bytes) => {
            if bytes.len() as u64 != size {
                let found = bytes.len() as u64;
                return Err(Problem::Size { path: "its content".into(), stated: size, found });
            }
            return Ok(whole());
        }
        Content::HostFile(path) => (path, 0, true),
        Content::HostRange { path, offset } => (path, *offset, false),
        Content::HostExtents { path, extents } => return extent_runs(path, extents, size, block),
    };
    let meta = std::fs::symlink_metadata(path)
        .map_err(|error| Problem::Io("read", path.clone(), error))?;
    if !meta.is_file() {
        return Err(Problem::Kind(path.clone()));
    }
    let found = meta.len();
    if exact && found != size || !exact && start.checked_add(size).is_none_or(|end| end > found) {
        return Err(Problem::Size {
            path: path.clone(),
            stated: start.saturating_add(size),
            found,
        });
    }
    if size == 0 || meta.blocks() * 512 >= found {
        return Ok(whole());
    }
    scan(path, start, size, block).map_err(|error| Problem::Io("read", path.clone(), error))
}

fn extent_runs(
    path: &Path,
    extents: &[(u64, u64, u64)],
    size: u64,
    block: u64,
) -> Result<Vec<(u64, u64)>, Problem> {
    let end = extents.last().map_or(0, |last| last.0.saturating_add(last.2));
    let ordered = extents.windows(2).all(|pair| pair[0].0 + pair[0].2 <= pair[1].0);
    if end > size || !ordered {
        return Err(Problem::Size { path: path.to_owned(), stated: size, found: end });
    }
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (at, _, len) in extents.iter().filter(|extent| extent.2 > 0) {
        let first = at / block;
        let after = (at + len).div_ceil(block);
        match runs.last_mut() {
            Some(last) if last.0 + last.1 >= first => last.1 = after - last.0,
            _ => runs.push((first, after - first)),
        }
    }
    Ok(runs)
}

fn scan(path: &Path, start: u64, size: u64, block: u64) -> io::Result<Vec<(u64, u64)>> {
    let file = File::open(path)?;
    let end = start + size;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut at = start;
    while at < end {
        let data = match seek(&file, SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(&file, SeekFrom::Hole(data))?.min(end);
        let first = (data - start) / block;
        let after = (hole - start).div_ceil(block);
        match runs.last_mut() {
            Some(last) if last.0 + last.1 >= first => last.1 = after - last.0,
            _ => runs.push((first, after - first)),
        }
        at = hole;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(b"a", 5 << 20).unwrap();
        let runs = data_runs(&Content::HostFile(path.clone()), 10 << 20, 4096).unwrap();
        assert_eq!(runs, [(1280, 1)]);
        let content = Content::HostRange { path: path.clone(), offset: (5 << 20) - 100 };
        assert_eq!(data_runs(&content, 1000, 4096).unwrap(), [(0, 1)]);
        let wrong = data_runs(&Content::HostFile(path), 5, 4096).unwrap_err().at(b"/x");
        assert!(wrong.to_string().contains("has 10485760 bytes where 5 were stated"));
    }
}
