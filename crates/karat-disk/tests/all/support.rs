//! What the tests share: running judges, writing quickly, comparing trees.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use karat_disk::{
    Content, DiskImage, Entry, FileSystemSpec, Format, Kind, Output, Result, Timestamp, Written,
    Xattr, write_file_system,
};

/// Time of everything that has none of its own.
pub(crate) const TIME: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 0 };

/// Runs a program; panics with what it said unless it succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?} failed:\n{text}");
    text
}

/// Unmounts. A program that another test starts holds this one's open files until it is executed,
/// so that a mount can be busy for a moment.
pub(crate) fn unmount(at: &Path) {
    for _ in 0..100 {
        let done = Command::new("umount").arg(at).output();
        if done.is_ok_and(|output| output.status.success()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Once more, to say what is wrong.
    run("umount", &[text(at)]);
}

/// The path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether this process may mount file systems.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

pub(crate) fn spec(size: Option<u64>) -> FileSystemSpec {
    FileSystemSpec {
        seed: b"test".to_vec(),
        size,
        margin: 8 << 20,
        label: "test".into(),
        time: TIME.secs,
        reserved_percent: 5,
    }
}

/// Writes a bare file system as a raw image and has e2fsck judge it.
pub(crate) fn write_checked(entries: &[Entry], size: Option<u64>, path: &Path) -> Result<Written> {
    let output = Output { path: path.to_owned(), format: Format::Raw, digest: false };
    let mut written =
        write_file_system(&spec(size), entries, &[output], &|_| (), &AtomicBool::new(false))?;
    run("e2fsck", &["-fn", text(path)]);
    Ok(written.remove(0))
}

/// What a name in an image is, with its content read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) what: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) content: Vec<u8>,
}

/// Reads all contents and resolves hard links, so that lists compare by meaning.
pub(crate) fn seen(entries: &[Entry]) -> BTreeMap<Vec<u8>, Seen> {
    let by_path: BTreeMap<&[u8], &Entry> =
        entries.iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    entries
        .iter()
        .map(|entry| {
            let mut entry = entry;
            let path = entry.path.clone();
            while let Kind::Hardlink(target) = &entry.kind {
                entry = by_path[target.as_slice()];
            }
            (path, see(entry))
        })
        .collect()
}

fn see(entry: &Entry) -> Seen {
    let mut content = Vec::new();
    let what = match &entry.kind {
        Kind::File { size, content: source, .. } => {
            source.reader(*size).unwrap().read_to_end(&mut content).unwrap();
            format!("file of {size}")
        }
        Kind::Directory => "directory".into(),
        Kind::Symlink(target) => format!("link to {target:?}"),
        Kind::CharDevice { major, minor } => format!("character device {major}:{minor}"),
        Kind::BlockDevice { major, minor } => format!("block device {major}:{minor}"),
        Kind::Fifo => "pipe".into(),
        Kind::Socket => "socket".into(),
        Kind::Hardlink(_) => unreachable!(),
    };
    let mut xattrs = entry.xattrs.clone();
    xattrs.sort();
    Seen {
        what,
        mode: entry.mode,
        owner: (entry.uid, entry.gid),
        mtime: entry.mtime,
        xattrs,
        content,
    }
}

/// Compares what was asked for with what an image holds. Directories that no entry describes,
/// `lost+found` and the root may be there besides.
pub(crate) fn assert_same(wanted: &[Entry], found: &[Entry]) {
    let (wanted, mut found) = (seen(wanted), seen(found));
    for (path, seen) in &wanted {
        let shown = String::from_utf8_lossy(path);
        let there = found.remove(path).unwrap_or_else(|| panic!("{shown} is not in the image"));
        assert_eq!(seen.what, there.what, "{shown}");
        assert!(seen.content == there.content, "{shown} has other content");
        let plain = |seen: &Seen| Seen { content: Vec::new(), ..seen.clone() };
        assert_eq!(plain(seen), plain(&there), "{shown}");
    }
    for (path, seen) in found {
        let inside = |other: &Vec<u8>| other.starts_with(&[path.as_slice(), b"/"].concat());
        let implied = path == b"/" || path == b"/lost+found" || wanted.keys().any(inside);
        assert!(implied && seen.what == "directory", "{} is too much", path.escape_ascii());
    }
}

/// Reads the entries of an image's root file system.
pub(crate) fn read_back(image: &Path) -> Vec<Entry> {
    let unpacked = image.with_extension("unpacked");
    let disk = DiskImage::open(image, &unpacked).unwrap();
    disk.entries(disk.root().unwrap()).unwrap()
}

/// A file with an extended attribute or other peculiarity.
pub(crate) fn with(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

pub(crate) fn node(path: &str, kind: Kind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o640, uid: 1, gid: 2, mtime: TIME, xattrs: Vec::new() }
}

pub(crate) fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.to_vec() }
}

