//! Whole disks in their containers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use karat_disk::{
    BootSpec, Content, DiskImage, DiskSpec, Entry, Firmware, Format, Kind, Output, PartitionTable,
    Report, update_disk, write_disk,
};
use sha2::{Digest, Sha256};

use crate::support::*;

fn disk_spec(boot: Option<Firmware>) -> DiskSpec {
    DiskSpec {
        seed: b"test".to_vec(),
        time: TIME.secs,
        margin: 16 << 20,
        boot: boot.map(|firmware| BootSpec { firmware, ..BootSpec::default() }),
        esp_entries: vec![
            Entry::bytes("/A Long Name With Ünicode.txt", 0o644, TIME, &b"long\n"[..]),
            Entry::bytes("/loader/entries/one.conf", 0o644, TIME, vec![1u8; 5000]),
            Entry::bytes("/loader/entries/one.config", 0o644, TIME, vec![2u8; 100_000]),
        ],
        ..DiskSpec::default()
    }
}

fn tree(dir: &Path) -> Vec<Entry> {
    let mut entries = everything(dir);
    entries.push(Entry::bytes("/boot/vmlinuz-6.1", 0o644, TIME, vec![1u8; 1000]));
    entries.push(Entry::bytes("/boot/initrd.img-6.1", 0o644, TIME, vec![2u8; 1000]));
    entries
}

fn write(spec: &DiskSpec, entries: &[Entry], outputs: &[(&Path, Format)]) -> Report {
    let outputs: Vec<Output> = outputs
        .iter()
        .map(|(path, format)| Output { path: path.to_path_buf(), format: *format, digest: true })
        .collect();
    write_disk(spec, entries, &outputs, &|_| (), &AtomicBool::new(false)).unwrap()
}

#[test]
fn all_containers_hold_one_disk() {
    let dir = tempfile::tempdir().unwrap();
    let entries = tree(dir.path());
    let spec = disk_spec(Some(Firmware::Both));
    let [raw, plain, packed] = ["d.raw", "d.qcow2", "p.qcow2"].map(|name| dir.path().join(name));
    let outputs = [
        (raw.as_path(), Format::Raw),
        (plain.as_path(), Format::Qcow2 { compress: false }),
        (packed.as_path(), Format::Qcow2 { compress: true }),
    ];
    let report = write(&spec, &entries, &outputs);
    for written in &report.outputs {
        let bytes = std::fs::read(&written.path).unwrap();
        assert_eq!(written.sha256.unwrap(), <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(written.file_size, bytes.len() as u64);
    }
    for image in [&plain, &packed] {
        run("qemu-img", &["check", text(image)]);
        run("qemu-img", &["compare", text(&raw), text(image)]);
        let unpacked = dir.path().join("unpacked");
        DiskImage::open(image, &unpacked).unwrap();
        assert!(std::fs::read(&unpacked).unwrap() == std::fs::read(&raw).unwrap());
    }
    assert!(report.outputs[2].file_size * 2 < report.outputs[1].file_size);
    // Once more: the same bytes.
    let digests: Vec<_> = report.outputs.iter().map(|written| written.sha256).collect();
    let again = write(&spec, &entries, &outputs);
    assert_eq!(digests, again.outputs.iter().map(|written| written.sha256).collect::<Vec<_>>());
    // Another seed gives other identifiers.
    let other = DiskSpec { seed: b"other".to_vec(), ..spec };
    let other = write(&other, &entries, &outputs[..1]);
    assert_ne!(digests[0], other.outputs[0].sha256);
    assert_ne!(report.root_uuid, other.root_uuid);
}

#[test]
fn images_of_qemu_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let entries = tree(dir.path());
    let raw = dir.path().join("d.raw");
    write(&disk_spec(None), &entries, &[(&raw, Format::Raw)]);
    let bytes = std::fs::read(&raw).unwrap();
    for options in [
        "compat=0.10",
        "compat=1.1,cluster_size=4096",
        "compat=1.1,cluster_size=2M",
        "compression_type=zstd",
    ] {
        let image = dir.path().join("q.qcow2");
        for compress in [&["-c"][..], &[]] {
            let mut words = vec!["convert", "-O", "qcow2", "-o", options];
            words.extend(compress);
            words.extend([text(&raw), text(&image)]);
            run("qemu-img", &words);
            let unpacked = dir.path().join("unpacked");
            DiskImage::open(&image, &unpacked).unwrap();
            assert!(std::fs::read(&unpacked).unwrap() == bytes, "{options} {compress:?}");
        }
    }
}

