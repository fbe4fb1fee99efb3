//! Buckets of S3, and images that are imported from them.

use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{Bench, bench, bench_with, text};

/// A file of so many bytes, no two stretches of which are alike.
fn file(lab: &Bench, name: &str, bytes: usize) -> (String, Vec<u8>) {
    let content: Vec<u8> =
        (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let path = lab.dir().join(name);
    std::fs::write(&path, &content).unwrap();
    (path.to_str().unwrap().to_owned(), content)
}

fn keys(list: &Value, name: &str, key: &str) -> Vec<String> {
    let all = list[name].as_array().cloned().unwrap_or_default();
    all.iter().map(|item| text(&item[key]).to_owned()).collect()
}

fn stored(lab: &Bench) -> usize {
    std::fs::read_dir(lab.dir().join("lab/objects")).map_or(0, Iterator::count)
}

#[test]
fn objects_come_and_go_whole_and_in_parts() {
    let Some(lab) = bench() else { return };
    assert_eq!(lab.refused("s3api list-objects-v2 --bucket disks"), "NoSuchBucket");
    lab.aws("s3 mb s3://disks");
    assert_eq!(keys(&lab.aws("s3api list-buckets"), "Buckets", "Name"), ["disks"]);
    let (small, short) = file(&lab, "small", 1000);
    let (large, long) = file(&lab, "large", 20 << 20);
    lab.aws(&format!("s3 cp {small} s3://disks/a/small --quiet"));
    // In three parts.
    lab.aws(&format!("s3 cp {large} s3://disks/a/b/large.raw --quiet --sse aws:kms"));
    assert_eq!(stored(&lab), 4);
    let back = lab.dir().join("back");
    for (key, content) in [("a/small", &short), ("a/b/large.raw", &long)] {
        lab.aws(&format!("s3 cp s3://disks/{key} {} --quiet", back.display()));
        assert!(std::fs::read(&back).unwrap() == *content, "{key}");
    }
    let head = lab.aws("s3api head-object --bucket disks --key a/b/large.raw");
    assert_eq!(head["ContentLength"], 20 << 20);
    assert!(text(&head["ETag"]).ends_with("-3\""), "{head}");
    assert_eq!(head["ServerSideEncryption"], "aws:kms");
    let part = format!(
        "s3api get-object --bucket disks --key a/b/large.raw --range bytes=8388600-8388619 {}",
        back.display()
    );
    assert_eq!(lab.aws(&part)["ContentRange"], "bytes 8388600-8388619/20971520");
    assert!(std::fs::read(&back).unwrap() == long[8_388_600..8_388_620]);

    // With spaces and letters that a path does not have.
    let odd = "a/ü b+c%.raw";
    let path = |key: &str| format!("s3://disks/{key}");
    lab.ok("s3 cp --quiet", &[&small, &path(odd)]);
    let list = lab.aws("s3api list-objects-v2 --bucket disks --prefix a/ --delimiter /");
    assert_eq!(keys(&list, "Contents", "Key"), ["a/small", odd]);
    assert_eq!(keys(&list, "CommonPrefixes", "Prefix"), ["a/b/"]);
    let all = lab.aws("s3api list-objects-v2 --bucket disks --page-size 1");
    assert_eq!(keys(&all, "Contents", "Key"), ["a/b/large.raw", "a/small", odd]);
    let all = lab.aws("s3api list-objects --bucket disks --page-size 2");
    assert_eq!(keys(&all, "Contents", "Key").len(), 3);
    lab.aws("s3 cp s3://disks/a/small s3://disks/copy --quiet");
    assert_eq!(lab.refused("s3api head-object --bucket disks --key none"), "404");
    assert_eq!(lab.refused("s3api delete-bucket --bucket disks"), "BucketNotEmpty");

    let begun = lab.aws("s3api create-multipart-upload --bucket disks --key parts");
    let upload = text(&begun["UploadId"]).to_owned();
    let of = format!("--bucket disks --key parts --upload-id {upload}");
    lab.aws(&format!("s3api upload-part {of} --part-number 1 --body {small}"));
    let open = lab.aws("s3api list-multipart-uploads --bucket disks");
    assert_eq!(keys(&open, "Uploads", "Key"), ["parts"]);
    assert!(lab.left().contains(&"upload".to_owned()), "{:?}", lab.left());
    let wrong = json!({ "Parts": [{ "PartNumber": 1, "ETag": "x" }] }).to_string();
    let said = lab
        .aws_with(&format!("s3api complete-multipart-upload {of} --multipart-upload"), &[&wrong]);
    assert_eq!(said.code.as_deref(), Some("InvalidPart"));
    lab.aws(&format!("s3api abort-multipart-upload {of}"));
    assert_eq!(lab.refused(&format!("s3api abort-multipart-upload {of}")), "NoSuchUpload");

    lab.aws("s3 rm s3://disks/a/small --quiet");
    let rest = json!({ "Objects": [{ "Key": "copy" }, { "Key": "never" }] }).to_string();
    let gone = lab.ok("s3api delete-objects --bucket disks --delete", &[&rest]);
    assert_eq!(keys(&gone, "Deleted", "Key"), ["copy", "never"]);
    lab.aws("s3 rb s3://disks --force");
    assert_eq!(stored(&lab), 0);
    assert_eq!(lab.left(), [] as [&str; 0]);
}

#[test]
fn buckets_belong_to_a_region() {
    let Some(lab) = bench() else { return };
    lab.aws("s3 mb s3://far-away --region eu-central-1");
    let told = lab.aws("s3api get-bucket-location --bucket far-away");
    assert_eq!(told["LocationConstraint"], "eu-central-1");
    let again = "s3api create-bucket --bucket far-away --region eu-central-1 \
                 --create-bucket-configuration LocationConstraint=eu-central-1";
    assert_eq!(lab.refused(again), "BucketAlreadyOwnedByYou");
    let other = "s3api create-bucket --bucket elsewhere --region eu-central-1";
    assert_eq!(lab.refused(other), "IllegalLocationConstraintException");
    assert_eq!(lab.refused("s3api create-bucket --bucket No"), "InvalidBucketName");
    // The client finds out where it is, and goes there.
    let list = lab.aws("s3api list-objects-v2 --bucket far-away");
    assert_eq!(keys(&list, "Contents", "Key"), [] as [&str; 0]);
}

const TRUST: &str = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"vmie.amazonaws.com"}}}"#;
const MAY: &str = r#"{"Statement":{"Effect":"Allow","Action":["s3:GetBucketLocation","s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::disks","arn:aws:s3:::disks/*"]}}"#;

