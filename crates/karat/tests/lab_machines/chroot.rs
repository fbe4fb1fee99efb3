//! Our own `amazon-chroot`, on an instance of the lab, with the permissions that `iam-policy` prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cloud::{Cloud, PATIENCE, cloud, text};
use crate::disks::gives_devices;
use crate::ours;

const TEMPLATE: &str = r#"
variable "seconds" {
  default = 0
}

locals {
  # Not every kernel has the last of those that are usual.
  mounts = [
    ["proc", "proc", "/proc"],
    ["sysfs", "sysfs", "/sys"],
    ["bind", "/dev", "/dev"],
    ["devpts", "devpts", "/dev/pts"],
  ]
}

source "amazon-chroot" "image" {
  ami_name = "of-an-image"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  chroot_mounts    = local.mounts
  ami_regions      = ["us-west-2"]
  tags             = { Name = "chrooted", From = "{{ .SourceAMIName }}" }
  root_volume_tags = { Name = "being filled" }
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

source "amazon-chroot" "scratch" {
  ami_name                = "of-nothing"
  from_scratch            = true
  ami_virtualization_type = "hvm"
  ena_support             = true
  root_volume_size        = 4
  root_volume_type        = "gp3"
  root_device_name        = "/dev/xvda"
  ami_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    delete_on_termination = true
  }
  pre_mount_commands = [
    "printf 'label: gpt\n,\n' | sfdisk --quiet {{.Device}}",
    "sh -c 'until [ -b {{.Device}}1 ]; do sleep 0.1; done'",
    "mkfs.ext4 -q {{.Device}}1",
  ]
  post_mount_commands = ["cp -ax / '{{.MountPath}}'", "rm -rf '{{.MountPath}}/var/lib/cloud'"]
  mount_path          = "/mnt/some where/{{.Device}}"
  mount_options       = ["noatime"]
  command_wrapper     = "nice {{.Command}}"
  chroot_mounts       = local.mounts
  copy_files          = ["/etc/hostname"]
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  sources = ["source.amazon-chroot.image", "source.amazon-chroot.scratch"]
  provisioner "file" {
    source      = "motd"
    destination = "/etc/motd"
  }
  provisioner "shell" {
    inline = [
      "echo \"$(whoami) in ${build.Device} at ${build.MountPath}, $SOME\" > /srv/made",
      "test \"$(stat -c %d /)\" != \"$(stat -c %d /proc/1/root/)\"",
      "cat /srv/made; echo I am at work; sleep ${var.seconds}",
    ]
    environment_vars = ["SOME=it's 5 \"o'clock\""]
  }
  provisioner "file" {
    direction   = "download"
    source      = "/srv/made"
    destination = "fetched-${source.name}"
  }
}
"#;

/// The program without what only debuggers read: it has to be carried over.
fn program(folder: &Path) -> PathBuf {
    let small = folder.join("karat");
    let mut strip = Command::new("strip");
    match strip.arg("-o").arg(&small).arg(env!("CARGO_BIN_EXE_karat")).status() {
        Ok(status) if status.success() => small,
        _ => PathBuf::from(env!("CARGO_BIN_EXE_karat")),
    }
}

struct Host<'a> {
    cloud: &'a Cloud,
    key: PathBuf,
    to: String,
}

impl Host<'_> {
    fn ssh(&self, command: &str) -> String {
        self.cloud.ssh(&self.key, &self.to, command)
    }

    fn send(&self, from: &Path, to: &str) {
        let mut ssh = self.cloud.ssh_command(&self.key, &self.to, &format!("cat > {to}"));
        ssh.stdin(Stdio::from(std::fs::File::open(from).unwrap()));
        assert!(ssh.status().unwrap().success());
    }

    /// Runs the program as root; gives whether it succeeded, and what it said.
    fn karat(&self, args: &str) -> (bool, String) {
        self.karat_with("", args)
    }

    fn karat_with(&self, fault: &str, args: &str) -> (bool, String) {
        let command = format!("sudo env KARAT_FAULT={fault} sh run {args} 2>&1");
        let output = self.cloud.try_ssh(&self.key, &self.to, &command);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Only the lab's address has to be told.
const RUN: &str = "export AWS_ENDPOINT_URL=http://169.254.169.250 NO_COLOR=1\n\
                   chmod +x karat; echo $$ > pid; exec ./karat \"$@\"\n";

/// An instance whose role may do what the template needs.
fn host(cloud: &Cloud) -> Host<'_> {
    let folder = cloud.dir.path();
    std::fs::write(folder.join("t.pkr.hcl"), TEMPLATE).unwrap();
    std::fs::write(folder.join("motd"), "put there by a file provisioner\n").unwrap();
    std::fs::write(folder.join("run"), RUN).unwrap();
    let printed = ours::karat(cloud, &["iam-policy", "t.pkr.hcl"], "").output().unwrap();
    assert!(printed.status.success(), "{}", ours::said(&printed));
    std::fs::write(folder.join("policy.json"), &printed.stdout).unwrap();
    let trust = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\
                 \"Principal\":{\"Service\":\"ec2.amazonaws.com\"},\"Action\":\"sts:AssumeRole\"}]}";
    cloud
        .aws(&format!("iam create-role --role-name builder --assume-role-policy-document {trust}"));
    cloud.aws(&format!(
        "iam put-role-policy --role-name builder --policy-name build --policy-document file://{}",
        folder.join("policy.json").display()
    ));
    cloud.aws("iam create-instance-profile --instance-profile-name builder");
    cloud.aws(
        "iam add-role-to-instance-profile --instance-profile-name builder --role-name builder",
    );
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let id = cloud.launch(&format!(
        "--image-id {} --key-name k --security-group-ids {group} --iam-instance-profile Name=builder",
        cloud.base()
    ));
    let address = text(&cloud.wait_for(&id, "running")["PublicIpAddress"]).to_owned();
    let host = Host { cloud, key, to: format!("admin@{address}") };
    host.ssh("cloud-init status --wait > /dev/null; true");
    for file in ["t.pkr.hcl", "motd", "run"] {
        host.send(&folder.join(file), file);
    }
    host.send(&program(folder), "karat");
    host
}