#[test]
fn partitions_are_sound() {
    let dir = tempfile::tempdir().unwrap();
    let entries = tree(dir.path());
    let raw = dir.path().join("d.raw");
    let cases = [
        (Some(Firmware::Both), 3),
        (Some(Firmware::Bios), 2),
        (Some(Firmware::Uefi), 2),
        (None, 1),
    ];
    for (boot, count) in cases {
        let spec = DiskSpec { size: Some(700 << 20), ..disk_spec(boot) };
        let report = write(&spec, &entries, &[(&raw, Format::Raw)]);
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), 700 << 20);
        let said = run("sgdisk", &["-v", text(&raw)]);
        assert!(said.contains("No problems found"), "{said}");
        let said = run("sfdisk", &["-d", text(&raw)]);
        assert_eq!(said.matches("start=").count(), count, "{said}");
        let id = spec.root_partition_uuid().to_string().to_uppercase();
        assert!(said.contains(&id), "{said}");
        let image = DiskImage::open(&raw, &dir.path().join("unpacked")).unwrap();
        assert_eq!(image.table(), PartitionTable::Gpt);
        assert_eq!(image.partitions().len(), count);
        let root = image.root().unwrap().clone();
        let last = report.partitions.last().unwrap();
        assert_eq!((root.start, root.len), (last.start, last.len));
        let part = dir.path().join("root.img");
        copy_part(&raw, root.start, root.len, &part);
        run("e2fsck", &["-fn", text(&part)]);
        let found = image.entries(&root).unwrap();
        let fstab = found.iter().find(|entry| entry.path == b"/etc/fstab").unwrap();
        let fstab =
            String::from_utf8(seen(std::slice::from_ref(fstab))[&fstab.path].content.clone());
        assert!(fstab.unwrap().contains(&format!("UUID={} / ext4", spec.root_uuid())));
        let own: [&[u8]; 4] = [b"/etc/fstab", b"/boot/grub/grub.cfg", b"/boot/grub", b"/boot/efi"];
        let found: Vec<Entry> =
            found.into_iter().filter(|e| !own.contains(&e.path.as_slice())).collect();
        assert_same(&entries, &found);
    }
}

#[test]
fn lines_of_the_tree_stay_in_its_fstab() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("d.raw");
    let spec = disk_spec(Some(Firmware::Both));
    let root = format!("UUID={} / ext4", spec.root_uuid());
    for (given, own_root) in [
        ("# nothing\n", true),
        ("tmpfs /tmp tmpfs noexec 0 0\n", true),
        ("LABEL=x\t/ ext4 defaults 0 1\n", false),
    ] {
        let mut entries = tree(dir.path());
        entries.retain(|entry| entry.path != b"/etc/fstab");
        entries.push(Entry::bytes("/etc/fstab", 0o644, TIME, given.as_bytes()));
        write(&spec, &entries, &[(&raw, Format::Raw)]);
        let image = DiskImage::open(&raw, &dir.path().join("unpacked")).unwrap();
        let found = image.entries(&image.root().unwrap().clone()).unwrap();
        let fstab = found.iter().find(|entry| entry.path == b"/etc/fstab").unwrap();
        let content = seen(std::slice::from_ref(fstab))[&fstab.path].content.clone();
        let text = String::from_utf8(content).unwrap();
        assert!(text.ends_with(given), "{text}");
        assert_eq!(text.contains(&root), own_root, "{text}");
        assert_eq!(text.contains(" /boot/efi vfat"), own_root, "{text}");
    }
}

