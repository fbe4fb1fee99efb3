//! Images: made, copied, shared, given up.

use crate::cli::{Bench, bench, bench_with, text};
use crate::instances::{base, launched};

/// An image of a fresh instance, once it is available.
fn image(lab: &Bench, name: &str) -> String {
    let id = launched(lab, "");
    let made = lab.aws(&format!(
        "ec2 create-image --instance-id {id} --name {name} --tag-specifications \
         ResourceType=image,Tags=[{{Key=of,Value=image}}] \
         ResourceType=snapshot,Tags=[{{Key=of,Value=snapshot}}]"
    ));
    let image = text(&made["ImageId"]).to_owned();
    available(lab, &image, "us-east-1");
    image
}

fn available(lab: &Bench, image: &str, region: &str) -> serde_json::Value {
    let line =
        format!("ec2 describe-images --image-ids {image} --region {region} --query Images[0]");
    lab.until(&line, |i| i["State"] == "available")
}

fn snapshot_of(shown: &serde_json::Value) -> String {
    text(&shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]).to_owned()
}

#[test]
fn base_images_are_found_by_the_names_that_templates_have() {
    let Some(lab) = bench_with(|s| {
        let own = "[[image]]\nname = \"corp-1\"\nid = \"ami-0123456789abcdef0\"\n\
                   owner = \"444455556666\"\n";
        let read = karat_lab::core::settings::Settings::parse(own, "lab.toml").unwrap();
        s.image = read.image;
    }) else {
        return;
    };
    for (owner, pattern) in [
        ("099720109477", "ubuntu/images/*ubuntu-jammy-22.04-*-server-*"),
        ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-*"),
        ("136693071363", "debian-12-*"),
        ("amazon", "al2023-ami-2023*"),
    ] {
        let line = format!(
            "ec2 describe-images --owners {owner} --filters Name=name,Values={pattern} \
             Name=root-device-type,Values=ebs Name=virtualization-type,Values=hvm"
        );
        let found = lab.aws(&line);
        assert_eq!(found["Images"].as_array().unwrap().len(), 1, "{pattern}");
    }
    for region in ["us-east-1", "ap-northeast-1"] {
        let fixed = lab.aws(&format!(
            "ec2 describe-images --image-ids ami-0123456789abcdef0 --region {region}"
        ));
        assert_eq!(fixed["Images"][0]["Name"], "corp-1");
    }
    let said = lab.aws_with("ec2 describe-images --image-ids ami-00000000000000001", &[]);
    assert_eq!(said.code.as_deref(), Some("InvalidAMIID.NotFound"));
    assert!(said.stderr.contains("lab.toml"), "{}", said.stderr);
    let public = "ssm get-parameter --name \
                  /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
    assert!(text(&lab.aws(public)["Parameter"]["Value"]).starts_with("ami-"));
}

#[test]
fn an_image_is_made_tagged_and_launched() {
    let Some(lab) = bench_with(|s| s.durations.image = 50) else { return };
    let id = image(&lab, "golden-1");
    let shown = available(&lab, &id, "us-east-1");
    assert_eq!(shown["OwnerId"], "111122223333");
    assert_eq!(shown["Tags"][0]["Value"], "image");
    assert_eq!(shown["SourceImageId"], base(&lab).as_str());
    let snapshot = snapshot_of(&shown);
    let snapshots = lab.aws("ec2 describe-snapshots --owner-ids self");
    assert_eq!(snapshots["Snapshots"][0]["SnapshotId"], snapshot.as_str());
    assert_eq!(snapshots["Snapshots"][0]["Tags"][0]["Value"], "snapshot");
    let instance =
        lab.aws("ec2 describe-instances --query Reservations[0].Instances[0].InstanceId");
    let instance = text(&instance);
    let create = |name: &str| format!("ec2 create-image --instance-id {instance} --name {name}");
    assert_eq!(lab.refused(&create("golden-1")), "InvalidAMIName.Duplicate");
    assert_eq!(lab.refused(&create("golden#2")), "InvalidAMIName.Malformed");
    let two = lab.aws(&format!("ec2 run-instances --image-id {id} --instance-type t3.micro"));
    assert_eq!(two["Instances"][0]["ImageId"], id.as_str());
    let small = format!(
        "ec2 run-instances --image-id {id} --instance-type t3.micro --block-device-mappings \
         [{{\"DeviceName\":\"/dev/xvda\",\"Ebs\":{{\"VolumeSize\":4}}}}]"
    );
    assert_eq!(lab.refused(&small), "InvalidBlockDeviceMapping");

    let delete = format!("ec2 delete-snapshot --snapshot-id {snapshot}");
    assert_eq!(lab.refused(&delete), "InvalidSnapshot.InUse");
    lab.aws(&format!("ec2 deregister-image --image-id {id}"));
    let gone = format!("ec2 describe-images --image-ids {id}");
    assert_eq!(lab.refused(&gone), "InvalidAMIID.NotFound");
    lab.aws(&delete);
}

