//! A guide's templates, as they stand there, with only the ids filled in that they leave to their
//! readers: real machines are launched from Canonical's image name, provisioned, captured and copied.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::cloud::{Cloud, cloud, text};
use crate::ours::{karat, said};

/// What the guide's scripts leave in the image.
const SCRIPTS: &[(&str, &str)] = &[
    ("install-dependencies", "sudo mkdir -p /opt/app && echo installed | sudo tee /opt/app/state"),
    (
        "security-hardening",
        "echo 'kernel.kptr_restrict = 2' | sudo tee /etc/sysctl.d/90-guide.conf",
    ),
    (
        "cis-benchmark",
        "sudo chmod 600 /etc/ssh/sshd_config && echo hardened | sudo tee -a /opt/app/state",
    ),
];

/// Builds on what the guide's template made, where it was copied to.
const NEXT: &str = r#"
source "amazon-ebs" "next" {
  ami_name      = "next"
  instance_type = "t3.medium"
  region        = "us-west-2"
  ssh_username  = "ubuntu"
  ssh_timeout   = "15m"
  source_ami_filter {
    filters     = { "tag:BuildSource" = "packer" }
    owners      = ["self"]
    most_recent = true
  }
}

build {
  sources = ["source.amazon-ebs.next"]
  provisioner "shell" {
    inline = ["cat /opt/app/state /etc/sysctl.d/90-guide.conf", "jq --version", "stat -c %a /etc/ssh/sshd_config"]
  }
}
"#;

/// What the guide's listings of single sources leave out.
const AROUND: &str = r#"
data "amazon-ami" "ubuntu" {
  filters     = { name = "ubuntu/images/*ubuntu-jammy-22.04-amd64-server-*" }
  owners      = ["099720109477"]
  most_recent = true
}

build {
  sources = ["source.amazon-ebs.multi_region", "source.amazon-ebs.spot"]
  provisioner "shell" {
    inline = ["echo made as $(whoami)"]
  }
}
"#;
const REST: &str = r#"
  ami_name     = "from-spot"
  source_ami   = data.amazon-ami.ubuntu.id
  ssh_username = "ubuntu"
"#;

fn listing(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/seeds");
    std::fs::read_to_string(folder.join(format!("{name}.pkr.hcl"))).unwrap()
}

/// The text without what stands between two marks, the first included.
fn without(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).unwrap();
    let end = start + text[start..].find(to).unwrap();
    format!("{}{}", &text[..start], &text[end..])
}

fn replaced(text: &str, what: &str, with: &str) -> String {
    assert!(text.contains(what), "{what} is not in\n{text}");
    text.replace(what, with)
}

/// A key of a region: its ARN, whose region and account the listings have as well.
fn key(cloud: &Cloud, region: &str) -> String {
    let made = cloud.aws(&format!("kms create-key --region {region}"));
    text(&made["KeyMetadata"]["Arn"]).to_owned()
}

/// The one image of ours in a region with such a name, and its snapshot.
fn image(cloud: &Cloud, region: &str, name: &str) -> (Value, Value) {
    let found = cloud.aws(&format!(
        "ec2 describe-images --owners self --region {region} --filters Name=name,Values={name}"
    ));
    assert_eq!(found["Images"].as_array().map(Vec::len), Some(1), "{region} {name}: {found}");
    let image = found["Images"][0].clone();
    let snapshot = text(&image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]).to_owned();
    let found =
        cloud.aws(&format!("ec2 describe-snapshots --snapshot-ids {snapshot} --region {region}"));
    (image, found["Snapshots"][0].clone())
}

/// Tags of the guide's template; those with a time have it.
fn has_tag(of: &Value, name: &str, value: &str) {
    let tags = of["Tags"].as_array().unwrap();
    assert!(tags.iter().any(|t| t["Key"] == name && t["Value"] == value), "{name}: {tags:?}");
}