#[test]
fn the_block_map_tells_where_contents_stand() {
    let dir = tempfile::tempdir().unwrap();
    let entries = tree(dir.path());
    let raw = dir.path().join("d.raw");
    let report = write(&disk_spec(None), &entries, &[(&raw, Format::Raw)]);
    let disk = std::fs::read(&raw).unwrap();
    let wanted = seen(&entries);
    let files = &report.block_map.files;
    assert!(files.iter().filter(|file| !file.extents.is_empty()).count() > 3000);
    for file in files.iter().filter(|file| wanted.contains_key(&file.path)) {
        let mut content = vec![0u8; file.size as usize];
        for (at, on_disk, len) in &file.extents {
            let len = (*len).min(file.size - at) as usize;
            content[*at as usize..][..len].copy_from_slice(&disk[*on_disk as usize..][..len]);
        }
        assert!(wanted[&file.path].content == content, "{}", file.path.escape_ascii());
    }
    let text = serde_json::to_string(&report.block_map).unwrap();
    assert_eq!(serde_json::from_str::<karat_disk::BlockMap>(&text).unwrap(), report.block_map);
}

fn copy_part(from: &Path, start: u64, len: u64, to: &Path) {
    let mib = 1 << 20;
    assert_eq!((start % mib, len % mib), (0, 0));
    let (from, to) = (format!("if={}", text(from)), format!("of={}", text(to)));
    let (skip, count) = (format!("skip={}", start / mib), format!("count={}", len / mib));
    run("dd", &[&from, &to, "bs=1M", &skip, &count, "status=none", "conv=sparse"]);
}

#[test]
fn the_efi_system_partition_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let entries = tree(dir.path());
    let raw = dir.path().join("d.raw");
    for mib in [16, 33, 64, 300] {
        let mut spec = DiskSpec { esp_size: mib << 20, ..disk_spec(Some(Firmware::Uefi)) };
        for n in 0..200 {
            let path = format!("/many/A rather long name for a file {n}.txt");
            spec.esp_entries.push(Entry::bytes(path, 0o644, TIME, vec![n as u8; n]));
        }
        let report = write(&spec, &entries, &[(&raw, Format::Raw)]);
        let part = dir.path().join("esp.img");
        copy_part(&raw, report.partitions[0].start, report.partitions[0].len, &part);
        run("fsck.fat", &["-n", text(&part)]);
        let said = run("mdir", &["-i", text(&part), "-/", "-b"]);
        assert!(said.contains("::/EFI/BOOT/BOOTX64.EFI"), "{said}");
        let out = dir.path().join("out");
        let long = "::/A Long Name With Ünicode.txt";
        run("mcopy", &["-o", "-n", "-i", text(&part), "::/loader/entries/one.config", text(&out)]);
        assert_eq!(std::fs::read(&out).unwrap(), vec![2u8; 100_000]);
        let listed = std::process::Command::new("mtype")
            .args(["-i", text(&part), long])
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        assert_eq!(listed.stdout, b"long\n", "{}", String::from_utf8_lossy(&listed.stderr));
        for n in [0, 57, 199] {
            let name = format!("::/many/A rather long name for a file {n}.txt");
            run("mcopy", &["-o", "-n", "-i", text(&part), &name, text(&out)]);
            assert_eq!(std::fs::read(&out).unwrap(), vec![n as u8; n]);
        }
    }
}

#[test]
fn progress_reaches_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let entries = tree(dir.path());
    let outputs = [Format::Raw, Format::Qcow2 { compress: true }].map(|format| Output {
        path: dir.path().join(format!("{format:?}")),
        format,
        digest: false,
    });
    let (most, total) = (AtomicU64::new(0), AtomicU64::new(0));
    let note = |progress: karat_disk::Progress| {
        most.fetch_max(progress.done, Ordering::Relaxed);
        total.store(progress.total, Ordering::Relaxed);
    };
    write_disk(&disk_spec(None), &entries, &outputs, &note, &AtomicBool::new(false)).unwrap();
    assert!(total.load(Ordering::Relaxed) > 1 << 20);
    assert_eq!(most.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
}

