//! The program against the lab, led there by the environment alone: killed at every point of a
//! build, recovered, interrupted. Then the lab is asked what is left.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Bytes of a block of EBS direct.
const BLOCK: usize = 512 * 1024;

/// A disk of 40 blocks, of which the given ones hold something, and the next image's changes.
fn disk(place: &Place, name: &str, blocks: &[(usize, u8)]) {
    let mut bytes = vec![0; 40 * BLOCK];
    for (index, byte) in blocks {
        // No two blocks are alike.
        bytes[index * BLOCK..][..BLOCK].fill(*byte);
        bytes[index * BLOCK] = u8::try_from(*index).unwrap();
    }
    std::fs::write(place.folder.path().join(name), bytes).unwrap();
}

fn import(place: &Place, more: &[&str]) -> Command {
    let all: Vec<&str> = ["import", "aws"].into_iter().chain(more.iter().copied()).collect();
    place.karat(&all, "")
}

fn imported(place: &Place, more: &[&str]) -> serde_json::Value {
    let output = import(place, more).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a client that we did not write reads of a snapshot: numbers of blocks and their digests.
/// Nothing where there is no such client.
fn blocks_of(place: &Place, snapshot: &str) -> Option<String> {
    let python = std::env::var_os("KARAT_MOTO")?;
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws_blocks.py");
    let mut command = Command::new(python);
    command.args([script.as_os_str(), snapshot.as_ref()]).envs(place.lab.running().environment());
    let output = command.env("AWS_CONFIG_FILE", "/dev/null").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_disk_becomes_an_image_and_the_next_one_sends_what_differs() {
    let place = Place::new();
    disk(&place, "one.raw", &[(0, 1), (3, 2), (7, 3), (39, 4)]);
    let east = "us-east-1";
    let first = [
        "-json",
        "-name",
        "first",
        "-region",
        east,
        "-region",
        "us-west-2",
        "-tag",
        "Team=images",
        "one.raw",
    ];
    let one = imported(&place, &first);
    let counts = |json: &serde_json::Value| {
        ["blocks", "sent", "resumed", "same", "zero"].map(|name| json[name].as_u64().unwrap())
    };
    assert_eq!(counts(&one), [40, 4, 0, 0, 36], "{one}");
    let images = one["images"].as_object().unwrap();
    assert_eq!(images.keys().collect::<Vec<_>>(), ["us-east-1", "us-west-2"]);
    let unfit: Vec<_> = place.lab.audit().into_iter().filter(|l| !l.image).collect();
    assert!(unfit.is_empty(), "{unfit:?}");
    assert_eq!(place.left().len(), 4, "{:#?}", place.left());

    // The name is taken.
    let again = import(&place, &first).output().unwrap();
    assert!(!again.status.success() && text(&again).contains("is taken"), "{}", text(&again));

    // Block 3 is another, 7 is empty now, 20 is new.
    disk(&place, "two.raw", &[(0, 1), (3, 9), (20, 5), (39, 4)]);
    let snapshot = one["snapshot"].as_str().unwrap();
    let two = imported(
        &place,
        &["-json", "-name", "second", "-region", east, "-parent", snapshot, "two.raw"],
    );
    assert_eq!(counts(&two), [40, 3, 0, 2, 35], "{two}");
    let whole = imported(&place, &["-json", "-name", "third", "-region", east, "two.raw"]);
    assert_eq!(counts(&whole), [40, 4, 0, 0, 36], "{whole}");
    let read = |json: &serde_json::Value| blocks_of(&place, json["snapshot"].as_str().unwrap());
    assert_eq!(read(&two), read(&whole));
    if let Some(read) = read(&two) {
        assert_eq!(read.lines().count(), 4, "{read}");
    }
}

#[test]
fn a_disk_of_another_program_is_read_with_qemu_img() {
    let place = Place::new();
    disk(&place, "one.raw", &[(0, 1), (3, 2)]);
    let (raw, vmdk) = (place.folder.path().join("one.raw"), place.folder.path().join("one.vmdk"));
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "vmdk"]).args([&raw, &vmdk]);
    assert!(convert.output().unwrap().status.success());
    let arguments = ["-json", "-name", "one", "-region", "us-east-1", "one.vmdk"];
    let without = import(&place, &arguments).env("PATH", "/nonexistent").output().unwrap();
    let said = text(&without);
    assert!(said.contains("install the package qemu-utils"), "{said}");
    assert_eq!(place.left(), [] as [&str; 0]);
    let done = imported(&place, &arguments);
    assert_eq!((&done["blocks"], &done["sent"]), (&json!(40), &json!(2)), "{done}");
    // A name that says what the file is not.
    std::fs::rename(raw, &vmdk).unwrap();
    let other = import(&place, &["-name", "other", "one.vmdk"]).output().unwrap();
    assert!(text(&other).contains("is not vmdk: it does not begin"), "{}", text(&other));
}

