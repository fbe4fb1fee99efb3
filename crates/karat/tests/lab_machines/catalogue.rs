//! Base images of one's own, by the lab's settings and by a disk that is written block by block.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cloud::{cloud, cloud_with, text};

/// A literal id in a template, and who logs in.
const OWN: &str = r#"
[[image]]
name = "corp-base-2026-01"
id = "ami-0123456789abcdef0"
owner = "444455556666"
user = "worker"
[image.root.bootstrap]
suite = "trixie"
packages = [
  "systemd", "systemd-sysv", "dbus", "libpam-systemd", "cloud-init", "openssh-server",
  "openssh-sftp-server", "sudo", "ca-certificates", "curl", "iproute2", "iputils-ping", "procps",
  "less", "rsync", "python3", "apt-utils",
]

[[image]]
name = "corp-record"
id = "ami-0123456789abcdef1"
owner = "444455556666"
"#;

#[test]
fn an_image_of_the_settings_is_launched_by_its_literal_id_and_asks_the_lab() {
    let Some(cloud) = cloud_with(OWN) else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let trust = r#"{"Version":"2012-10-17","Statement":[]}"#;
    cloud.aws(&format!("iam create-role --role-name own --assume-role-policy-document {trust}"));
    cloud.aws("iam create-instance-profile --instance-profile-name own");
    cloud.aws("iam add-role-to-instance-profile --instance-profile-name own --role-name own");
    let common = format!("--key-name k --security-group-ids {group}");
    let id = cloud.launch(&format!(
        "--image-id ami-0123456789abcdef0 {common} --iam-instance-profile Name=own"
    ));
    let address = text(&cloud.wait_for(&id, "running")["PublicIpAddress"]).to_owned();
    let to = format!("worker@{address}");

    // The role's keys stand for the instance, in the lab that it finds inside.
    let keys = cloud.ssh(
        &key,
        &to,
        "curl -s http://169.254.169.254/latest/meta-data/iam/security-credentials/own",
    );
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let mut aws = cloud.client("aws");
    aws.env("AWS_ACCESS_KEY_ID", text(&keys["AccessKeyId"]));
    aws.env("AWS_SECRET_ACCESS_KEY", text(&keys["SecretAccessKey"]));
    aws.env("AWS_SESSION_TOKEN", text(&keys["Token"]));
    let output = aws.args(["sts", "get-caller-identity", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let who: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(text(&who["Arn"]).ends_with(&format!(":assumed-role/own/{id}")), "{who}");
    let said = cloud.ssh(
        &key,
        &to,
        "curl -s 'http://169.254.169.250/?Action=GetCallerIdentity&Version=2011-06-15'",
    );
    assert!(said.contains("<Code>"), "{said}");

    // Nothing says what this one is made of.
    let id = cloud.launch(&format!("--image-id ami-0123456789abcdef1 {common}"));
    let ended = cloud.wait_for(&id, "terminated");
    let reason = text(&ended["StateReason"]["Message"]);
    assert!(reason.contains("\"corp-record\""), "{reason}");
}

/// Writes a disk through EBS direct, and has an image of it.
const UPLOAD: &str = r#"
import base64, boto3, hashlib, sys
ebs, ec2 = boto3.client("ebs"), boto3.client("ec2")
size = 524288
snapshot = ebs.start_snapshot(VolumeSize=2)["SnapshotId"]
written = 0
with open(sys.argv[1], "rb") as disk:
    index = 0
    while block := disk.read(size):
        if block.strip(b"\0"):
            block = block.ljust(size, b"\0")
            digest = base64.b64encode(hashlib.sha256(block).digest()).decode()
            ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockData=block,
                DataLength=size, Checksum=digest, ChecksumAlgorithm="SHA256")
            written += 1
        index += 1
ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=written)
ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot])
print(ec2.register_image(Name="written", Architecture=sys.argv[2], RootDeviceName="/dev/xvda",
    VirtualizationType="hvm", EnaSupport=True,
    BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])["ImageId"])
"#;

#[test]
fn a_disk_that_is_written_through_ebs_direct_is_launched() {
    let Some(cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let common = format!("--key-name k --security-group-ids {group}");
    let first = cloud.launch(&format!("--image-id {} {common}", cloud.base()));
    cloud.wait_for(&first, "running");
    // The base's layer as a disk, without what takes room only.
    let parent = cloud.state().join("lab/instances").join(&first).join("parent");
    let digest = std::fs::read_to_string(parent).unwrap();
    let disk = cloud.dir.path().join("disk");
    make_disk(&layers(&cloud.store(), digest.trim()), &cloud.dir.path().join("root"), &disk);
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {first}"));

    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let mut python = cloud.client("python3");
    let output = python.args(["-c", UPLOAD]).arg(&disk).arg(architecture).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = String::from_utf8(output.stdout).unwrap();
    let id = cloud.launch(&format!("--image-id {} {common}", image.trim()));
    let address = text(&cloud.wait_for(&id, "running")["PublicIpAddress"]).to_owned();
    let seen = cloud.ssh(&key, &format!("admin@{address}"), "cat /srv/on-the-disk");
    assert_eq!(seen, "yes\n");
}

/// A layer's folder and those below it, the lowest first.
pub(crate) fn layers(store: &Path, digest: &str) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    let mut next = Some(digest.to_owned());
    while let Some(digest) = next {
        let dir = store.join("layers").join(&digest);
        let info: Value =
            serde_json::from_slice(&std::fs::read(dir.join("layer.json")).unwrap()).unwrap();
        next = info["parent"].as_str().map(str::to_owned);
        all.insert(0, dir.join("root"));
    }
    all
}

/// Runs a program that has to succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a root of layers, and a disk of it.
pub(crate) fn make_disk(layers: &[std::path::PathBuf], root: &Path, disk: &Path) {
    std::fs::create_dir_all(root).unwrap();
    for layer in layers {
        run(Command::new("cp").args(["--archive", "--no-target-directory"]).arg(layer).arg(root));
    }
    for room in ["usr/share/doc", "usr/share/locale", "var/cache", "usr/share/i18n"] {
        let _ = std::fs::remove_dir_all(root.join(room));
    }
    std::fs::write(root.join("srv/on-the-disk"), "yes\n").unwrap();
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(root).arg(disk).arg("1G"));
}

#[test]
fn an_image_under_canonicals_name_has_its_user() {
    let Some(cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let all = cloud.aws(
        "ec2 describe-images --owners 099720109477 \
         --filters Name=name,Values=ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-*-server-*",
    );
    let image = text(&all["Images"][0]["ImageId"]);
    let id = cloud.launch(&format!(
        "--image-id {image} --key-name k --security-group-ids {group} \
         --metadata-options HttpTokens=required"
    ));
    let address = text(&cloud.wait_for(&id, "running")["PublicIpAddress"]).to_owned();
    let who = cloud.ssh(&key, &format!("ubuntu@{address}"), "sudo -n id -un; id -un");
    assert_eq!(who, "root\nubuntu\n");
}
