//! GRUB for BIOS and UEFI without its installer: images made by `grub-mkimage`, its start code
//! placed and patched here, and a generated `grub.cfg` that names everything by UUID.
//!
//! Nothing of the machine that builds can leak into the image: no device is probed, nothing runs
//! inside the tree. All modules that are needed are part of the images.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use uuid::Uuid;

use crate::bytes::{put16, put64};
use crate::error::{Error, Result};
use crate::tree::{Entry, Kind};

/// The firmware that a disk boots on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS (i386-pc).
    Bios,
    /// UEFI (x86_64-efi).
    Uefi,
    /// Either.
    Both,
}

impl Firmware {
    pub(crate) fn bios(self) -> bool {
        self != Self::Uefi
    }

    pub(crate) fn uefi(self) -> bool {
        self != Self::Bios
    }
}

/// How a disk boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSpec {
    /// On which firmware.
    pub firmware: Firmware,
    /// Words for the kernel's command line after `root=UUID=… ro`.
    pub kernel_command_line: String,
    /// Seconds that the menu is shown; 0 boots at once.
    pub timeout: u32,
    /// The program `grub-mkimage`.
    pub mkimage: PathBuf,
    /// The directory with `i386-pc` and `x86_64-efi`.
    pub grub_directory: PathBuf,
}

impl Default for BootSpec {
    fn default() -> Self {
        Self {
            firmware: Firmware::Both,
            kernel_command_line: "console=tty0 console=ttyS0,115200n8".into(),
            timeout: 0,
            mkimage: "grub-mkimage".into(),
            grub_directory: "/usr/lib/grub".into(),
        }
    }
}

/// Modules in both images.
const MODULES: [&str; 20] = [
    "part_gpt",
    "part_msdos",
    "ext2",
    "search",
    "search_fs_uuid",
    "search_label",
    "normal",
    "configfile",
    "linux",
    "serial",
    "terminal",
    "echo",
    "test",
    "true",
    "ls",
    "cat",
    "halt",
    "reboot",
    "minicmd",
    "sleep",
];

/// What GRUB leaves on the disk outside the root file system.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    /// Code for the first sector, at most 440 bytes. Empty without BIOS.
    pub(crate) first_sector: Vec<u8>,
    /// Content of the BIOS boot partition. Empty without BIOS.
    pub(crate) core: Vec<u8>,
    /// `BOOTX64.EFI`. Empty without UEFI.
    pub(crate) efi: Vec<u8>,
}

/// Makes the images for a root file system with this UUID; `core_start` is the first byte of the
/// BIOS boot partition and `core_room` its length.
pub(crate) fn loader(
    spec: &BootSpec,
    root: Uuid,
    core_start: u64,
    core_room: u64,
) -> Result<Loader> {
    std::thread::scope(|scope| {
        let bios = scope.spawn(|| {
            if spec.firmware.bios() {
                bios(spec, root, core_start, core_room)
            } else {
                Ok(Default::default())
            }
        });
        let efi = if spec.firmware.uefi() {
            mkimage(spec, "x86_64-efi", &["fat", "efi_gop", "efi_uga", "all_video"], root)?
        } else {
            Vec::new()
        };
        let (first_sector, core) = match bios.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Loader { first_sector, core, efi })
    })
}

fn package(target: &str) -> &'static str {
    if target == "i386-pc" { "grub-pc-bin" } else { "grub-efi-amd64-bin" }
}

fn bios(spec: &BootSpec, root: Uuid, start: u64, room: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let path = spec.grub_directory.join("i386-pc/boot.img");
    let mut boot = std::fs::read(&path).map_err(|_| missing(&path, "i386-pc"))?;
    let mut core = mkimage(spec, "i386-pc", &["biosdisk"], root)?;
    if boot.len() != 512 || core.len() < 1024 {
        return Err(Error::Tool {
            what: format!("{} is not GRUB's start code of 512 bytes", path.display()),
            hint: "reinstall the package grub-pc-bin".into(),
        });
    }
    if core.len() as u64 > room {
        return Err(Error::TooSmall {
            what: "the BIOS boot partition",
            needed: core.len() as u64,
            available: room,
        });
    }
    // Start code: where the core begins; boot drive from the firmware, with the workaround for
    // firmware that passes a wrong one.
    let sector = start / 512;
    put64(&mut boot, 0x5C, sector);
    boot[0x64] = 0xFF;
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    boot.truncate(440);
    // The core's first sector loads the rest, listed in its last twelve bytes.
    core.resize(core.len().next_multiple_of(512), 0);
    let rest = core.len() / 512 - 1;
    put64(&mut core, 0x1F4, sector + 1);
    put16(&mut core, 0x1FC, rest as u16);
    put16(&mut core, 0x1FE, 0x820);
    Ok((boot, core))
}

fn missing(path: &Path, target: &str) -> Error {
    Error::Tool {
        what: format!("{} is missing", path.display()),
        hint: format!(
            "install the package {}, or choose other firmware for the disk",
            package(target)
        ),
    }
}