#[test]
fn a_copy_is_encrypted_with_the_key_of_its_region() {
    let place = Place::new();
    let west = ["--region", "us-west-2"];
    let Some(key) = aws(&place, &[&["kms", "create-key"][..], &west].concat()) else { return };
    let arn = key["KeyMetadata"]["Arn"].as_str().unwrap();
    let alias = ["kms", "create-alias", "--alias-name", "alias/own", "--target-key-id", arn];
    aws(&place, &[&alias[..], &west].concat()).unwrap();
    disk(&place, "one.raw", &[(0, 1), (3, 2)]);
    let of_regions = ["-region", "us-east-1", "-region", "us-west-2"];
    let keys = ["-kms-key", "us-west-2=alias/own", "one.raw"];
    let done = imported(&place, &[&["-json", "-name", "one"][..], &of_regions, &keys].concat());
    let key_of = |region: &str| {
        let id = done["images"][region].as_str().unwrap();
        let image = ["ec2", "describe-images", "--region", region, "--image-ids", id];
        let image = aws(&place, &image).unwrap();
        let disk = &image["Images"][0]["BlockDeviceMappings"][0]["Ebs"];
        assert_eq!(disk["Encrypted"], true, "{region}: {image}");
        let id = disk["SnapshotId"].as_str().unwrap();
        let snapshot = ["ec2", "describe-snapshots", "--region", region, "--snapshot-ids", id];
        let snapshot = aws(&place, &snapshot).unwrap();
        snapshot["Snapshots"][0]["KmsKeyId"].as_str().unwrap().to_owned()
    };
    assert_eq!(key_of("us-west-2"), arn);
    // The other has AWS's own.
    assert!(key_of("us-east-1").contains(":us-east-1:"));
}

