//! Files as disks of a machine: loop devices of the host, with nodes in the machine's `/dev`.
//!
//! A device ends with the last that has it open, a file system that is mounted from it counted: so
//! nothing is left of it when Karat dies.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};

/// The kernel's numbers of requests (`linux/loop.h`, `linux/fs.h`, `linux/blkpg.h`).
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const BLKFLSBUF: libc::c_ulong = 0x1261;
const BLKPG: libc::c_ulong = 0x1269;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_PARTSCAN: u32 = 8;
const BLKPG_ADD_PARTITION: i32 = 1;
const BLKPG_DEL_PARTITION: i32 = 2;
/// The kernel's number of loop devices, and of what makes them.
const LOOP_MAJOR: u64 = 7;
const LOOP_CONTROL: (u64, u64) = (10, 237);
/// Bytes per sector, as sysfs counts.
const SECTOR: u64 = 512;
/// Others may take a free device first.
const TRIES: usize = 100;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *mut BlkpgPartition,
}

/// A file as a block device of the host, until this is dropped and nothing has it open any more.
#[derive(Debug)]
pub struct Disk {
    device: File,
    number: u64,
    file: PathBuf,
}

/// A partition that the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPartition {
    /// The device's two numbers.
    pub device: (u64, u64),
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Disk {
    /// Makes a file a block device.
    ///
    /// # Errors
    /// When the file cannot be opened, or this host gives no loop device.
    pub fn attach(file: &Path) -> io::Result<Self> {
        let backing = OpenOptions::new().read(true).write(true).open(file)?;
        let control = open_node("loop-control", SFlag::S_IFCHR, LOOP_CONTROL, file)?;
        for _ in 0..TRIES {
            // SAFETY: the request takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            let number = u64::try_from(number).map_err(|_| io::Error::last_os_error())?;
            let node = format!("loop{number}");
            let device = open_node(&node, SFlag::S_IFBLK, (LOOP_MAJOR, number), file)?;
            match configure(&device, &backing) {
                Ok(()) => return Ok(Self { device, number, file: file.to_owned() }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("others take all loop devices"))
    }

    /// The device's two numbers.
    #[must_use]
    pub fn device(&self) -> (u64, u64) {
        (LOOP_MAJOR, self.number)
    }

    /// The device, opened.
    #[must_use]
    pub fn opened(&self) -> &File {
        &self.device
    }

    /// Takes over that the file has become longer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn grow(&self) -> io::Result<()> {
        // SAFETY: the request takes no argument.
        done(unsafe { libc::ioctl(self.device.as_raw_fd(), LOOP_SET_CAPACITY) })
    }

    /// Writes to the file what was written to the device and to file systems on it and its
    /// partitions, and is still in memory.
    ///
    /// # Errors
    /// When that fails.
    pub fn flush(&self) -> io::Result<()> {
        for (number, partition) in self.partitions()? {
            let node = format!("loop{}p{number}", self.number);
            let opened = open_node(&node, SFlag::S_IFBLK, partition.device, &self.file)?;
            flush(&opened)?;
        }
        flush(&self.device)
    }

    /// The partitions that the kernel knows, by their numbers.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn partitions(&self) -> io::Result<BTreeMap<u32, DiskPartition>> {
        let name = format!("loop{}", self.number);
        let folder = Path::new("/sys/block").join(&name);
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&folder)?.flatten() {
            let entry_name = entry.file_name().to_string_lossy().into_owned();
            let number = entry_name.strip_prefix(&name).and_then(|rest| rest.strip_prefix('p'));
            let Some(number) = number.and_then(|text| text.parse().ok()) else { continue };
            // One that goes just now is none.
            if let Some(partition) = read_partition(&entry.path()) {
                found.insert(number, partition);
            }
        }
        Ok(found)
    }

    /// Tells the kernel of a partition, in bytes.
    ///
    /// # Errors
    /// When the kernel refuses it, because another overlaps it say.
    pub fn add_partition(&self, number: u32, start: u64, len: u64) -> io::Result<()> {
        self.partition(BLKPG_ADD_PARTITION, number, start, len)
    }

    /// Has the kernel forget a partition.
    ///
    /// # Errors
    /// When it is in use, or is not there.
    pub fn remove_partition(&self, number: u32) -> io::Result<()> {
        self.partition(BLKPG_DEL_PARTITION, number, 0, 0)
    }

    fn partition(&self, operation: i32, number: u32, start: u64, len: u64) -> io::Result<()> {
        let wrong = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut partition = BlkpgPartition {
            start: i64::try_from(start).map_err(wrong)?,
            length: i64::try_from(len).map_err(wrong)?,
            number: i32::try_from(number).map_err(wrong)?,
            device_name: [0; 64],
            volume_name: [0; 64],
        };
        let length = i32::try_from(size_of::<BlkpgPartition>()).map_err(wrong)?;
        let argument = BlkpgArgument { operation, flags: 0, length, data: &raw mut partition };
        // SAFETY: the kernel reads both structures, which live until it has answered.
        done(unsafe { libc::ioctl(self.device.as_raw_fd(), BLKPG, &raw const argument) })
    }

    /// Whether a process other than this one has the whole device open.
    #[must_use]
    pub fn is_open_elsewhere(&self) -> bool {
        let own = std::process::id().to_string();
        let device = makedev(LOOP_MAJOR, self.number);
        let Ok(processes) = fs::read_dir("/proc") else { return false };
        let numbered = |name: &str| name != own && name.bytes().all(|b| b.is_ascii_digit());
        processes.flatten().filter(|p| numbered(&p.file_name().to_string_lossy())).any(|process| {
            let files = fs::read_dir(process.path().join("fd"));
            files.into_iter().flatten().flatten().any(|file| {
                let found = fs::metadata(file.path());
                found.is_ok_and(|m| m.file_type().is_block_device() && m.rdev() == device)
            })
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Those in use go with what uses them.
        for number in self.partitions().unwrap_or_default().keys() {
            let _ = self.remove_partition(*number);
        }
    }
}

/// Whether a file is some block device's still.
#[must_use]
pub fn is_attached(file: &Path) -> bool {
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let Ok(devices) = fs::read_dir("/sys/block") else { return false };
    devices.flatten().any(|device| {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        backing.is_ok_and(|path| Path::new(path.trim_end_matches('\n')) == file)
    })
}

fn done(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn flush(device: &File) -> io::Result<()> {
    // It writes out the file system that is mounted from the device as well.
    // SAFETY: the request takes no argument.
    done(unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF, 0) })
}