/// A tree with one of everything. Sparse files are made in `scratch`.
pub(crate) fn everything(scratch: &Path) -> Vec<Entry> {
    use std::os::unix::fs::FileExt;
    let island = |name: &str, count: u64, step: u64| {
        let path = scratch.join(name);
        let file = std::fs::File::create(&path).unwrap();
        for n in 0..count {
            file.write_all_at(format!("island {n}").as_bytes(), n * step + 17).unwrap();
        }
        let size = count * step + 4_000_000;
        file.set_len(size).unwrap();
        Kind::File { size, content: Content::HostFile(path), digest: None }
    };
    let packed = scratch.join("packed");
    std::fs::write(&packed, (0..50_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    let acl = {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in [
            (1u16, 6u16, u32::MAX),
            (2, 4, 1000),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut entries = vec![
        Entry::directory("/", 0o755, TIME),
        Entry::directory("/etc", 0o755, TIME),
        Entry::bytes("/etc/hostname", 0o644, TIME, &b"machine\n"[..]),
        Entry::bytes("/etc/empty", 0o600, TIME, Vec::new()),
        with(Entry::bytes("/usr/bin/ping", 0o755, TIME, vec![7u8; 70_001]), |entry| {
            entry.xattrs.push(xattr("security.capability", &capability));
        }),
        with(Entry::bytes("/usr/bin/sudo", 0o4755, TIME, vec![9u8; 4096]), |entry| {
            entry.gid = 4_000_000_000;
            entry.uid = 65_536;
        }),
        with(Entry::bytes("/srv/many", 0o644, TIME, vec![1u8; 10]), |entry| {
            entry.xattrs = vec![
                xattr("user.small", b"x"),
                xattr("user.empty", b""),
                xattr("user.large", &[5u8; 3000]),
                xattr("user.other", &[6u8; 301]),
                xattr("trusted.note", b"kept"),
            ];
        }),
        with(Entry::bytes("/srv/acl", 0o640, TIME, &b"acl"[..]), |entry| {
            entry.xattrs.push(xattr("system.posix_acl_access", &acl));
        }),
        with(Entry::directory("/srv/shared", 0o2770, TIME), |entry| {
            entry.xattrs.push(xattr("system.posix_acl_default", &acl));
        }),
        Entry::symlink("/bin", "usr/bin", TIME),
        Entry::symlink("/etc/long", "x/".repeat(200), TIME),
        Entry::symlink("/etc/sixty", "y".repeat(60), TIME),
        Entry::symlink("/etc/fiftynine", "z".repeat(59), TIME),
        node("/etc/again", Kind::Hardlink(b"/etc/hostname".to_vec())),
        node("/a-first-name", Kind::Hardlink(b"/etc/again".to_vec())),
        node("/dev/null", Kind::CharDevice { major: 1, minor: 3 }),
        node("/dev/nvme", Kind::BlockDevice { major: 259, minor: 300_000 }),
        node("/run/pipe", Kind::Fifo),
        node("/run/socket", Kind::Socket),
        node("/var/sparse", island("sparse", 3, 3 << 20)),
        node("/var/islands", island("islands", 2000, 16_384)),
        node("/var/hole", island("hole", 0, 0)),
        node(
            "/var/range",
            Kind::File {
                size: 100_001,
                content: Content::HostRange { path: packed, offset: 4_001 },
                digest: None,
            },
        ),
        with(Entry::bytes("/var/old", 0o644, TIME, &b"old"[..]), |entry| {
            entry.mtime = Timestamp { secs: -1_000_000_000, nanos: 1 };
        }),
        with(Entry::bytes("/var/late", 0o644, TIME, &b"late"[..]), |entry| {
            entry.mtime = Timestamp { secs: 10_000_000_000, nanos: 999_999_999 };
        }),
        with(Entry::bytes("/var/x", 0o644, TIME, &b"odd name"[..]), |entry| {
            entry.path = b"/var/\xFF\xFE \n\"name\"".to_vec();
        }),
        Entry::bytes(format!("/{}/deep", vec!["d"; 300].join("/")), 0o644, TIME, &b"deep"[..]),
        Entry::bytes(format!("/srv/{}", "n".repeat(255)), 0o644, TIME, &b"long"[..]),
    ];
    for n in 0..3000 {
        entries.push(Entry::bytes(
            format!("/var/lib/info/a-rather-long-name-of-a-package-{n}.list"),
            0o644,
            TIME,
            format!("{n}\n").into_bytes(),
        ));
    }
    entries
}
