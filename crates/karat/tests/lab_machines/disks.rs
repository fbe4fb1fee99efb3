//! Volumes beside the root as disks: formatted, partitioned, captured, moved to another machine, and
//! there after all that may happen to a machine and to the lab.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::{Cloud, PATIENCE, cloud, text};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Block devices of this host whose files lie below a folder.
fn devices(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let all = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files =
        all.filter_map(|d| std::fs::read_to_string(d.path().join("loop/backing_file")).ok());
    files.filter(|file| file.contains(folder.to_str().unwrap())).collect()
}

/// Whether instances' volumes can be disks here.
pub(crate) fn gives_devices() -> bool {
    let gives = Path::new("/dev/loop-control").exists();
    if !gives {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "skipped: this host gives no loop devices");
    }
    gives
}

impl Cloud {
    fn volume(&self, id: &str) -> Value {
        self.aws(&format!("ec2 describe-volumes --volume-ids {id}"))["Volumes"][0].clone()
    }

    fn snapshot_of(&self, volume: &str) -> String {
        let made = self.aws(&format!("ec2 create-snapshot --volume-id {volume}"));
        let id = text(&made["SnapshotId"]).to_owned();
        let state = || {
            let all = self.aws(&format!("ec2 describe-snapshots --snapshot-ids {id}"));
            text(&all["Snapshots"][0]["State"]).to_owned()
        };
        until("the snapshot is completed", || {
            let state = state();
            assert_ne!(state, "error");
            state == "completed"
        });
        id
    }

    pub(crate) fn attach(&self, volume: &str, instance: &str, device: &str) {
        self.aws(&format!(
            "ec2 attach-volume --volume-id {volume} --instance-id {instance} --device {device}"
        ));
        until("it is attached", || self.volume(volume)["Attachments"][0]["State"] == "attached");
    }

    fn kill_lab(&self) {
        let file = std::fs::read(self.state().join("lab/lab.json")).unwrap();
        let pid = serde_json::from_slice::<Value>(&file).unwrap()["pid"].as_i64().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

fn beside(instance: &Value, device: &str) -> String {
    let mappings = instance["BlockDeviceMappings"].as_array().unwrap();
    let found = mappings.iter().find(|m| m["DeviceName"] == device).unwrap();
    text(&found["Ebs"]["VolumeId"]).to_owned()
}

/// Reads all blocks of the second snapshot, and those that it has changed.
const BLOCKS: &str = r#"
import base64, boto3, hashlib, sys
first, second = sys.argv[1:]
ebs = boto3.client("ebs")
listed = ebs.list_snapshot_blocks(SnapshotId=second)
changed = ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
data = b""
for block in listed["Blocks"]:
    got = ebs.get_snapshot_block(
        SnapshotId=second, BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"])
    read = got["BlockData"].read()
    assert base64.b64encode(hashlib.sha256(read).digest()).decode() == got["Checksum"]
    data += read
assert 0 < len(changed["ChangedBlocks"]) < len(listed["Blocks"]), (changed, listed)
assert b"written second" in data
"#;

#[test]
fn a_volume_is_a_disk_whose_snapshot_another_machine_reads() {
    let Some(cloud) = cloud() else { return };
    if !gives_devices() {
        return;
    }
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let common = format!("--image-id {} --key-name k --security-group-ids {group}", cloud.base());
    let id = cloud.launch(&format!(
        "{common} --block-device-mappings DeviceName=/dev/sdf,Ebs={{VolumeSize=1}}"
    ));
    let other = cloud.launch(&common);
    let instance = cloud.wait_for(&id, "running");
    let to = format!("admin@{}", text(&instance["PublicIpAddress"]));
    let volume = beside(&instance, "/dev/sdf");
    let seen = cloud.ssh(
        &key,
        &to,
        "readlink -f /dev/sdf /dev/nvme1n1; sudo blockdev --getsize64 /dev/xvdf && \
         sudo mkfs.ext4 -q /dev/xvdf && sudo mount /dev/sdf /mnt && \
         echo written first | sudo tee /mnt/file",
    );
    assert_eq!(seen, "/dev/xvdf\n/dev/xvdf\n1073741824\nwritten first\n");

    // A snapshot of a disk that is in use holds what was written, and goes on as it was.
    let first = cloud.snapshot_of(&volume);
    cloud.ssh(&key, &to, "echo written second | sudo tee /mnt/second");
    let second = cloud.snapshot_of(&volume);
    let read = cloud.client("python3").args(["-c", BLOCKS, &first, &second]).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));

    // Another machine gets a volume of it while it runs; its snapshot may go.
    let found = cloud.wait_for(&other, "running");
    let there = format!("admin@{}", text(&found["PublicIpAddress"]));
    let zone = text(&found["Placement"]["AvailabilityZone"]).to_owned();
    let made = cloud.aws(&format!(
        "ec2 create-volume --availability-zone {zone} --snapshot-id {second} --size 2"
    ));
    let copy = text(&made["VolumeId"]).to_owned();
    until("it is available", || cloud.volume(&copy)["State"] == "available");
    for snapshot in [&first, &second] {
        cloud.aws(&format!("ec2 delete-snapshot --snapshot-id {snapshot}"));
    }
    cloud.attach(&copy, &other, "/dev/xvdg");
    let seen = cloud.ssh(
        &key,
        &there,
        "sudo mount /dev/sdg /mnt && cat /mnt/file /mnt/second; \
         sudo blockdev --getsize64 /dev/xvdg",
    );
    assert_eq!(seen, "written first\nwritten second\n2147483648\n");

    // What is in use is taken away as soon as it is not, and is elsewhere as it was left.
    cloud.ssh(&key, &there, "echo moved | sudo tee /mnt/moved");
    cloud.aws(&format!("ec2 detach-volume --volume-id {copy}"));
    until("it is being detached", || cloud.volume(&copy)["Attachments"][0]["State"] == "detaching");
    until("its node is gone", || cloud.ssh(&key, &there, "ls /dev/xvdg || echo no") == "no\n");
    assert_eq!(cloud.volume(&copy)["State"], "in-use");
    cloud.ssh(&key, &there, "sudo umount /mnt");
    until("it is free", || cloud.volume(&copy)["State"] == "available");
    cloud.attach(&copy, &id, "/dev/sdh");
    let seen = cloud.ssh(&key, &to, "sudo mkdir /h && sudo mount /dev/sdh /h && cat /h/moved");
    assert_eq!(seen, "moved\n");

    // What goes with the machine goes, what was attached stays.
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id} {other}"));
    let files = || std::fs::read_dir(cloud.state().join("lab/volumes")).unwrap().count();
    until("its file is gone", || files() == 1);
    assert_eq!(cloud.volume(&copy)["State"], "available");
    cloud.aws(&format!("ec2 delete-volume --volume-id {copy}"));
    until("no file is left", || files() == 0);
    until("no device is left", || devices(cloud.state()).is_empty());
    let blocks = std::process::Command::new("find")
        .arg(cloud.state().join("lab/blocks"))
        .args(["-type", "f"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&blocks.stdout), "");
}

