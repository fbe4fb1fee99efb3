//! A state folder with a base layer in it, a template, and the program to be killed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use karat_testing::host_state::{HostState, Lookout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a build may take on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// A source whose base is made quickly, and three provisioners that use files and a command.
const TEMPLATE: &str = r#"
variable "greeting" {
  default = "hello"
}

variable "wait" {
  default = "0"
}

source "machine" "small" {
  packages         = ["linux-image-cloud-amd64"]
  disk_format      = "raw"
  disk_free        = "16M"
  firmware         = "bios"
  output_directory = "${path.root}/out"
}

build {
  sources = ["machine.small"]

  provisioner "file" {
    content     = var.greeting
    destination = "/etc/greeting"
  }

  provisioner "shell" {
    inline = [
      "cat /etc/greeting",
      "echo the script runs",
      "sleep ${var.wait}",
    ]
  }
}
"#;

/// One at a time: the tests share the base layer and measure the same host.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether machines can be started here at all.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let _ = std::io::stderr().write_all(b"skipped: local machines need root\n");
    }
    root
}

/// A folder with everything of one test below it.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) state: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Lab {
    /// With the base layer in the store and a disk in the output folder.
    pub(crate) fn with_base() -> Self {
        let store = made_once();
        let lab = Self::empty();
        copy(&store.join("state"), &lab.state);
        copy(&store.join("cache"), &lab.cache);
        copy(&store.join("out"), &lab.dir.path().join("out"));
        lab
    }

    /// With downloaded packages and nothing else.
    pub(crate) fn cold() -> Self {
        let store = made_once();
        let lab = Self::empty();
        copy(&store.join("cache"), &lab.cache);
        // The lock names the packages that are in the cache.
        fs::create_dir_all(&lab.state).unwrap();
        copy(&store.join("state/apt"), &lab.state.join("apt"));
        lab
    }

    /// With nothing but the template.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crash-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let (state, cache) = (dir.path().join("state"), dir.path().join("cache"));
        fs::create_dir(dir.path().join("tmp")).unwrap();
        let lab = Self { dir, state, cache };
        lab.template(TEMPLATE);
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn template(&self, text: &str) {
        fs::write(self.path("t.pkr.hcl"), text).unwrap();
    }

    /// What is looked at: all but the journal, kept layers, records and locks.
    pub(crate) fn lookout(&self) -> Lookout {
        let kept = ["journal.db", "layers", "keys", "blobs", "locks", "apt", "builds", "artifacts"];
        let mut free: Vec<PathBuf> = kept.iter().map(|name| self.state.join(name)).collect();
        // Made at the first need, and empty unless something is going on.
        free.push(self.cache.clone());
        Lookout {
            mark: self.dir.path().into(),
            folders: vec![self.state.clone(), self.path("out"), self.path("tmp")],
            free,
        }
    }

    pub(crate) fn look(&self) -> HostState {
        // Recovery removes the folder of machines when none is in it; a build makes it.
        let _ = fs::remove_dir(self.state.join("machines"));
        HostState::look(&self.lookout())
    }

    /// The program with the folders of this test.
    pub(crate) fn karat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_karat"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("KARAT_STATE_DIR", &self.state)
            .env("KARAT_CACHE_DIR", &self.cache)
            .env("TMPDIR", self.path("tmp"))
            .env_remove("KARAT_FAULT")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.karat(arguments).output().unwrap()
    }

    /// A build whose layer is new: `greeting` is what makes it so.
    pub(crate) fn build(&self, greeting: &str, faults: &str) -> Output {
        self.building(greeting, "0").env("KARAT_FAULT", faults).output().unwrap()
    }

    fn building(&self, greeting: &str, wait: &str) -> Command {
        self.karat(&[
            "build",
            "-force",
            "-var",
            &format!("greeting={greeting}"),
            "-var",
            &format!("wait={wait}"),
            "t.pkr.hcl",
        ])
    }

    /// A build that goes on while the test does.
    pub(crate) fn start(&self, greeting: &str, wait: &str) -> Running {
        Running::start(self.building(greeting, wait))
    }

    /// Recovers, and fails if that does not succeed.
    pub(crate) fn recover(&self) -> String {
        let output = self.output(&["recover"]);
        assert!(output.status.success(), "karat recover: {}", text(&output));
        text(&output)
    }

    /// Shows, recovers, compares, and recovers once more.
    pub(crate) fn recovered(&self, before: &HostState, moment: &str) {
        self.list(moment);
        self.recover();
        self.clean(before, moment);
        let again = self.recover();
        assert_eq!(again, "Nothing to recover.\n", "{moment}: a second recovery");
    }

    /// `karat recover --list` changes nothing.
    fn list(&self, moment: &str) {
        // The kernel is still ending what the dead process ran.
        std::thread::sleep(Duration::from_millis(300));
        // Reading a journal tidies its files up, also that of a comparison of builds.
        let look = || {
            let mut files = self.look().files;
            files.retain(|path, _| !path.to_string_lossy().contains("/journal.db"));
            files
        };
        let files = look();
        let output = self.output(&["recover", "--list"]);
        assert!(output.status.success(), "{moment}: {}", text(&output));
        assert_eq!(look(), files, "{moment}: --list changed something");
    }

    /// The host is as it was.
    pub(crate) fn clean(&self, before: &HostState, moment: &str) {
        let _ = fs::remove_dir(self.state.join("machines"));
        let left = before.settle(&self.lookout(), Duration::from_secs(20));
        assert!(left.is_empty(), "{moment} left something:\n  {}", left.join("\n  "));
        for layer in fs::read_dir(self.state.join("layers")).into_iter().flatten().flatten() {
            let whole = layer.path().join("layer.json").exists();
            assert!(whole, "{moment}: half a layer: {}", layer.path().display());
        }
    }
}