/// What a build has of this host, which it does not leave.
const LEFT: &str = "grep -c -e packer-amazon-chroot -e 'some.040where' /proc/mounts; ls /dev/xvd*; \
                    ls -d /mnt/packer-amazon-chroot-volumes/* '/mnt/some where'/*; true";

#[test]
fn a_volume_of_this_instance_becomes_an_image_that_another_starts_from() {
    let Some(cloud) = cloud() else { return };
    if !gives_devices() {
        return;
    }
    let host = host(&cloud);
    let before = cloud.left(false);

    // Killed while a provisioner works in the volume, and undone.
    let log = || host.ssh("cat log 2>/dev/null; true");
    host.ssh(
        "sudo setsid sh -c 'sh run build -only=*.image -var seconds=3600 t.pkr.hcl > log 2>&1; \
         touch ended' > /dev/null 2>&1 < /dev/null &",
    );
    let begun = Instant::now();
    while !log().contains("image: I am at work") {
        let ended = !host.ssh("ls ended 2>/dev/null; true").is_empty();
        assert!(!ended && begun.elapsed() < PATIENCE, "{}", log());
        std::thread::sleep(Duration::from_millis(500));
    }
    host.ssh("sudo kill -KILL $(cat pid)");
    assert_ne!(cloud.left(false), before);
    let (recovered, said) = host.karat("recover");
    assert!(recovered, "{said}");
    assert_eq!(cloud.left(false), before, "{said}");
    assert_eq!(host.ssh(LEFT), "0\n", "{said}");

    // Killed between a call and what it is for, and where a step ends in failure.
    for fault in [
        "kill@volume:made",
        "kill@attach:asked",
        "kill@mount:mounted",
        "kill@leave:effect",
        "kill@snapshots:effect",
        "kill@image:made",
        "fail@publish:before",
    ] {
        let build = "build -only='*.image' t.pkr.hcl";
        let (built, said) = host.karat_with(fault, build);
        assert!(!built, "{fault}: {said}");
        if fault.starts_with("kill") {
            assert_ne!(cloud.left(false), before, "{fault}: {said}");
            let (recovered, said) = host.karat("recover");
            assert!(recovered, "{fault}: {said}");
        }
        assert_eq!(cloud.left(false), before, "{fault}: {said}");
        assert_eq!(host.ssh(LEFT), "0\n", "{fault}: {said}");
    }

    let (built, said) = host.karat("build t.pkr.hcl");
    assert!(built, "{said}");
    assert_eq!(cloud.left(true), before, "{said}");
    assert_eq!(host.ssh(LEFT), "0\n", "{said}");
    let fetched = host.ssh("sudo cat fetched-image fetched-scratch");
    let lines: Vec<&str> = fetched.lines().collect();
    for line in &lines {
        assert!(line.starts_with("root in /dev/xvd"), "{fetched}");
        assert!(line.ends_with(", it's 5 \"o'clock\""), "{fetched}");
    }
    assert!(lines[0].contains(" at /mnt/packer-amazon-chroot-volumes/xvd"), "{fetched}");
    assert!(lines[1].contains(" at /mnt/some where/xvd"), "{fetched}");

    let group = cloud.aws("ec2 describe-security-groups --group-names g");
    let group = text(&group["SecurityGroups"][0]["GroupId"]).to_owned();
    for (name, file) in [("of-an-image", "fetched-image"), ("of-nothing", "fetched-scratch")] {
        let found = cloud
            .aws(&format!("ec2 describe-images --owners self --filters Name=name,Values={name}"));
        let image = &found["Images"][0];
        let tags = image["Tags"].as_array().unwrap();
        if name == "of-an-image" {
            let from = tags.iter().find(|t| t["Key"] == "From").unwrap();
            assert!(text(&from["Value"]).starts_with("debian-13-"), "{image}");
            let copies = cloud.aws("ec2 describe-images --owners self --region us-west-2");
            assert_eq!(copies["Images"][0]["Name"], name, "{copies}");
        }
        let id = cloud.launch(&format!(
            "--image-id {} --key-name k --security-group-ids {group}",
            text(&image["ImageId"])
        ));
        let to = format!("admin@{}", text(&cloud.wait_for(&id, "running")["PublicIpAddress"]));
        let seen = cloud.ssh(&host.key, &to, "cat /etc/motd /srv/made");
        let made = host.ssh(&format!("sudo cat {file}"));
        assert_eq!(seen, format!("put there by a file provisioner\n{made}"), "{name}");
    }
}