#[test]
fn its_whole_template_builds_with_ids_filled_in() {
    let Some(cloud) = cloud() else { return };
    let folder = cloud.dir.path();
    std::fs::create_dir_all(folder.join("scripts")).unwrap();
    for (name, text) in SCRIPTS {
        let text = format!("#!/bin/sh\nset -e\n{text}\n");
        std::fs::write(folder.join(format!("scripts/{name}.sh")), text).unwrap();
    }
    let trust = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\
                 \"Principal\":{\"Service\":\"ec2.amazonaws.com\"},\"Action\":\"sts:AssumeRole\"}]}";
    let role = "--role-name PackerBuilder";
    cloud.aws(&format!("iam create-role {role} --assume-role-policy-document {trust}"));
    let profile = "--instance-profile-name PackerBuilder";
    cloud.aws(&format!("iam create-instance-profile {profile}"));
    cloud.aws(&format!("iam add-role-to-instance-profile {profile} {role}"));
    let subnets = cloud.aws("ec2 describe-subnets");
    let subnet = &subnets["Subnets"][0];
    let key = key(&cloud, "us-east-1");

    let template = listing("template");
    let template = replaced(&template, "vpc-xxxxx", text(&subnet["VpcId"]));
    let template = replaced(&template, "subnet-xxxxx", text(&subnet["SubnetId"]));
    let template = replaced(&template, "arn:aws:kms:us-east-1:ACCOUNT_ID:key/KEY_ID", &key);
    let template = without(&template, "  # Configuration with Ansible", "  # Security hardening");
    // Neither Debian's nor Ubuntu's `sh` has this command: a build ends with 127 there.
    let template = replaced(&template, "      \"history -c\"\n", "");
    std::fs::write(folder.join("template.pkr.hcl"), template).unwrap();
    let before = cloud.left(true);
    let built = karat(&cloud, &["build", "template.pkr.hcl"], "").output().unwrap();
    let told = said(&built);
    assert!(built.status.success(), "{told}");
    assert_eq!(cloud.left(true), before, "{told}");

    let (east, snapshot) = image(&cloud, "us-east-1", "golden-ami-production-*");
    assert_eq!(east["Description"], "Golden AMI for production application servers");
    assert_eq!(snapshot["KmsKeyId"], key.as_str());
    let (west, copy) = image(&cloud, "us-west-2", "golden-ami-production-*");
    assert_eq!(copy["Encrypted"], true);
    for (image, snapshot) in [(&east, &snapshot), (&west, &copy)] {
        has_tag(image, "Name", "golden-ami-production");
        has_tag(image, "OS", "Ubuntu 22.04");
        has_tag(snapshot, "Name", "golden-ami-production-snapshot");
        assert_eq!(image["Name"], east["Name"]);
    }
    // What its last post-processor prints.
    let id = text(&east["ImageId"]);
    assert!(told.contains(&format!("AMI created: {id}")), "{told}");

    std::fs::write(folder.join("next.pkr.hcl"), NEXT).unwrap();
    let next = karat(&cloud, &["build", "next.pkr.hcl"], "").output().unwrap();
    let told = said(&next);
    assert!(next.status.success(), "{told}");
    for line in ["installed", "hardened", "kernel.kptr_restrict = 2", "jq-", "600"] {
        assert!(told.lines().any(|l| l.contains(&format!(": {line}"))), "{line}: {told}");
    }
    assert_eq!(cloud.left(true), before, "{told}");
}

#[test]
fn its_sources_for_many_regions_and_for_spot_machines_build_side_by_side() {
    let Some(cloud) = cloud() else { return };
    let mut many = listing("multi-region");
    let regions = ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1"];
    let mut keys = Vec::new();
    for (number, region) in regions.into_iter().enumerate() {
        let key = key(&cloud, region);
        let left_out = format!("arn:aws:kms:{region}:ACCOUNT:key/KEY{}", number + 1);
        many = replaced(&many, &left_out, &key);
        keys.push(key);
    }
    let spot = replaced(&listing("spot"), "  # ... rest of configuration\n", REST);
    let before = cloud.left(true);
    let template = cloud.dir.path().join("listings.pkr.hcl");
    std::fs::write(template, format!("{AROUND}{many}{spot}")).unwrap();
    let built = karat(&cloud, &["build", "listings.pkr.hcl"], "").output().unwrap();
    let told = said(&built);
    assert!(built.status.success(), "{told}");
    assert_eq!(cloud.left(true), before, "{told}");
    let made = told.lines().filter(|l| l.ends_with("made as ubuntu")).collect::<BTreeSet<_>>();
    assert_eq!(made.len(), 2, "{told}");
    for (region, key) in regions.into_iter().zip(keys) {
        let (_, snapshot) = image(&cloud, region, "app-ami-*");
        assert_eq!(snapshot["KmsKeyId"], key.as_str(), "{region}");
    }
    let (_, plain) = image(&cloud, "us-east-1", "from-spot");
    assert_eq!(plain["Encrypted"], false);
}
