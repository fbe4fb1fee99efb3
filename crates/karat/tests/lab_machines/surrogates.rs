//! Our own `amazon-ebssurrogate` and `amazon-ebsvolume` in the lab: provisioners fill a disk beside
//! the root, which becomes the root of other machines, or is given to another.

use crate::cloud::{Cloud, cloud, text};
use crate::disks::gives_devices;
use crate::ours::{build, said};

const SURROGATE: &str = r#"
source "amazon-ebssurrogate" "disk" {
  ami_name                = "surrogate"
  ami_virtualization_type = "hvm"
  ena_support             = true
  instance_type           = "t3.medium"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  ssh_username = "admin"
  ssh_timeout  = "15m"
  launch_block_device_mappings {
    device_name           = "/dev/xvdf"
    volume_size           = 4
    delete_on_termination = true
  }
  ami_root_device {
    source_device_name    = "/dev/xvdf"
    device_name           = "/dev/xvda"
    delete_on_termination = true
  }
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  sources = ["source.amazon-ebssurrogate.disk"]
  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} sh -e {{ .Path }}"
    inline = [
      "cloud-init status --wait > /dev/null || true",
      "printf 'label: gpt\n,\n' | sfdisk --quiet /dev/xvdf",
      "until [ -b /dev/xvdf1 ]; do sleep 0.1; done",
      "mkfs.ext4 -q /dev/xvdf1",
      "mount /dev/xvdf1 /mnt",
      "cp -ax / /mnt",
      "rm -rf /mnt/var/lib/cloud",
      "echo on another disk > /mnt/srv/made",
      "umount /mnt",
    ]
  }
}
"#;

const VOLUME: &str = r#"
source "amazon-ebsvolume" "data" {
  instance_type = "t3.medium"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  ssh_username = "admin"
  ssh_timeout  = "15m"
  ebs_volumes {
    device_name = "/dev/sdf"
    volume_size = 1
    tags        = { Name = "data" }
  }
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  sources = ["source.amazon-ebsvolume.data"]
  provisioner "shell" {
    execute_command = "sudo env {{ .Vars }} sh -e {{ .Path }}"
    inline = [
      "mkfs.ext4 -q /dev/sdf",
      "mount /dev/sdf /mnt",
      "echo the data > /mnt/data",
      "umount /mnt",
    ]
  }
}
"#;

fn machine(cloud: &Cloud, image: &str) -> (String, String) {
    let group = cloud.group("g");
    let id = cloud.launch(&format!("--image-id {image} --key-name k --security-group-ids {group}"));
    let address = text(&cloud.wait_for(&id, "running")["PublicIpAddress"]).to_owned();
    (id, format!("admin@{address}"))
}

#[test]
fn another_disk_that_a_provisioner_filled_is_the_root_of_the_next_machine() {
    let Some(cloud) = cloud() else { return };
    if !gives_devices() {
        return;
    }
    let key = cloud.key("k");
    let before = cloud.left(true);
    let built = build(&cloud, SURROGATE, "");
    assert!(built.status.success(), "{}", said(&built));
    assert_eq!(cloud.left(true), before, "{}", said(&built));
    let found = cloud.aws("ec2 describe-images --owners self");
    let image = text(&found["Images"][0]["ImageId"]).to_owned();
    let (_, to) = machine(&cloud, &image);
    assert_eq!(cloud.ssh(&key, &to, "cat /srv/made; sudo whoami"), "on another disk\nroot\n");
}

#[test]
fn a_volume_that_a_provisioner_filled_is_another_machines_disk() {
    let Some(cloud) = cloud() else { return };
    if !gives_devices() {
        return;
    }
    let key = cloud.key("k");
    let built = build(&cloud, VOLUME, "");
    assert!(built.status.success(), "{}", said(&built));
    let found = cloud.aws("ec2 describe-volumes --filters Name=tag:Name,Values=data");
    let volume = text(&found["Volumes"][0]["VolumeId"]).to_owned();
    assert_eq!(found["Volumes"][0]["State"], "available");
    let (id, to) = machine(&cloud, &cloud.base());
    cloud.attach(&volume, &id, "/dev/sdf");
    assert_eq!(cloud.ssh(&key, &to, "sudo mount /dev/xvdf /mnt; cat /mnt/data"), "the data\n");
}
