//! The disk in an OVA: an archive (tar) whose description (OVF, an XML document of DMTF's DSP0243)
//! names it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Result};

/// A description has some thousand bytes.
const LONGEST: u64 = 16 << 20;

struct Member {
    name: String,
    start: u64,
    len: u64,
}

/// Where the disk of an OVA stands in the file: its first byte, and how many.
///
/// # Errors
/// The archive is damaged or cut off, or has no disk, or several.
pub(crate) fn disk(path: &Path, file: &File, len: u64) -> Result<(u64, u64)> {
    let bad = |reason: String| Error::image(path, reason);
    let damaged = |e: std::io::Error| bad(format!("is a damaged archive: {e}"));
    let mut archive = tar::Archive::new(file);
    let (mut members, mut description) = (Vec::new(), None);
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let member = Member { name, start: entry.raw_file_position(), len: entry.size() };
        if member.start.checked_add(member.len).is_none_or(|end| end > len) {
            return Err(bad(format!("is cut off in \"{}\"", member.name)));
        }
        let is_ovf = member.name.to_ascii_lowercase().ends_with(".ovf");
        if is_ovf && description.is_none() {
            let mut text = String::new();
            (&mut entry).take(LONGEST).read_to_string(&mut text).map_err(damaged)?;
            description = Some(text);
        }
        members.push(member);
    }
    let text = description.ok_or_else(|| {
        bad("is an archive without a description (.ovf), and so no OVA".to_owned())
    })?;
    let name = named(&text).map_err(|reason| bad(format!("has a description that {reason}")))?;
    let found = members.iter().find(|m| m.name.trim_start_matches("./") == name);
    let found = found.ok_or_else(|| bad(format!("lacks the disk \"{name}\" that it names")))?;
    Ok((found.start, found.len))
}

/// The name of the one disk that a description has.
fn named(text: &str) -> Result<String, String> {
    let document = roxmltree::Document::parse(text).map_err(|e| format!("is no XML: {e}"))?;
    let all = |name: &'static str| {
        document.descendants().filter(move |node| node.tag_name().name() == name)
    };
    // Attributes stand in the name space of OVF, or in none.
    let of = |node: roxmltree::Node<'_, '_>, name: &str| {
        node.attributes().find(|a| a.name() == name).map(|a| a.value().to_owned())
    };
    let disks: Vec<_> = all("DiskSection").flat_map(|section| section.children()).collect();
    let disks: Vec<_> = disks.into_iter().filter(|n| n.tag_name().name() == "Disk").collect();
    let disk = match disks.as_slice() {
        [] => return Err("names no disk".to_owned()),
        [disk] => *disk,
        more => return Err(format!("names {} disks, and one is taken", more.len())),
    };
    let id = of(disk, "fileRef").ok_or("names a disk that is empty")?;
    let file = all("File").find(|file| of(*file, "id").as_deref() == Some(id.as_str()));
    let file = file.ok_or_else(|| format!("has no file \"{id}\", which its disk refers to"))?;
    let compression = of(file, "compression").filter(|c| c != "identity");
    if compression.is_some() || of(file, "chunkSize").is_some() {
        return Err("has its disk compressed or in pieces, which is not read here".to_owned());
    }
    of(file, "href").ok_or_else(|| format!("has no name for the file \"{id}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(files: &str, disks: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" \
             xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"><References>{files}</References>\
             <DiskSection>{disks}</DiskSection></Envelope>"
        )
    }

    #[test]
    fn one_disk_is_named() {
        let file =
            "<File ovf:id=\"f1\" ovf:href=\"a.vmdk\"/><File ovf:id=\"f2\" ovf:href=\"b.iso\"/>";
        let disk = "<Disk ovf:diskId=\"d1\" ovf:fileRef=\"f1\"/>";
        assert_eq!(named(&description(file, disk)).unwrap(), "a.vmdk");
        for (files, disks, part) in [
            (file, "", "names no disk"),
            (file, "<Disk ovf:fileRef=\"f1\"/><Disk/>", "names 2 disks"),
            (file, "<Disk/>", "empty"),
            (file, "<Disk ovf:fileRef=\"f3\"/>", "no file \"f3\""),
            ("<File ovf:id=\"f1\" ovf:href=\"a\" ovf:chunkSize=\"9\"/>", disk, "pieces"),
            ("<File ovf:id=\"f1\" ovf:href=\"a\" ovf:compression=\"gzip\"/>", disk, "compressed"),
            ("<File ovf:id=\"f1\"/>", disk, "no name"),
            ("<", "", "is no XML"),
        ] {
            let error = named(&description(files, disks)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