#[test]
fn an_import_that_is_killed_goes_on_and_one_that_is_given_up_leaves_nothing() {
    let place = Place::new();
    let blocks: Vec<(usize, u8)> = (0..40).map(|index| (index, 7)).collect();
    disk(&place, "disk.raw", &blocks);
    let arguments = ["-json", "-name", "disk", "-region", "us-east-1", "disk.raw"];
    let start = || {
        let mut command = import(&place, &arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
    };
    // All blocks that come after some are held, and the process dies then.
    let killed = |after: u64| {
        let rule = json!({
            "kind": Kind::Latency, "calls": "ebs:PutSnapshotBlock", "share": 0.5, "delay_ms": 45_000,
        });
        let id = place.lab.add_fault(serde_json::from_value(rule).unwrap()).unwrap();
        let mut run = start();
        let begun = Instant::now();
        let folder = place.folder.path().join("state/aws-imports");
        let written = || {
            let all = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let sent = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "sent");
            all.filter(sent).any(|e| e.metadata().is_ok_and(|m| m.len() > 36))
        };
        let held = || place.lab.faults().iter().any(|rule| rule.id == id && rule.hits >= after);
        while !held() || !written() {
            assert!(begun.elapsed() < LIMIT, "the blocks did not come");
            assert_eq!(run.try_wait().unwrap(), None, "it ended before");
            std::thread::sleep(Duration::from_millis(5));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        place.lab.clear_faults(None);
    };
    killed(16);
    let left = place.left();
    assert_eq!(left.len(), 1, "{left:?}");
    let done = imported(&place, &arguments);
    let count = |name: &str| done[name].as_u64().unwrap();
    assert_eq!(count("sent") + count("resumed"), 40, "{done}");
    assert!(count("resumed") > 0 && count("sent") > 0, "{done}");
    let snapshot = done["snapshot"].as_str().unwrap();
    assert!(left[0].contains(snapshot), "{left:?}: {done}");
    if let Some(read) = blocks_of(&place, snapshot) {
        assert_eq!(read.lines().count(), 40, "{read}");
    }

    let arguments = ["-name", "other", "-region", "us-east-1", "disk.raw"];
    let before = place.left();
    let id = place.hold("ebs:CompleteSnapshot");
    let mut run = import(&place, &arguments).stdin(Stdio::null()).spawn().unwrap();
    place.until_held(&id, &mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_ne!(place.left(), before);
    let forget: Vec<&str> = ["-forget"].into_iter().chain(arguments).collect();
    let output = import(&place, &forget).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.left(), before, "{}", text(&output));
}

/// A disk that a build was given becomes an image.
const IMPORT: &str = r#"
source "null" "disk" {
  communicator = "none"
}

build {
  sources = ["source.null.disk"]

  post-processors {
    post-processor "artifice" {
      files = ["disk.raw"]
    }
    post-processor "amazon-import" {
      format    = "raw"
      ami_name  = "golden"
      ami_users = ["123456789012"]
    }
  }
}
"#;

#[test]
fn a_killed_import_in_a_build_is_recovered_or_gone_on_with() {
    let place = Place::new();
    std::fs::write(place.folder.path().join("main.pkr.hcl"), IMPORT).unwrap();
    let unpacked = || {
        let all = std::fs::read_dir(place.folder.path()).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".import-")).collect::<Vec<_>>()
    };
    let killed = |call: &str| {
        disk(&place, "disk.raw", &[(0, 1), (3, 2), (39, 3)]);
        let id = place.hold(call);
        let mut build = place.start();
        place.until_held(&id, &mut build);
        build.kill().unwrap();
        build.wait().unwrap();
        assert_ne!(place.left(), [] as [&str; 0], "{call}");
        assert_eq!(unpacked().len(), 1, "{call}");
    };
    for call in [
        "ebs:StartSnapshot",
        "ebs:PutSnapshotBlock",
        "ebs:CompleteSnapshot",
        "ec2:RegisterImage",
        "ec2:ModifyImageAttribute",
    ] {
        killed(call);
        place.recover(call);
        assert_eq!(unpacked(), [] as [&str; 0], "{call}");
    }
    // The one that is gone on with makes the one image.
    killed("ec2:RegisterImage");
    let run = place.karat(&["runs", "-json"], "").output().unwrap();
    let newest = text(&run).lines().next().unwrap().to_owned();
    let newest: serde_json::Value = serde_json::from_str(&newest).unwrap();
    let id = newest["id"].as_str().unwrap().to_owned();
    let output = place.karat(&["resume", &id], "").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let unfit: Vec<_> = place.lab.audit().into_iter().filter(|l| !l.image).collect();
    assert!(unfit.is_empty() && place.left().len() == 2, "{:?}", place.left());
    assert_eq!(unpacked(), [] as [&str; 0]);
    let output = place.karat(&["recover"], "").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(place.left().len(), 2, "{:?}", place.left());
}

/// What an import task needs beforehand; `None` where there is no current command line of AWS.
fn bucket_and_role(place: &Place) -> Option<()> {
    aws(place, &["s3api", "create-bucket", "--bucket", "disks"])?;
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"vmie.amazonaws.com"}}}"#;
    let may = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    let role = ["iam", "create-role", "--role-name", "vmimport"];
    aws(place, &[&role[..], &["--assume-role-policy-document", trust]].concat())?;
    let policy = ["iam", "put-role-policy", "--role-name", "vmimport", "--policy-name", "read"];
    aws(place, &[&policy[..], &["--policy-document", may]].concat())?;
    Some(())
}

/// A template with an import, by an import task.
fn by_task(template: &str) -> String {
    template.replace(
        "format    = \"raw\"",
        "format = \"raw\"\n method = \"import-image\"\n s3_bucket_name = \"disks\"",
    )
}

#[test]
fn a_killed_import_task_is_recovered() {
    let place = Place::new();
    if bucket_and_role(&place).is_none() {
        return;
    }
    std::fs::write(place.folder.path().join("main.pkr.hcl"), by_task(IMPORT)).unwrap();
    let before = place.left();
    for call in [
        "s3:CreateMultipartUpload",
        "s3:UploadPart",
        "ec2:ImportImage",
        "ec2:CopyImage",
        "ec2:DeregisterImage",
    ] {
        disk(&place, "disk.raw", &[(0, 1), (3, 2), (39, 3)]);
        let id = place.hold(call);
        let mut build = place.start();
        place.until_held(&id, &mut build);
        build.kill().unwrap();
        build.wait().unwrap();
        assert_ne!(place.left(), before, "{call}");
        let output = place.karat(&["recover"], "").output().unwrap();
        assert!(output.status.success(), "{call}: {}", text(&output));
        if call != "ec2:DeregisterImage" {
            assert_eq!(place.left(), before, "{call}: {}", text(&output));
        }
    }
    // It was done but for what was temporary: the image stands, and nothing else.
    let fit: Vec<_> = place.lab.audit().into_iter().filter(|l| l.image).collect();
    assert_eq!((fit.len(), place.left().len()), (2, before.len() + 2), "{:?}", place.left());
}

