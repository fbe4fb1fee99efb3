//! Our own `amazon-ebs` builds images of machines in the lab, as a guide's template has it: data
//! source, key of one's own, two regions, ssh; and the next image from the last.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::cloud::{Cloud, PATIENCE, cloud, text};

const TEMPLATE: &str = r#"
variable "environment" {
  default = "production"
}

data "amazon-ami" "base" {
  filters = {
    name                = "debian-13-*"
    root-device-type    = "ebs"
    virtualization-type = "hvm"
  }
  most_recent = true
  owners      = ["136693071363"]
}

source "amazon-ebs" "app" {
  ami_name      = "golden-${var.environment}"
  instance_type = "t3.medium"
  source_ami    = data.amazon-ami.base.id
  ssh_username  = "admin"
  ssh_timeout   = "15m"

  subnet_id                   = "SUBNET"
  associate_public_ip_address = true
  iam_instance_profile        = "builder"

  ami_description = "Golden AMI for ${var.environment}, from {{ .SourceAMIName }}"
  ami_regions     = ["us-east-1", "us-west-2"]
  encrypt_boot    = true
  region_kms_key_ids = {
    us-east-1 = "EAST"
    us-west-2 = "WEST"
  }

  tags          = { Name = "golden", BuildSource = "karat" }
  snapshot_tags = { Name = "golden-snapshot" }
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  name    = "app-server"
  sources = ["source.amazon-ebs.app"]

  provisioner "shell" {
    inline = ["cloud-init status --wait > /dev/null || true"]
  }
  provisioner "file" {
    source      = "motd"
    destination = "/tmp/motd"
  }
  provisioner "shell" {
    inline = [
      "sudo mv /tmp/motd /etc/motd",
      "echo made on ${build.ID} as $(whoami) | sudo tee /srv/made",
      "sync",
    ]
  }
  post-processor "manifest" {}
}
"#;

const NEXT: &str = r#"
source "amazon-ebs" "next" {
  ami_name      = "next"
  instance_type = "t3.medium"
  source_ami_filter {
    filters     = { name = "golden-*" }
    owners      = ["self"]
    most_recent = true
  }
  region        = "us-west-2"
  ssh_username  = "admin"
  ssh_timeout   = "15m"
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  sources = ["source.amazon-ebs.next"]
  provisioner "shell" {
    inline = ["grep -q 'put there' /etc/motd", "cat /srv/made", "sync"]
  }
}
"#;

const LOST: &str = r#"
source "amazon-ebs" "lost" {
  ami_name      = "lost"
  instance_type = "t3.medium"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  ssh_username = "admin"
  ssh_timeout  = "15m"
}

build {
  sources = ["source.amazon-ebs.lost"]
  provisioner "shell" {
    inline = ["echo I am at work", "sleep 3600"]
  }
}
"#;

pub(crate) fn build(cloud: &Cloud, template: &str, faults: &str) -> Output {
    let folder = cloud.dir.path();
    std::fs::write(folder.join("t.pkr.hcl"), template).unwrap();
    karat(cloud, &["build", "t.pkr.hcl"], faults).output().unwrap()
}

