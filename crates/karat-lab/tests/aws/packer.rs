//! Packer's own `amazon-ebs`, where a `packer` with that builder in it is installed.

use std::process::Command;

use serde_json::json;

use crate::cli::{Bench, bench, text};
use crate::instances::base;

/// Packer 1.6 has its Amazon builders inside; later ones have not.
fn has_builder() -> bool {
    let version = Command::new("packer").arg("version").env("CHECKPOINT_DISABLE", "1").output();
    let said = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    said.is_ok_and(|text| text.contains("v1.6."))
}

fn build(lab: &Bench, template: &serde_json::Value) -> (bool, String) {
    let file = lab.dir().join("template.json");
    std::fs::write(&file, template.to_string()).unwrap();
    let mut command = Command::new("packer");
    command.args(["build", "-machine-readable"]).arg(&file);
    command.env("CHECKPOINT_DISABLE", "1").env("PACKER_CONFIG_DIR", lab.dir());
    command.env("PACKER_CACHE_DIR", lab.dir().join("cache")).env("HOME", lab.dir());
    command.env("AWS_POLL_DELAY_SECONDS", "1").env("NO_PROXY", "*");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said)
}

fn template(lab: &Bench) -> serde_json::Value {
    let running = lab.lab.running();
    json!({ "builders": [{
        "type": "amazon-ebs",
        "access_key": running.access_key,
        "secret_key": running.secret_key,
        "region": "us-east-1",
        "custom_endpoint_ec2": running.url(),
        "skip_metadata_api_check": true,
        "source_ami": base(lab),
        "instance_type": "t3.micro",
        "communicator": "none",
        "ami_name": "by-packer-1",
        "ami_regions": ["us-west-2"],
        "tags": { "Name": "by packer" },
        "run_tags": { "run": "7" },
    }]})
}

#[test]
fn packer_makes_an_image_in_two_regions_and_leaves_nothing_else() {
    let Some(lab) = bench() else { return };
    if !has_builder() {
        return;
    }
    let (done, said) = build(&lab, &template(&lab));
    assert!(done, "{said}");
    for region in ["us-east-1", "us-west-2"] {
        let images = lab.aws(&format!("ec2 describe-images --owners self --region {region}"));
        assert_eq!(images["Images"][0]["Name"], "by-packer-1", "{region}");
        assert_eq!(images["Images"][0]["Tags"][0]["Value"], "by packer", "{region}");
        assert!(said.contains(text(&images["Images"][0]["ImageId"])), "{said}");
    }
    let others: Vec<_> = lab.lab.audit().into_iter().filter(|item| !item.image).collect();
    assert!(others.is_empty(), "{others:?}");

    // The name is taken now.
    let (done, said) = build(&lab, &template(&lab));
    assert!(!done);
    assert!(said.contains("by-packer-1"), "{said}");
}
