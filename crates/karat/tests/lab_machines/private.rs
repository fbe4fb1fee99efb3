//! Our own `amazon-ebs` through session manager: no inbound rule, no public address, just the
//! permissions that `iam-policy` prints, much data in both directions, and a connection that is cut
//! while it flows.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::{Cloud, PATIENCE, cloud, text};
use crate::ours::{karat, who_may_just_build};
use crate::sessions::{hex_digest, profile};

const BYTES: u64 = 50_000_000;
/// So much has to have come before a connection is cut.
const SOME: u64 = 2_000_000;

const TEMPLATE: &str = r#"
source "amazon-ebs" "private" {
  ami_name      = "private"
  instance_type = "t3.medium"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  ssh_username  = "admin"
  ssh_timeout   = "15m"
  ssh_interface = "session_manager"

  # What answers it waits behind the data, which takes its time on a busy computer.
  ssh_keep_alive_interval = "-1s"

  associate_public_ip_address = false
  iam_instance_profile        = "agent"
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  sources = ["source.amazon-ebs.private"]

  provisioner "file" {
    source      = "big"
    destination = "/home/admin/big"
  }
  provisioner "shell" {
    inline = ["echo it has $(sha256sum </home/admin/big)"]
  }
  provisioner "file" {
    direction   = "download"
    source      = "/home/admin/big"
    destination = "back/big"
  }
}
"#;

fn digest(path: &Path) -> String {
    hex_digest(&std::fs::read(path).unwrap())
}

/// Bytes of the largest file of a folder, which may not be there yet.
fn largest(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).max().unwrap_or(0)
}

/// The instance of the build, once it is there.
fn instance(cloud: &Cloud, alive: &mut dyn FnMut() -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let all = cloud.aws("ec2 describe-instances");
        let found = &all["Reservations"][0]["Instances"][0];
        if found["State"]["Name"] == "running" {
            return found.clone();
        }
        assert!(alive() && begun.elapsed() < PATIENCE, "the build has no instance: {all}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn much_data_goes_through_a_session_that_is_cut_on_the_way() {
    let Some(cloud) = cloud() else { return };
    profile(&cloud);
    let folder = cloud.dir.path();
    let big = folder.join("big");
    let mut random = File::open("/dev/urandom").unwrap().take(BYTES);
    std::io::copy(&mut random, &mut File::create(&big).unwrap()).unwrap();
    std::fs::create_dir(folder.join("back")).unwrap();
    std::fs::write(folder.join("t.pkr.hcl"), TEMPLATE).unwrap();

    let said = folder.join("said");
    let out = File::create(&said).unwrap();
    let mut build = karat(&cloud, &["build", "t.pkr.hcl"], "");
    build.stdout(out.try_clone().unwrap()).stderr(Stdio::from(out));
    build.envs(who_may_just_build(&cloud));
    let mut build = build.spawn().unwrap();
    let told = || std::fs::read_to_string(&said).unwrap();

    let found = instance(&cloud, &mut || build.try_wait().unwrap().is_none());
    let id = text(&found["InstanceId"]).to_owned();
    assert!(found["PublicIpAddress"].is_null(), "{found}");
    let groups = found["SecurityGroups"].as_array().unwrap();
    assert!(!groups.is_empty(), "{found}");
    for group in groups {
        let id = text(&group["GroupId"]);
        let shown = cloud.aws(&format!("ec2 describe-security-groups --group-ids {id}"));
        assert_eq!(shown["SecurityGroups"][0]["IpPermissions"], Value::Array(Vec::new()));
    }

    // The connection is cut when some of it has arrived.
    let inside = cloud.state().join("lab/instances").join(&id).join("upper/home/admin");
    let begun = Instant::now();
    while largest(&inside) < SOME {
        let ended = build.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < PATIENCE, "nothing arrives: {}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
    let cut = cloud.karat(&["lab", "faults", "strike", "-delay", "300", "ssh-cut"]);
    assert_eq!(String::from_utf8(cut.stdout).unwrap().trim(), id);

    let status = build.wait().unwrap();
    assert!(status.success(), "{}", told());
    let whole = digest(&big);
    assert!(told().contains(&format!("it has {whole}")), "{whole} is not in\n{}", told());
    assert_eq!(digest(&folder.join("back/big")), whole);
    let log = std::fs::read_to_string(cloud.state().join("lab/lab.log")).unwrap();
    let again = log.matches("a session goes on through another web socket").count();
    assert!(again >= 1, "the session was resumed {again} times:\n{log}");
    let sessions = cloud.aws("ssm describe-sessions --state Active");
    assert_eq!(sessions["Sessions"], Value::Array(Vec::new()));
    assert!(!cloud.left(true).contains("i-"), "{}", cloud.left(true));
}
