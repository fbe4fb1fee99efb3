//! `amazon-chroot`: its options, and the policy that it needs. Whole builds run on an instance of
//! the lab, in the tests of the program.

use std::sync::Arc;

use karat_aws::{AmazonChroot, Policy};
use karat_component::testing::{self, Component, body};
use serde_json::{Value as Json, json};

use crate::build::Build;

fn chroot() -> Component {
    Component::Builder(Arc::new(AmazonChroot))
}

fn with(base: &Json, other: &Json) -> Json {
    let mut block = base.clone();
    let all = block.as_object_mut().unwrap();
    for (name, value) in other.as_object().unwrap() {
        match value {
            Json::Null => all.remove(name),
            value => all.insert(name.clone(), value.clone()),
        };
    }
    block
}

fn valid() -> Json {
    json!({ "region": "us-east-1", "ami_name": "web-1", "source_ami": "ami-0123456789abcdef0" })
}

fn scratch() -> Json {
    json!({
        "region": "us-east-1",
        "ami_name": "web-1",
        "from_scratch": true,
        "ami_virtualization_type": "hvm",
        "root_volume_size": 8,
        "root_device_name": "/dev/xvda",
        "ami_block_device_mappings": [{ "device_name": "/dev/xvda", "volume_type": "gp3" }],
        "pre_mount_commands": ["mkfs.ext4 {{.Device}}"],
    })
}

#[test]
fn it_complies() {
    testing::options(&chroot(), &body(&valid()));
}

#[test]
fn what_templates_have_is_taken() {
    for block in [
        scratch(),
        with(
            &valid(),
            &json!({
                "device_path": "/dev/xvdf",
                "nvme_device_path": "/dev/nvme1n1",
                "mount_partition": "0",
                "mount_options": ["nouuid"],
                "mount_path": "/mnt/{{.Device}}",
                "command_wrapper": "sudo {{.Command}}",
                "post_mount_commands": ["ls {{.Device}} {{.MountPath}}"],
                "chroot_mounts": [["proc", "proc", "/proc"], ["bind", "/dev", "/dev"]],
                "copy_files": [],
                "root_volume_tags": { "Name": "{{ .SourceAMIName }}" },
                "root_volume_tag": [{ "key": "a", "value": "b" }],
                "root_volume_encrypt_boot": true,
                "root_volume_kms_key_id": "alias/images",
            }),
        ),
        with(
            &valid(),
            &json!({
                "source_ami_filter": { "filters": { "name": "x" }, "owners": ["self"] },
                "root_device_name": "xvda",
                "root_volume_size": 8,
                "ami_block_device_mappings": [{ "device_name": "xvda" }],
                "boot_mode": "uefi",
                "uefi_data": "AAAA",
                "tpm_support": "v2.0",
                "ami_architecture": "arm64",
            }),
        ),
    ] {
        let errors = chroot().errors(&body(&block));
        assert!(errors.is_empty(), "{block}: {errors:?}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    let device = json!([{ "device_name": "/dev/sda1" }]);
    for (base, other, part) in [
        (valid(), json!({ "source_ami": null }), "source_ami or source_ami_filter is required."),
        (valid(), json!({ "chroot_mounts": [["proc", "/proc"]] }), "should be three elements"),
        (valid(), json!({ "root_device_name": "xvda" }), "ami_block_device_mappings must be"),
        (
            valid(),
            json!({ "ami_block_device_mappings": device }),
            "root_device_name must be specified",
        ),
        (
            valid(),
            json!({ "ami_block_device_mappings": device, "root_device_name": "/dev/sda1" }),
            "root_volume_size is required",
        ),
        (
            valid(),
            json!({ "root_volume_encrypt_boot": false, "root_volume_kms_key_id": "alias/a" }),
            "root_volume_encrypt_boot must also be true",
        ),
        (valid(), json!({ "root_volume_kms_key_id": "what?" }), "not a valid KMS key id"),
        (valid(), json!({ "ami_architecture": "amd64" }), "amd64"),
        (scratch(), json!({ "root_volume_size": null }), "root_volume_size is required"),
        (scratch(), json!({ "pre_mount_commands": null }), "pre_mount_commands is required"),
        (scratch(), json!({ "ami_virtualization_type": null }), "ami_virtualization_type is"),
        (scratch(), json!({ "root_device_name": null }), "root_device_name is required"),
        (scratch(), json!({ "root_device_name": "/dev/sdb" }), "no device with the name"),
        (
            scratch(),
            json!({ "ami_block_device_mappings": null }),
            "ami_block_device_mappings is required",
        ),
        (scratch(), json!({ "root_volume_type": "io1" }), "Cannot use io1"),
    ] {
        let errors = chroot().errors(&body(&with(&base, &other)));
        assert!(errors.iter().any(|e| e.contains(part)), "{other}: {errors:?}");
        assert_eq!(errors.len(), 1, "{other}: {errors:?}");
    }
}

#[test]
fn a_policy_lets_it_attach_what_it_made_and_start_nothing() {
    let build = Build::of(Arc::new(AmazonChroot), &valid(), "19policy");
    let mut policy = Policy::default();
    for node in build.prepared.saga(&build.cx).unwrap().nodes() {
        policy.step(node.step.kind(), &node.step.stored_params().unwrap());
    }
    let document = policy.document();
    let text = document.to_string();
    for action in ["CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume", "RegisterImage"]
    {
        assert!(text.contains(&format!("\"ec2:{action}\"")), "{action} is not in {document:#}");
    }
    for action in ["RunInstances", "TerminateInstances", "servicequotas", "CreateKeyPair"] {
        assert!(!text.contains(action), "{action} is in {document:#}");
    }
    for statement in document["Statement"].as_array().unwrap() {
        if statement["Resource"].to_string().contains(":volume/") {
            let tagged = statement["Condition"].to_string().contains("karat:token");
            assert!(tagged, "{statement:#}");
        }
    }
}
