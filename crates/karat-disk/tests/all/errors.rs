//! What is refused, in which words, and what is left behind: nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use karat_disk::{BootSpec, Content, DiskSpec, Entry, Error, Format, Kind, Output, write_disk};

use crate::support::*;

fn spec() -> DiskSpec {
    DiskSpec { boot: None, time: TIME.secs, margin: 16 << 20, ..DiskSpec::default() }
}

fn attempt(spec: &DiskSpec, entries: &[Entry], dir: &Path) -> Result<(), Error> {
    let outputs = [Format::Raw, Format::Qcow2 { compress: true }].map(|format| Output {
        path: dir.join(format!("{format:?}")),
        format,
        digest: false,
    });
    write_disk(spec, entries, &outputs, &|_| (), &AtomicBool::new(false)).map(|_| ())
}

/// Expects a failure whose chain of messages contains some words, and nothing left behind.
#[track_caller]
fn refuses(spec: &DiskSpec, entries: &[Entry], words: &str) {
    let dir = tempfile::tempdir().unwrap();
    let error = attempt(spec, entries, dir.path()).unwrap_err();
    let mut said = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        said.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(said.contains(words), "{said:?} lacks {words:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn file(path: &str) -> Entry {
    Entry::bytes(path, 0o644, TIME, vec![1u8; 100])
}

#[test]
fn wrong_trees() {
    let spec = spec();
    refuses(&spec, &[file("relative")], "relative: the path is not absolute");
    refuses(&spec, &[file("/a//b")], "/a//b: the path has an empty component");
    refuses(&spec, &[file("/a/../b")], "component `.` or `..`");
    refuses(&spec, &[file(&format!("/{}", "x".repeat(256)))], "longer than 255 bytes");
    refuses(&spec, &[file("/a"), file("/a")], "/a: stands twice in the tree");
    refuses(&spec, &[file("/a"), file("/a/b")], "/a: is not a directory");
    refuses(&spec, &[file("/lost+found")], "/lost+found: must be a directory");
    let link = |path: &str, target: &str| node(path, Kind::Hardlink(target.into()));
    refuses(&spec, &[link("/a", "/b")], "/a: is a hard link to /b, which is not in the tree");
    refuses(&spec, &[link("/a", "/b"), link("/b", "/a")], "leads to itself");
    let dir = Entry::directory("/d", 0o755, TIME);
    refuses(&spec, &[dir, link("/a", "/d")], "/a: is a hard link to the directory /d");
    let odd = with(file("/a"), |entry| entry.xattrs.push(xattr("odd.name", b"")));
    refuses(&spec, &[odd], "/a: ext4 cannot hold the attribute odd.name");
    let large = with(file("/a"), |entry| entry.xattrs.push(xattr("user.x", &[1; 5000])));
    refuses(&spec, &[large], "/a: its extended attributes need 5020 bytes");
    refuses(&spec, &[Entry::symlink("/a", "", TIME)], "1 to 4095 bytes");
}

#[test]
fn wrong_contents() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let host = |size, path: &Path| {
        node("/a", Kind::File { size, content: Content::HostFile(path.into()), digest: None })
    };
    refuses(
        &spec(),
        &[host(1, &missing)],
        &format!("cannot read {}: No such file", missing.display()),
    );
    let there = dir.path().join("there");
    std::fs::write(&there, "123").unwrap();
    refuses(&spec(), &[host(4, &there)], "has 3 bytes where 4 were stated");
    refuses(&spec(), &[host(4, dir.path())], "is not a regular file");
}

#[test]
fn wrong_specifications() {
    let sized = |size| DiskSpec { size: Some(size), ..spec() };
    refuses(&sized((64 << 20) + 1), &[file("/a")], "is not whole MiB");
    refuses(&sized(1 << 20), &[file("/a")], "ask for a larger size");
    let large = Entry::bytes("/a", 0o644, TIME, vec![1u8; 64 << 20]);
    refuses(&sized(40 << 20), &[large], "the root file system needs");
    let label = DiskSpec { label: "x".repeat(17), ..spec() };
    refuses(&label, &[file("/a")], "longer than ext4's 16 bytes");
    let boot = DiskSpec { boot: Some(BootSpec::default()), ..spec() };
    refuses(&boot, &[file("/a")], "no kernel in the tree");
    let kernel = [file("/boot/vmlinuz-1")];
    let program = BootSpec { mkimage: "/nonexistent/mkimage".into(), ..BootSpec::default() };
    refuses(&DiskSpec { boot: Some(program), ..spec() }, &kernel, "grub-common");
    let line = BootSpec { kernel_command_line: "a; reboot".into(), ..BootSpec::default() };
    refuses(&DiskSpec { boot: Some(line), ..spec() }, &kernel, "GRUB treats specially");
}

#[test]
fn a_missing_folder_is_named() {
    let error = attempt(&spec(), &[file("/a")], Path::new("/nonexistent/folder")).unwrap_err();
    assert!(error.to_string().contains("cannot create /nonexistent/folder/"), "{error}");
}

#[test]
fn cancelling_leaves_nothing_and_keeps_what_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    std::fs::write(&path, "the former disk").unwrap();
    let entries: Vec<Entry> = (0..40)
        .map(|n| Entry::bytes(format!("/{n}"), 0o644, TIME, vec![n as u8 + 1; 1 << 20]))
        .collect();
    for format in [Format::Raw, Format::Qcow2 { compress: false }, Format::Qcow2 { compress: true }]
    {
        let output = Output { path: path.clone(), format, digest: false };
        let cancel = AtomicBool::new(false);
        let stop = |_| cancel.store(true, Ordering::Relaxed);
        let error = write_disk(&spec(), &entries, &[output], &stop, &cancel).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the former disk");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    if !is_root() {
        eprintln!("not root: no small file system can be mounted");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=8m", "none", text(dir.path())]);
    let entries = [Entry::bytes("/a", 0o644, TIME, vec![5u8; 20 << 20])];
    let output = Output { path: dir.path().join("disk.raw"), format: Format::Raw, digest: false };
    let result = write_disk(&spec(), &entries, &[output], &|_| (), &AtomicBool::new(false));
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    unmount(dir.path());
    let error = result.unwrap_err();
    assert!(error.to_string().contains("cannot write to"), "{error}");
    assert!(error.to_string().contains("disk.raw"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("No space left"), "{cause}");
    assert_eq!(left, 0);
}