#[test]
fn a_copy_is_encrypted_with_its_regions_key_and_shared() {
    let Some(lab) = bench() else { return };
    let id = image(&lab, "golden-1");
    let key = lab.aws("kms create-key --region ap-northeast-1 --description d");
    let key = text(&key["KeyMetadata"]["Arn"]).to_owned();
    lab.aws(&format!(
        "kms create-alias --region ap-northeast-1 --alias-name alias/images --target-key-id {key}"
    ));
    let copy = format!(
        "ec2 copy-image --region ap-northeast-1 --source-region us-east-1 --source-image-id {id} \
         --name golden-1"
    );
    let plain = format!("{copy} --kms-key-id alias/images");
    assert_eq!(lab.refused(&plain), "InvalidParameterDependency");
    let wrong = format!("{copy} --encrypted --kms-key-id alias/none");
    assert_eq!(lab.refused(&wrong), "InvalidParameterValue");
    let copied =
        lab.aws(&format!("{copy} --encrypted --kms-key-id alias/images --copy-image-tags"));
    let copied = text(&copied["ImageId"]).to_owned();
    let shown = available(&lab, &copied, "ap-northeast-1");
    assert_eq!(shown["SourceImageId"], id.as_str());
    assert_eq!(shown["SourceImageRegion"], "us-east-1");
    assert_eq!(shown["Tags"][0]["Key"], "of");
    assert_eq!(shown["BlockDeviceMappings"][0]["Ebs"]["Encrypted"], true);
    let snapshot = snapshot_of(&shown);
    let snapshot = lab
        .aws(&format!("ec2 describe-snapshots --region ap-northeast-1 --snapshot-ids {snapshot}"));
    assert_eq!(snapshot["Snapshots"][0]["KmsKeyId"], key.as_str());
    assert_eq!(lab.refused(&copy), "InvalidAMIName.Duplicate");

    let modify = format!("ec2 modify-image-attribute --region ap-northeast-1 --image-id {copied}");
    lab.aws(&format!("{modify} --launch-permission Add=[{{UserId=444455556666}}]"));
    let shared = lab.aws(&format!(
        "ec2 describe-image-attribute --region ap-northeast-1 --image-id {copied} \
         --attribute launchPermission"
    ));
    assert_eq!(shared["LaunchPermissions"][0]["UserId"], "444455556666");
    let public = format!("{modify} --launch-permission Add=[{{Group=all}}]");
    assert_eq!(lab.refused(&public), "InvalidParameter");
    // What the account's default key encrypts cannot be shared at all.
    let other =
        lab.aws(&format!("{} --encrypted", copy.replace("--name golden-1", "--name golden-2")));
    let other = text(&other["ImageId"]);
    available(&lab, other, "ap-northeast-1");
    let share = format!(
        "ec2 modify-image-attribute --region ap-northeast-1 --image-id {other} \
         --launch-permission Add=[{{UserId=444455556666}}]"
    );
    assert_eq!(lab.refused(&share), "InvalidParameter");
}

