//! Boots what was written. Needs a Debian root directory, root and some minutes, so it runs on
//! request: `KARAT_TEST_ROOT=DIRECTORY cargo test -p karat-disk -- --ignored`.
//!
//! Such a directory comes from `mmdebstrap --variant=minbase --format=directory
//! --include=linux-image-cloud-amd64,systemd-sysv,udev,initramfs-tools trixie DIRECTORY`.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use karat_disk::{DiskSpec, Entry, Format, Output, scan_directory, write_disk};
use karat_testing::qemu::{Firmware, Qemu};

use crate::support::TIME;

#[test]
#[ignore = "needs a Debian root directory in KARAT_TEST_ROOT"]
fn both_containers_boot_on_both_firmwares() {
    let root = std::env::var_os("KARAT_TEST_ROOT").expect("KARAT_TEST_ROOT names a directory");
    let mut entries = scan_directory(Path::new(&root)).unwrap();
    let unit = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nStandardOutput=file:/dev/ttyS0\n\
                ExecStart=/bin/sh -c 'systemctl is-system-running --wait; findmnt -no SOURCE,OPTIONS /; echo marker-end'\n";
    let path = "/etc/systemd/system/report.service";
    entries.push(Entry::bytes(path, 0o644, TIME, unit.as_bytes()));
    let wanted = "/etc/systemd/system/default.target.wants/report.service";
    entries.push(Entry::symlink(wanted, path, TIME));
    entries.retain(|entry| entry.path != b"/etc/systemd/system/default.target.wants");
    let dir = tempfile::tempdir().unwrap();
    let spec = DiskSpec { seed: b"boot".to_vec(), time: TIME.secs, ..DiskSpec::default() };
    let outputs = [("d.raw", Format::Raw), ("d.qcow2", Format::Qcow2 { compress: true })]
        .map(|(name, format)| Output { path: dir.path().join(name), format, digest: false });
    write_disk(&spec, &entries, &outputs, &|_| (), &AtomicBool::new(false)).unwrap();
    for output in &outputs {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let machine = Qemu::new(&output.path, firmware).unwrap().start().unwrap();
            machine.wait_for("marker-end", Duration::from_secs(240)).unwrap();
            let console = machine.console();
            assert!(
                console.contains("\nrunning\r\n")
                    || console.contains("\rrunning")
                    || console.contains("running\n"),
                "{console}"
            );
            assert!(console.contains("/dev/vda3 rw"), "{console}");
        }
    }
}