#[test]
fn a_policy_is_printed() {
    let place = Place::new();
    let output = place.karat(&["iam-policy", "."], "").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let policy: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    let all = policy.to_string();
    for action in ["ec2:CopyImage", "iam:PutRolePolicy", "ec2:DescribeImages"] {
        assert!(all.contains(action), "{policy:#}");
    }
    std::fs::write(
        place.folder.path().join("main.pkr.hcl"),
        "source \"null\" \"a\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"null.a\"]\n}\n",
    )
    .unwrap();
    let none = place.karat(&["iam-policy", "."], "").output().unwrap();
    assert!(text(&none).contains("nothing in this template needs AWS"), "{}", text(&none));
    assert_eq!(none.status.code(), Some(1));
}

/// A call of AWS's command line with the lab's own key; `None` where there is no current one.
fn aws(place: &Place, args: &[&str]) -> Option<serde_json::Value> {
    let output = Command::new("aws")
        .args(["--output", "json"])
        .args(args)
        .envs(place.lab.running().environment())
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output();
    let version = Command::new("aws").arg("--version").output();
    let said = version.map(|o| text(&o)).unwrap_or_default();
    // Older ones do not know AWS_ENDPOINT_URL.
    if !["aws-cli/1.4", "aws-cli/1.5", "aws-cli/2."].iter().any(|v| said.starts_with(v)) {
        let why = b"skipped: a current aws command line is not installed\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why);
        return None;
    }
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    Some(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// A user in a place's lab, and what builds as that user leave there.
struct Builder<'a> {
    place: &'a Place,
    key: serde_json::Value,
    /// Kinds of what is there beside what builds leave.
    own: &'a [&'a str],
}

