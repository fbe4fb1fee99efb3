//! Disks in containers that others write: VMDK, VHD, VHDX, and OVA, which is an archive with one of
//! them. `qemu-img` reads them; no library for all of them is in good care.
//!
//! What a file is, is told by what stands in it, and `qemu-img` is told so, since a guest that has
//! written to a raw disk could make it look like anything. It never opens a file that the image
//! names: what needs a parent or lies in several files is refused.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{ova, qcow2_read};

const PROGRAM: &str = "qemu-img";
/// The most of its words that is read.
const LONGEST: u64 = 64 << 20;

/// What kind of file a disk lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's, version 2 or 3.
    Qcow2,
    /// VMware's, in one file.
    Vmdk,
    /// Virtual PC's, fixed or dynamic.
    Vhd,
    /// Hyper-V's.
    Vhdx,
    /// An archive with a description and disks.
    Ova,
}

impl Container {
    /// The name, which a file's name ends in, too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Ova => "ova",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Ova];
        all.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// The name by which `qemu-img` knows it.
    fn driver(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// What a file is, by what stands in it. What is nothing else is raw.
    ///
    /// # Errors
    /// It cannot be read, or is known to be nothing that can be taken.
    pub fn of(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let len = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
        let whole = Part { path, file: &file, start: 0, len };
        let mut magic = [0; 5];
        if whole.read(257, &mut magic) && &magic == b"ustar" {
            return Ok(Self::Ova);
        }
        whole.kind()
    }
}

/// A disk's container, alone in a file or as a part of it.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) path: &'a Path,
    pub(crate) file: &'a File,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Part<'_> {
    /// Whether so many bytes are there.
    fn read(&self, at: u64, buffer: &mut [u8]) -> bool {
        let inside = at.checked_add(buffer.len() as u64).is_some_and(|end| end <= self.len);
        inside && self.file.read_exact_at(buffer, self.start + at).is_ok()
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::image(self.path, reason)
    }

    fn kind(&self) -> Result<Container> {
        let mut head = [0; 21];
        let length = head.len().min(usize::try_from(self.len).unwrap_or(usize::MAX));
        self.read(0, &mut head[..length]);
        if head.starts_with(&qcow2_read::MAGIC) {
            return Ok(Container::Qcow2);
        }
        if head.starts_with(b"vhdxfile") {
            return Ok(Container::Vhdx);
        }
        if head.starts_with(b"# Disk DescriptorFile") {
            return Err(self.bad(
                "only describes a VMDK that lies in other files; make one file of it \
                 (qemu-img convert -O vmdk), or an OVA (ovftool)",
            ));
        }
        if head.starts_with(b"KDMV") {
            // The number of sectors. Without, the description inside leads to other files.
            if head[12..20] == [0; 8] {
                return Err(self.bad("is a VMDK that lies in several files; make one of them"));
            }
            return Ok(Container::Vmdk);
        }
        if head.starts_with(b"COWD") {
            return Err(self.bad(
                "is a VMDK as ESX keeps it; make one to be moved (vmkfstools -i, or ovftool)",
            ));
        }
        // A dynamic one begins with a copy of what both end with; older ones lack a byte.
        let ends = [512, 511].iter().any(|back| {
            let mut magic = [0; 8];
            self.len > *back && self.read(self.len - back, &mut magic) && &magic == b"conectix"
        });
        let dynamic = head.starts_with(b"conectix");
        Ok(if ends || dynamic { Container::Vhd } else { Container::Raw })
    }

    /// The image as `qemu-img` takes it: the format named, and no other file.
    fn source(&self, kind: Container) -> Result<String> {
        let path = std::path::absolute(self.path).map_err(|e| Error::io("find", self.path, e))?;
        let path = path.to_str().ok_or_else(|| {
            self.bad("has a name that is no UTF-8, which qemu-img does not take; rename it")
        })?;
        let bytes = serde_json::json!({ "driver": "file", "filename": path });
        let inside = match self.start {
            0 => bytes,
            start => serde_json::json!({
                "driver": "raw", "offset": start, "size": self.len, "file": bytes,
            }),
        };
        let mut source = serde_json::json!({ "driver": kind.driver(), "file": inside });
        if kind == Container::Vhd {
            // Its other size, of cylinders and heads, may be less.
            source["force_size_calc"] = "current_size".into();
        }
        Ok(format!("json:{source}"))
    }
}

/// What `qemu-img info` tells.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "virtual-size")]
    size: u64,
    #[serde(rename = "backing-filename")]
    backing: Option<String>,
}

