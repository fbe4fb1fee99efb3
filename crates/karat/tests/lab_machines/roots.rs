//! Base images of the settings whose root is a tar, a disk, or a container image at a registry.

use std::path::Path;
use std::process::Command;

use karat_testing::registry::Registry;
use serde_json::json;

use crate::catalogue::{layers, make_disk, run};
use crate::cloud::{cloud_with, note, text};

/// Packs a root as `docker save` does, and sends it.
fn send(registry: &Registry, root: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let at = |name: &str| folder.join(name);
    run(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(at("layer.tar")).arg("."));
    let sum = Command::new("sha256sum").arg(at("layer.tar")).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", &sum[..64])] },
    });
    std::fs::write(at("config.json"), config.to_string()).unwrap();
    let manifest = json!([{
        "Config": "config.json", "RepoTags": ["team/base:1"], "Layers": ["layer.tar"],
    }]);
    std::fs::write(at("manifest.json"), manifest.to_string()).unwrap();
    let archive = at("image.tar");
    let names = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&archive).args(names));
    let from = format!("docker-archive:{}", archive.display());
    registry.fill(&from, "team/base:1", None).unwrap();
}

#[test]
fn roots_are_tars_disks_and_container_images() {
    let Some(registry) = Registry::start(None).unwrap() else {
        note("skipped: docker-registry or skopeo is missing (scripts/install-packages test)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut settings = String::new();
    for (number, kind, source) in [
        (1, "tar", at("root.tar").display().to_string()),
        (2, "disk", at("disk").display().to_string()),
        (3, "oci", registry.address("team/base:1")),
    ] {
        settings += &format!(
            "[[image]]\nname = \"of-a-{kind}\"\nid = \"ami-{number:017x}\"\n\
             owner = \"444455556666\"\nuser = \"worker\"\n\
             [image.root.{kind}]\nsource = {source:?}\n\n"
        );
    }
    let Some(cloud) = cloud_with(&settings) else { return };
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let common = format!("--key-name k --security-group-ids {group}");
    // The files of the lab's own base are what all three hold.
    let first = cloud.launch(&format!("--image-id {} {common}", cloud.base()));
    cloud.wait_for(&first, "running");
    let parent = cloud.state().join("lab/instances").join(&first).join("parent");
    let digest = std::fs::read_to_string(parent).unwrap();
    make_disk(&layers(&cloud.store(), digest.trim()), &at("root"), &at("disk"));
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {first}"));
    run(Command::new("tar").arg("-C").arg(at("root")).arg("-cf").arg(at("root.tar")).arg("."));
    send(&registry, &at("root"), &at("image"));

    let ids: Vec<String> = (1..=3)
        .map(|number| cloud.launch(&format!("--image-id ami-{number:017x} {common}")))
        .collect();
    for id in &ids {
        let address = text(&cloud.wait_for(id, "running")["PublicIpAddress"]).to_owned();
        let to = format!("worker@{address}");
        assert_eq!(cloud.ssh(&key, &to, "cat /srv/on-the-disk; sudo -n id -un"), "yes\nroot\n");
    }
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {}", ids.join(" ")));
}
