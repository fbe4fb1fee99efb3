//! Disks in the containers of other programs, made by `qemu-img` and `tar`.

use std::error::Error as _;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use karat_disk::{Container, DiskImage, Error};

use crate::support::*;

/// A disk of six MiB with something at its beginning, in its middle and in its last sector.
fn disk(dir: &Path) -> (PathBuf, Vec<u8>) {
    let mut bytes = vec![0; 6 << 20];
    bytes[..600_000].fill(1);
    for (index, byte) in bytes[3 << 20..][..700_000].iter_mut().enumerate() {
        // Nothing that a packer makes small.
        *byte = (index.wrapping_mul(2_654_435_761) >> 13) as u8;
    }
    *bytes.last_mut().unwrap() = 9;
    let path = dir.join("d.raw");
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

/// The disk in a container: the name of the file, the format and the options for `qemu-img`.
fn make(raw: &Path, (name, format, options): (&str, &str, &str)) -> PathBuf {
    let made = raw.with_file_name(name);
    let mut words = vec!["convert", "-f", "raw", "-O", format];
    if !options.is_empty() {
        words.extend(["-o", options]);
    }
    words.extend([text(raw), text(&made)]);
    run("qemu-img", &words);
    made
}

const ALL: [(&str, &str, &str); 6] = [
    ("sparse.vmdk", "vmdk", ""),
    ("stream.vmdk", "vmdk", "subformat=streamOptimized"),
    ("dynamic.vhd", "vpc", "subformat=dynamic,force_size=on"),
    ("fixed.vhd", "vpc", "subformat=fixed,force_size=on"),
    ("d.vhdx", "vhdx", ""),
    ("d.qcow2", "qcow2", ""),
];

/// An OVA, its description first, as the standard has it.
fn ova(dir: &Path, name: &str, disks: &[&str]) -> PathBuf {
    let (mut files, mut parts) = (String::new(), String::new());
    for (index, disk) in disks.iter().enumerate() {
        files.push_str(&format!("<File ovf:id=\"f{index}\" ovf:href=\"{disk}\"/>"));
        parts.push_str(&format!("<Disk ovf:diskId=\"d{index}\" ovf:fileRef=\"f{index}\"/>"));
    }
    let xml = format!(
        "<Envelope xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"><References>{files}\
         </References><DiskSection><Info/>{parts}</DiskSection></Envelope>"
    );
    std::fs::write(dir.join("d.ovf"), xml).unwrap();
    let made = dir.join(name);
    let mut words = vec!["--format=ustar", "-C", text(dir), "-cf", text(&made), "d.ovf"];
    words.extend(disks.iter().filter(|disk| dir.join(disk).exists()));
    run("tar", &words);
    made
}

fn open(path: &Path) -> Result<DiskImage, Error> {
    DiskImage::open_nameless(path, path.parent().unwrap(), &AtomicBool::new(false))
}

#[track_caller]
fn refuses(path: &Path, words: &str) {
    refuses_in_some(path, &[words]);
}

#[track_caller]
fn refuses_in_some(path: &Path, words: &[&str]) {
    let before = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    let error = open(path).unwrap_err();
    let said = error.to_string();
    assert!(
        words.iter().any(|words| said.contains(words)),
        "{said:?} lacks {words:?}, {:?}",
        error.source()
    );
    assert!(!said.contains("json:"), "{said}");
    let unpacked = path.with_file_name("unpacked");
    assert!(DiskImage::open(path, &unpacked).is_err());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), before);
}

#[test]
fn what_lies_in_a_container_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, bytes) = disk(dir.path());
    let mut all = vec![(raw.clone(), Container::Raw)];
    for kind in ALL {
        let made = make(&raw, kind);
        let end = made.extension().unwrap().to_str().unwrap();
        let container = Container::from_name(end).unwrap();
        let name = format!("{}.ova", kind.0);
        all.push((ova(dir.path(), &name, &[kind.0]), Container::Ova));
        all.push((made, container));
    }
    all.push((ova(dir.path(), "raw.ova", &["d.raw"]), Container::Ova));
    for (path, kind) in all {
        // Names say nothing.
        let other = dir.path().join("image");
        std::fs::rename(&path, &other).unwrap();
        assert_eq!(Container::of(&other).unwrap(), kind, "{}", path.display());
        let before = std::fs::read_dir(dir.path()).unwrap().count();
        let image = open(&other).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
        let mut read = Vec::new();
        let mut file = image.file();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "{}", path.display());
        if kind != Container::Raw {
            let unpacked = dir.path().join("unpacked");
            DiskImage::open(&other, &unpacked).unwrap();
            assert!(std::fs::read(&unpacked).unwrap() == bytes, "{}", path.display());
            std::fs::remove_file(&unpacked).unwrap();
        }
        std::fs::rename(&other, &path).unwrap();
    }
}

#[test]
fn what_is_cut_off_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, _) = disk(dir.path());
    for kind in &ALL {
        let made = make(&raw, *kind);
        let whole = std::fs::read(&made).unwrap();
        let name = format!("{}.ova", kind.0);
        let archive = ova(dir.path(), &name, &[kind.0]);
        // The last third of a stream is padding.
        for part in [1, 3] {
            std::fs::write(&made, &whole[..whole.len() * part / 6]).unwrap();
            // A fixed one is known by its end alone.
            if kind.0 == "fixed.vhd" {
                assert_eq!(Container::of(&made).unwrap(), Container::Raw);
            } else {
                // Who finds it first depends on the container: QEMU, or who asks it.
                refuses_in_some(&made, &["is cut off: ", "cannot be read:", "beyond the end"]);
            }
        }
        let whole = std::fs::read(&archive).unwrap();
        std::fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
        refuses(&archive, "is cut off in");
    }
}

#[test]
fn what_needs_other_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, _) = disk(dir.path());
    let parts = make(&raw, ("parts.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"));
    refuses(&parts, "only describes a VMDK");
    let parent = make(&raw, ("parent.vmdk", "vmdk", ""));
    let child = dir.path().join("child.vmdk");
    let words = ["create", "-f", "vmdk", "-F", "vmdk", "-b", text(&parent), text(&child)];
    run("qemu-img", &words);
    refuses(&child, "holds only what differs from");
    let inside = ova(dir.path(), "child.ova", &["child.vmdk"]);
    refuses(&inside, "holds only what differs from");

    refuses(&ova(dir.path(), "two.ova", &["d.raw", "parent.vmdk"]), "names 2 disks");
    refuses(&ova(dir.path(), "none.ova", &[]), "names no disk");
    refuses(&ova(dir.path(), "gone.ova", &["gone.vmdk"]), "lacks the disk \"gone.vmdk\"");
    let plain = dir.path().join("plain.ova");
    run("tar", &["--format=ustar", "-C", text(dir.path()), "-cf", text(&plain), "d.raw"]);
    refuses(&plain, "without a description");
}

#[test]
fn reading_ends_when_it_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, _) = disk(dir.path());
    let made = make(&raw, ALL[0]);
    let cancel = AtomicBool::new(false);
    cancel.store(true, Ordering::Relaxed);
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    let ended = DiskImage::open_nameless(&made, dir.path(), &cancel);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
}
