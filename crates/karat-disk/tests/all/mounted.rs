//! The kernel's own view: mounted through a loop device. These need root and are passed over
//! without it; `file_systems` judges the same trees by e2fsck and by reading back.

use std::path::{Path, PathBuf};

use karat_disk::scan_directory;

use crate::support::*;

/// A mounted image; unmounted when dropped.
struct Mount {
    image: PathBuf,
    at: tempfile::TempDir,
}

impl Mount {
    fn new(image: &Path, options: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        run(
            "mount",
            &["-t", "ext4", "-o", &format!("loop,{options}"), text(image), text(at.path())],
        );
        Self { image: image.to_owned(), at }
    }

    fn device(&self) -> String {
        let said = run("losetup", &["-j", text(&self.image), "-O", "NAME", "-n"]);
        said.trim().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(self.at.path());
    }
}

fn skip() -> bool {
    let skip = !is_root();
    if skip {
        eprintln!("not root: nothing is mounted");
    }
    skip
}

/// Whether this process holds a capability (24 is `CAP_SYS_RESOURCE`).
fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() >> number & 1 == 1
}

#[test]
fn the_kernel_sees_everything() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let entries = everything(dir.path());
    let image = dir.path().join("fs.img");
    write_checked(&entries, None, &image).unwrap();
    let mount = Mount::new(&image, "ro");
    assert_same(&entries, &scan_directory(mount.at.path()).unwrap());
}

#[test]
fn writing_goes_on_where_we_stopped() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let entries = everything(dir.path());
    let image = dir.path().join("fs.img");
    write_checked(&entries, Some(300 << 20), &image).unwrap();
    {
        let mount = Mount::new(&image, "rw");
        let root = mount.at.path();
        std::fs::write(root.join("new"), vec![8u8; 5_000_000]).unwrap();
        for n in 0..2000 {
            std::fs::write(root.join(format!("var/lib/info/new-name-{n}")), "new").unwrap();
        }
        std::fs::remove_dir_all(root.join("usr")).unwrap();
        std::fs::remove_file(root.join("var/islands")).unwrap();
        std::fs::write(root.join("etc/hostname"), "changed\n").unwrap();
    }
    run("e2fsck", &["-fn", text(&image)]);
    let mount = Mount::new(&image, "ro");
    let root = mount.at.path();
    assert_eq!(std::fs::read_to_string(root.join("etc/again")).unwrap(), "changed\n");
    assert_eq!(std::fs::read(root.join("new")).unwrap(), vec![8u8; 5_000_000]);
    assert_eq!(std::fs::read_dir(root.join("var/lib/info")).unwrap().count(), 5000);
    assert!(!root.join("usr").exists());
}

#[test]
fn it_grows() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let entries = everything(dir.path());
    let image = dir.path().join("fs.img");
    write_checked(&entries, None, &image).unwrap();
    let before = std::fs::metadata(&image).unwrap().len();
    std::fs::File::options().write(true).open(&image).unwrap().set_len(40 << 30).unwrap();
    // Growing while mounted takes a capability that some containers withhold from root.
    let capable = has_capability(24);
    if !capable {
        run("e2fsck", &["-fy", text(&image)]);
        run("resize2fs", &[text(&image)]);
    }
    {
        let mount = Mount::new(&image, "rw");
        if capable {
            run("resize2fs", &[&mount.device()]);
        }
        std::fs::write(mount.at.path().join("new"), vec![8u8; 300 << 20]).unwrap();
    }
    run("e2fsck", &["-fn", text(&image)]);
    let said = run("dumpe2fs", &["-h", text(&image)]);
    let blocks: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("Block count:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(blocks * 4096, 40 << 30);
    assert!(before < 1 << 30);
    let mount = Mount::new(&image, "ro");
    let mut found = scan_directory(mount.at.path()).unwrap();
    found.retain(|entry| entry.path != b"/new" && entry.path != b"/");
    let wanted: Vec<_> = entries.into_iter().filter(|entry| entry.path != b"/").collect();
    assert_same(&wanted, &found);
}
