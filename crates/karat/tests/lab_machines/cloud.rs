//! A lab with machines for one test, and the `aws` command line pointed at it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Machines boot slowly on a busy computer, and the first one makes its base.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);

/// A lab of one's own; it ends with the test.
pub(crate) struct Cloud {
    pub(crate) dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.state().join("lab/lab.log"));
            note(&format!("the lab's log:\n{}", log.unwrap_or_default()));
        }
        let _ = self.karat(&["lab", "down"]);
    }
}

/// The layers of all tests' machines.
fn store() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-store")
}

/// A folder on a file system that can hold disks of machines: not on an overlay.
fn folder() -> Option<tempfile::TempDir> {
    let places = [PathBuf::from(env!("CARGO_TARGET_TMPDIR")), std::env::temp_dir()];
    let overlay = nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
    let good = |place: &&PathBuf| {
        nix::sys::statfs::statfs(place.as_path()).is_ok_and(|s| s.filesystem_type() != overlay)
    };
    let place = places.iter().find(good)?;
    Some(tempfile::Builder::new().prefix("lab-").tempdir_in(place).unwrap())
}

/// A lab, unless machines or the clients cannot be had here.
pub(crate) fn cloud() -> Option<Cloud> {
    cloud_with("")
}

/// The same with more in its settings.
pub(crate) fn cloud_with(settings: &str) -> Option<Cloud> {
    if !nix::unistd::geteuid().is_root() {
        note("skipped: local machines need root");
        return None;
    }
    let aws = Command::new("aws").arg("--version").output();
    let said = aws.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    // Older ones do not know AWS_ENDPOINT_URL.
    if !["aws-cli/1.4", "aws-cli/1.5", "aws-cli/2."]
        .iter()
        .any(|v| String::from_utf8_lossy(&said).starts_with(v))
    {
        note("skipped: a current aws command line is not installed");
        return None;
    }
    let Some(dir) = folder() else {
        note("skipped: there is no file system for disks of machines");
        return None;
    };
    let folder = dir.path().join("lab");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("lab.toml"), format!("store = {:?}\n{settings}", store())).unwrap();
    let mut cloud = Cloud { dir, variables: Vec::new() };
    cloud.up();
    Some(cloud)
}

impl Cloud {
    pub(crate) fn state(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        store()
    }

    pub(crate) fn karat(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_karat"));
        command.args(args).env("KARAT_STATE_DIR", self.state()).env_remove("PACKER_LOG");
        command.env("KARAT_LOG", "karat_lab=info,karat_machine=info").output().unwrap()
    }

    /// Starts the lab, and has the client ask it.
    pub(crate) fn up(&mut self) {
        let up = self.karat(&["lab", "up", "-listen", "127.0.0.1:0", "-machines", "true"]);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let env = self.karat(&["lab", "env", "-json"]);
        let json: Value = serde_json::from_slice(&env.stdout).unwrap();
        let pair = |(name, value): (&String, &Value)| {
            (name.clone(), value.as_str().unwrap_or_default().to_owned())
        };
        self.variables = json.as_object().unwrap().iter().map(pair).collect();
    }

    pub(crate) fn down(&self) {
        let down = self.karat(&["lab", "down"]);
        assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        self.variables.clone()
    }

    /// A client that finds the lab by its environment alone.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.env("AWS_MAX_ATTEMPTS", "3").env("NO_PROXY", "*").env("HOME", self.dir.path());
        command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
        command.stdin(Stdio::null());
        command
    }

    /// A call of the `aws` command line; words are separated by blanks.
    pub(crate) fn aws(&self, line: &str) -> Value {
        self.try_aws(line).unwrap_or_else(|said| panic!("aws {line}: {said}"))
    }

    pub(crate) fn try_aws(&self, line: &str) -> Result<Value, String> {
        let output = self
            .client("aws")
            .args(["--output", "json"])
            .args(line.split_whitespace())
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Waits until an instance is in a state.
    pub(crate) fn wait_for(&self, instance: &str, state: &str) -> Value {
        let begun = Instant::now();
        loop {
            let all = self.aws(&format!("ec2 describe-instances --instance-ids {instance}"));
            let found = &all["Reservations"][0]["Instances"][0];
            if found["State"]["Name"] == state {
                return found.clone();
            }
            let ended = found["State"]["Name"] == "terminated";
            assert!(!ended && begun.elapsed() < PATIENCE, "not {state}: {found}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until an image can be used.
    pub(crate) fn wait_for_image(&self, image: &str) -> Value {
        let begun = Instant::now();
        loop {
            let all = self.aws(&format!("ec2 describe-images --image-ids {image}"));
            let found = &all["Images"][0];
            if found["State"] == "available" {
                return found.clone();
            }
            assert!(found["State"] == "pending" && begun.elapsed() < PATIENCE, "{found}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The newest base image of Debian.
    pub(crate) fn base(&self) -> String {
        let all = self.aws(
            "ec2 describe-images --owners 136693071363 --filters Name=name,Values=debian-13-*",
        );
        text(&all["Images"][0]["ImageId"]).to_owned()
    }

    /// A key pair, whose private half is in the file.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt;
        let made = self.aws(&format!("ec2 create-key-pair --key-name {name} --key-type ed25519"));
        let path = self.dir.path().join(name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o600).open(&path).unwrap();
        // ssh does not read it without the end of its last line.
        file.write_all(format!("{}\n", text(&made["KeyMaterial"])).as_bytes()).unwrap();
        path
    }

    /// A security group that lets this computer log in.
    pub(crate) fn group(&self, name: &str) -> String {
        let made = self.aws(&format!(
            "ec2 create-security-group --group-name {name} --description for-a-test"
        ));
        let id = text(&made["GroupId"]).to_owned();
        self.aws(&format!(
            "ec2 authorize-security-group-ingress --group-id {id} --protocol tcp --port 22 --cidr 127.0.0.1/32"
        ));
        id
    }

    /// Launches one instance; gives its id.
    pub(crate) fn launch(&self, more: &str) -> String {
        let made = self.aws(&format!("ec2 run-instances --instance-type t3.micro {more}"));
        text(&made["Instances"][0]["InstanceId"]).to_owned()
    }

    /// Runs a command in an instance over ssh, as soon as it lets us in.
    pub(crate) fn ssh(&self, key: &Path, to: &str, command: &str) -> String {
        let begun = Instant::now();
        loop {
            let output = self.try_ssh(key, to, command);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => return String::from_utf8(output.stdout).unwrap(),
                // ssh's own failures: it does not serve yet.
                Some(255) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                _ => panic!("ssh {to} {command}: {} {said}", output.status),
            }
        }
    }

    pub(crate) fn try_ssh(&self, key: &Path, to: &str, command: &str) -> Output {
        self.ssh_command(key, to, command).output().unwrap()
    }

    pub(crate) fn ssh_command(&self, key: &Path, to: &str, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR", "-i"]).arg(key);
        ssh.arg(to).arg(command).stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
        ssh
    }

    /// What is left over, images aside if asked for.
    pub(crate) fn left(&self, images_aside: bool) -> String {
        let mut args = vec!["lab", "audit"];
        if images_aside {
            args.push("-images");
        }
        String::from_utf8(self.karat(&args).stdout).unwrap()
    }
}

/// A text of an answer.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