/// A run of bytes, as `qemu-img map` tells.
#[derive(Deserialize)]
struct Run {
    length: u64,
    data: bool,
    offset: Option<u64>,
}

/// Writes the disk in a container to `out`, which is empty, as a sparse raw image.
///
/// # Errors
/// The file is damaged, cut off, or needs other files; `qemu-img` is missing; it was cancelled.
pub(crate) fn unpack(
    path: &Path,
    file: &File,
    kind: Container,
    out: &File,
    cancel: &AtomicBool,
) -> Result<()> {
    let len = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    if kind == Container::Ova {
        let (start, len) = ova::disk(path, file, len)?;
        let part = Part { path, file, start, len };
        let kind = part.kind()?;
        return convert(&part, kind, out, cancel);
    }
    convert(&Part { path, file, start: 0, len }, kind, out, cancel)
}

fn convert(part: &Part<'_>, kind: Container, out: &File, cancel: &AtomicBool) -> Result<()> {
    let source = part.source(kind)?;
    let ask = |what: &str| qemu(part, &[what, "--output=json", &source], cancel);
    let told = |e| part.bad(format!("qemu-img says of it what is not understood: {e}"));
    let info: Info = serde_json::from_slice(&ask("info")?).map_err(told)?;
    if let Some(parent) = info.backing {
        return Err(part.bad(format!(
            "holds only what differs from \"{parent}\"; make it whole first (qemu-img convert)"
        )));
    }
    // What lies behind the end of a file reads as zeros for QEMU.
    let runs: Vec<Run> = serde_json::from_slice(&ask("map")?).map_err(told)?;
    let base = part.start;
    let beyond = runs.iter().filter(|run| run.data).find_map(|run| {
        let end = run.offset?.checked_sub(base)?.saturating_add(run.length);
        (end > part.len).then_some(end)
    });
    if let Some(end) = beyond {
        let len = part.len;
        return Err(part.bad(format!("is cut off: it has {len} bytes of {end}")));
    }
    out.set_len(info.size).map_err(|e| Error::io("resize", part.path, e))?;
    // By this name the file is reached that has none any more.
    let target = format!("/proc/{}/fd/{}", std::process::id(), out.as_raw_fd());
    qemu(part, &["convert", "-n", "-O", "raw", &source, &target], cancel)?;
    Ok(())
}

/// Runs `qemu-img` and gives what it prints.
fn qemu(part: &Part<'_>, args: &[&str], cancel: &AtomicBool) -> Result<Vec<u8>> {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A signal of the terminal is for this process, which ends it.
    command.process_group(0);
    let parent = rustix::process::getpid();
    let hook = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have died between fork and prctl.
        match rustix::process::getppid() {
            Some(now) if now != parent => Err(std::io::Error::from(ErrorKind::BrokenPipe)),
            _ => Ok(()),
        }
    };
    // SAFETY: the hook runs between fork and exec; it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(hook) };
    let child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Tool {
            what: format!("{} is read with {PROGRAM}, which is missing", part.path.display()),
            hint: format!("install the package qemu-utils, which has {PROGRAM}"),
        },
        _ => Error::io("start qemu-img for", part.path, error),
    })?;
    let output = wait(child, cancel).map_err(|e| Error::io("read", part.path, e))?;
    let Some(output) = output else { return Err(Error::Cancelled) };
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(part.bad(format!("cannot be read: {}", said(&output))))
}

/// Waits for a program's end, or ends it. `None` where it was cancelled.
fn wait(mut child: Child, cancel: &AtomicBool) -> std::io::Result<Option<Output>> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(move || drain(out));
        let err = scope.spawn(move || drain(err));
        let status = loop {
            if cancel.load(Ordering::Relaxed) {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            match child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| handle.join().unwrap_or_default();
        Ok(Some(Output { status, stdout: join(out), stderr: join(err) }))
    })
}

fn drain(from: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What cannot be read is told by how the program ends.
        let _ = from.take(LONGEST).read_to_end(&mut bytes);
    }
    bytes
}

/// What QEMU says, without the arguments that it was given.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason");
    let line = line.strip_prefix("qemu-img: ").unwrap_or(line);
    let line = match line.rsplit_once("}': ") {
        Some((_, reason)) => reason,
        None => line,
    };
    let status = output.status.code().map_or_else(|| output.status.to_string(), |c| c.to_string());
    format!("{} (qemu-img, {status})", line.trim_end_matches('.'))
}