#[test]
fn deprecation_protection_and_disabling_hold() {
    let Some(lab) = bench() else { return };
    let id = image(&lab, "golden-1");
    let of = |call: &str| format!("ec2 {call} --image-id {id}");
    lab.aws(&format!("{} --deprecate-at 2031-01-01T00:00:00Z", of("enable-image-deprecation")));
    let shown = available(&lab, &id, "us-east-1");
    assert_eq!(shown["DeprecationTime"], "2031-01-01T00:00:00.000Z");
    let past = format!("{} --deprecate-at 2001-01-01T00:00:00Z", of("enable-image-deprecation"));
    assert_eq!(lab.refused(&past), "InvalidParameterValue");
    lab.aws(&of("disable-image-deprecation"));

    lab.aws(&of("enable-image-deregistration-protection"));
    assert_eq!(lab.refused(&of("deregister-image")), "OperationNotPermitted");
    lab.aws(&of("disable-image-deregistration-protection"));
    lab.aws(&of("disable-image"));
    let run = format!("ec2 run-instances --image-id {id} --instance-type t3.micro");
    assert_eq!(lab.refused(&run), "InvalidAMIID.Unavailable");
    lab.aws(&of("enable-image"));
    lab.aws(&format!("{} --imds-support v2.0", of("modify-image-attribute")));
    let made = lab.aws(&run);
    assert_eq!(made["Instances"][0]["MetadataOptions"]["HttpTokens"], "required");
    assert_eq!(made["Instances"][0]["MetadataOptions"]["HttpPutResponseHopLimit"], 2);
    let gone = lab.aws(&format!("{} --delete-associated-snapshots", of("deregister-image")));
    assert_eq!(gone["DeleteSnapshotResults"][0]["ReturnCode"], "success");
    let kinds = lab.left();
    assert!(!kinds.contains(&"snapshot".to_owned()), "{kinds:?}");
}

#[test]
fn volumes_are_made_attached_and_snapshotted() {
    let Some(lab) = bench() else { return };
    let instance = launched(&lab, "");
    let zone = lab.aws(&format!(
        "ec2 describe-instances --instance-ids {instance} \
         --query Reservations[0].Instances[0].Placement.AvailabilityZone"
    ));
    let zone = text(&zone);
    let create = format!("ec2 create-volume --availability-zone {zone} --volume-type gp3");
    assert_eq!(lab.refused(&format!("{create} --size 5 --iops 100")), "InvalidParameterValue");
    let made = lab.aws(&format!("{create} --size 5"));
    assert_eq!(made["Throughput"], 125);
    let volume = text(&made["VolumeId"]).to_owned();
    lab.until(&format!("ec2 describe-volumes --volume-ids {volume}"), |v| {
        v["Volumes"][0]["State"] == "available"
    });
    let attach = format!("ec2 attach-volume --volume-id {volume} --instance-id {instance}");
    assert_eq!(lab.refused(&format!("{attach} --device /dev/xvda")), "InvalidParameterValue");
    lab.aws(&format!("{attach} --device /dev/sdf"));
    let delete = format!("ec2 delete-volume --volume-id {volume}");
    assert_eq!(lab.refused(&delete), "VolumeInUse");
    let snapshot = lab.aws(&format!("ec2 create-snapshot --volume-id {volume}"));
    let snapshot = text(&snapshot["SnapshotId"]).to_owned();
    lab.until(&format!("ec2 describe-snapshots --snapshot-ids {snapshot}"), |v| {
        v["Snapshots"][0]["State"] == "completed"
    });
    let registered = lab.ok(
        "ec2 register-image --name from-snapshot --root-device-name /dev/sda1 --ena-support \
         --virtualization-type hvm --architecture x86_64 --block-device-mappings",
        &[&format!("DeviceName=/dev/sda1,Ebs={{SnapshotId={snapshot},VolumeType=gp3}}")],
    );
    let image = available(&lab, text(&registered["ImageId"]), "us-east-1");
    assert_eq!(image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"], 5);
    lab.aws(&format!("ec2 detach-volume --volume-id {volume}"));
    lab.until(&format!("ec2 describe-volumes --volume-ids {volume}"), |v| {
        v["Volumes"][0]["State"] == "available"
    });
    lab.aws(&delete);
}
