//! A machine whose build was killed ends by itself.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cloud::{PATIENCE, cloud, text};
use crate::ours::{karat, said};

const TEMPLATE: &str = r#"
source "amazon-ebs" "alone" {
  ami_name        = "alone"
  instance_type   = "t3.medium"
  region          = "us-east-1"
  ssh_username    = "admin"
  ssh_timeout     = "15m"
  terminate_after = "1m"
  source_ami_filter {
    filters     = { name = "debian-13-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  sources = ["source.amazon-ebs.alone"]
  provisioner "shell" {
    inline = ["systemctl is-active karat-terminate.timer", "echo the timer is set", "sleep 3600"]
  }
}
"#;

#[test]
fn a_machine_that_is_left_alone_terminates() {
    let Some(cloud) = cloud() else { return };
    let before = cloud.left(false);
    let folder = cloud.dir.path();
    std::fs::write(folder.join("t.pkr.hcl"), TEMPLATE).unwrap();
    let log = folder.join("build.log");
    let file = std::fs::File::create(&log).unwrap();
    let mut build = karat(&cloud, &["build", "t.pkr.hcl"], "")
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    loop {
        let told = std::fs::read_to_string(&log).unwrap();
        if told.contains("the timer is set") {
            break;
        }
        let ended = build.try_wait().unwrap();
        if ended.is_some() || begun.elapsed() > PATIENCE {
            let _ = build.kill();
            let _ = build.wait();
            panic!("{ended:?}: {told}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    build.kill().unwrap();
    build.wait().unwrap();
    // Nobody asks for it.
    let begun = Instant::now();
    loop {
        let found = cloud.aws("ec2 describe-instances --region us-east-1");
        let reservations = found["Reservations"].as_array().unwrap();
        let machines: Vec<&str> = reservations
            .iter()
            .flat_map(|r| r["Instances"].as_array().unwrap())
            .map(|i| text(&i["State"]["Name"]))
            .collect();
        assert_eq!(machines.len(), 1, "{found}");
        if machines == ["terminated"] {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{found}");
        std::thread::sleep(Duration::from_secs(1));
    }
    let recovered = karat(&cloud, &["recover"], "").output().unwrap();
    assert!(recovered.status.success(), "{}", said(&recovered));
    assert_eq!(cloud.left(false), before, "{}", said(&recovered));
}
