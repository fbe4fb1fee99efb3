//! What the options take, and what is said of what they do not.

use std::sync::Arc;

use karat_aws::{AmazonAmi, AmazonEbs, AmazonParameterStore, AmazonSecretsManager};
use karat_component::testing::{self, Component, body};
use serde_json::{Value as Json, json};

fn ebs() -> Component {
    Component::Builder(Arc::new(AmazonEbs))
}

fn valid() -> Json {
    json!({
        "region": "us-east-1",
        "ami_name": "web-1",
        "instance_type": "t3.micro",
        "source_ami": "ami-0123456789abcdef0",
        "ssh_username": "ubuntu",
    })
}

/// The valid block with other options beside.
fn with(other: &Json) -> Json {
    let mut block = valid();
    let all = block.as_object_mut().unwrap();
    for (name, value) in other.as_object().unwrap() {
        match value {
            Json::Null => all.remove(name),
            value => all.insert(name.clone(), value.clone()),
        };
    }
    block
}

#[test]
fn components_comply() {
    testing::options(&ebs(), &body(&valid()));
    let ami = json!({ "region": "us-east-1", "owners": ["self"], "filters": { "name": "web-*" } });
    testing::options(&Component::DataSource(Arc::new(AmazonAmi)), &body(&ami));
    let named = json!({ "region": "us-east-1", "name": "/images/base" });
    testing::options(&Component::DataSource(Arc::new(AmazonParameterStore)), &body(&named));
    testing::options(&Component::DataSource(Arc::new(AmazonSecretsManager)), &body(&named));
}

#[test]
fn what_templates_have_is_taken() {
    for other in [
        json!({ "communicator": "none", "ssh_username": null }),
        json!({
            "source_ami": null,
            "source_ami_filter": {
                "filters": { "name": "debian-12-*", "virtualization-type": "hvm" },
                "owners": ["136693071363"],
                "most_recent": true,
            },
        }),
        json!({
            "encrypt_boot": true,
            "kms_key_id": "alias/images",
            "ami_regions": ["us-east-1", "us-west-2"],
            "region_kms_key_ids": { "us-east-1": "alias/a", "us-west-2": "alias/b" },
            "ami_users": ["123456789012"],
        }),
        json!({
            "launch_block_device_mappings": [
                { "device_name": "/dev/xvda", "volume_size": 20, "volume_type": "gp3", "iops": 20000,
                  "throughput": 2000, "delete_on_termination": true },
            ],
            "run_tags": { "Name": "{{ .SourceAMIName }}", "Team": "{{ .SourceAMITags.Team }}" },
            "tag": [{ "key": "OS", "value": "{{ isotime }}" }],
            "run_volume_tag": [{ "name": "a", "value": "b" }],
            "aws_polling": { "delay_seconds": 15, "max_attempts": 60 },
            "metadata_options": { "http_tokens": "optional", "http_put_response_hop_limit": 2 },
            "spot_price": "0",
            "force_deregister": true,
            "force_delete_snapshot": true,
        }),
        json!({
            "instance_type": null,
            "spot_instance_types": ["t3.micro", "t3a.micro"],
            "spot_price": "auto",
            "spot_allocation_strategy": "capacity-optimized-prioritized",
            "spot_tags": { "a": "{{ .SourceAMI }}" },
            "fleet_tag": [{ "key": "a", "value": "b" }],
            "block_duration_minutes": 60,
            "spot_price_auto_product": "Linux/UNIX",
        }),
        json!({
            "temporary_iam_instance_profile_policy_document": {
                "Statement": [{ "Action": ["s3:GetObject"], "Resource": ["*"] }],
            },
            "assume_role": {
                "role_arn": "arn:aws:iam::123456789012:role/build",
                "tags": { "team": "images" },
                "transitive_tag_keys": ["team"],
            },
            "insecure_skip_tls_verify": true,
            "mfa_code": "123456",
        }),
    ] {
        let errors = ebs().errors(&body(&with(&other)));
        assert!(errors.is_empty(), "{other}: {errors:?}");
    }
}

/// A block with these options gives this one error.
#[track_caller]
fn refused(other: &Json, part: &str) {
    let errors = ebs().errors(&body(&with(other)));
    assert_eq!(errors.len(), 1, "{other}: {errors:?}");
    assert!(errors[0].contains(part), "{other}: {errors:?}");
}