impl<'a> Builder<'a> {
    /// `None` where there is no current command line of AWS.
    fn new(place: &'a Place, own: &'a [&'a str]) -> Option<Self> {
        aws(place, &["iam", "create-user", "--user-name", "builder"])?;
        let key = aws(place, &["iam", "create-access-key", "--user-name", "builder"])?;
        Some(Self { place, key: key["AccessKey"].clone(), own })
    }

    /// Builds an image of a name with a policy. Gives whether it succeeded, none where it was not at
    /// its end after a time, and what it said.
    fn build(
        &self,
        name: &str,
        policy: &serde_json::Value,
        bound: Duration,
    ) -> (Option<bool>, String) {
        let folder = self.place.folder.path();
        let file = folder.join("policy.json");
        std::fs::write(&file, policy.to_string()).unwrap();
        let document = format!("file://{}", file.display());
        let put = ["iam", "put-user-policy", "--user-name", "builder", "--policy-name", "build"];
        aws(self.place, &[&put[..], &["--policy-document", &document]].concat());
        let name = format!("name={name}");
        let mut command = self.place.karat(&["build", "-var", &name, "."], "");
        let part = |name: &str| self.key[name].as_str().unwrap();
        command.env("AWS_ACCESS_KEY_ID", part("AccessKeyId"));
        command.env("AWS_SECRET_ACCESS_KEY", part("SecretAccessKey"));
        let said = folder.join("said");
        let out = std::fs::File::create(&said).unwrap();
        let mut build = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        let told = || std::fs::read_to_string(&said).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < bound {
            if let Some(status) = build.try_wait().unwrap() {
                return (Some(status.success()), told());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        build.kill().unwrap();
        build.wait().unwrap();
        (None, told())
    }

    /// What is left over, usable images and their snapshots aside.
    fn left(&self) -> Vec<String> {
        let known = |kind: &str| kind == "user" || self.own.contains(&kind);
        let left = self.place.lab.audit().into_iter().filter(|l| !known(&l.kind) && !l.image);
        left.map(|l| format!("{}: {} {}", l.region, l.kind, l.detail)).collect()
    }

    fn images(&self, name: &str) -> usize {
        let all = self.place.lab.audit().into_iter();
        all.filter(|l| l.kind == "image" && l.detail == name).count()
    }

    fn count(&self) -> usize {
        self.place.lab.audit().len()
    }

    /// A build without a statement fails, or cannot remove what it made for a time; whoever may
    /// removes it. A build makes so many images and so many things of all kinds.
    fn lacks(
        &self,
        statement: &serde_json::Value,
        rest: &serde_json::Value,
        bound: Duration,
        (made, of_one): (usize, usize),
    ) {
        let (name, before) = (statement["Sid"].as_str().unwrap(), self.count());
        let (succeeds, said) = self.build(name, rest, bound);
        let refused = said.contains("not authorized") || succeeds.is_none();
        // Or nothing had to be undone.
        let for_the_undo = name.starts_with("Own");
        assert!(refused || for_the_undo, "it is not needed: {statement:#}\n{said}");
        if succeeds == Some(true) && refused {
            assert!(self.count() > before + of_one, "nothing came of it: {statement:#}\n{said}");
        }
        assert!(succeeds != Some(false) || refused, "without {statement:#}:\n{said}");
        let recovered = self.place.karat(&["recover"], "").output().unwrap();
        let all = || format!("without {statement:#}:\n{said}{}", text(&recovered));
        assert!(recovered.status.success(), "{}", all());
        assert_eq!(self.left(), [] as [&str; 0], "{}", all());
        let expected = if succeeds == Some(true) { (made, of_one) } else { (0, 0) };
        assert_eq!((self.images(name), self.count() - before), expected, "{}", all());
    }
}

/// Builds a template, which has a variable `name` for its image's, as a user who has just the policy
/// that is printed, and then without each of its statements. `place` makes a place with the
/// template, `ready` comes before each build; a build leaves so many images, and things of the kinds
/// `own` are there beside.
fn needs_each_statement(
    place: &(dyn Fn() -> Place + Sync),
    ready: &(dyn Fn(&Place) + Sync),
    made: usize,
    own: &[&str],
) {
    let first = place();
    let Some(builder) = Builder::new(&first, own) else { return };
    let printed = first.karat(&["iam-policy", "."], "").output().unwrap();
    let policy: serde_json::Value = serde_json::from_slice(&printed.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", text(&printed)));
    let (begun, before) = (Instant::now(), builder.count());
    ready(&first);
    let (succeeds, said) = builder.build("whole", &policy, LIMIT);
    assert_eq!(succeeds, Some(true), "{policy:#}\n{said}");
    // What may not be undone is tried again for minutes, which nothing is learned from.
    let bound = begun.elapsed() * 4 + Duration::from_secs(15);
    assert_eq!((builder.images("whole"), builder.left()), (made, Vec::new()), "{said}");
    let makes = (made, builder.count() - before);

    let statements = policy["Statement"].as_array().unwrap();
    let next = AtomicUsize::new(0);
    let work = || {
        let place = place();
        let builder = Builder::new(&place, own).unwrap();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(statement) = statements.get(index) else { break };
            let mut rest = statements.clone();
            rest.remove(index);
            ready(&place);
            let lacking = json!({ "Version": policy["Version"], "Statement": rest });
            builder.lacks(statement, &lacking, bound, makes);
        }
    };
    // They wait most of the time.
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

#[test]
fn a_build_succeeds_with_the_policy_that_is_printed_and_needs_each_statement_of_it() {
    needs_each_statement(&Place::new, &|_| (), 2, &[]);
}

#[test]
fn imports_of_disks_are_in_the_policy_that_is_printed_too() {
    let named =
        IMPORT.replace("\"golden\"", "var.name") + "variable \"name\" { default = \"golden\" }\n";
    let place = |template: &str| {
        let place = Place::new();
        std::fs::write(place.folder.path().join("main.pkr.hcl"), template).unwrap();
        place
    };
    let bring = |place: &Place| disk(place, "disk.raw", &[(0, 1), (39, 3)]);
    needs_each_statement(&|| place(&named), &bring, 1, &[]);

    let template = by_task(&named);
    let with_bucket = || {
        let place = place(&template);
        // Where that cannot be had there is no build either.
        let _ = bucket_and_role(&place);
        place
    };
    needs_each_statement(&with_bucket, &bring, 1, &["bucket", "role"]);
}