fn configure(device: &File, backing: &File) -> io::Result<()> {
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?;
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the kernel reads the structure, which lives until it has answered.
    done(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) })
}

fn read_partition(folder: &Path) -> Option<DiskPartition> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let device = fs::read_to_string(folder.join("dev")).ok()?;
    let (major, minor) = device.trim().split_once(':')?;
    Some(DiskPartition {
        device: (major.parse().ok()?, minor.parse().ok()?),
        start: number("start")? * SECTOR,
        len: number("size")? * SECTOR,
    })
}

/// Opens a device by its numbers: its node in `/dev`, or one that is made for it beside `place`.
fn open_node(name: &str, kind: SFlag, device: (u64, u64), place: &Path) -> io::Result<File> {
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path)
    };
    let usual = Path::new("/dev").join(name);
    let same = |m: fs::Metadata| (major(m.rdev()), minor(m.rdev())) == device;
    if fs::metadata(&usual).is_ok_and(same) {
        return open(&usual);
    }
    let own = place.with_extension(format!("{name}.node"));
    let _ = fs::remove_file(&own);
    mknod(&own, kind, Mode::from_bits_truncate(0o600), makedev(device.0, device.1))?;
    let opened = open(&own);
    let _ = fs::remove_file(&own);
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structures_have_their_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(size_of::<BlkpgPartition>(), 152);
    }

    #[test]
    fn a_file_that_is_no_device_is_not_attached() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk");
        fs::write(&file, "x").unwrap();
        assert!(!is_attached(&file));
    }
}
