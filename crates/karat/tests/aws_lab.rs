//! The program against the lab, led there by the environment alone: killed at every point of a
//! build, recovered, interrupted. Then the lab is asked what is left.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use karat_lab::core::faults::Kind;
use karat_lab::core::settings::{Durations, Instances, Settings};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;

/// The longest that is waited for something that has to come.
const LIMIT: Duration = Duration::from_secs(300);
const SIGKILL: i32 = 9;

/// All that a build makes but a key pair, which is of use to those alone that log in.
const TEMPLATE: &str = r#"
variable "name" {
  default = "golden"
}

data "amazon-ami" "debian" {
  filters     = { name = "debian-13-*" }
  owners      = ["136693071363"]
  most_recent = true
}

source "amazon-ebs" "web" {
  ami_name        = var.name
  ami_regions     = ["us-west-2"]
  instance_type   = "t3.medium"
  source_ami      = data.amazon-ami.debian.id
  communicator    = "none"
  encrypt_boot    = true
  imds_support    = "v2.0"
  snapshot_tags   = { Kind = "root" }
  run_tags        = { Team = "images" }

  temporary_iam_instance_profile_policy_document {
    Statement {
      Action   = ["s3:GetObject"]
      Resource = ["*"]
    }
  }
}

build {
  sources = ["source.amazon-ebs.web"]

  provisioner "shell-local" {
    inline = ["echo from ${build.SourceAMI}"]
  }
}
"#;

/// What the steps are called.
const NODES: [&str; 11] = [
    "preflight",
    "source",
    "network",
    "group",
    "profile",
    "instance",
    "provision",
    "stop",
    "image",
    "release",
    "copy-us-west-2",
];

struct Place {
    _runtime: tokio::runtime::Runtime,
    lab: karat_lab::Lab,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let durations = Durations {
            pending: 20,
            stopping: 20,
            shutting_down: 20,
            image: 20,
            copy: 20,
            snapshot: 20,
            ..Durations::default()
        };
        let options = karat_lab::Options {
            dir: folder.path().join("lab"),
            listen: "127.0.0.1:0".parse().unwrap(),
            settings: Settings { durations, instances: Instances::Records, ..Settings::default() },
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let lab = runtime.block_on(karat_lab::Lab::start(options)).unwrap();
        std::fs::write(folder.path().join("main.pkr.hcl"), TEMPLATE).unwrap();
        Self { _runtime: runtime, lab, folder }
    }

    fn karat(&self, args: &[&str], faults: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_karat"));
        command
            .args(args)
            .envs(self.lab.running().environment())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("NO_COLOR", "1")
            .env("KARAT_FAULT", faults)
            .env("KARAT_STATE_DIR", self.folder.path().join("state"))
            .env("KARAT_CACHE_DIR", self.folder.path().join("cache"))
            .current_dir(self.folder.path());
        command
    }

    fn build(&self, faults: &str) -> Output {
        self.karat(&["build", "."], faults).output().unwrap()
    }

    /// Starts a build whose output nobody reads.
    fn start(&self) -> Child {
        let mut command = self.karat(&["build", "."], "");
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
    }

    fn left(&self) -> Vec<String> {
        let left = self.lab.audit().into_iter();
        left.map(|l| format!("{}: {} {} {}", l.region, l.kind, l.id, l.detail)).collect()
    }

    fn recover(&self, moment: &str) {
        let output = self.karat(&["recover"], "").output().unwrap();
        assert!(output.status.success(), "{moment}: {}", text(&output));
        assert_eq!(self.left(), [] as [&str; 0], "{moment}: {}", text(&output));
    }

    /// Kills a build at a point and recovers.
    fn dies(&self, faults: &str) {
        let output = self.build(faults);
        assert_eq!(output.status.signal(), Some(SIGKILL), "{faults}: {}", text(&output));
        self.recover(faults);
    }

    /// Answers the next of the calls so late that nobody gets the answer; gives the fault's id.
    fn hold(&self, call: &str) -> String {
        let rule = json!({ "kind": Kind::Latency, "calls": call, "count": 1, "delay_ms": 45_000 });
        self.lab.add_fault(serde_json::from_value(rule).unwrap()).unwrap()
    }

    /// Waits until a call was held, which has had its effect then.
    fn until_held(&self, id: &str, build: &mut Child) {
        let begun = Instant::now();
        while self.lab.faults().iter().all(|rule| rule.id != id || rule.hits == 0) {
            assert!(begun.elapsed() < LIMIT, "the call did not come");
            assert_eq!(build.try_wait().unwrap(), None, "the build ended before the call came");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.lab.clear_faults(None);
    }
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_kill_at_each_step_is_recovered() {
    let place = Place::new();
    for node in NODES {
        for phase in ["before", "effect", "after"] {
            place.dies(&format!("kill@{node}:{phase}"));
        }
    }
    for point in ["instance:started", "image:made", "copies:effect", "publish:before"] {
        place.dies(&format!("kill@{point}"));
    }
    let done = place.build("");
    assert!(done.status.success(), "{}", text(&done));
    let kinds: BTreeSet<String> = place.lab.audit().into_iter().map(|l| l.kind).collect();
    assert_eq!(kinds, BTreeSet::from(["image".to_owned(), "snapshot".to_owned()]));
}

#[test]
fn a_kill_while_a_failed_build_is_undone_is_recovered() {
    let place = Place::new();
    for node in NODES {
        for phase in ["undo-before", "undo-effect", "undo-after"] {
            place.dies(&format!("fail@publish:before,kill@{node}:{phase}"));
        }
    }
}

/// The journal does not know of what a call made whose answer did not come.
#[test]
fn a_kill_between_a_call_and_its_answer_is_recovered() {
    let place = Place::new();
    for call in [
        "ec2:CreateSecurityGroup",
        "iam:CreateRole",
        "iam:AddRoleToInstanceProfile",
        "ec2:RunInstances",
        "ec2:StopInstances",
        "ec2:CreateImage",
        "ec2:TerminateInstances",
        "ec2:CopyImage",
    ] {
        let id = place.hold(call);
        let mut build = place.start();
        place.until_held(&id, &mut build);
        build.kill().unwrap();
        build.wait().unwrap();
        assert_ne!(place.left(), [] as [&str; 0], "{call}: nothing was there to be recovered");
        place.recover(call);
    }
}

#[test]
fn an_interruption_in_each_phase_leaves_nothing() {
    let place = Place::new();
    for call in [
        "ec2:DescribeImages",
        "ec2:CreateSecurityGroup",
        "iam:CreateRole",
        "ec2:RunInstances",
        "ec2:StopInstances",
        "ec2:CreateImage",
        "ec2:CopyImage",
    ] {
        let id = place.hold(call);
        let mut build = place.start();
        place.until_held(&id, &mut build);
        let pid = Pid::from_raw(i32::try_from(build.id()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
        let status = build.wait().unwrap();
        assert!(!status.success(), "{call}: {status}");
        assert_eq!(place.left(), [] as [&str; 0], "{call}");
    }
}
