//! Bare ext4 file systems.

use proptest::prelude::*;

use karat_disk::{Content, Entry, Kind, Timestamp, Xattr};

use crate::support::*;

#[test]
fn everything_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let entries = everything(dir.path());
    let image = dir.path().join("fs.img");
    write_checked(&entries, None, &image).unwrap();
    assert_same(&entries, &read_back(&image));
    let said = run("dumpe2fs", &["-h", text(&image)]);
    for words in [
        "has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super \
         large_file huge_file dir_nlink extra_isize metadata_csum",
        "Filesystem volume name:   test",
        "Filesystem state:         clean",
        "Total journal size:       4096k",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let listed = run("debugfs", &["-R", "cat /etc/again", text(&image)]);
    assert!(listed.contains("machine\n"), "{listed}");
}

#[test]
fn what_is_read_writes_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let entries = everything(dir.path());
    let (one, two) = (dir.path().join("one.img"), dir.path().join("two.img"));
    // The first time, names of one file and directories without an entry are put in order.
    write_checked(&entries, None, &two).unwrap();
    write_checked(&read_back(&two), None, &one).unwrap();
    let mut again = read_back(&one);
    write_checked(&again, None, &two).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
    // The order of the list does not matter.
    again.reverse();
    write_checked(&again, None, &two).unwrap();
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
}

#[test]
fn all_sizes_are_sound() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("fs.img");
    let entries = [Entry::bytes("/file", 0o644, TIME, vec![3u8; 300_000])];
    let mib = 1 << 20;
    // Around the ends of groups, where the last group is too small to be one.
    for size in [8, 16, 127, 128, 129, 130, 131, 256, 257, 385, 1024, 2049, 2177, 5000, 20_000] {
        let written = write_checked(&entries, Some(size * mib), &image).unwrap();
        assert_eq!(written.file_size, size * mib);
        assert!(written.allocated < 16 * mib, "{size}: {}", written.allocated);
        assert_same(&entries, &read_back(&image));
    }
    // A large disk: more than one block of group descriptors, many flexible groups.
    write_checked(&entries, Some(300 * 1024 * mib), &image).unwrap();
    assert_same(&entries, &read_back(&image));
}

#[test]
fn many_files_get_enough_inodes() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("fs.img");
    let entries: Vec<Entry> = (0..60_000)
        .map(|n| Entry::bytes(format!("/d{}/{n}", n % 97), 0o644, TIME, Vec::new()))
        .collect();
    write_checked(&entries, None, &image).unwrap();
    assert_same(&entries, &read_back(&image));
}

/// A short path below few directories, so that trees grow deep enough and names meet.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]{1,2}|[\\x21-\\x2e\\x30-\\x7e]{1,40}|ü{1,20}", 1..5)
        .prop_filter("no dots", |parts| parts.iter().all(|part| part != "." && part != ".."))
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn kind() -> impl Strategy<Value = Kind> {
    let bytes = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        2 => (any::<u8>(), 0usize..200_000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop_oneof![
        6 => bytes.prop_map(|bytes| Kind::File {
            size: bytes.len() as u64,
            content: Content::Bytes(bytes.into()),
            digest: None,
        }),
        2 => Just(Kind::Directory),
        2 => "[a-z/]{1,300}".prop_map(|target| Kind::Symlink(target.into_bytes())),
        1 => (0u32..4096, 0u32..(1 << 20)).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let attribute = ("user\\.[a-z]{1,30}", prop::collection::vec(any::<u8>(), 0..400))
        .prop_map(|(name, value)| Xattr { name: name.into_bytes(), value });
    let time = (-2_147_483_648i64..15_000_000_000, 0u32..1_000_000_000)
        .prop_map(|(secs, nanos)| Timestamp { secs, nanos });
    let who = (any::<u32>(), any::<u32>(), 0u32..0o10000);
    (path(), kind(), who, time, prop::collection::vec(attribute, 0..4)).prop_map(
        |(path, kind, (uid, gid, mode), mtime, mut xattrs)| {
            xattrs.sort();
            xattrs.dedup_by(|a, b| a.name == b.name);
            // The mode of a symbolic link is always this.
            let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
            Entry { path: path.into_bytes(), kind, mode, uid, gid, mtime, xattrs }
        },
    )
}

/// Leaves out names that stand twice or lie in something that is no directory, and gives some
/// files further names.
fn consistent(entries: Vec<Entry>) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries {
        let below = |a: &Entry, b: &Entry| a.path.starts_with(&[b.path.as_slice(), b"/"].concat());
        let clash = kept.iter().any(|other| {
            other.path == entry.path
                || below(&entry, other) && other.kind != Kind::Directory
                || below(other, &entry) && entry.kind != Kind::Directory
        });
        if !clash && entry.path != b"/lost+found" {
            kept.push(entry);
        }
    }
    let links: Vec<Entry> = kept
        .iter()
        .step_by(5)
        .filter(|entry| entry.kind != Kind::Directory)
        .enumerate()
        .map(|(n, entry)| node(&format!("/links/{n}"), Kind::Hardlink(entry.path.clone())))
        .collect();
    if !kept.iter().any(|entry| entry.path == b"/links") {
        kept.extend(links);
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_trees_read_back(entries in prop::collection::vec(entry(), 0..120)) {
        let entries = consistent(entries);
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("fs.img");
        write_checked(&entries, None, &image).unwrap();
        assert_same(&entries, &read_back(&image));
    }

    /// A damaged image gives an error or some entries, never a panic or an endless loop.
    #[test]
    fn damaged_images_are_survived(
        changes in prop::collection::vec((0usize..300, 0usize..4096, any::<u8>()), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("fs.img");
        let entries = [
            Entry::bytes("/a/b/c", 0o644, TIME, vec![1u8; 9000]),
            with(Entry::bytes("/a/x", 0o644, TIME, vec![2u8; 10]), |entry| {
                entry.xattrs.push(xattr("user.large", &[5u8; 3000]));
            }),
            Entry::symlink("/a/long", "x".repeat(100), TIME),
        ];
        write_checked(&entries, None, &image).unwrap();
        let mut bytes = std::fs::read(&image).unwrap();
        let used: Vec<usize> = bytes
            .chunks(4096)
            .enumerate()
            .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
            .map(|(n, _)| n)
            .collect();
        for (block, at, byte) in changes {
            let block = used[block % used.len()];
            bytes[block * 4096 + at] = byte;
        }
        std::fs::write(&image, &bytes).unwrap();
        let unpacked = dir.path().join("unpacked");
        if let Ok(disk) = karat_disk::DiskImage::open(&image, &unpacked)
            && let Ok(root) = disk.root()
        {
            let _ = disk.entries(root);
        }
    }
}