fn container(format: &str, key: &str) -> String {
    let bucket = json!({ "S3Bucket": "disks", "S3Key": key });
    json!([{ "Format": format, "UserBucket": bucket }]).to_string()
}

#[test]
fn an_object_is_imported_as_an_image() {
    let Some(lab) = bench_with(|settings| settings.durations.import = 400) else { return };
    lab.aws("s3 mb s3://disks");
    let (raw, _) = file(&lab, "disk.raw", 3 << 19);
    let import = |format: &str, key: &str| {
        lab.aws_with("ec2 import-image --disk-containers", &[&container(format, key)])
    };
    let in_bucket =
        |path: &str, key: &str| lab.aws(&format!("s3 cp {path} s3://disks/{key} --quiet"));
    in_bucket(&raw, "disk.raw");
    // The service needs a role that trusts it, and may read.
    assert_eq!(import("raw", "disk.raw").code.as_deref(), Some("InvalidParameter"));
    lab.ok("iam create-role --role-name vmimport --assume-role-policy-document", &[TRUST]);
    let said = import("raw", "disk.raw");
    assert!(said.stderr.contains("sufficient permissions"), "{}", said.stderr);
    lab.ok("iam put-role-policy --role-name vmimport --policy-name read --policy-document", &[MAY]);
    assert_eq!(import("raw", "none.raw").code.as_deref(), Some("InvalidParameter"));

    let mut same: Option<Value> = None;
    for (format, driver) in [("raw", "raw"), ("vmdk", "vmdk"), ("vhd", "vpc"), ("vhdx", "vhdx")] {
        let key = format!("disk.{format}");
        let made = lab.dir().join(&key);
        if format != "raw" {
            let mut convert = Command::new("qemu-img");
            convert.args(["convert", "-f", "raw", "-O", driver, &raw]).arg(&made);
            assert!(convert.output().unwrap().status.success());
            in_bucket(made.to_str().unwrap(), &key);
        }
        let begun = import(format, &key).json;
        assert_eq!(begun["Status"], "active", "{begun}");
        let id = text(&begun["ImportTaskId"]).to_owned();
        let line = format!("ec2 describe-import-image-tasks --import-task-ids {id}");
        let done = lab.until(&line, |said| said["ImportImageTasks"][0]["Status"] != "active");
        let task = &done["ImportImageTasks"][0];
        assert_eq!(task["Status"], "completed", "{task}");
        let image = text(&task["ImageId"]).to_owned();
        let snapshot = text(&task["SnapshotDetails"][0]["SnapshotId"]).to_owned();
        let shown = lab.aws(&format!("ec2 describe-images --image-ids {image}"));
        assert_eq!(shown["Images"][0]["Name"], id.as_str());
        let blocks = lab.aws(&format!("ebs list-snapshot-blocks --snapshot-id {snapshot}"));
        let numbers: Vec<u64> = blocks["Blocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["BlockIndex"].as_u64().unwrap())
            .collect();
        let numbers = json!(numbers);
        assert_eq!(*same.get_or_insert_with(|| numbers.clone()), numbers, "{format}");
        assert_eq!(
            lab.refused(&format!("ec2 cancel-import-task --import-task-id {id}")),
            "IncorrectState"
        );
        lab.aws(&format!("ec2 deregister-image --image-id {image}"));
        lab.aws(&format!("ec2 delete-snapshot --snapshot-id {snapshot}"));
        lab.aws(&format!("s3 rm s3://disks/{key} --quiet"));
    }

    // What is not what it is said to be, fails.
    in_bucket(&raw, "disk.vmdk");
    let id = text(&import("vmdk", "disk.vmdk").json["ImportTaskId"]).to_owned();
    let line = format!("ec2 describe-import-image-tasks --import-task-ids {id}");
    let done = lab.until(&line, |said| said["ImportImageTasks"][0]["Status"] != "active");
    let task = &done["ImportImageTasks"][0];
    assert_eq!(task["Status"], "deleted");
    assert!(
        text(&task["StatusMessage"]).starts_with("ClientError: Disk validation failed"),
        "{task}"
    );
    lab.aws("s3 rb s3://disks --force");
    assert_eq!(lab.left(), ["role"]);
}

#[test]
fn an_import_is_cancelled() {
    let Some(lab) = bench_with(|settings| settings.durations.import = 3_600_000) else { return };
    lab.aws("s3 mb s3://disks");
    let (raw, _) = file(&lab, "disk.raw", 1 << 20);
    lab.aws(&format!("s3 cp {raw} s3://disks/disk.raw --quiet"));
    lab.ok("iam create-role --role-name vmimport --assume-role-policy-document", &[TRUST]);
    lab.ok("iam put-role-policy --role-name vmimport --policy-name read --policy-document", &[MAY]);
    let begun = lab.ok(
        "ec2 import-image --encrypted --platform Windows --license-type BYOL --disk-containers",
        &[&container("raw", "disk.raw")],
    );
    let id = text(&begun["ImportTaskId"]).to_owned();
    assert!(lab.left().contains(&"import-task".to_owned()), "{:?}", lab.left());
    let line = format!("ec2 describe-import-image-tasks --import-task-ids {id}");
    let task = &lab.aws(&line)["ImportImageTasks"][0];
    assert_eq!((text(&task["LicenseType"]), text(&task["Platform"])), ("BYOL", "Windows"));
    assert!(task["Encrypted"] == true && task["KmsKeyId"].is_string(), "{task}");
    let ended = lab.aws(&format!("ec2 cancel-import-task --import-task-id {id}"));
    assert_eq!((text(&ended["PreviousState"]), text(&ended["State"])), ("active", "deleting"));
    assert_eq!(lab.aws(&line)["ImportImageTasks"][0]["Status"], "deleted");
    let unknown = "ec2 cancel-import-task --import-task-id import-ami-0123456789abcdef0";
    assert_eq!(lab.refused(unknown), "InvalidConversionTaskId.NotFound");
    lab.aws("s3 rb s3://disks --force");
    assert_eq!(lab.left(), ["role"]);
}
