//! Post-processor `amazon-import` against the lab: a disk becomes an image.

use std::path::PathBuf;

use karat_aws::AmazonImport;
use karat_component::testing::{self, Recorded, body};
use karat_component::{Artifact, ComponentError};
use karat_lab::core::faults::Kind;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, quick};

/// A disk of three blocks, of which the one in the middle is empty.
fn disk(folder: &tempfile::TempDir) -> PathBuf {
    let block = 512 * 1024;
    let mut bytes = vec![1_u8; block];
    bytes.resize(2 * block, 0);
    bytes.resize(3 * block, 2);
    let path = folder.path().join("disk.raw");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn options(lab: &Lab, more: &Json) -> Json {
    let of = lab.options("web-1");
    let mut options = json!({
        "shared_credentials_file": of["shared_credentials_file"],
        "skip_metadata_api_check": true,
        "format": "raw",
        "ami_name": "web-1",
        "ami_description": "a disk",
        "boot_mode": "uefi",
        "tags": { "Team": "images" },
        "ami_users": ["123456789012"],
    });
    for (name, value) in more.as_object().unwrap() {
        options[name] = value.clone();
    }
    options
}

async fn import(options: &Json, files: &[PathBuf]) -> Result<Option<Artifact>, ComponentError> {
    let prepared = testing::post_processor(AmazonImport, options);
    let (events, _) = Recorded::new(&[]);
    let cx = testing::post_process_context(events, CancellationToken::new());
    let done = prepared.post_process(&cx, testing::artifact(files)).await?;
    assert!(!done.keep && !done.force, "{done:?}");
    Ok(done.artifact)
}

#[tokio::test]
async fn a_disk_becomes_an_image() {
    let lab = Lab::start(quick()).await;
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    lab.fault(json!({ "kind": Kind::LostResponse, "calls": "ec2:RegisterImage", "count": 1 }));
    let done = import(&options(&lab, &json!({})), std::slice::from_ref(&disk)).await;
    let artifact = done.unwrap_or_else(|e| panic!("{}", e.chain())).unwrap();
    assert_eq!(artifact.builder_id, "packer.post-processor.amazon-import");
    let (region, id) = artifact.id.split_once(':').unwrap();
    assert_eq!((lab.images(), lab.left().len()), (1, 2), "{:#?}", lab.left());
    let ec2 = lab.client(region);
    let found = ec2.describe_images().image_ids(id).send().await.unwrap();
    let image = &found.images()[0];
    assert_eq!((image.name(), image.description()), (Some("web-1"), Some("a disk")));
    assert_eq!(image.boot_mode().map(|b| b.as_str()), Some("uefi"));
    assert!(image.tags().iter().any(|t| t.value() == Some("images")), "{image:?}");
    let shared = ec2
        .describe_image_attribute()
        .image_id(id)
        .attribute(aws_sdk_ec2::types::ImageAttributeName::LaunchPermission)
        .send()
        .await
        .unwrap();
    assert_eq!(shared.launch_permissions()[0].user_id(), Some("123456789012"));
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");

    // The name is taken now, and nothing else is made.
    let again = import(&options(&lab, &json!({})), &[disk]).await.unwrap_err();
    assert!(again.chain().contains("is taken"), "{}", again.chain());
    assert_eq!((lab.images(), lab.left().len()), (1, 2), "{:#?}", lab.left());
}

/// What a snapshot has in blocks: their numbers, and the digests of what is not all zeros.
async fn blocks(lab: &Lab, snapshot: &str) -> Vec<(i32, String)> {
    let ebs = lab.ebs();
    let listed = ebs.list_snapshot_blocks().snapshot_id(snapshot).send().await.unwrap();
    let mut found = Vec::new();
    for block in listed.blocks() {
        let index = block.block_index().unwrap();
        let ask = ebs.get_snapshot_block().snapshot_id(snapshot).block_index(index);
        let block = ask.block_token(block.block_token().unwrap()).send().await.unwrap();
        found.push((index, block.checksum().unwrap().to_owned()));
    }
    found
}

fn program(name: &str, words: &[&std::ffi::OsStr]) {
    let ended = std::process::Command::new(name).args(words).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn a_disk_in_each_format_becomes_the_same_image() {
    let lab = Lab::start(quick()).await;
    let folder = tempfile::tempdir().unwrap();
    let raw = disk(&folder);
    let convert = |name: &str, driver: &str, options: &[&str]| {
        let made = folder.path().join(name);
        let words =
            ["convert", "-f", "raw", "-O", driver].into_iter().chain(options.iter().copied());
        let mut words: Vec<&std::ffi::OsStr> = words.map(AsRef::as_ref).collect();
        words.extend([raw.as_os_str(), made.as_os_str()]);
        program("qemu-img", &words);
        made
    };
    let stream = ["-o", "subformat=streamOptimized"];
    let inside = convert("inside.vmdk", "vmdk", &stream);
    let description = folder.path().join("d.ovf");
    let text = "<Envelope><References><File id=\"f\" href=\"inside.vmdk\"/></References>\
                <DiskSection><Disk diskId=\"d\" fileRef=\"f\"/></DiskSection></Envelope>";
    std::fs::write(&description, text).unwrap();
    let ova = folder.path().join("d.ova");
    let of = |text: &'static str| std::ffi::OsStr::new(text);
    let (ova_name, dir) = (ova.as_os_str(), folder.path().as_os_str());
    program("tar", &[of("-cf"), ova_name, of("-C"), dir, of("d.ovf"), of("inside.vmdk")]);
    std::fs::remove_file(inside).unwrap();
    let all = [
        ("raw", raw.clone()),
        ("qcow2", convert("d.qcow2", "qcow2", &[])),
        ("vmdk", convert("d.vmdk", "vmdk", &stream)),
        ("vhd", convert("d.vhd", "vpc", &["-o", "force_size=on"])),
        ("vhdx", convert("d.vhdx", "vhdx", &[])),
        ("ova", ova),
    ];
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let (before, mut same) = (files(), None);
    for (format, path) in all {
        // The default is Packer's.
        let option = if format == "ova" { Json::Null } else { json!(format) };
        let options = options(&lab, &json!({ "format": option, "ami_name": format }));
        let done = import(&options, std::slice::from_ref(&path)).await;
        let artifact = done.unwrap_or_else(|e| panic!("{format}: {}", e.chain())).unwrap();
        let (region, id) = artifact.id.split_once(':').unwrap();
        let found = lab.client(region).describe_images().image_ids(id).send().await.unwrap();
        let disk = found.images()[0].block_device_mappings()[0].ebs().unwrap();
        assert_eq!(disk.volume_size(), Some(1), "{format}");
        let blocks = blocks(&lab, disk.snapshot_id().unwrap()).await;
        assert_eq!(blocks.iter().map(|b| b.0).collect::<Vec<_>>(), [0, 2], "{format}");
        assert_eq!(*same.get_or_insert_with(|| blocks.clone()), blocks, "{format}");
        assert_eq!(files(), before, "{format}");

        // What is cut off, or is nothing of the kind, becomes none.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        if format != "raw" {
            let error = import(&options, std::slice::from_ref(&path)).await.unwrap_err().chain();
            assert!(error.contains("is taken"), "{format}: {error}");
            let mut options = options.clone();
            options["ami_name"] = json!("other");
            let error = import(&options, std::slice::from_ref(&path)).await.unwrap_err().chain();
            assert!(
                error.contains("could not read the disk") || error.contains("is not vhd"),
                "{error}"
            );
            std::fs::write(&path, [7; 4096]).unwrap();
            let error = import(&options, &[path]).await.unwrap_err().chain();
            assert!(error.contains(&format!("is not {format}: it does not begin")), "{error}");
        } else {
            std::fs::write(&path, bytes).unwrap();
        }
        assert_eq!(files(), before, "{format}");
    }
    assert_eq!((lab.images(), lab.left().len()), (6, 12), "{:#?}", lab.left());
}

#[tokio::test]
async fn what_was_sent_goes_after_a_failure() {
    let lab = Lab::start(quick()).await;
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    for call in ["ebs:PutSnapshotBlock", "ec2:RegisterImage", "ec2:ModifyImageAttribute"] {
        let code = "ValidationException";
        lab.fault(json!({ "kind": Kind::Error, "calls": call, "code": code, "count": 1 }));
        let options = options(&lab, &json!({}));
        let error = import(&options, std::slice::from_ref(&disk)).await.unwrap_err();
        assert!(error.chain().contains(code), "{call}: {}", error.chain());
        assert_eq!(lab.left(), [] as [&str; 0], "{call}");
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{call}: {files:?}");
    }
    let other = folder.path().join("disk.vmdk");
    let error = import(&options(&lab, &json!({})), &[other]).await.unwrap_err();
    assert!(error.chain().contains("No raw image file"), "{}", error.chain());
}

/// A disk of Windows that comes in three parts.
fn windows(folder: &tempfile::TempDir) -> PathBuf {
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|i| (i.wrapping_mul(97) >> 9) as u8).collect();
    let path = folder.path().join("disk.raw");
    std::fs::write(&path, bytes).unwrap();
    path
}

