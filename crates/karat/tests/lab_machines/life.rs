//! The life of instances: launched, told about themselves, logged in to, stopped, started, captured,
//! ended from inside and outside, and there again after the lab was.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::{PATIENCE, cloud, text};

fn address(instance: &Value) -> String {
    format!("admin@{}", text(&instance["PublicIpAddress"]))
}

/// Waits for the end of the first start's work, so that a power-off cuts nothing.
const SETTLED: &str = "cloud-init status --wait > /dev/null; true";

#[test]
fn an_instance_is_launched_logged_in_to_captured_and_launched_again() {
    let Some(mut cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let script = "#!/bin/sh\necho from user data > /srv/user-data\n";
    std::fs::write(cloud.dir.path().join("script"), script).unwrap();
    let common = format!("--key-name k --security-group-ids {group}");
    let id = cloud.launch(&format!(
        "--image-id {} {common} --metadata-options HttpTokens=required,InstanceMetadataTags=enabled \
         --tag-specifications ResourceType=instance,Tags=[{{Key=Name,Value=web}}] \
         --user-data file://{}/script",
        cloud.base(),
        cloud.dir.path().display()
    ));
    let instance = cloud.wait_for(&id, "running");
    let to = address(&instance);
    let private = text(&instance["PrivateIpAddress"]).to_owned();

    // What it is told about itself, with a token and without.
    let ask = "cloud-init status --wait > /dev/null; \
        B=http://169.254.169.254/latest; \
        curl -s -o /dev/null -w '%{http_code}\\n' $B/meta-data/instance-id; \
        curl -s -o /dev/null -w '%{http_code}\\n' -X PUT $B/api/token; \
        T=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $B/api/token); \
        for p in instance-id local-ipv4 tags/instance/Name public-keys/; do \
        curl -s -H \"X-aws-ec2-metadata-token: $T\" $B/meta-data/$p; echo; done; \
        curl -s -o /dev/null -w '%{http_code}\\n' -H 'X-aws-ec2-metadata-token: no' $B/; \
        cat /srv/user-data; echo $(ip -o -4 address)";
    let said = cloud.ssh(&key, &to, ask);
    let lines: Vec<&str> = said.lines().collect();
    let expected = ["401", "400", &id, &private, "web", "0=k", "401", "from user data"];
    assert_eq!(lines[..8], expected, "{said}");
    assert!(lines[8].contains(&format!(" {private}/32 ")), "{said}");

    // The image has what was written, and a copy of a file that was there before.
    cloud.ssh(&key, &to, "echo one | sudo tee /srv/file /etc/issue; sync");
    cloud.aws(&format!("ec2 stop-instances --instance-ids {id}"));
    cloud.wait_for(&id, "stopped");
    let first = cloud.aws(&format!("ec2 create-image --instance-id {id} --name first"));
    let first = text(&first["ImageId"]).to_owned();
    cloud.wait_for_image(&first);
    cloud.aws(&format!("ec2 start-instances --instance-ids {id}"));
    let to = address(&cloud.wait_for(&id, "running"));
    assert_eq!(cloud.ssh(&key, &to, "cat /srv/file"), "one\n");
    let console = cloud.aws(&format!("ec2 get-console-output --instance-id {id}"));
    assert!(!text(&console["Output"]).is_empty());

    // An image of an image, of a machine that runs, after the lab was away.
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id}"));
    let id = cloud.launch(&format!("--image-id {first} {common}"));
    let to = address(&cloud.wait_for(&id, "running"));
    let seen =
        cloud.ssh(&key, &to, "cat /srv/file /etc/issue; cloud-init status --wait >/dev/null; true");
    assert_eq!(seen, "one\none\n");
    cloud.ssh(&key, &to, "echo two | sudo tee /srv/file; sync");
    cloud.down();
    assert!(cloud.try_ssh(&key, &to, "true").status.code() == Some(255), "it is still there");
    cloud.up();
    let to = address(&cloud.wait_for(&id, "running"));
    assert_eq!(cloud.ssh(&key, &to, "cat /srv/file"), "two\n");
    let second =
        cloud.aws(&format!("ec2 create-image --instance-id {id} --name second --no-reboot"));
    let second = text(&second["ImageId"]).to_owned();
    cloud.wait_for_image(&second);
    let third = cloud.launch(&format!("--image-id {second} {common}"));
    let to = address(&cloud.wait_for(&third, "running"));
    assert_eq!(cloud.ssh(&key, &to, "cat /srv/file"), "two\n");

    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id} {third}"));
    for id in [&id, &third] {
        let begun = Instant::now();
        while cloud.left(true).contains(id.as_str()) {
            assert!(begun.elapsed() < PATIENCE, "{}", cloud.left(true));
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    for image in [&first, &second] {
        cloud
            .aws(&format!("ec2 deregister-image --image-id {image} --delete-associated-snapshots"));
    }
    cloud.aws("ec2 delete-key-pair --key-name k");
    cloud.aws(&format!("ec2 delete-security-group --group-id {group}"));
    assert_eq!(cloud.left(false), "");
}

#[test]
fn an_instance_powers_itself_off_reboots_and_is_reached_as_rules_say() {
    let Some(cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let launch = |more: &str| {
        cloud.launch(&format!(
            "--image-id {} --key-name k --security-group-ids {group} {more}",
            cloud.base()
        ))
    };
    let (stops, ends) = (launch(""), launch("--instance-initiated-shutdown-behavior terminate"));
    let to = address(&cloud.wait_for(&stops, "running"));
    cloud.ssh(&key, &to, SETTLED);

    // Inside it starts again.
    let boot = "cat /proc/sys/kernel/random/boot_id; systemctl show -P UserspaceTimestampMonotonic";
    let before = cloud.ssh(&key, &to, boot);
    let _ = cloud.try_ssh(&key, &to, "sudo systemctl reboot");
    let begun = Instant::now();
    while cloud.ssh(&key, &to, boot) == before {
        assert!(begun.elapsed() < PATIENCE, "it does not reboot");
        std::thread::sleep(Duration::from_millis(500));
    }
    cloud.aws(&format!("ec2 reboot-instances --instance-ids {stops}"));
    cloud.wait_for(&stops, "running");
    cloud.ssh(&key, &to, SETTLED);

    // A port is open when a rule says so, and no longer than that.
    cloud.ssh(&key, &to, "sudo systemd-run python3 -m http.server 8080");
    let host = to.trim_start_matches("admin@").to_owned();
    let page = || std::net::TcpStream::connect((host.as_str(), 8080)).is_ok();
    assert!(!page());
    let rule = format!("--group-id {group} --protocol tcp --port 8080 --cidr 127.0.0.0/8");
    cloud.aws(&format!("ec2 authorize-security-group-ingress {rule}"));
    until("the port is open", page);
    cloud.aws(&format!("ec2 revoke-security-group-ingress {rule}"));
    until("the port is closed", || !page());

    let _ = cloud.try_ssh(&key, &to, "sudo systemctl poweroff");
    let stopped = cloud.wait_for(&stops, "stopped");
    assert_eq!(stopped["StateReason"]["Code"], "Client.InstanceInitiatedShutdown");

    let to = address(&cloud.wait_for(&ends, "running"));
    cloud.ssh(&key, &to, SETTLED);
    let _ = cloud.try_ssh(&key, &to, "sudo systemctl poweroff");
    until("it is terminated", || !cloud.left(true).contains(&ends));
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {stops}"));
    until("it is gone", || !cloud.left(true).contains(&stops));
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Processes, mounts and control groups that have a mark in them.
fn host(mark: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let own = name == std::process::id().to_string();
        if name.bytes().all(|b| b.is_ascii_digit()) && line.contains(mark) && !own {
            found.insert(format!("{name} {line}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(mark)).map(str::to_owned));
    groups(Path::new("/sys/fs/cgroup"), mark, 3, &mut found);
    found
}

fn groups(dir: &Path, mark: &str, depth: usize, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if path.to_string_lossy().contains(mark) {
                found.insert(path.display().to_string());
            }
            if depth > 0 {
                groups(&path, mark, depth - 1, found);
            }
        }
    }
}

#[test]
fn a_lab_that_is_killed_leaves_nothing_on_the_host_and_goes_on() {
    let Some(mut cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let id = cloud
        .launch(&format!("--image-id {} --key-name k --security-group-ids {group}", cloud.base()));
    let to = address(&cloud.wait_for(&id, "running"));
    cloud.ssh(&key, &to, "cloud-init status --wait > /dev/null; echo kept | sudo tee /srv/kept");
    let mark = id.as_str();
    assert!(!host(mark).is_empty());
    let file = std::fs::read(cloud.state().join("lab/lab.json")).unwrap();
    let pid = serde_json::from_slice::<Value>(&file).unwrap()["pid"].as_i64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("nothing of it is left on the host", || host(mark).is_empty());
    cloud.up();
    let to = address(&cloud.wait_for(&id, "running"));
    assert_eq!(cloud.ssh(&key, &to, "cat /srv/kept"), "kept\n");
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id}"));
    until("it is gone", || !cloud.left(true).contains(&id));
    assert!(host(mark).is_empty());
    cloud.down();
}

#[test]
fn what_befalls_an_instance_is_seen_in_it_and_in_its_record() {
    let Some(cloud) = cloud() else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let id = cloud.launch(&format!(
        "--image-id {} --key-name k --security-group-ids {group} \
         --instance-market-options MarketType=spot",
        cloud.base()
    ));
    let to = address(&cloud.wait_for(&id, "running"));
    cloud.ssh(&key, &to, SETTLED);
    let strike = |blow: &str, more: &[&str]| {
        let said = cloud.karat(&[&["lab", "faults", "strike"][..], more, &[blow]].concat());
        assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), id, "{blow}");
    };

    strike("full-disk", &[]);
    let full = cloud.try_ssh(&key, &to, "head -c 100000 /dev/zero > /tmp/file");
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left"), "{full:?}");

    // A connection that is there is cut, and another one is let in later.
    let mut long = cloud.ssh_command(&key, &to, "echo here; sleep 3600");
    let mut long = long.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut here = [0; 4];
    std::io::Read::read_exact(long.stdout.as_mut().unwrap(), &mut here).unwrap();
    strike("ssh-cut", &["-delay", "1000"]);
    assert_eq!(long.wait().unwrap().code(), Some(255));
    cloud.ssh(&key, &to, "true");

    strike("spot-interruption", &["-delay", "3600000"]);
    let told = cloud.ssh(
        &key,
        &to,
        "curl -s http://169.254.169.254/latest/meta-data/spot/instance-action",
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["action"], "terminate");
    strike("spot-interruption", &["-delay", "0"]);
    until("it is gone", || !cloud.left(true).contains(&id));
    let all = cloud.aws(&format!("ec2 describe-instances --instance-ids {id}"));
    let reason = &all["Reservations"][0]["Instances"][0]["StateReason"]["Code"];
    assert_eq!(reason, "Server.SpotInstanceTermination");
}
