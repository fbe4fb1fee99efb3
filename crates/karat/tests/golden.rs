//! The example of a golden image: it builds, its disks boot by both firmwares and do what it says,
//! and a changed page rebuilds one layer.
//!
//! The image is the one that `make demo` builds, in the same place, so it is built once.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use karat_testing::qemu::{Firmware, Machine, Qemu};

/// Emulated, beside another machine, on a small computer.
const PATIENCE: Duration = Duration::from_secs(900);

/// One of these tests at a time: each keeps all processors busy.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether the test can run here; otherwise it says why not.
fn possible(programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        note("skipped: local machines need root");
        return false;
    }
    for program in programs {
        if Command::new(program).arg("--version").output().is_err() {
            note(&format!("skipped: {program} is missing (scripts/install-packages test)"));
            return false;
        }
    }
    true
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/golden").canonicalize().unwrap()
}

/// Cargo's folder for what is built, in which the demo puts its disks.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// Runs the program in a folder.
fn karat(command: &str, folder: &Path, output: &Path, template: &Path) -> String {
    fs::create_dir_all(folder).unwrap();
    let directory = format!("output_directory={}", output.display());
    let done = Command::new(env!("CARGO_BIN_EXE_karat"))
        .args([command, "-var", &directory])
        .arg(template)
        .current_dir(folder)
        .env_remove("KARAT_FAULT")
        .output()
        .unwrap();
    let text = both(&done);
    assert!(done.status.success(), "karat {command}: {}\n{text}", done.status);
    text
}

fn both(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The folder with the disks, built on first use.
fn golden() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let output = target().join("golden");
        karat("build", &target(), &output, &example());
        output
    };
    BUILT.get_or_init(build).clone()
}

/// A booted image, with a key to log in.
struct Booted {
    machine: Machine,
    folder: tempfile::TempDir,
    name: String,
}

impl Booted {
    /// Boots a disk on an overlay with more room, and gives cloud-init a key.
    fn start(disk: &str, firmware: Firmware) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let run = |command: &mut Command| {
            let done = command.output().unwrap();
            assert!(done.status.success(), "{command:?}\n{}", both(&done));
        };
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(at("key")));
        let key = fs::read_to_string(at("key.pub")).unwrap();
        fs::create_dir(at("seed")).unwrap();
        fs::write(at("seed/meta-data"), "instance-id: golden-test\nlocal-hostname: tested\n")
            .unwrap();
        fs::write(at("seed/user-data"), format!("#cloud-config\nssh_authorized_keys:\n  - {key}"))
            .unwrap();
        let format = disk.rsplit('.').next().unwrap();
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
            .arg(golden().join(disk))
            .arg(at("overlay.qcow2"))
            .arg("6G"));
        let seed = format!(
            "if=virtio,format=raw,readonly=on,file.driver=vvfat,file.dir={},file.label=cidata",
            at("seed").display()
        );
        let machine = Qemu::new(at("overlay.qcow2"), firmware)
            .unwrap()
            // Two machines run at a time, emulated: more would keep each other from their timers.
            .processors(1)
            .forward(22)
            .forward(80)
            .extra(["-drive", &seed])
            .start()
            .unwrap();
        Self { machine, folder, name: format!("{disk} by {firmware:?}") }
    }

    /// Tries until it works.
    fn until<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            match attempt() {
                Ok(value) => return value,
                Err(error) if Instant::now() > end => {
                    let console = self.machine.console();
                    let from = console.len().saturating_sub(6000);
                    let from = (from..console.len()).find(|at| console.is_char_boundary(*at));
                    let tail = &console[from.unwrap_or(console.len())..];
                    panic!("{}: no {what}: {error}\n{tail}", self.name);
                }
                Err(_) => thread::sleep(Duration::from_secs(2)),
            }
        }
    }

    fn get(&self, path: &str) -> Result<String, String> {
        let port = self.machine.port(80).unwrap();
        let get = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: golden\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let answer = get().map_err(|error: std::io::Error| error.to_string())?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(format!("the answer was {answer:?}")),
        }
    }

    /// Runs a script by ssh as the default user.
    fn ssh(&self, script: &str) -> Output {
        let port = self.machine.port(22).unwrap().to_string();
        Command::new("ssh")
            .args(["-q", "-F", "none", "-p", &port, "-i"])
            .arg(self.folder.path().join("key"))
            .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=60"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["debian@127.0.0.1", script])
            .output()
            .unwrap()
    }

    /// What a script prints; it has to succeed.
    fn says(&self, script: &str) -> String {
        // 255 is ssh's own: a computer that is busy may be late to answer.
        let mut done = self.ssh(script);
        for _ in 0..5 {
            if done.status.code() != Some(255) {
                break;
            }
            done = self.ssh(script);
        }
        assert!(done.status.success(), "{}: {script}\n{}", self.name, both(&done));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }
}