const BUCKET: [&str; 2] = ["bucket disks", "role vmimport"];

/// What is left beside the bucket and the role.
fn beside(lab: &Lab) -> Vec<String> {
    let left = lab.left().into_iter();
    left.filter(|line| !BUCKET.iter().any(|known| line.contains(known))).collect()
}

#[tokio::test]
async fn an_import_task_makes_an_image_of_windows() {
    let lab = Lab::start(quick()).await;
    lab.make_bucket("disks").await;
    let folder = tempfile::tempdir().unwrap();
    let disk = windows(&folder);
    let more = json!({
        "platform": "windows", "license_type": "BYOL", "s3_bucket_name": "disks",
        "s3_encryption": "AES256", "boot_mode": Json::Null, "imds_support": "v2.0",
        "ami_encrypt": true, "ami_users": Json::Null,
    });
    let options = options(&lab, &more);
    lab.fault(json!({ "kind": Kind::LostResponse, "calls": "ec2:ImportImage", "count": 1 }));
    lab.fault(json!({ "kind": Kind::LostResponse, "calls": "s3:UploadPart", "count": 1 }));
    let done = import(&options, std::slice::from_ref(&disk)).await;
    let artifact = done.unwrap_or_else(|e| panic!("{}", e.chain())).unwrap();
    // The object is gone, and what the task made beside what it was copied to.
    assert_eq!((lab.images(), beside(&lab).len()), (1, 2), "{:#?}", lab.left());
    let (region, id) = artifact.id.split_once(':').unwrap();
    let ec2 = lab.client(region);
    let found = ec2.describe_images().image_ids(id).send().await.unwrap();
    let image = &found.images()[0];
    assert_eq!((image.name(), image.description()), (Some("web-1"), Some("a disk")));
    assert_eq!(image.platform().map(|p| p.as_str()), Some("windows"));
    assert_eq!(image.imds_support().map(|v| v.as_str()), Some("v2.0"));
    assert!(image.tags().iter().any(|t| t.value() == Some("images")), "{image:?}");
    let disk_of = image.block_device_mappings()[0].ebs().unwrap();
    assert_eq!(disk_of.encrypted(), Some(true));
    assert_eq!(blocks(&lab, disk_of.snapshot_id().unwrap()).await.len(), 40);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    // The name is taken now, which is told before anything is sent.
    let error = import(&options, std::slice::from_ref(&disk)).await.unwrap_err();
    assert!(error.chain().contains("is taken"), "{}", error.chain());

    // Without a name there is no copy; the object stays where that is wanted.
    let mut options = options;
    options.as_object_mut().unwrap().remove("ami_name");
    options["skip_clean"] = json!(true);
    options["s3_key_name"] = json!("kept-{{ timestamp }}.raw");
    let done = import(&options, &[disk]).await;
    let artifact = done.unwrap_or_else(|e| panic!("{}", e.chain())).unwrap();
    let (_, id) = artifact.id.split_once(':').unwrap();
    let found = ec2.describe_images().image_ids(id).send().await.unwrap();
    assert!(found.images()[0].name().unwrap().starts_with("import-ami-"), "{found:?}");
    assert!(found.images()[0].tags().iter().any(|t| t.value() == Some("images")));
    let objects: Vec<_> = beside(&lab).into_iter().filter(|l| l.contains("object")).collect();
    assert!(objects.len() == 1 && objects[0].contains("s3://disks/kept-"), "{objects:?}");
}

