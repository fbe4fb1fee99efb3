//! Snapshots of machines, read and continued block by block by a client that is not ours.

use crate::cloud::{Cloud, PATIENCE, cloud, text};

/// Reads both snapshots, compares them, and makes an image of the first one's blocks and of those
/// that changed.
const SCRIPT: &str = r#"
import base64, boto3, hashlib, sys
first, second, architecture = sys.argv[1:]
ebs, ec2 = boto3.client("ebs"), boto3.client("ec2")

def blocks(snapshot):
    found, more = {}, {}
    while True:
        page = ebs.list_snapshot_blocks(SnapshotId=snapshot, **more)
        found.update((b["BlockIndex"], b["BlockToken"]) for b in page["Blocks"])
        if "NextToken" not in page:
            return found, page["VolumeSize"]
        more = {"NextToken": page["NextToken"]}

def read(snapshot, index, token):
    got = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
    data = got["BlockData"].read()
    assert len(data) == got["DataLength"] == 512 * 1024, len(data)
    assert base64.b64encode(hashlib.sha256(data).digest()).decode() == got["Checksum"]
    return data

before, size = blocks(first)
after, _ = blocks(second)
for index, token in before.items():
    read(first, index, token)
changed, more = {}, {}
while True:
    page = ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second, **more)
    for block in page["ChangedBlocks"]:
        changed[block["BlockIndex"]] = block.get("SecondBlockToken")
    if "NextToken" not in page:
        break
    more = {"NextToken": page["NextToken"]}
assert 0 < len(changed) < len(after), (len(changed), len(after))
for index in set(before) & set(after) - set(changed):
    assert read(first, index, before[index]) == read(second, index, after[index]), index

made = ebs.start_snapshot(VolumeSize=size, ParentSnapshotId=first)["SnapshotId"]
for index, token in changed.items():
    data = read(second, index, token) if token else bytes(512 * 1024)
    ebs.put_snapshot_block(
        SnapshotId=made, BlockIndex=index, BlockData=data, DataLength=len(data),
        Checksum=base64.b64encode(hashlib.sha256(data).digest()).decode(),
        ChecksumAlgorithm="SHA256")
ebs.complete_snapshot(SnapshotId=made, ChangedBlocksCount=len(changed))
ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[made])
image = ec2.register_image(
    Name="of-blocks", Architecture=architecture, RootDeviceName="/dev/xvda",
    VirtualizationType="hvm", EnaSupport=True,
    BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": made}}])["ImageId"]
print(image)
"#;

fn snapshot(cloud: &Cloud, volume: &str) -> String {
    let made = cloud.aws(&format!("ec2 create-snapshot --volume-id {volume}"));
    let id = text(&made["SnapshotId"]).to_owned();
    let begun = std::time::Instant::now();
    loop {
        let all = cloud.aws(&format!("ec2 describe-snapshots --snapshot-ids {id}"));
        let state = &all["Snapshots"][0]["State"];
        if state == "completed" {
            return id;
        }
        assert!(state == "pending" && begun.elapsed() < PATIENCE, "{all}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn a_snapshot_of_a_machine_is_read_and_continued_block_by_block() {
    let Some(cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let common = format!("--key-name k --security-group-ids {group}");
    let id = cloud.launch(&format!("--image-id {} {common}", cloud.base()));
    let instance = cloud.wait_for(&id, "running");
    let volume = text(&instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]).to_owned();
    let to = format!("admin@{}", text(&instance["PublicIpAddress"]));
    let write = |what: &str| {
        let write = format!(
            "cloud-init status --wait >/dev/null; echo {what} | sudo tee /srv/file; \
             head -c 3000000 /dev/urandom | sudo tee /srv/{what} >/dev/null; sync"
        );
        cloud.ssh(&key, &to, &write);
    };
    write("one");
    let first = snapshot(&cloud, &volume);
    write("two");
    let second = snapshot(&cloud, &volume);
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id}"));

    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let mut python = cloud.client("python3");
    let output = python.args(["-c", SCRIPT, &first, &second, architecture]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = String::from_utf8(output.stdout).unwrap();
    let id = cloud.launch(&format!("--image-id {} {common}", image.trim()));
    let address = text(&cloud.wait_for(&id, "running")["PublicIpAddress"]).to_owned();
    let seen = cloud.ssh(&key, &format!("admin@{address}"), "cat /srv/file; wc -c < /srv/two");
    assert_eq!(seen, "two\n3000000\n");

    // What was laid out goes with its snapshot; the image has blocks of its own.
    cloud.aws(&format!("ec2 delete-snapshot --snapshot-id {first}"));
    cloud.aws(&format!("ec2 delete-snapshot --snapshot-id {second}"));
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id}"));
    cloud.aws(&format!(
        "ec2 deregister-image --image-id {} --delete-associated-snapshots",
        image.trim()
    ));
    let files = std::process::Command::new("find")
        .arg(cloud.state().join("lab/blocks"))
        .args(["-type", "f"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&files.stdout), "");
}