/// Standard output and error in one text.
pub(crate) fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// A build that was started.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Arc<Mutex<String>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let seen = Arc::new(Mutex::new(String::new()));
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let (sender, seen) = (sender.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.push_str(&line);
                    seen.push('\n');
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, seen }
    }

    /// Waits for a line with this text in it.
    pub(crate) fn until(&self, wanted: &str) {
        let begun = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(wanted) => return,
                Ok(_) => {}
                Err(_) => panic!("no \"{wanted}\" in:\n{}", self.seen()),
            }
        }
    }

    /// All that was printed so far.
    pub(crate) fn seen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits for the end; gives the exit code, or minus the signal.
    pub(crate) fn end(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.seen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The state, the cache and the disk of one whole build, kept for the next time the tests run.
fn made_once() -> PathBuf {
    let done = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash-base");
    let version = done.join("version");
    let wanted = format!("{}\n{TEMPLATE}", env!("CARGO_PKG_VERSION"));
    if fs::read_to_string(&version).is_ok_and(|found| found == wanted) {
        return done;
    }
    let _ = fs::remove_dir_all(&done);
    let lab = Lab::empty();
    let output = lab.build("first", "");
    assert!(output.status.success(), "the build of the base failed: {}", text(&output));
    fs::create_dir_all(&done).unwrap();
    for name in ["state", "cache", "out"] {
        fs::rename(lab.path(name), done.join(name)).unwrap();
    }
    fs::write(version, wanted).unwrap();
    done
}

/// A copy of a folder in which files that nothing writes to are the same ones.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--link", "--"]).arg(from).arg(to).status();
    assert!(status.unwrap().success(), "cp {} {}", from.display(), to.display());
    // The journal is written to.
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let (own, other) = (to.join(name), from.join(name));
        if other.exists() {
            fs::remove_file(&own).unwrap();
            fs::copy(other, own).unwrap();
        }
    }
}