#[tokio::test]
async fn nothing_of_an_import_task_is_left_after_a_failure() {
    let lab = Lab::start(quick()).await;
    lab.make_bucket("disks").await;
    let folder = tempfile::tempdir().unwrap();
    let disk = windows(&folder);
    let more = json!({ "method": "import-image", "platform": "linux", "s3_bucket_name": "disks" });
    let options = options(&lab, &more);
    for call in [
        "s3:CreateMultipartUpload",
        "s3:UploadPart",
        "s3:CompleteMultipartUpload",
        "ec2:ImportImage",
        "ec2:CopyImage",
        "ec2:ModifyImageAttribute",
    ] {
        let code = "ValidationException";
        lab.fault(json!({ "kind": Kind::Error, "calls": call, "code": code, "count": 1 }));
        let error = import(&options, std::slice::from_ref(&disk)).await.unwrap_err();
        assert!(error.chain().contains(code), "{call}: {}", error.chain());
        assert_eq!(beside(&lab), [] as [&str; 0], "{call}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{call}");
    }
    // What the service says of a disk that it does not take.
    let mut wrong = options.clone();
    wrong["format"] = json!("vmdk");
    let other = folder.path().join("disk.vmdk");
    std::fs::copy(&disk, &other).unwrap();
    let error = import(&wrong, &[other]).await.unwrap_err().chain();
    assert!(error.contains("Disk validation failed"), "{error}");
    assert_eq!(beside(&lab), [] as [&str; 0]);
    let mut wrong = options.clone();
    wrong["s3_bucket_name"] = json!("nowhere");
    let error = import(&wrong, std::slice::from_ref(&disk)).await.unwrap_err();
    assert!(error.chain().contains("NoSuchBucket"), "{}", error.chain());
    let mut wrong = options;
    wrong["role_name"] = json!("other");
    let error = import(&wrong, &[disk]).await.unwrap_err();
    assert!(error.hint().is_some_and(|h| h.contains("vmie.amazonaws.com")), "{}", error.chain());
    assert_eq!(beside(&lab), [] as [&str; 0]);
}

