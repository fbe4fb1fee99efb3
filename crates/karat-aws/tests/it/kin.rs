//! `amazon-ebssurrogate` and `amazon-ebsvolume` against the lab, and the policy that builds need.

use std::sync::Arc;

use futures::StreamExt as _;
use karat_aws::{AmazonEbs, AmazonEbsSurrogate, AmazonEbsVolume, Policy};
use karat_component::DynBuilder;
use karat_lab::core::faults::Kind;
use karat_saga::{Ending, Services};
use serde_json::{Value as Json, json};

use crate::build::{Build, told};
use crate::lab::{Lab, quick};

pub(crate) fn surrogate(lab: &Lab, name: &str) -> Json {
    let mut options = lab.options(name);
    let more = json!({
        "ami_virtualization_type": "hvm",
        "boot_mode": "uefi-preferred",
        "snapshot_description": "the root of web",
        "launch_block_device_mappings": [
            { "device_name": "/dev/sdf", "volume_size": 2, "volume_type": "gp3" },
            { "device_name": "/dev/sdg", "volume_size": 1, "omit_from_artifact": true },
            { "device_name": "/dev/sdh", "volume_size": 1 },
        ],
        "ami_root_device": {
            "source_device_name": "/dev/sdf",
            "device_name": "/dev/xvda",
            "delete_on_termination": true,
            "volume_type": "gp3",
            "volume_size": 4,
        },
    });
    for (option, value) in more.as_object().unwrap() {
        options[option] = value.clone();
    }
    options
}

#[tokio::test]
async fn another_disk_of_the_machine_becomes_the_image() {
    let lab = Lab::start(quick()).await;
    lab.fault(json!({ "kind": Kind::LostResponse, "calls": "ec2:CreateSnapshot", "count": 1 }));
    lab.fault(json!({ "kind": Kind::LostResponse, "calls": "ec2:RegisterImage", "count": 1 }));
    let build = Build::of(Arc::new(AmazonEbsSurrogate), &surrogate(&lab, "web-1"), "11other");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    // The root and one more disk in two regions.
    assert_eq!(lab.litter(), [] as [&str; 0]);
    assert_eq!((lab.images(), lab.left().len()), (2, 6), "{:#?}", lab.left());
    let artifact = build.artifact(&done).unwrap();
    assert_eq!(artifact.builder_id, "mitchellh.amazon.ebssurrogate");
    for pair in artifact.id.split(',') {
        let (region, id) = pair.split_once(':').unwrap();
        let found = lab.client(region).describe_images().image_ids(id).send().await.unwrap();
        let image = &found.images()[0];
        assert_eq!(image.root_device_name(), Some("/dev/xvda"), "{region}");
        assert_eq!(image.architecture().map(|a| a.as_str()), Some("x86_64"), "{region}");
        assert_eq!(image.boot_mode().map(|a| a.as_str()), Some("uefi-preferred"), "{region}");
        let mut devices: Vec<_> = image
            .block_device_mappings()
            .iter()
            .map(|m| {
                let ebs = m.ebs().unwrap();
                assert!(ebs.snapshot_id().is_some() && ebs.encrypted() == Some(true), "{m:?}");
                (m.device_name().unwrap(), ebs.volume_size(), ebs.delete_on_termination())
            })
            .collect();
        devices.sort_unstable();
        let expected = [("/dev/sdh", Some(1), Some(false)), ("/dev/xvda", Some(4), Some(true))];
        assert_eq!(devices, expected, "{region}");
    }
    let builder: Arc<dyn DynBuilder> = Arc::new(AmazonEbsSurrogate);
    assert!(builder.is_intact(&artifact, &Services::new()).await);
    builder.destroy(&artifact, &Services::new()).await.unwrap();
    assert_eq!(lab.left(), [] as [&str; 0]);
}

/// The same disk through `use_create_image`.
fn swapped(lab: &Lab, name: &str, root: &str) -> Json {
    let mut options = surrogate(lab, name);
    options["boot_mode"] = Json::Null;
    options["use_create_image"] = json!(true);
    options["ami_root_device"]["device_name"] = json!(root);
    options["ami_root_device"]["volume_size"] = Json::Null;
    options
}

/// The root of the lab's machines.
async fn root(lab: &Lab) -> String {
    let found = lab.client("us-east-1").describe_images().send().await.unwrap();
    found.images()[0].root_device_name().unwrap().to_owned()
}

