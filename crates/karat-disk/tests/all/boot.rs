//! Boots what was written. Needs a Debian root directory and some minutes, so it runs on request:
//! `KARAT_TEST_ROOT=DIRECTORY cargo test -p karat-disk -- --ignored`.
//!
//! Such a directory comes from `mmdebstrap --variant=minbase --format=directory
//! --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,initramfs-tools,e2fsprogs trixie
//! DIRECTORY`.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use karat_disk::{DiskSpec, Entry, Format, Output, scan_directory, write_disk};
use karat_testing::qemu::{Firmware, Qemu};

use crate::support::*;

/// Says in the kernel's log, which no login prompt can cut off, how the start ended and what is
/// mounted, and grows the second disk.
const REPORT: &str = "[Service]\nType=simple\nExecStart=/bin/sh -c '( \
    systemctl is-system-running --wait; systemctl --failed --plain --no-legend; \
    findmnt -no SOURCE,OPTIONS /; mount /dev/vdb /mnt && resize2fs /dev/vdb && \
    df --output=size /mnt; echo end ) 2>&1 | \
    while read line; do echo \"report: $$line\" > /dev/kmsg; done'\n";

#[test]
#[ignore = "needs a Debian root directory in KARAT_TEST_ROOT"]
fn both_containers_boot_on_both_firmwares() {
    let root = std::env::var_os("KARAT_TEST_ROOT").expect("KARAT_TEST_ROOT names a directory");
    let mut entries = scan_directory(Path::new(&root)).unwrap();
    let path = "/etc/systemd/system/report.service";
    entries.push(Entry::bytes(path, 0o644, TIME, REPORT.as_bytes()));
    let wanted = "/etc/systemd/system/multi-user.target.wants/report.service";
    entries.push(Entry::symlink(wanted, path, TIME));
    let dir = tempfile::tempdir().unwrap();
    let spec = DiskSpec { seed: b"boot".to_vec(), time: TIME.secs, ..DiskSpec::default() };
    let outputs = [("d.raw", Format::Raw), ("d.qcow2", Format::Qcow2 { compress: true })]
        .map(|(name, format)| Output { path: dir.path().join(name), format, digest: false });
    write_disk(&spec, &entries, &outputs, &|_| (), &AtomicBool::new(false)).unwrap();
    // A second disk, a bare file system, which the machine grows while it is mounted.
    let second = dir.path().join("second.img");
    write_checked(&[Entry::bytes("/a", 0o644, TIME, &b"a"[..])], None, &second).unwrap();
    std::fs::File::options().write(true).open(&second).unwrap().set_len(20 << 30).unwrap();
    let drive = format!("if=virtio,snapshot=on,format=raw,file={}", text(&second));
    for output in &outputs {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let machine = Qemu::new(&output.path, firmware).unwrap();
            let machine = machine.extra(["-drive", &drive]).start().unwrap();
            machine.wait_for("report: end", Duration::from_secs(300)).unwrap();
            let console = machine.console();
            let said: Vec<&str> = console
                .lines()
                .filter_map(|line| line.split_once("report: "))
                .map(|(_, said)| said.trim())
                .collect();
            assert!(said.contains(&"running"), "{said:?}\n{console}");
            assert!(said.iter().any(|line| line.starts_with("/dev/vda3 rw")), "{said:?}");
            let sizes = said.iter().filter_map(|line| line.parse::<u64>().ok());
            let size = sizes.max();
            assert!(size > Some(19 << 20), "{said:?}");
        }
    }
}