/// Boots one disk by one firmware and looks at everything that the example promises.
fn boots(disk: &str, firmware: Firmware) {
    let booted = Booted::start(disk, firmware);
    let name = booted.name.clone();
    let page = booted.until("page", || booted.get("/"));
    assert_eq!(page, fs::read_to_string(example().join("files/index.html")).unwrap(), "{name}");
    assert_eq!(booted.get("/version").unwrap(), "1.0.0\n", "{name}");

    booted.until("login", || match booted.ssh("true") {
        done if done.status.success() => Ok(()),
        done => Err(both(&done)),
    });
    // Waits until nothing is left to be started. It fails when units failed; they are named.
    let state = booted.ssh("systemctl is-system-running --wait");
    let failed = booted.says("systemctl list-units --failed --plain --no-legend");
    assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "running", "{name}: {failed}");
    assert_eq!(failed, "", "{name}");

    let efi = booted.ssh("test -d /sys/firmware/efi").status.success();
    assert_eq!(efi, firmware == Firmware::Uefi, "{name}");
    let size: u64 = booted.says("df --block-size=1 --output=size / | tail -n 1").parse().unwrap();
    assert!(size > 5 << 30, "{name}: the root has {size} bytes of a disk of 6 GiB");
    assert_eq!(booted.says("hostname"), "tested", "{name}");
    let facts = booted.get("/facts.json").unwrap();
    assert!(facts.contains("\"version\": \"1.0.0\""), "{name}: {facts}");

    // What the hardening promises.
    let tmp = booted.says("findmnt --noheadings --output OPTIONS /tmp");
    assert!(["nosuid", "nodev", "noexec"].iter().all(|option| tmp.contains(option)), "{tmp}");
    let settings = booted.says(
        "sudo sysctl -n net.ipv4.conf.all.log_martians net.ipv4.conf.all.accept_redirects \
         kernel.kptr_restrict fs.suid_dumpable",
    );
    assert_eq!(settings, "1\n0\n2\n0", "{name}");
    let sshd = booted.says("sudo sshd -T");
    for line in ["permitrootlogin no", "passwordauthentication no", "x11forwarding no"] {
        assert!(sshd.lines().any(|l| l == line), "{name}: no {line:?} in\n{sshd}");
    }
    let active = "systemctl is-active auditd apparmor unattended-upgrades podman.socket nginx";
    assert_eq!(booted.says(active), ["active"; 5].join("\n"), "{name}");
    assert!(booted.says("sudo auditctl -s").contains("enabled 1"), "{name}");
    assert_eq!(booted.says("sudo aa-status --enabled && echo yes"), "yes", "{name}");
    assert!(booted.says("sudo cat /var/log/sudo.log").contains("COMMAND="), "{name}");

    // The container runtime answers, and runs a container made of the image's own shell.
    let ping = "sudo curl -fsS --unix-socket /run/podman/podman.sock http://podman/_ping";
    assert_eq!(booted.says(ping), "OK", "{name}");
    let contained = booted.says(
        "sudo sh -e -c 'mkdir -p /var/lib/box/proc /var/lib/box/sys /var/lib/box/dev \
         /var/lib/box/etc /var/lib/box/run /var/lib/box/tmp; \
         ldd /bin/dash | grep -o \"/[^ ]*\" | xargs cp --parents -L -t /var/lib/box; \
         cp --parents -L /bin/dash /var/lib/box; \
         podman run --rm --network none --rootfs /var/lib/box /bin/dash -c \"echo contained\"'",
    );
    assert_eq!(contained, "contained", "{name}");
}

#[test]
fn disks_boot_by_bios_and_uefi() {
    if !possible(&["qemu-system-x86_64", "qemu-img", "systemd-nspawn"]) {
        return;
    }
    let _alone = alone();
    golden();
    // Two machines at a time.
    for pair in [
        [("golden.raw", Firmware::Bios), ("golden.qcow2", Firmware::Uefi)],
        [("golden.qcow2", Firmware::Bios), ("golden.raw", Firmware::Uefi)],
    ] {
        thread::scope(|scope| {
            for (disk, firmware) in pair {
                scope.spawn(move || boots(disk, firmware));
            }
        });
    }
}

#[test]
fn a_changed_page_rebuilds_only_the_layer_of_the_application() {
    if !possible(&["systemd-nspawn"]) {
        return;
    }
    let _alone = alone();
    // In the same place each time, so that the base is found again.
    let copy = target().join("golden-copy");
    let (template, output) = (copy.join("golden"), Path::new("output"));
    sync(&example(), &template);
    karat("build", &copy, output, &template);

    let unchanged = karat("build", &copy, output, &template);
    assert!(!unchanged.contains("Powering the machine off"), "{unchanged}");
    for target in ["base.machine.debian", "app.machine.web"] {
        let line = unchanged.lines().find(|l| l.contains(target) && l.contains("up to date"));
        assert!(line.is_some(), "{target} is not up to date in\n{unchanged}");
    }

    // Where nobody built yet, there are no disks.
    let elsewhere = karat("plan", &copy.join("elsewhere"), output, &template);
    assert!(elsewhere.contains("output directory"), "{elsewhere}");
    assert!(elsewhere.contains("1 to build, 1 up to date."), "{elsewhere}");

    let page = template.join("files/index.html");
    let text = fs::read_to_string(&page).unwrap().replace("It works", "It still works");
    fs::write(&page, text).unwrap();
    let plan = karat("plan", &copy, output, &template);
    let (base, app) = plan.split_once("app.machine.web").expect("the plan has the application");
    assert!(base.contains("= base.machine.debian\n    up to date"), "{plan}");
    assert!(app.contains("build: ") && app.contains("files/index.html"), "{plan}");
    assert!(plan.contains("1 to build, 1 up to date."), "{plan}");

    let disk = copy.join(output).join("golden.raw");
    let before = fs::metadata(&disk).unwrap().modified().unwrap();
    let rebuilt = karat("build", &copy, output, &template);
    let base =
        rebuilt.lines().find(|l| l.contains("base.machine.debian") && l.contains("up to date"));
    assert!(base.is_some(), "{rebuilt}");
    assert!(rebuilt.contains("==> app.machine.web: Powering the machine off"), "{rebuilt}");
    assert!(fs::metadata(&disk).unwrap().modified().unwrap() > before);
    // The disks are large, and the layers they are made of are kept.
    fs::remove_dir_all(copy.join(output)).unwrap();
}

/// Makes a folder's files those of another; what is equal keeps its time.
fn sync(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            sync(&entry.path(), &target);
        } else if fs::read(&target).ok() != fs::read(entry.path()).ok() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