#[tokio::test]
async fn another_disk_becomes_the_root_of_the_machine() {
    let lab = Lab::start(quick()).await;
    let name = root(&lab).await;
    for call in ["ec2:DetachVolume", "ec2:AttachVolume"] {
        lab.fault(json!({ "kind": Kind::LostResponse, "calls": call, "count": 1 }));
    }
    let kin: Arc<dyn DynBuilder> = Arc::new(AmazonEbsSurrogate);
    let build = Build::of(Arc::clone(&kin), &swapped(&lab, "web-1", &name), "18swap");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert_eq!(lab.litter(), [] as [&str; 0]);
    assert_eq!((lab.images(), lab.left().len()), (2, 6), "{:#?}", lab.left());
    let artifact = build.artifact(&done).unwrap();
    for pair in artifact.id.split(',') {
        let (region, id) = pair.split_once(':').unwrap();
        let found = lab.client(region).describe_images().image_ids(id).send().await.unwrap();
        let image = &found.images()[0];
        assert_eq!(image.root_device_name(), Some(&*name), "{region}");
        let mut devices: Vec<_> = image
            .block_device_mappings()
            .iter()
            .map(|m| {
                let ebs = m.ebs().unwrap();
                (m.device_name().unwrap(), ebs.volume_size(), ebs.delete_on_termination())
            })
            .collect();
        devices.sort_unstable();
        let expected = [(&*name, Some(2), Some(true)), ("/dev/sdh", Some(1), Some(false))];
        assert!(expected.iter().all(|d| devices.contains(d)), "{region}: {devices:?}");
        assert_eq!(devices.len(), 2, "{region}: {devices:?}");
    }
    // The old root and what is omitted are gone; so is all of it after a failure.
    for (number, faults) in
        ["fail@swap:before", "repeat@swap:effect,fail@image:before", "cancel@image:made"]
            .iter()
            .enumerate()
    {
        let options = swapped(&lab, &format!("web-2{number}"), &name);
        let build = Build::of(Arc::clone(&kin), &options, &format!("18fault{number}"));
        let failure = build.run(faults).await.unwrap_err();
        assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        assert_eq!((lab.images(), lab.left().len()), (2, 6), "{faults}: {:#?}", lab.left());
    }
    let build = Build::of(kin, &swapped(&lab, "web-3", "/dev/other"), "18other");
    let failure = build.run("").await.unwrap_err();
    assert!(failure.cause_text().contains("ami_root_device calls it /dev/other"));
    assert_eq!((lab.images(), lab.left().len()), (2, 6), "{:#?}", lab.left());
}

fn volumes(lab: &Lab) -> Json {
    let mut options = lab.options("none");
    let all = options.as_object_mut().unwrap();
    for option in [
        "ami_name",
        "ami_description",
        "ami_regions",
        "encrypt_boot",
        "ami_users",
        "tags",
        "snapshot_tags",
    ] {
        all.remove(option);
    }
    options["ebs_volumes"] = json!([
        {
            "device_name": "/dev/sdf",
            "volume_size": 1,
            "tags": { "Name": "data beside {{ .SourceAMIName }}" },
            "snapshot_volume": true,
            "snapshot_description": "the data",
            "snapshot_tags": { "Kind": "data" },
            "snapshot_users": ["123456789012"],
        },
        { "device_name": "/dev/sdg", "volume_size": 2 },
    ]);
    options
}

#[tokio::test]
async fn volumes_stay_with_their_own_tags() {
    let lab = Lab::start(quick()).await;
    let build = Build::of(Arc::new(AmazonEbsVolume), &volumes(&lab), "12volumes");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    let left = lab.left();
    let kinds = |kind: &str| left.iter().filter(|l| l.contains(kind)).count();
    assert_eq!((kinds(": volume "), kinds(": snapshot "), left.len()), (2, 1, 3), "{left:#?}");
    let artifact = build.artifact(&done).unwrap();
    assert_eq!(artifact.builder_id, "mitchellh.amazon.ebsvolume");
    assert_eq!(artifact.id.matches("us-east-1:vol-").count(), 2, "{}", artifact.id);
    assert_eq!(artifact.id.matches("us-east-1:snap-").count(), 1, "{}", artifact.id);

    let ec2 = lab.client("us-east-1");
    let found = ec2.describe_volumes().send().await.unwrap();
    for volume in found.volumes() {
        let names: Vec<&str> = volume.tags().iter().filter_map(|t| t.key()).collect();
        // Tags of the time of building are gone.
        assert!(!names.contains(&"Team") && names.contains(&"karat:token"), "{names:?}");
        assert_eq!(names.contains(&"Name"), volume.size() == Some(1), "{names:?}");
    }
    let found = ec2.describe_snapshots().owner_ids("self").send().await.unwrap();
    let snapshot = &found.snapshots()[0];
    assert_eq!(snapshot.description(), Some("the data"));
    assert!(snapshot.tags().iter().any(|t| t.value() == Some("data")), "{snapshot:?}");

    let builder: Arc<dyn DynBuilder> = Arc::new(AmazonEbsVolume);
    assert!(builder.is_intact(&artifact, &Services::new()).await);
    builder.destroy(&artifact, &Services::new()).await.unwrap();
    assert!(!builder.is_intact(&artifact, &Services::new()).await);
    assert_eq!(lab.left(), [] as [&str; 0]);
}

