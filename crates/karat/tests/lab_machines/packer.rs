//! Debian's Packer, which has its `amazon-ebs` inside, builds an image of a machine.

use std::process::Command;

use serde_json::json;

use crate::cloud::{Cloud, cloud, text};

/// Packer 1.6 has its Amazon builders inside; later ones have not.
fn has_builder() -> bool {
    let version = Command::new("packer").arg("version").env("CHECKPOINT_DISABLE", "1").output();
    let said = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    said.is_ok_and(|text| text.contains("v1.6."))
}

#[test]
fn packer_provisions_a_machine_over_ssh_and_makes_images_of_it() {
    if has_builder() {
        let Some(cloud) = cloud() else { return };
        // It does not know the variable of the endpoint.
        let own = json!({
            "access_key": cloud.variable("AWS_ACCESS_KEY_ID"),
            "secret_key": cloud.variable("AWS_SECRET_ACCESS_KEY"),
            "custom_endpoint_ec2": cloud.variable("AWS_ENDPOINT_URL"),
            "skip_metadata_api_check": true,
        });
        builds(&cloud, cloud.client("packer"), own);
    }
}

/// A current Packer. Runs where `KARAT_TEST_PACKER` names one, and `KARAT_TEST_PACKER_PLUGINS` the
/// folder in which it has its plugin `amazon`.
#[test]
fn a_current_packer_does_so_by_the_environment_alone() {
    let Some(program) = std::env::var_os("KARAT_TEST_PACKER") else { return };
    let Some(plugins) = std::env::var_os("KARAT_TEST_PACKER_PLUGINS") else { return };
    let Some(cloud) = cloud() else { return };
    let mut packer = cloud.client(program.to_str().unwrap());
    packer.env("PACKER_PLUGIN_PATH", plugins);
    builds(&cloud, packer, json!({}));
}

/// The same with session manager in place of a rule. Runs where
/// `KARAT_TEST_SESSION_MANAGER_PLUGIN` names Amazon's plugin too.
#[test]
fn a_current_packer_builds_through_session_manager() {
    let Some(program) = std::env::var_os("KARAT_TEST_PACKER") else { return };
    let Some(plugins) = std::env::var_os("KARAT_TEST_PACKER_PLUGINS") else { return };
    let Some(plugin) = std::env::var_os("KARAT_TEST_SESSION_MANAGER_PLUGIN") else { return };
    let Some(cloud) = cloud() else { return };
    crate::sessions::profile(&cloud);
    let programs = cloud.dir.path().join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(plugin, programs.join("session-manager-plugin")).unwrap();
    let mut packer = cloud.client(program.to_str().unwrap());
    packer.env("PACKER_PLUGIN_PATH", plugins);
    packer.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let own = json!({ "ssh_interface": "session_manager", "iam_instance_profile": "agent" });
    builds(&cloud, packer, own);
}

fn builds(cloud: &Cloud, mut packer: Command, own: serde_json::Value) {
    let folder = cloud.dir.path();
    std::fs::write(folder.join("motd"), "put there by a file provisioner\n").unwrap();
    let mut builder = json!({
        "type": "amazon-ebs",
        "region": "us-east-1",
        "source_ami_filter": {
            "filters": { "name": "debian-13-*" },
            "owners": ["136693071363"],
            "most_recent": true,
        },
        "instance_type": "t3.micro",
        "ssh_username": "admin",
        "ssh_timeout": "15m",
        "ami_name": "by-packer-{{timestamp}}",
        "ami_regions": ["us-west-2"],
        "tags": { "Name": "by packer" },
        "run_tags": { "run": "7" },
    });
    builder.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    let template = json!({
        "builders": [builder],
        "provisioners": [
            { "type": "file", "source": "motd", "destination": "/tmp/motd" },
            { "type": "shell", "inline": [
                "sudo mv /tmp/motd /etc/motd",
                "echo provisioned by $(whoami) | sudo tee /srv/made",
                "cloud-init status --wait > /dev/null || true",
                "sync",
            ]},
        ],
    });
    let file = folder.join("template.json");
    std::fs::write(&file, template.to_string()).unwrap();
    packer.args(["build", "-machine-readable"]).arg(&file).current_dir(folder);
    packer.env("CHECKPOINT_DISABLE", "1").env("PACKER_CONFIG_DIR", folder);
    packer.env("PACKER_CACHE_DIR", folder.join("cache")).env("AWS_POLL_DELAY_SECONDS", "1");
    packer.env("AWS_MAX_ATTEMPTS", "900");
    let output = packer.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let mut images = Vec::new();
    for region in ["us-east-1", "us-west-2"] {
        let found = cloud.aws(&format!("ec2 describe-images --owners self --region {region}"));
        let image = &found["Images"][0];
        let tags = image["Tags"].as_array().unwrap();
        assert!(tags.iter().any(|tag| tag["Value"] == "by packer"), "{region}: {image}");
        assert!(said.contains(text(&image["ImageId"])), "{said}");
        images.push(text(&image["ImageId"]).to_owned());
    }
    let left = cloud.left(true);
    let own = |line: &&str| !line.contains(" agent");
    assert_eq!(left.lines().filter(own).collect::<Vec<_>>(), [""; 0]);

    // The copy in the other region has the files.
    let west = "--region us-west-2";
    let made = cloud.aws(&format!("ec2 create-key-pair --key-name k --key-type ed25519 {west}"));
    let key = folder.join("west");
    std::fs::write(&key, format!("{}\n", text(&made["KeyMaterial"]))).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, private).unwrap();
    let group =
        cloud.aws(&format!("ec2 create-security-group --group-name g --description d {west}"));
    let group = text(&group["GroupId"]);
    cloud.aws(&format!(
        "ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 22 \
         --cidr 0.0.0.0/0 {west}"
    ));
    let run = cloud.aws(&format!(
        "ec2 run-instances --image-id {} --instance-type t3.micro --key-name k \
         --security-group-ids {group} {west}",
        images[1]
    ));
    let id = text(&run["Instances"][0]["InstanceId"]);
    let address = loop {
        let all = cloud.aws(&format!("ec2 describe-instances --instance-ids {id} {west}"));
        let found = &all["Reservations"][0]["Instances"][0];
        if found["State"]["Name"] == "running" {
            break text(&found["PublicIpAddress"]).to_owned();
        }
        assert_eq!(found["State"]["Name"], "pending", "{found}");
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    let seen = cloud.ssh(&key, &format!("admin@{address}"), "cat /etc/motd /srv/made");
    assert_eq!(seen, "put there by a file provisioner\nprovisioned by admin\n");
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {id} {west}"));
}
