//! Roots, specifications and a picture of the host for the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use karat_machine::runtime::MachineSpec;

/// The suites that every test of substance runs on.
pub(crate) const SUITES: [&str; 2] = ["bookworm", "trixie"];

const PACKAGES: &str =
    "systemd-sysv,dbus,openssh-server,cloud-init,iproute2,ca-certificates,netbase,curl";

/// Whether machines can be started here at all.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let note = b"skipped: local machines need root\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), note);
    }
    root
}

/// A minimal Debian root of a suite, made on first use.
pub(crate) fn debian(suite: &str) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = std::env::var_os("KARAT_TEST_CACHE")
        .filter(|dir| Path::new(dir).is_absolute())
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = cache.join(format!("{suite}.dir"));
    if !dir.join("etc/debian_version").exists() {
        fs::create_dir_all(&cache).unwrap();
        let half = cache.join(format!("{suite}.half"));
        let _ = fs::remove_dir_all(&half);
        let status = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), suite])
            .arg(&half)
            .status()
            .expect("mmdebstrap is installed");
        assert!(status.success(), "mmdebstrap {suite}");
        fs::rename(&half, &dir).unwrap();
    }
    dir
}

/// A folder for machines that disappears with the test.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("karat-test-").tempdir().unwrap()
}

/// A machine on a Debian root.
pub(crate) fn spec(id: &str, suite: &str, folder: &Path) -> MachineSpec {
    let mut spec = MachineSpec::new(id, vec![debian(suite)], folder.join(id));
    spec.supervisor = Some(env!("CARGO_BIN_EXE_karat-machine-probe").into());
    spec
}

/// What a machine could leave on a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    processes: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    run: BTreeSet<String>,
}

/// Tests that compare hosts run alone.
pub(crate) fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: OnceLock<tokio::sync::Mutex<()>> = OnceLock::new();
    ALONE.get_or_init(Default::default).blocking_lock()
}

impl Host {
    /// Looks at it, as far as machines whose ids begin with `mark` are concerned.
    pub(crate) fn look(mark: &str) -> Self {
        let lines = |program: &str, arguments: &[&str]| -> BTreeSet<String> {
            let output = Command::new(program).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        };
        let mut cgroups = BTreeSet::new();
        list_dirs(Path::new("/sys/fs/cgroup"), 3, &mut cgroups);
        cgroups.retain(|path| path.contains(mark));
        let mut processes = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if name.chars().all(|c| c.is_ascii_digit())
                && (line.contains(mark) || cgroup.contains(mark))
                && name != std::process::id().to_string()
            {
                processes.insert(format!("{name} {line}"));
            }
        }
        let mut run = BTreeSet::new();
        for dir in ["/run", "/run/systemd", "/run/systemd/nspawn", "/run/netns"] {
            if let Ok(entries) = fs::read_dir(dir) {
                run.extend(entries.flatten().map(|e| e.path().display().to_string()));
            }
        }
        let mut mounts = lines("findmnt", &["--raw", "--noheadings", "--output=TARGET,FSTYPE"]);
        // Others on this host mount and unmount too.
        mounts.retain(|line| line.contains(mark) || line.contains("karat"));
        let mut links = lines("ip", &["-brief", "link"]);
        links = links.iter().filter_map(|l| l.split_whitespace().next()).map(Into::into).collect();
        Self { mounts, links, namespaces: lines("ip", &["netns"]), processes, cgroups, run }
    }
}

fn list_dirs(dir: &Path, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.insert(entry.path().display().to_string());
            if depth > 0 {
                list_dirs(&entry.path(), depth - 1, found);
            }
        }
    }
}
