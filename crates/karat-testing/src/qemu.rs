//! Boots a disk image under QEMU with its serial console in hand and a deadline on every wait.
//!
//! The image is never changed: QEMU writes to a snapshot that goes away with it. Hardware
//! virtualisation is used on real machines that offer it. Inside a virtual machine it may be
//! offered and yet hang, so there QEMU emulates, unless `KARAT_TEST_KVM=1` says otherwise
//! (`KARAT_TEST_KVM=0` always emulates).

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::port::free_port;

/// Firmware of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, which QEMU brings along.
    Bios,
    /// OVMF, from the package `ovmf`.
    Uefi,
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct Qemu {
    image: PathBuf,
    format: &'static str,
    firmware: Firmware,
    memory: u32,
    processors: u32,
    forwards: Vec<u16>,
    log: Option<PathBuf>,
    extra: Vec<String>,
}

/// Why a machine did not do what was waited for.
#[derive(Debug)]
pub enum BootError {
    /// QEMU could not be started, or a file for it is missing.
    Start(String),
    /// The deadline passed. Holds what was waited for and the end of the serial log.
    Deadline {
        /// What was waited for.
        wanted: String,
        /// The end of the serial log.
        log: String,
    },
    /// The machine stopped. Holds what was waited for, and the end of the log with QEMU's words.
    Stopped {
        /// What was waited for.
        wanted: String,
        /// The end of the serial log, then what QEMU itself said.
        log: String,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(reason) => out.write_str(reason),
            Self::Deadline { wanted, log } => {
                write!(out, "the deadline passed before {wanted:?}; the log ends:\n{log}")
            }
            Self::Stopped { wanted, log } => {
                write!(out, "the machine stopped before {wanted:?}; the log ends:\n{log}")
            }
        }
    }
}

impl std::error::Error for BootError {}

impl Qemu {
    /// A machine with this disk, raw or qcow2 by the image's own first bytes.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn new(image: impl Into<PathBuf>, firmware: Firmware) -> io::Result<Self> {
        let image = image.into();
        let mut magic = [0u8; 4];
        File::open(&image)?.read_exact(&mut magic)?;
        let format = if &magic == b"QFI\xFB" { "qcow2" } else { "raw" };
        Ok(Self {
            image,
            format,
            firmware,
            memory: 1024,
            processors: 2,
            forwards: Vec::new(),
            log: None,
            extra: Vec::new(),
        })
    }

    /// Memory in MiB; 1024 unless set.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Processors; 2 unless set.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }

    /// Makes a TCP port of the machine reachable; see [`Machine::port`]. Gives the machine a
    /// network card with outbound network.
    #[must_use]
    pub fn forward(mut self, guest_port: u16) -> Self {
        self.forwards.push(guest_port);
        self
    }

    /// Also writes the serial console to this file.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Further words for QEMU's command line.
    #[must_use]
    pub fn extra<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.extra.extend(words.into_iter().map(Into::into));
        self
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// QEMU or OVMF is missing, or the log cannot be written.
    pub fn start(self) -> Result<Machine, BootError> {
        let start = |what: &str, error: io::Error| BootError::Start(format!("{what}: {error}"));
        let scratch =
            tempfile::tempdir().map_err(|error| start("cannot make a directory", error))?;
        let accelerated = accelerated();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35", "-accel"]);
        command.arg(if accelerated { "kvm" } else { "tcg,thread=multi" });
        if !accelerated {
            // QEMU 7.2 now and then loses the flags after cmpxchg16b, and the kernel panics. Without
            // that feature kernels do not use it.
            command.args(["-cpu", "qemu64,-cx16"]);
        }
        command.args(["-m", &self.memory.to_string(), "-smp", &self.processors.to_string()]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-drive").arg(format!(
            "if=virtio,snapshot=on,format={},file={}",
            self.format,
            escape(&self.image)
        ));
        if self.firmware == Firmware::Uefi {
            let (code, variables) = ovmf()?;
            let own = scratch.path().join("variables.fd");
            std::fs::copy(&variables, &own)
                .map_err(|error| start("cannot copy OVMF's variables", error))?;
            let code = escape(&code);
            command.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={code}")]);
            let own = escape(&own);
            command.args(["-drive", &format!("if=pflash,format=raw,file={own}")]);
        }
        let mut ports = Vec::new();
        if self.forwards.is_empty() {
            command.args(["-nic", "none"]);
        } else {
            let mut card = "user,model=virtio-net-pci".to_owned();
            for guest in &self.forwards {
                let host = free_port().map_err(|error| start("no free port", error))?;
                card.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
                ports.push((*guest, host));
            }
            command.args(["-nic", &card]);
        }
        command.args(["-device", "virtio-rng-pci"]).args(&self.extra);
        let log = match &self.log {
            Some(path) => {
                Some(File::create(path).map_err(|error| start("cannot write the log", error))?)
            }
            None => None,
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let what = "cannot start qemu-system-x86_64 (package qemu-system-x86)";
                start(what, error)
            })?;
        let console = Arc::new(Console::default());
        let threads = [
            child.stdout.take().map(|pipe| follow(pipe, console.clone(), false, log)),
            child.stderr.take().map(|pipe| follow(pipe, console.clone(), true, None)),
        ];
        let input = child.stdin.take();
        Ok(Machine { child, input, console, ports, threads, _scratch: scratch })
    }
}