pub(crate) fn karat(cloud: &Cloud, args: &[&str], faults: &str) -> Command {
    let mut command = cloud.client(env!("CARGO_BIN_EXE_karat"));
    command.args(args).current_dir(cloud.dir.path()).env("KARAT_FAULT", faults);
    command.env("KARAT_STATE_DIR", cloud.dir.path().join("own"));
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("NO_COLOR", "1");
    command.env_remove("SSH_AUTH_SOCK");
    command
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Makes a user who may do what `t.pkr.hcl` needs, as `iam-policy` prints it, and nothing else; gives
/// the variables with its key.
pub(crate) fn who_may_just_build(cloud: &Cloud) -> [(&'static str, String); 2] {
    let printed = karat(cloud, &["iam-policy", "t.pkr.hcl"], "").output().unwrap();
    assert!(printed.status.success(), "{}", said(&printed));
    let file = cloud.dir.path().join("policy.json");
    std::fs::write(&file, &printed.stdout).unwrap();
    cloud.aws("iam create-user --user-name builder");
    cloud.aws(&format!(
        "iam put-user-policy --user-name builder --policy-name build --policy-document file://{}",
        file.display()
    ));
    let key = cloud.aws("iam create-access-key --user-name builder");
    let part = |name: &str| text(&key["AccessKey"][name]).to_owned();
    [("AWS_ACCESS_KEY_ID", part("AccessKeyId")), ("AWS_SECRET_ACCESS_KEY", part("SecretAccessKey"))]
}

#[test]
fn a_machine_is_provisioned_over_ssh_and_its_image_is_the_next_ones_base() {
    let Some(cloud) = cloud() else { return };
    std::fs::write(cloud.dir.path().join("motd"), "put there by a file provisioner\n").unwrap();
    let key = |region: &str| {
        let made = cloud.aws(&format!("kms create-key --region {region}"));
        text(&made["KeyMetadata"]["KeyId"]).to_owned()
    };
    let (east, west) = (key("us-east-1"), key("us-west-2"));
    let trust = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\
                 \"Principal\":{\"Service\":\"ec2.amazonaws.com\"},\"Action\":\"sts:AssumeRole\"}]}";
    cloud
        .aws(&format!("iam create-role --role-name builder --assume-role-policy-document {trust}"));
    cloud.aws("iam create-instance-profile --instance-profile-name builder");
    cloud.aws(
        "iam add-role-to-instance-profile --instance-profile-name builder --role-name builder",
    );
    let subnets = cloud.aws("ec2 describe-subnets");
    let subnet = text(&subnets["Subnets"][0]["SubnetId"]);
    let template = TEMPLATE.replace("SUBNET", subnet).replace("EAST", &east).replace("WEST", &west);
    let before = cloud.left(true);

    // A build that is killed while it provisions leaves nothing when it is recovered.
    let killed = build(&cloud, &template, "kill@provision:effect");
    assert!(killed.status.code().is_none(), "{}", said(&killed));
    assert_ne!(cloud.left(true), before, "{}", said(&killed));
    let recovered = karat(&cloud, &["recover"], "").output().unwrap();
    assert!(recovered.status.success(), "{}", said(&recovered));
    assert_eq!(cloud.left(false), before, "{}", said(&recovered));

    let built = build(&cloud, &template, "");
    let told = said(&built);
    assert!(built.status.success(), "{told}");
    assert!(told.contains("the host key is the one that the machine printed"), "{told}");
    assert!(told.contains("made on i-") && told.contains("as admin"), "{told}");
    assert_eq!(cloud.left(true), before, "{told}");
    for (region, key) in [("us-east-1", &east), ("us-west-2", &west)] {
        let found = cloud.aws(&format!("ec2 describe-images --owners self --region {region}"));
        let image = &found["Images"][0];
        assert_eq!(image["Name"], "golden-production", "{region}");
        let told = text(&image["Description"]);
        assert!(told.starts_with("Golden AMI for production, from debian-13-"), "{told}");
        let snapshot = text(&image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]);
        let found = cloud
            .aws(&format!("ec2 describe-snapshots --snapshot-ids {snapshot} --region {region}"));
        let snapshot = &found["Snapshots"][0];
        assert!(text(&snapshot["KmsKeyId"]).ends_with(key.as_str()), "{region}: {snapshot}");
        let tags = snapshot["Tags"].as_array().unwrap();
        assert!(tags.iter().any(|t| t["Value"] == "golden-snapshot"), "{region}: {tags:?}");
    }
    let manifest = std::fs::read_to_string(cloud.dir.path().join("packer-manifest.json")).unwrap();
    assert!(
        manifest.contains("us-east-1:ami-") && manifest.contains("us-west-2:ami-"),
        "{manifest}"
    );

    // The copy in the other region has the files.
    let next = build(&cloud, NEXT, "");
    assert!(next.status.success(), "{}", said(&next));
    assert!(said(&next).contains("made on i-"), "{}", said(&next));
    assert_eq!(cloud.left(true), before, "{}", said(&next));
}

#[test]
fn a_build_whose_instance_is_lost_fails_and_leaves_nothing() {
    let Some(cloud) = cloud() else { return };
    let folder = cloud.dir.path();
    std::fs::write(folder.join("t.pkr.hcl"), LOST).unwrap();
    let out = std::fs::File::create(folder.join("said")).unwrap();
    let told = || std::fs::read_to_string(folder.join("said")).unwrap();
    let mut build = karat(&cloud, &["build", "t.pkr.hcl"], "");
    build.stdout(out.try_clone().unwrap()).stderr(out);
    let mut build = build.spawn().unwrap();
    let begun = Instant::now();
    while !told().contains("lost: I am at work") {
        let ended = build.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{}", told());
        std::thread::sleep(Duration::from_millis(100));
    }
    let struck = cloud.karat(&["lab", "faults", "strike", "instance-loss"]);
    let id = String::from_utf8(struck.stdout).unwrap().trim().to_owned();
    assert!(id.starts_with("i-"), "{id}");
    assert_eq!(build.wait().unwrap().code(), Some(1), "{}", told());
    assert_eq!(cloud.left(false), "", "{}", told());
    let all = cloud.aws(&format!("ec2 describe-instances --instance-ids {id}"));
    let reason = &all["Reservations"][0]["Instances"][0]["StateReason"]["Code"];
    assert_eq!(reason, "Server.InternalError", "{all}");
}
