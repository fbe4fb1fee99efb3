//! EBS direct: blocks of snapshots.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cli::{Bench, bench, text};

const BLOCK: usize = 524_288;

fn put(lab: &Bench, snapshot: &str, index: u32, byte: u8) {
    let content = vec![byte; BLOCK];
    let file = lab.dir().join(format!("block-{index}"));
    std::fs::write(&file, &content).unwrap();
    let sum = STANDARD.encode(Sha256::digest(&content));
    lab.aws(&format!(
        "ebs put-snapshot-block --snapshot-id {snapshot} --block-index {index} --data-length {BLOCK} \
         --checksum {sum} --checksum-algorithm SHA256 --block-data {}",
        file.display()
    ));
}

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|b| b["BlockIndex"].as_u64().unwrap()).collect()
}

#[test]
fn blocks_are_written_read_and_compared() {
    let Some(lab) = bench() else { return };
    let begun = lab.aws("ebs start-snapshot --volume-size 1 --description first");
    assert_eq!(begun["BlockSize"], BLOCK);
    let first = text(&begun["SnapshotId"]).to_owned();
    let shown = format!("ec2 describe-snapshots --snapshot-ids {first}");
    assert_eq!(lab.aws(&shown)["Snapshots"][0]["State"], "pending");
    put(&lab, &first, 0, 1);
    put(&lab, &first, 2047, 2);
    let complete = |id: &str, count: u32| {
        format!("ebs complete-snapshot --snapshot-id {id} --changed-blocks-count {count}")
    };
    assert_eq!(lab.refused(&complete(&first, 3)), "ValidationException");
    lab.aws(&complete(&first, 2));
    lab.until(&shown, |s| s["Snapshots"][0]["State"] == "completed");
    let list = lab.aws(&format!("ebs list-snapshot-blocks --snapshot-id {first}"));
    assert_eq!(numbers(&list["Blocks"]), [0, 2047]);

    let begun =
        lab.aws(&format!("ebs start-snapshot --volume-size 1 --parent-snapshot-id {first}"));
    let second = text(&begun["SnapshotId"]).to_owned();
    put(&lab, &second, 5, 3);
    lab.aws(&complete(&second, 1));
    let shown = format!("ec2 describe-snapshots --snapshot-ids {second}");
    lab.until(&shown, |s| s["Snapshots"][0]["State"] == "completed");
    let list = lab.aws(&format!("ebs list-snapshot-blocks --snapshot-id {second}"));
    assert_eq!(numbers(&list["Blocks"]), [0, 5, 2047]);
    let changed = lab.aws(&format!(
        "ebs list-changed-blocks --first-snapshot-id {first} --second-snapshot-id {second}"
    ));
    assert_eq!(numbers(&changed["ChangedBlocks"]), [5]);
    let block = &list["Blocks"][2];
    let read = lab.dir().join("read");
    let token = text(&block["BlockToken"]);
    lab.aws(&format!(
        "ebs get-snapshot-block --snapshot-id {second} --block-index 2047 --block-token {token} {}",
        read.display()
    ));
    assert_eq!(std::fs::read(&read).unwrap(), vec![2; BLOCK]);
    let late = format!(
        "ebs get-snapshot-block --snapshot-id {second} --block-index 5 --block-token {token} {}",
        read.display()
    );
    assert_eq!(lab.refused(&late), "ValidationException");
    // A snapshot's blocks stay as long as another has them.
    lab.aws(&format!("ec2 delete-snapshot --snapshot-id {first}"));
    let list = lab.aws(&format!("ebs list-snapshot-blocks --snapshot-id {second}"));
    let token = text(&list["Blocks"][0]["BlockToken"]);
    lab.aws(&format!(
        "ebs get-snapshot-block --snapshot-id {second} --block-index 0 --block-token {token} {}",
        read.display()
    ));
    assert_eq!(std::fs::read(&read).unwrap(), vec![1; BLOCK]);
}

#[test]
fn a_block_has_to_be_what_its_checksum_says() {
    let Some(lab) = bench() else { return };
    let begun = lab.aws("ebs start-snapshot --volume-size 1 --client-token t");
    let again = lab.aws("ebs start-snapshot --volume-size 1 --client-token t");
    assert_eq!(begun["SnapshotId"], again["SnapshotId"]);
    let id = text(&begun["SnapshotId"]);
    let file = lab.dir().join("block");
    let put = |content: &[u8], sum: &[u8]| {
        std::fs::write(&file, content).unwrap();
        lab.refused(&format!(
            "ebs put-snapshot-block --snapshot-id {id} --block-index 0 --data-length {} \
             --checksum {} --checksum-algorithm SHA256 --block-data {}",
            content.len(),
            STANDARD.encode(Sha256::digest(sum)),
            file.display()
        ))
    };
    assert_eq!(put(&[0; BLOCK], b"other"), "ValidationException");
    assert_eq!(put(b"short", b"short"), "ValidationException");
    let none = "ebs list-snapshot-blocks --snapshot-id snap-00000000000000000";
    assert_eq!(lab.refused(none), "ResourceNotFoundException");
    assert_eq!(lab.left(), ["snapshot"]);
}