/// Whether to trust the hardware's virtualisation.
fn accelerated() -> bool {
    let nested = || {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        cpu.split_whitespace().any(|flag| flag == "hypervisor")
    };
    let usable = File::options().read(true).write(true).open("/dev/kvm").is_ok();
    match std::env::var("KARAT_TEST_KVM").as_deref() {
        Ok("1") => usable,
        Ok(_) => false,
        Err(_) => usable && !nested(),
    }
}

/// Commas separate options on QEMU's command line and are written twice.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// OVMF's code and an empty store of variables.
fn ovmf() -> Result<(PathBuf, PathBuf), BootError> {
    let pairs = [
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ];
    pairs
        .into_iter()
        .map(|(code, variables)| (PathBuf::from(code), PathBuf::from(variables)))
        .find(|(code, variables)| code.exists() && variables.exists())
        .ok_or_else(|| BootError::Start("OVMF is missing; install the package ovmf".into()))
}

/// What the serial console and QEMU itself have said.
#[derive(Debug, Default)]
struct Console {
    state: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    serial: Vec<u8>,
    errors: Vec<u8>,
    closed: bool,
}

fn follow(
    mut pipe: impl Read + Send + 'static,
    console: Arc<Console>,
    errors: bool,
    mut log: Option<File>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0u8; 4096];
        loop {
            let read = pipe.read(&mut buffer).unwrap_or(0);
            if let Some(log) = &mut log {
                // A log that cannot be written must not stop the machine.
                let _ = log.write_all(&buffer[..read]);
            }
            let mut said = console.state.lock().unwrap_or_else(PoisonError::into_inner);
            if errors {
                said.errors.extend(&buffer[..read]);
            } else {
                said.serial.extend(&buffer[..read]);
                said.closed |= read == 0;
            }
            drop(said);
            console.changed.notify_all();
            if read == 0 {
                break;
            }
        }
    })
}

/// A machine that runs; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    input: Option<ChildStdin>,
    console: Arc<Console>,
    ports: Vec<(u16, u16)>,
    threads: [Option<JoinHandle<()>>; 2],
    _scratch: tempfile::TempDir,
}

impl Machine {
    /// Waits until a text stands on the serial console, at the latest for `deadline`.
    ///
    /// # Errors
    /// The deadline passed or the machine stopped.
    pub fn wait_for(&self, text: &str, deadline: Duration) -> Result<(), BootError> {
        self.wait_for_any(&[text], deadline).map(|_| ())
    }

    /// Waits until one of several texts stands on the serial console; gives its index.
    ///
    /// # Errors
    /// The deadline passed or the machine stopped.
    pub fn wait_for_any(&self, texts: &[&str], deadline: Duration) -> Result<usize, BootError> {
        let end = Instant::now() + deadline;
        let mut said = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let log = String::from_utf8_lossy(&said.serial);
            if let Some(index) = texts.iter().position(|text| log.contains(text)) {
                return Ok(index);
            }
            let wanted = texts.join("\" or \"");
            if said.closed {
                let errors = String::from_utf8_lossy(&said.errors);
                let log = format!("{}\n{errors}", tail(&log));
                return Err(BootError::Stopped { wanted, log });
            }
            let now = Instant::now();
            if now >= end {
                return Err(BootError::Deadline { wanted, log: tail(&log) });
            }
            drop(log);
            said = self
                .console
                .changed
                .wait_timeout(said, end - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Types on the serial console.
    ///
    /// # Errors
    /// The machine has stopped.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        match &mut self.input {
            Some(input) => {
                input.write_all(text.as_bytes())?;
                input.flush()
            }
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The port of this computer that leads to a forwarded port of the machine.
    #[must_use]
    pub fn port(&self, guest_port: u16) -> Option<u16> {
        self.ports.iter().find(|port| port.0 == guest_port).map(|port| port.1)
    }

    /// All that the serial console has said.
    #[must_use]
    pub fn console(&self) -> String {
        let said = self.console.state.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said.serial).into_owned()
    }

    /// Stops the machine at once.
    pub fn stop(self) {}
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            let _ = thread.join();
        }
    }
}

/// The last 4000 characters or so.
fn tail(log: &str) -> String {
    let start = log.len().saturating_sub(4000);
    let start = (start..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
    log[start..].to_owned()
}