#[tokio::test]
async fn a_task_is_cancelled_with_the_build() {
    let lab = Lab::start(karat_lab::core::settings::Durations { import: 3_600_000, ..quick() });
    let lab = lab.await;
    lab.make_bucket("disks").await;
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    let task = json!({ "method": "import-image", "platform": "linux", "s3_bucket_name": "disks" });
    let prepared = testing::post_processor(AmazonImport, &options(&lab, &task));
    let (events, _) = Recorded::new(&[]);
    let cancel = CancellationToken::new();
    let cx = testing::post_process_context(events, cancel.clone());
    let run = prepared.post_process(&cx, testing::artifact([disk]));
    let begun = async {
        let begun = tokio::time::Instant::now();
        while !lab.left().iter().any(|line| line.contains("import-task")) {
            assert!(begun.elapsed() < crate::lab::LIMIT, "{:?}", lab.left());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(run, begun);
    assert!(ended.unwrap_err().is_cancelled());
    assert_eq!(beside(&lab), [] as [&str; 0]);
}

#[test]
fn what_a_task_needs_is_told() {
    let component = testing::Component::PostProcessor(std::sync::Arc::new(AmazonImport));
    let valid = json!({ "format": "vhd", "platform": "windows", "s3_bucket_name": "disks" });
    testing::options(&component, &body(&valid));
    for (option, value, part) in [
        ("s3_bucket_name", json!(""), "s3_bucket_name must be set"),
        ("format", json!("qcow2"), "does not read qcow2"),
        ("method", json!("ebs-direct"), "needs an import task"),
        ("s3_key_name", json!("{{ nothing }}"), "\"nothing\" is not defined"),
    ] {
        let mut options = valid.clone();
        options[option] = value;
        let errors = component.errors(&body(&options));
        assert_eq!(errors.len(), 1, "{option}: {errors:?}");
        assert!(errors[0].contains(part), "{option}: {errors:?}");
    }
    let uefi = json!({ "format": "vhd", "method": "import-image", "boot_mode": "uefi",
        "s3_bucket_name": "disks" });
    let errors = component.errors(&body(&uefi));
    assert!(errors.len() == 1 && errors[0].contains("'platform' must be set"), "{errors:?}");
}

#[test]
fn what_is_wrong_is_told() {
    let component = testing::Component::PostProcessor(std::sync::Arc::new(AmazonImport));
    let valid = json!({ "format": "raw", "s3_bucket_name": "images", "ami_name": "web-1" });
    testing::options(&component, &body(&valid));
    for (option, value, part) in [
        ("format", json!("OVA"), "invalid format 'OVA'"),
        ("format", json!("iso"), "invalid format 'iso'"),
        ("method", json!("magic"), "unknown method \"magic\""),
        ("platform", json!("hurd"), "invalid platform 'hurd'"),
        ("boot_mode", json!("bios"), "invalid boot mode 'bios'"),
        ("license_type", json!("GPL"), "invalid license type 'GPL'"),
        ("imds_support", json!("v1"), "imds_support"),
        ("s3_encryption", json!("rot13"), "invalid s3 encryption format"),
        ("ami_kms_key", json!("what?"), "not a valid KMS key id"),
        ("ami_name", json!("a:b/c"), "\"a-b/c\" would do"),
    ] {
        let mut options = valid.clone();
        match value {
            Json::Null => drop(options.as_object_mut().unwrap().remove(option)),
            value => options[option] = value,
        }
        let errors = component.errors(&body(&options));
        assert_eq!(errors.len(), 1, "{option}: {errors:?}");
        assert!(errors[0].contains(part), "{option}: {errors:?}");
    }
}