#[test]
fn a_disk_stays_what_it_was_whatever_befalls_the_machine_and_the_lab() {
    let Some(mut cloud) = cloud() else { return };
    if !gives_devices() {
        return;
    }
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let id = cloud.launch(&format!(
        "--image-id {} --key-name k --security-group-ids {group} --block-device-mappings \
         DeviceName=/dev/sdf,Ebs={{VolumeSize=2,DeleteOnTermination=false}}",
        cloud.base()
    ));
    let instance = cloud.wait_for(&id, "running");
    let volume = beside(&instance, "/dev/sdf");
    let reach = |cloud: &Cloud| {
        format!("admin@{}", text(&cloud.wait_for(&id, "running")["PublicIpAddress"]))
    };
    let to = reach(&cloud);
    cloud.ssh(
        &key,
        &to,
        "cloud-init status --wait > /dev/null; echo 'label: gpt\n,' | sudo sfdisk -q /dev/sdf && \
         until [ -b /dev/xvdf1 ] && [ -b /dev/sdf1 ]; do sleep 0.1; done && \
         sudo mkfs.ext4 -q /dev/sdf1 && sudo mount /dev/xvdf1 /mnt && \
         echo one | sudo tee /mnt/file && sync -f /mnt",
    );
    let seen = |cloud: &Cloud, to: &str| {
        cloud.ssh(
            &key,
            to,
            "mountpoint -q /mnt || sudo mount /dev/sdf1 /mnt; cat /mnt/*e; sudo touch /mnt/touched",
        )
    };

    let boot = "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestampMonotonic";
    let before = cloud.ssh(&key, &to, boot);
    cloud.aws(&format!("ec2 reboot-instances --instance-ids {id}"));
    until("it has been restarted", || cloud.ssh(&key, &to, boot) != before);
    assert_eq!(seen(&cloud, &to), "one\n");

    cloud.aws(&format!("ec2 stop-instances --instance-ids {id}"));
    cloud.wait_for(&id, "stopped");
    until("no device is left", || devices(cloud.state()).is_empty());
    cloud.aws(&format!("ec2 start-instances --instance-ids {id}"));
    assert_eq!(seen(&cloud, &reach(&cloud)), "one\n");

    cloud.down();
    until("no device is left", || devices(cloud.state()).is_empty());
    cloud.up();
    let to = reach(&cloud);
    assert_eq!(seen(&cloud, &to), "one\n");

    // The file system is in use when all ends at once.
    cloud.ssh(&key, &to, "echo two | sudo tee /mnt/one; sync -f /mnt");
    assert!(!devices(cloud.state()).is_empty());
    cloud.kill_lab();
    until("no device is left", || devices(cloud.state()).is_empty());
    cloud.up();
    assert_eq!(seen(&cloud, &reach(&cloud)), "one\ntwo\n");

    // It was to stay.
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id}"));
    until("it is free", || cloud.volume(&volume)["State"] == "available");
    let snapshot = cloud.snapshot_of(&volume);
    let blocks = cloud.aws(&format!("ebs list-snapshot-blocks --snapshot-id {snapshot}"));
    assert!(!blocks["Blocks"].as_array().unwrap().is_empty());
    cloud.aws(&format!("ec2 delete-volume --volume-id {volume}"));
    until("no device is left", || devices(cloud.state()).is_empty());
}