fn mkimage(spec: &BootSpec, target: &str, more: &[&str], root: Uuid) -> Result<Vec<u8>> {
    let directory = spec.grub_directory.join(target);
    let normal = directory.join("normal.mod");
    if !normal.exists() {
        return Err(missing(&normal, target));
    }
    let text = format!("search.fs_uuid {root} root\nset prefix=($root)/boot/grub\n");
    let (mut config, config_path) = memory("config")?;
    config.write_all(text.as_bytes()).map_err(|error| Error::io("write", &config_path, error))?;
    let (mut image, image_path) = memory("image")?;
    let output = Command::new(&spec.mkimage)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .arg("-O")
        .arg(target)
        .arg("-d")
        .arg(&directory)
        .args(["-p", "/boot/grub", "-c"])
        .arg(&config_path)
        .arg("-o")
        .arg(&image_path)
        .args(MODULES)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Tool {
            what: format!("cannot run {}: {error}", spec.mkimage.display()),
            hint: "install the package grub-common, or write a disk without boot loader".into(),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Tool {
            what: format!("{} for {target} failed: {}", spec.mkimage.display(), said.trim()),
            hint: format!("check that grub-common and {} have one version", package(target)),
        });
    }
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).map_err(|error| Error::io("read", &image_path, error))?;
    Ok(bytes)
}

/// A file in memory, and the path by which a child of this process reaches it: nothing is left in a
/// folder however this ends.
fn memory(name: &str) -> Result<(File, PathBuf)> {
    let fail =
        |error: rustix::io::Errno| Error::io("make a file in memory for", Path::new(name), error);
    let file = memfd_create(name, MemfdFlags::CLOEXEC).map_err(fail)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok((File::from(file), path.into()))
}

/// A kernel in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kernel {
    version: String,
    initrd: Option<String>,
}

/// Kernels in `/boot`, newest first.
fn kernels(entries: &[&Entry]) -> Vec<Kernel> {
    let usable = |entry: &Entry| !matches!(entry.kind, Kind::Directory);
    let boot: std::collections::HashSet<&[u8]> = entries
        .iter()
        .filter(|entry| entry.path.starts_with(b"/boot/") && usable(entry))
        .map(|entry| entry.path.as_slice())
        .collect();
    let mut found: Vec<Kernel> = boot
        .iter()
        .filter_map(|path| {
            let version = std::str::from_utf8(path.strip_prefix(b"/boot/vmlinuz-")?).ok()?;
            if version.contains(|c: char| !c.is_ascii_graphic() || "/'\"\\$`{};".contains(c)) {
                return None;
            }
            let names = [
                format!("/boot/initrd.img-{version}"),
                format!("/boot/initramfs-{version}.img"),
                format!("/boot/initrd-{version}"),
            ];
            let initrd = names.into_iter().find(|name| boot.contains(name.as_bytes()));
            Some(Kernel { version: version.to_owned(), initrd })
        })
        .collect();
    found.sort_by_key(|kernel| std::cmp::Reverse(version_key(&kernel.version)));
    found
}

/// Splits a version so that numbers compare as numbers.
fn version_key(version: &str) -> Vec<(u64, String)> {
    let mut key: Vec<(u64, String)> = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse().unwrap_or(0);
        rest = &rest[digits..];
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        key.push((number, rest[..text].to_owned()));
        rest = &rest[text..];
    }
    key
}

/// The text of `/boot/grub/grub.cfg` for the kernels in the tree.
///
/// # Errors
/// There is no kernel.
pub(crate) fn config(spec: &BootSpec, root: Uuid, entries: &[&Entry]) -> Result<String> {
    let kernels = kernels(entries);
    if kernels.is_empty() {
        return Err(Error::Spec(
            "there is no kernel in the tree (no file /boot/vmlinuz-*); add a kernel package such \
             as linux-image-cloud-amd64, or write a disk without boot loader"
                .into(),
        ));
    }
    if spec.kernel_command_line.contains(['\n', '\r', '\'', '"', ';', '{', '}', '$', '\\']) {
        return Err(Error::Spec(format!(
            "the kernel command line {:?} contains a character that GRUB treats specially",
            spec.kernel_command_line
        )));
    }
    let mut out = format!(
        "set default=0\nset timeout={}\n\
         if serial --unit=0 --speed=115200; then\n  terminal_input console serial\n  \
         terminal_output console serial\nfi\n\
         search --no-floppy --fs-uuid --set=root {root}\n",
        spec.timeout
    );
    for kernel in kernels {
        let Kernel { version, initrd } = kernel;
        let line = spec.kernel_command_line.trim();
        out.push_str(&format!(
            "\nmenuentry 'Linux {version}' {{\n  linux /boot/vmlinuz-{version} root=UUID={root} ro {line}\n"
        ));
        if let Some(initrd) = initrd {
            out.push_str(&format!("  initrd {initrd}\n"));
        }
        out.push_str("}\n");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Timestamp;

    #[test]
    fn newest_kernel_first_with_its_initrd() {
        let time = Timestamp::default();
        let entries: Vec<Entry> = [
            "/boot/vmlinuz-6.1.0-9-amd64",
            "/boot/vmlinuz-6.1.0-10-amd64",
            "/boot/initrd.img-6.1.0-10-amd64",
        ]
        .iter()
        .map(|path| Entry::bytes(*path, 0o644, time, Vec::new()))
        .collect();
        let entries: Vec<&Entry> = entries.iter().collect();
        let text = config(&BootSpec::default(), Uuid::nil(), &entries).unwrap();
        let ten = text.find("vmlinuz-6.1.0-10").unwrap();
        assert!(ten < text.find("vmlinuz-6.1.0-9").unwrap());
        assert_eq!(text.matches("initrd /boot").count(), 1);
        let none = config(&BootSpec::default(), Uuid::nil(), &[]).unwrap_err();
        assert!(none.to_string().contains("linux-image"));
    }

    #[test]
    fn missing_modules_name_the_package() {
        let spec = BootSpec { grub_directory: "/nonexistent".into(), ..BootSpec::default() };
        let error = loader(&spec, Uuid::nil(), 1 << 20, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("grub-efi-amd64-bin"), "{error}");
    }
}