/// States the digest of every content, as lists from layers do.
fn with_digests(mut entries: Vec<Entry>) -> Vec<Entry> {
    let contents = seen(&entries);
    for entry in &mut entries {
        if let Kind::File { digest, .. } = &mut entry.kind {
            *digest = Some(Sha256::digest(&contents[&entry.path].content).into());
        }
    }
    entries
}

#[test]
fn an_update_gives_the_same_bytes_as_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let entries = with_digests(tree(dir.path()));
    let spec = disk_spec(Some(Firmware::Both));
    let names = ["d.raw", "d.qcow2", "p.qcow2"];
    let formats =
        [Format::Raw, Format::Qcow2 { compress: false }, Format::Qcow2 { compress: true }];
    let at = |folder: &str| {
        let folder = dir.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let output =
            |n: usize| Output { path: folder.join(names[n]), format: formats[n], digest: true };
        [output(0), output(1), output(2)]
    };
    let (updated, fresh) = (at("updated"), at("fresh"));
    let none = AtomicBool::new(false);
    let first = write_disk(&spec, &entries, &updated, &|_| (), &none).unwrap();
    let mut previous = first.previous();
    let page = |size: usize| Entry::bytes("/etc/hostname", 0o600, TIME, vec![b'x'; size]);
    let shrunk = |entry: &Entry| entry.path.starts_with(b"/var/lib/info/");
    // What changes, and whether all stays in its place so far that files can be patched.
    let mut cases: Vec<(&str, Vec<Entry>)> = Vec::new();
    let replace = |entry: Entry| {
        let mut entries = entries.clone();
        entries.retain(|other| other.path != entry.path);
        entries.push(entry);
        with_digests(entries)
    };
    cases.push(("other bytes", replace(page(8))));
    cases.push(("fewer bytes", replace(page(3))));
    cases.push(("more blocks", replace(page(50_000))));
    cases.push(("no blocks", replace(page(0))));
    cases.push(("fewer files", entries.iter().filter(|e| !shrunk(e)).cloned().collect()));
    cases.push(("as before", entries.clone()));
    for (what, entries) in cases {
        let report = update_disk(&spec, &entries, &updated, &previous, &|_| (), &none).unwrap();
        let wanted = write_disk(&spec, &entries, &fresh, &|_| (), &none).unwrap();
        for (found, wanted) in report.outputs.iter().zip(&wanted.outputs) {
            assert_eq!(found.sha256, wanted.sha256, "{what}: {}", found.path.display());
            let bytes = std::fs::read(&found.path).unwrap();
            assert_eq!(found.sha256, Some(Sha256::digest(&bytes).into()), "{what}");
        }
        let same_size = report.block_map.disk_size == previous.block_map.disk_size;
        assert_eq!(report.outputs[0].patched, same_size, "{what}");
        assert!(!report.outputs[2].patched, "{what}");
        previous = report.previous();
    }
    assert!(previous.outputs.len() == 3);
    // A file that something else has written to is not trusted.
    std::fs::write(&updated[0].path, b"overwritten").unwrap();
    let report = update_disk(&spec, &entries, &updated, &previous, &|_| (), &none).unwrap();
    assert!(!report.outputs[0].patched && report.outputs[1].patched);
    assert_eq!(report.outputs[0].sha256, first.outputs[0].sha256);
    // A file whose contents are not known by digest is written again.
    let mut unknown = entries.clone();
    let touched = |entry: &Entry| entry.path == b"/usr/bin/sudo";
    unknown.retain(|entry| !touched(entry));
    let sudo = entries.iter().find(|entry| touched(entry)).unwrap().clone();
    let content = Content::Bytes(vec![4u8; 4096].into());
    unknown.push(with(sudo, |e| e.kind = Kind::File { size: 4096, content, digest: None }));
    let previous = report.previous();
    let report = update_disk(&spec, &unknown, &updated, &previous, &|_| (), &none).unwrap();
    assert!(report.outputs[0].patched);
    let found = seen(&read_back(&updated[0].path));
    assert_eq!(found[b"/usr/bin/sudo".as_slice()].content, vec![4u8; 4096]);
}