#[tokio::test]
async fn each_step_of_the_kin_fails_in_turn() {
    let lab = Lab::start(quick()).await;
    let kin: [(Arc<dyn DynBuilder>, Json); 2] = [
        (Arc::new(AmazonEbsSurrogate), surrogate(&lab, "web")),
        (Arc::new(AmazonEbsVolume), volumes(&lab)),
    ];
    let mut runs = Vec::new();
    for (builder, options) in kin {
        let build = Build::of(Arc::clone(&builder), &options, "13names");
        let saga = build.prepared.saga(&build.cx).unwrap();
        for node in saga.nodes() {
            for phase in ["before", "effect"] {
                let (builder, mut options) = (Arc::clone(&builder), options.clone());
                let (faults, number) = (format!("fail@{}:{phase}", node.name), runs.len());
                if options["ami_name"].is_string() {
                    options["ami_name"] = json!(format!("web-{number}"));
                }
                runs.push(async move {
                    let build = Build::of(builder, &options, &format!("13fault{number}"));
                    let failure = match build.run(&faults).await {
                        Ok(_) => panic!("{faults}: it succeeded"),
                        Err(failure) => failure,
                    };
                    assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
                });
            }
        }
    }
    futures::stream::iter(runs).buffer_unordered(6).collect::<()>().await;
    assert_eq!(lab.left(), [] as [&str; 0]);
}

/// The policy for some options of `amazon-ebs`.
fn policy(options: &Json) -> Json {
    let build = Build::of(Arc::new(AmazonEbs), options, "14policy");
    let mut policy = Policy::default();
    assert!(policy.is_empty());
    for node in build.prepared.saga(&build.cx).unwrap().nodes() {
        policy.step(node.step.kind(), &node.step.stored_params().unwrap());
    }
    policy.document()
}

#[test]
fn a_policy_has_what_the_options_need_and_no_more() {
    let options = json!({
        "region": "us-east-1",
        "ami_name": "web",
        "instance_type": "t3.micro",
        "source_ami": "ami-0123456789abcdef0",
        "communicator": "none",
    });
    let small = policy(&options);
    let text = small.to_string();
    for action in ["ec2:RunInstances", "ec2:CreateImage", "ec2:TerminateInstances"] {
        assert!(text.contains(&format!("\"{action}\"")), "{action} is not in {small:#}");
    }
    for action in [
        "CreateKeyPair",
        "CopyImage",
        "servicequotas:",
        "iam:",
        "kms:",
        "ssm:",
        "DescribeRegions",
        "Deprecation",
    ] {
        assert!(!text.contains(action), "{action} is in {small:#}");
    }
    // Nothing is removed or changed that is not a build's own.
    for statement in small["Statement"].as_array().unwrap() {
        let actions = statement["Action"].to_string();
        if ["Delete", "Terminate", "Deregister", "Stop", "Modify"]
            .iter()
            .any(|w| actions.contains(w))
        {
            let bound = &statement["Condition"]["StringLike"]["aws:ResourceTag/karat:token"];
            assert_eq!(*bound, json!("*"), "{statement:#}");
        }
    }
    let mut options = options;
    for (option, value) in json!({
        "communicator": "ssh",
        "ssh_username": "admin",
        "ssh_interface": "session_manager",
        "ami_regions": ["us-west-2"],
        "region_kms_key_ids": { "us-west-2": "1234abcd-12ab-34cd-56ef-1234567890ab" },
        "deprecate_at": "2031-01-01T00:00:00Z",
        "temporary_iam_instance_profile_policy_document": {
            "Statement": [{ "Action": ["s3:GetObject"], "Resource": ["*"] }],
        },
    })
    .as_object()
    .unwrap()
    {
        options[option] = value.clone();
    }
    let large = policy(&options);
    let text = large.to_string();
    for part in [
        "ec2:CreateKeyPair",
        "ec2:CopyImage",
        "iam:CreateRole",
        "arn:aws:iam::*:role/karat-*",
        "iam:PassRole",
        "arn:aws:kms:*:*:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "ssm:StartSession",
        "ec2:EnableImageDeprecation",
    ] {
        assert!(text.contains(part), "{part} is not in {large:#}");
    }
    assert!(!text.contains("AuthorizeSecurityGroupIngress"), "{large:#}");
}

#[test]
fn a_policy_has_the_password_of_windows_where_it_is_asked_for() {
    let mut options = json!({
        "region": "us-east-1",
        "ami_name": "web",
        "instance_type": "t3.micro",
        "source_ami": "ami-0123456789abcdef0",
        "communicator": "winrm",
        "winrm_username": "Administrator",
    });
    let asks = policy(&options).to_string();
    assert!(asks.contains("\"ec2:GetPasswordData\"") && asks.contains("CreateKeyPair"), "{asks}");
    assert!(!asks.contains("GetConsoleOutput"), "{asks}");
    options["winrm_password"] = json!("known");
    let knows = policy(&options).to_string();
    assert!(!knows.contains("GetPasswordData") && !knows.contains("CreateKeyPair"), "{knows}");
}
