//! A server that answers like AWS, and what is left in it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_sdk_ec2::config::{Credentials, Region};
use aws_sdk_ec2::types::Filter;

/// The regions that the tests work in.
pub(crate) const REGIONS: [&str; 2] = ["us-east-1", "us-west-2"];

/// A running server.
#[derive(Debug)]
pub(crate) struct Moto {
    server: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Moto {
    /// Starts a server; `None`, with a word about it, where `KARAT_MOTO` does not name a Python
    /// that has moto.
    pub(crate) fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("KARAT_MOTO") else {
            crate::note("KARAT_MOTO does not name a python that has moto");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/server.py");
        let mut server = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(!port.trim().is_empty(), "moto did not start");
        let folder = tempfile::tempdir().unwrap();
        let moto = Self { server, address: format!("http://127.0.0.1:{}", port.trim()), folder };
        let profile = format!(
            "[default]\nregion = {}\nendpoint_url = {}\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
             aws_secret_access_key = secret\n",
            REGIONS[0], moto.address
        );
        std::fs::write(moto.profile(), profile).unwrap();
        Some(moto)
    }

    /// A file of AWS's configuration that leads here.
    pub(crate) fn profile(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// A client to look with.
    pub(crate) fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::from_conf(
            aws_sdk_ec2::Config::builder()
                .behavior_version(aws_sdk_ec2::config::BehaviorVersion::latest())
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .endpoint_url(&self.address)
                .region(Region::new(region.to_owned()))
                .credentials_provider(Credentials::new("AKIA", "secret", None, None, "test"))
                .build(),
        )
    }

    /// A client to look for roles with.
    pub(crate) fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::from_conf(
            aws_sdk_iam::Config::builder()
                .behavior_version(aws_sdk_iam::config::BehaviorVersion::latest())
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .endpoint_url(&self.address)
                .region(aws_sdk_iam::config::Region::new("us-east-1"))
                .credentials_provider(aws_sdk_iam::config::Credentials::new(
                    "AKIA", "secret", None, None, "test",
                ))
                .build(),
        )
    }

    /// Everything of a build that is there, less its images: one line each.
    pub(crate) async fn temporary(&self) -> Vec<String> {
        let mut left = Vec::new();
        let ours = || Filter::builder().name("tag-key").values("karat:token").build();
        for region in REGIONS {
            let ec2 = self.ec2(region);
            let keys = ec2.describe_key_pairs().send().await.unwrap();
            left.extend(
                keys.key_pairs().iter().map(|k| format!("{region}: key {:?}", k.key_name())),
            );
            let groups = ec2.describe_security_groups().send().await.unwrap();
            let groups =
                groups.security_groups().iter().filter(|g| g.group_name() != Some("default"));
            left.extend(groups.map(|g| format!("{region}: group {:?}", g.group_name())));
            let machines = ec2.describe_instances().send().await.unwrap();
            let machines = machines.reservations().iter().flat_map(|r| r.instances());
            left.extend(machines.filter_map(|i| {
                let state = i.state()?.name()?.as_str();
                (state != "terminated")
                    .then(|| format!("{region}: machine {:?} {state}", i.instance_id()))
            }));
            let volumes = ec2.describe_volumes().filters(ours()).send().await.unwrap();
            left.extend(
                volumes.volumes().iter().map(|v| format!("{region}: volume {:?}", v.volume_id())),
            );
        }
        let roles = self.iam().list_roles().send().await.unwrap();
        let roles = roles.roles().iter().map(|r| r.role_name().to_owned());
        left.extend(
            roles.filter(|name| name.starts_with("karat-")).map(|name| format!("role {name}")),
        );
        let profiles = self.iam().list_instance_profiles().send().await.unwrap();
        let profiles = profiles.instance_profiles().iter().map(|p| p.instance_profile_name());
        left.extend(profiles.map(|name| format!("profile {name}")));
        left
    }

    /// The images that are there, with their snapshots: one line each.
    pub(crate) async fn images(&self) -> Vec<String> {
        let mut left = Vec::new();
        for region in REGIONS {
            let ec2 = self.ec2(region);
            let images = ec2.describe_images().owners("self").send().await.unwrap();
            left.extend(images.images().iter().map(|i| format!("{region}: image {:?}", i.name())));
            let ours = Filter::builder().name("tag-key").values("karat:token").build();
            let snapshots = ec2.describe_snapshots().filters(ours).send().await.unwrap();
            left.extend(
                snapshots
                    .snapshots()
                    .iter()
                    .map(|s| format!("{region}: snapshot {:?}", s.snapshot_id())),
            );
        }
        left
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