#[test]
fn what_is_wrong_is_told() {
    refused(&json!({ "ami_name": "a:b/c" }), "\"a-b/c\" would do");
    refused(&json!({ "ami_name": "ab" }), "between 3 and 128");
    refused(&json!({ "source_ami": null }), "A source_ami or source_ami_filter must be specified");
    refused(
        &json!({ "source_ami": null, "source_ami_filter": { "filters": { "name": "x" } } }),
        "must declare an owner",
    );
    refused(&json!({ "instance_type": null }), "instance_type or spot_instance_types");
    refused(&json!({ "access_key": "AKIA" }), "go together");
    refused(&json!({ "kms_key_id": "alias/a", "encrypt_boot": false }), "needs encrypt_boot");
    refused(&json!({ "kms_key_id": "what?" }), "not a valid KMS key id");
    refused(
        &json!({ "ami_regions": ["us-west-2"], "region_kms_key_ids": { "eu-west-1": "alias/a", "us-west-2": "" } }),
        "Region eu-west-1 is in region_kms_key_ids but not in ami_regions",
    );
    refused(&json!({ "ami_regions": ["uswest"] }), "not the name of a region");
    refused(&json!({ "skip_save_build_region": true }), "no image would be left");
    refused(&json!({ "snapshot_copy_duration_minutes": 20 }), "steps of 15 minutes");
    refused(&json!({ "encrypt_boot": true, "ami_users": ["123456789012"] }), "cannot be shared");
    refused(&json!({ "ami_users": ["me"] }), "not the id of an account");
    refused(&json!({ "deprecate_at": "tomorrow" }), "not a valid time");
    refused(&json!({ "imds_support": "v1.0" }), "imds_support");
    refused(&json!({ "architecture": "amd64" }), "x86_64");
    refused(&json!({ "ssh_interface": "public" }), "Unknown interface type: public");
    refused(&json!({ "shutdown_behavior": "halt" }), "'stop' or 'terminate'");
    refused(&json!({ "terminate_after": "5s" }), "too short");
    refused(&json!({ "temporary_key_pair_type": "dsa" }), "rsa or ed25519");
    refused(&json!({ "temporary_security_group_source_cidrs": ["10.0.0.1"] }), "not a network");
    refused(&json!({ "metadata_options": { "http_tokens": "yes" } }), "http_tokens requires");
    refused(
        &json!({ "metadata_options": { "http_put_response_hop_limit": 65 } }),
        "between 1 and 64",
    );
    refused(
        &json!({ "enable_unlimited_credits": true, "instance_type": "m5.large" }),
        "no credits",
    );
    refused(&json!({ "user_data": "a", "user_data_file": "b" }), "Only one of user_data");
    refused(&json!({ "launch_block_device_mappings": [{ "volume_size": 8 }] }), "device_name");
    refused(
        &json!({ "launch_block_device_mappings": [{ "device_name": "/dev/sda1", "volume_type": "gp2", "throughput": 200 }] }),
        "throughput is for gp3",
    );
    refused(&json!({ "run_tags": { "aws:x": "y" } }), "belong to AWS");
    refused(&json!({ "tags": { "x": "{{ nosuch }}" } }), "nosuch");
    refused(&json!({ "custom_endpoint_ec2": "localhost" }), "no address");
    refused(&json!({ "ssh_interface": "session_manager" }), "needs an instance profile");
    refused(
        &json!({ "capacity_reservation_id": "cr-1", "capacity_reservation_preference": "open" }),
        "only one of",
    );
    let fast = |other: Json| json!({ "fast_launch": other });
    refused(&fast(json!({ "max_parallel_launches": 5 })), "max_parallel_launches must be >= 6");
    refused(&fast(json!({ "template_id": "lt-1", "template_name": "a" })), "both id and name");
    refused(&fast(json!({ "template_version": 2 })), "a version alone");
    refused(
        &fast(
            json!({ "region_launch_templates": [{ "region": "eu-west-1", "template_id": "lt-1" }] }),
        ),
        "no image goes to the region",
    );
    refused(&json!({ "spot_tags": { "a": "b" } }), "not requesting a spot instance");
    refused(&json!({ "fleet_tags": { "a": "b" } }), "not requesting a spot instance");
    refused(&json!({ "spot_price": "cheap" }), "not a price");
    refused(&json!({ "spot_price": "auto", "shutdown_behavior": "stop" }), "cannot be stopped");
    refused(
        &json!({ "spot_price": "auto", "spot_allocation_strategy": "random" }),
        "Unknown spot_allocation_strategy: random",
    );
    refused(&json!({ "block_duration_minutes": 90 }), "multiple of 60");
    refused(
        &json!({ "spot_price": "auto", "spot_instance_types": ["t3.small"] }),
        "spot_instance_types must be specified, not both",
    );
    refused(&json!({ "insance_type": "t3.micro" }), "Did you mean \"instance_type\"?");
}

/// What is accepted has to work: the rest says that it does not yet.
#[test]
fn what_is_not_supported_yet_says_so() {
    let vault = json!({ "vault_aws_engine": { "name": "x" } });
    refused(&vault, "\"vault_aws_engine\" is not supported");
}

#[test]
fn windows_is_reached_with_what_it_needs() {
    let windows = json!({ "communicator": "winrm", "ssh_username": null });
    let with_user = |more: Json| {
        let mut all = windows.clone();
        all["winrm_username"] = json!("Administrator");
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    refused(&windows, "winrm_username must be specified.");
    testing::options(&ebs(), &body(&with(&with_user(json!({})))));
    refused(
        &with_user(json!({ "ssh_keypair_name": "mine" })),
        "the machine's password is encrypted with this key pair",
    );
    for more in [
        json!({ "ssh_keypair_name": "mine", "winrm_password": "x" }),
        json!({ "ssh_keypair_name": "mine", "ssh_private_key_file": "mine.pem" }),
        json!({ "winrm_use_ssl": true, "winrm_insecure": true, "winrm_port": 5986 }),
    ] {
        testing::options(&ebs(), &body(&with(&with_user(more))));
    }
    refused(
        &with_user(json!({ "ssh_interface": "session_manager", "iam_instance_profile": "p" })),
        "the session manager leads to ssh alone",
    );
}
