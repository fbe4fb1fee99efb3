//! Whole builds against the lab: all but logging in, which its machines cannot when they are
//! records. After each the lab is asked what is left.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use karat_aws::AmazonEbs;
use karat_component::DynBuilder;
use karat_lab::core::faults::{Kind, Rule};
use karat_lab::core::settings::{Durations, Instances, Quotas, Settings};
use karat_saga::{Cancellation, Ending, Services};
use serde_json::{Value as Json, json};

use crate::build::{Build, options, told};
use crate::moto::REGIONS;

/// An image of the lab's catalogue, the same in all regions.
pub(crate) const BASE: &str = "ami-0123456789abcdef0";
/// The longest that is waited for something that has to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A lab in this process.
pub(crate) struct Lab {
    lab: karat_lab::Lab,
    folder: tempfile::TempDir,
}

pub(crate) fn quick() -> Durations {
    Durations {
        pending: 50,
        stopping: 50,
        shutting_down: 50,
        image: 50,
        copy: 50,
        snapshot: 50,
        import: 50,
        ..Durations::default()
    }
}

impl Lab {
    pub(crate) async fn start(durations: Durations) -> Self {
        let base = json!({ "name": "base", "id": BASE, "owner": "444455556666" });
        Self::of(durations, base, Quotas::default()).await
    }

    /// One whose base image counts as one of Windows.
    pub(crate) async fn of_windows() -> Self {
        let base = json!({
            "name": "base", "id": BASE, "owner": "444455556666", "platform": "windows",
        });
        Self::of(quick(), base, Quotas::default()).await
    }

    /// One in which so many processors may run.
    pub(crate) async fn of_processors(vcpus: u32) -> Self {
        let base = json!({ "name": "base", "id": BASE, "owner": "444455556666" });
        Self::of(quick(), base, Quotas { vcpus, ..Quotas::default() }).await
    }

    async fn of(durations: Durations, base: Json, quotas: Quotas) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            durations,
            quotas,
            instances: Instances::Records,
            image: vec![serde_json::from_value(base).unwrap()],
            ..Settings::default()
        };
        let options = karat_lab::Options {
            dir: folder.path().join("lab"),
            listen: "127.0.0.1:0".parse().unwrap(),
            settings,
        };
        let lab = karat_lab::Lab::start(options).await.unwrap();
        let running = lab.running();
        let profile = format!(
            "[default]\nregion = {}\nendpoint_url = {}\naws_access_key_id = {}\n\
             aws_secret_access_key = {}\n",
            REGIONS[0],
            running.url(),
            running.access_key,
            running.secret_key
        );
        let lab = Self { lab, folder };
        std::fs::write(lab.profile(), profile).unwrap();
        lab
    }

    /// A file of AWS's configuration that leads here.
    fn profile(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Lets another server answer for Systems Manager.
    pub(crate) fn serve_ssm(&self, address: &str) {
        let profile = std::fs::read_to_string(self.profile()).unwrap();
        let services = format!("services = s\n[services s]\nssm =\n  endpoint_url = {address}\n");
        std::fs::write(self.profile(), profile + &services).unwrap();
    }

    pub(crate) fn options(&self, name: &str) -> Json {
        options(&self.profile(), BASE, name)
    }

    /// What is left: one line each, sorted.
    pub(crate) fn left(&self) -> Vec<String> {
        let left = self.lab.audit().into_iter();
        let mut left: Vec<String> =
            left.map(|l| format!("{}: {} {} {}", l.region, l.kind, l.id, l.detail)).collect();
        left.sort();
        left
    }

    /// What is left beside images that can be used and their snapshots.
    pub(crate) fn litter(&self) -> Vec<String> {
        let left = self.lab.audit().into_iter().filter(|l| !l.image);
        left.map(|l| format!("{}: {} {} {}", l.region, l.kind, l.id, l.detail)).collect()
    }

    pub(crate) fn images(&self) -> usize {
        self.lab.audit().iter().filter(|l| l.image && l.kind == "image").count()
    }

    pub(crate) fn fault(&self, rule: Json) {
        self.lab.add_fault(serde_json::from_value::<Rule>(rule).unwrap()).unwrap();
    }

    /// Waits until what each region has from the start is seen.
    pub(crate) async fn settle(&self) {
        let begun = tokio::time::Instant::now();
        for region in REGIONS {
            let ec2 = self.client(region);
            loop {
                let images = ec2.describe_images().image_ids(BASE).send().await;
                let subnets = ec2.describe_subnets().send().await;
                let seen = images.is_ok_and(|a| !a.images().is_empty())
                    && subnets.is_ok_and(|a| !a.subnets().is_empty());
                if seen {
                    break;
                }
                assert!(begun.elapsed() < LIMIT, "{region} is empty");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Calls S3 in the first region, as any client may: gives the status and what it says.
    pub(crate) async fn s3(&self, method: &str, path: &str) -> (u16, String) {
        use aws_sigv4::http_request as http;
        let running = self.lab.running();
        let (key, secret) = (&running.access_key, &running.secret_key);
        let keys = aws_sdk_ec2::config::Credentials::new(key, secret, None, None, "test");
        let identity = keys.into();
        let mut settings = http::SigningSettings::default();
        settings.percent_encoding_mode = http::PercentEncodingMode::Single;
        settings.payload_checksum_kind = http::PayloadChecksumKind::XAmzSha256;
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region(REGIONS[0])
            .name("s3")
            .time(std::time::SystemTime::now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let address = format!("{}{path}", running.url());
        let none = std::iter::empty();
        let body = http::SignableBody::Bytes(&[]);
        let request = http::SignableRequest::new(method, &address, none, body).unwrap();
        let signed = http::sign(request, &params).unwrap();
        let (headers, _) = signed.into_parts().0.into_parts();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut ask = karat_data::client_builder().build().unwrap().request(method, &address);
        for header in &headers {
            ask = ask.header(header.name(), header.value());
        }
        let answer = ask.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A bucket, and the role in which the service that imports reads it.
    pub(crate) async fn make_bucket(&self, name: &str) {
        assert_eq!(self.s3("PUT", &format!("/{name}")).await.0, 200);
        let running = self.lab.running();
        let (key, secret) = (&running.access_key, &running.secret_key);
        let keys = aws_sdk_iam::config::Credentials::new(key, secret, None, None, "test");
        let iam = aws_sdk_iam::Client::from_conf(
            aws_sdk_iam::Config::builder()
                .behavior_version(aws_sdk_iam::config::BehaviorVersion::latest())
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .endpoint_url(running.url())
                .region(aws_sdk_iam::config::Region::new(REGIONS[0]))
                .credentials_provider(keys)
                .build(),
        );
        let trust = json!({ "Statement": {
            "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": { "Service": "vmie.amazonaws.com" },
        }});
        let made = iam.create_role().role_name("vmimport");
        made.assume_role_policy_document(trust.to_string()).send().await.unwrap();
        let may = json!({ "Statement": {
            "Effect": "Allow", "Action": "s3:*", "Resource": "*",
        }});
        let put = iam.put_role_policy().role_name("vmimport").policy_name("read");
        put.policy_document(may.to_string()).send().await.unwrap();
    }

    /// A client of EBS direct in the first region.
    pub(crate) fn ebs(&self) -> aws_sdk_ebs::Client {
        let running = self.lab.running();
        let (key, secret) = (&running.access_key, &running.secret_key);
        aws_sdk_ebs::Client::from_conf(
            aws_sdk_ebs::Config::builder()
                .behavior_version(aws_sdk_ebs::config::BehaviorVersion::latest())
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .endpoint_url(running.url())
                .region(aws_sdk_ebs::config::Region::new(REGIONS[0]))
                .credentials_provider(aws_sdk_ebs::config::Credentials::new(
                    key, secret, None, None, "test",
                ))
                .build(),
        )
    }

    pub(crate) fn client(&self, region: &str) -> aws_sdk_ec2::Client {
        let running = self.lab.running();
        aws_sdk_ec2::Client::from_conf(
            aws_sdk_ec2::Config::builder()
                .behavior_version(aws_sdk_ec2::config::BehaviorVersion::latest())
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .endpoint_url(running.url())
                .region(aws_sdk_ec2::config::Region::new(region.to_owned()))
                .credentials_provider(aws_sdk_ec2::config::Credentials::new(
                    &running.access_key,
                    &running.secret_key,
                    None,
                    None,
                    "test",
                ))
                .build(),
        )
    }
}

#[tokio::test]
async fn an_image_goes_to_all_regions_encrypted_shared_and_tagged() {
    let lab = Lab::start(quick()).await;
    let regions = ["us-east-1", "us-west-2", "eu-central-1"];
    let mut options = lab.options("web-1");
    options["ami_regions"] = json!(regions);
    options["ami_users"] = Json::Null;
    options["imds_support"] = json!("v2.0");
    options["deprecate_at"] = json!("2031-01-01T00:00:00Z");
    options["launch_block_device_mappings"] =
        json!([{ "device_name": "/dev/sdb", "volume_size": 3, "volume_type": "gp3" }]);
    let build = Build::new(&options, "01whole");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert_eq!(lab.litter(), [] as [&str; 0]);
    // Two disks each.
    assert_eq!((lab.images(), lab.left().len()), (3, 9), "{:#?}", lab.left());

    let artifact = build.artifact(&done).unwrap();
    for pair in artifact.id.split(',') {
        let (region, id) = pair.split_once(':').unwrap();
        assert!(regions.contains(&region), "{}", artifact.id);
        let ec2 = lab.client(region);
        let images = ec2.describe_images().image_ids(id).send().await.unwrap();
        let image = &images.images()[0];
        assert_eq!(image.name(), Some("web-1"));
        assert_eq!(image.imds_support().map(|v| v.as_str()), Some("v2.0"), "{region}");
        assert!(image.deprecation_time().is_some_and(|t| t.starts_with("2031-01-01")), "{region}");
        let tag =
            |key: &str| image.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value());
        assert_eq!(tag("Base"), Some("base"), "{region}");
        assert_eq!(tag("karat:token"), Some("01whole"), "{region}");
        let snapshots: Vec<String> = image
            .block_device_mappings()
            .iter()
            .filter_map(|m| m.ebs()?.snapshot_id().map(str::to_owned))
            .collect();
        assert_eq!(snapshots.len(), 2, "{region}");
        let found =
            ec2.describe_snapshots().set_snapshot_ids(Some(snapshots)).send().await.unwrap();
        for snapshot in found.snapshots() {
            assert_eq!(snapshot.encrypted(), Some(true), "{region}");
            let kind = snapshot.tags().iter().find(|t| t.key() == Some("Kind"));
            assert_eq!(kind.and_then(|t| t.value()), Some("snapshot"), "{region}");
        }
    }
    let builder: std::sync::Arc<dyn DynBuilder> = std::sync::Arc::new(AmazonEbs);
    assert!(builder.is_intact(&artifact, &Services::new()).await);
    builder.destroy(&artifact, &Services::new()).await.unwrap();
    assert_eq!(lab.left(), [] as [&str; 0]);
}

#[tokio::test]
async fn an_image_that_is_not_encrypted_is_shared() {
    let lab = Lab::start(quick()).await;
    let mut options = lab.options("web-1");
    options["encrypt_boot"] = Json::Null;
    options["ami_users"] = json!(["123456789012"]);
    options["snapshot_users"] = json!(["123456789012"]);
    options["deregistration_protection"] = json!({ "enabled": true });
    let build = Build::new(&options, "01share");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    let artifact = build.artifact(&done).unwrap();
    for pair in artifact.id.split(',') {
        let (region, id) = pair.split_once(':').unwrap();
        let ec2 = lab.client(region);
        let shared = ec2
            .describe_image_attribute()
            .image_id(id)
            .attribute(aws_sdk_ec2::types::ImageAttributeName::LaunchPermission)
            .send()
            .await
            .unwrap();
        assert_eq!(shared.launch_permissions()[0].user_id(), Some("123456789012"), "{region}");
        let images = ec2.describe_images().image_ids(id).send().await.unwrap();
        let protection = images.images()[0].deregistration_protection().unwrap_or_default();
        assert!(protection.starts_with("enabled"), "{region}: {protection}");
    }
    assert_eq!(lab.litter(), [] as [&str; 0]);
}

/// The names of the steps of a build.
fn nodes(options: &Json) -> Vec<String> {
    let build = Build::new(options, "01names");
    let saga = build.prepared.saga(&build.cx).unwrap();
    saga.nodes().iter().map(|n| n.name.clone()).collect()
}

#[tokio::test]
async fn every_step_fails_and_is_cancelled_in_turn() {
    let lab = Lab::start(quick()).await;
    let mut points: Vec<String> = nodes(&lab.options("web"))
        .iter()
        .flat_map(|node| [format!("{node}:before"), format!("{node}:effect")])
        .collect();
    points.extend(["instance:started".to_owned(), "image:made".to_owned()]);
    let fails = points.iter().map(|point| format!("fail@{point}"));
    // After the last step nothing looks any more whether it is cancelled.
    let late = |point: &&String| !point.ends_with(":before") && !point.starts_with("publish");
    let cancels = points.iter().filter(late).map(|point| format!("cancel@{point}"));
    let runs = fails.chain(cancels).enumerate().map(|(number, faults)| {
        let options = lab.options(&format!("web-{number}"));
        async move {
            let build = Build::new(&options, &format!("02fault{number}"));
            let failure = match build.run(&faults).await {
                Ok(_) => panic!("{faults}: it succeeded"),
                Err(failure) => failure,
            };
            assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        }
    });
    futures::stream::iter(runs).buffer_unordered(6).collect::<()>().await;
    assert_eq!(lab.left(), [] as [&str; 0]);
}

/// A step whose result was lost is run or undone once more.
#[tokio::test]
async fn steps_that_run_twice_make_one_thing() {
    let lab = Lab::start(quick()).await;
    let runs = nodes(&lab.options("web")).into_iter().enumerate().map(|(number, node)| {
        let options = lab.options(&format!("web-{number}"));
        async move {
            let build = Build::new(&options, &format!("03twice{number}"));
            let faults = format!("repeat@{node}:effect,repeat@{node}:undo-effect");
            let done = build.run(&faults).await;
            done.unwrap_or_else(|e| panic!("{node}: {}", told(&e)));
        }
    });
    let all = futures::stream::iter(runs).buffer_unordered(6).count().await;
    assert_eq!(lab.litter(), [] as [&str; 0]);
    assert_eq!(lab.images(), 2 * all);
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_nothing_twice() {
    // One of each call that does something, in the order in which a build makes them.
    let calls = [
        "sts:GetCallerIdentity",
        "ec2:DescribeImages",
        "ec2:CreateSecurityGroup",
        "iam:CreateRole",
        "iam:CreateInstanceProfile",
        "iam:PutRolePolicy",
        "iam:AddRoleToInstanceProfile",
        "ec2:RunInstances",
        "ec2:StopInstances",
        "ec2:CreateImage",
        "ec2:TerminateInstances",
        "ec2:CopyImage",
        "ec2:ModifyImageAttribute",
        "ec2:DeleteSecurityGroup",
        "iam:RemoveRoleFromInstanceProfile",
        "iam:DeleteInstanceProfile",
        "iam:DeleteRolePolicy",
        "iam:DeleteRole",
    ];
    let runs = calls.iter().enumerate().map(|(number, call)| async move {
        let lab = Lab::start(quick()).await;
        lab.fault(json!({ "kind": Kind::LostResponse, "calls": call, "count": 1 }));
        let mut options = lab.options("web");
        options["encrypt_boot"] = Json::Null;
        options["ami_users"] = json!(["123456789012"]);
        let build = Build::new(&options, &format!("04lost{number}"));
        build.run("").await.unwrap_or_else(|e| panic!("{call}: {}", told(&e)));
        assert_eq!(lab.litter(), [] as [&str; 0], "{call}");
        assert_eq!(lab.images(), 2, "{call}: {:#?}", lab.left());
    });
    futures::stream::iter(runs).buffer_unordered(6).collect::<()>().await;
}

/// The answer is lost, and what was made is not seen at first.
#[tokio::test]
async fn what_is_not_seen_at_first_is_found() {
    let calls = [
        "ec2:CreateSecurityGroup",
        "iam:CreateRole",
        "iam:CreateInstanceProfile",
        "ec2:RunInstances",
        "ec2:CreateImage",
        "ec2:CopyImage",
    ];
    let runs = calls.iter().enumerate().map(|(number, call)| async move {
        let lab = Lab::start(quick()).await;
        lab.fault(json!({ "kind": Kind::Stale, "delay_ms": 2000 }));
        lab.settle().await;
        lab.fault(json!({ "kind": Kind::LostResponse, "calls": call, "count": 1 }));
        let build = Build::new(&lab.options("web"), &format!("09stale{number}"));
        build.run("").await.unwrap_or_else(|e| panic!("{call}: {}", told(&e)));
        assert_eq!(lab.litter(), [] as [&str; 0], "{call}");
        assert_eq!(lab.images(), 2, "{call}: {:#?}", lab.left());
        // Now without the end: what the call made goes, though it is not seen.
        lab.fault(json!({ "kind": Kind::LostResponse, "calls": call, "count": 50 }));
        let mut options = lab.options("other");
        options["max_retries"] = json!(1);
        let build = Build::new(&options, &format!("09gone{number}"));
        let failure = match build.run("").await {
            Ok(_) => panic!("{call}: it succeeded"),
            Err(failure) => failure,
        };
        assert_eq!(failure.ending, Ending::Undone, "{call}: {}", told(&failure));
        assert_eq!(lab.litter(), [] as [&str; 0], "{call}");
        assert_eq!(lab.images(), 2, "{call}: {:#?}", lab.left());
    });
    futures::future::join_all(runs).await;
}

/// The same of a key pair, in builds that cannot log in.
#[tokio::test]
async fn a_key_pair_that_is_not_seen_at_first_goes() {
    let runs = [1, 50].into_iter().map(|count| async move {
        let lab = Lab::start(quick()).await;
        lab.fault(json!({ "kind": Kind::Stale, "delay_ms": 2000 }));
        lab.settle().await;
        let rule =
            json!({ "kind": Kind::LostResponse, "calls": "ec2:CreateKeyPair", "count": count });
        lab.fault(rule);
        let mut options = lab.options("web");
        options["communicator"] = json!("ssh");
        options["ssh_username"] = json!("admin");
        options["ssh_timeout"] = json!("1s");
        options["ssh_interface"] = json!("private_ip");
        options["temporary_security_group_source_cidrs"] = json!(["192.0.2.0/24"]);
        if count > 1 {
            options["max_retries"] = json!(1);
        }
        let build = Build::new(&options, &format!("09key{count}"));
        let failure = match build.run("").await {
            Ok(_) => panic!("{count}: it succeeded"),
            Err(failure) => failure,
        };
        assert_eq!(failure.ending, Ending::Undone, "{count}: {}", told(&failure));
        assert_eq!(lab.left(), [] as [&str; 0], "{count}");
    });
    futures::future::join_all(runs).await;
}

#[tokio::test]
async fn throttled_and_stale_answers_only_take_longer() {
    let lab = Lab::start(quick()).await;
    lab.fault(json!({ "kind": Kind::Throttle, "share": 0.2 }));
    lab.fault(json!({ "kind": Kind::Stale, "delay_ms": 500 }));
    lab.settle().await;
    let runs = (0..3).map(|number| {
        let options = lab.options(&format!("web-{number}"));
        async move {
            let build = Build::new(&options, &format!("05slow{number}"));
            build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
        }
    });
    futures::stream::iter(runs).buffer_unordered(3).collect::<()>().await;
    assert_eq!(lab.litter(), [] as [&str; 0]);
    assert_eq!(lab.images(), 6);
}

/// Runs a build that a fault of the lab makes fail; gives what was told.
async fn fails(lab: &Lab, rule: Json, options: &Json, token: &str) -> String {
    let told_rule = rule.to_string();
    lab.fault(rule);
    let build = Build::new(options, token);
    let failure = match build.run("").await {
        Ok(_) => panic!("{told_rule}: it succeeded"),
        Err(failure) => failure,
    };
    assert_eq!(failure.ending, Ending::Undone, "{told_rule}: {}", told(&failure));
    assert_eq!(lab.left(), [] as [&str; 0], "{told_rule}");
    told(&failure)
}

#[tokio::test]
async fn what_is_refused_is_told_and_leaves_nothing() {
    let calls = ["iam:CreateRole", "ec2:RunInstances", "ec2:CreateImage", "ec2:CopyImage"];
    let runs = calls.into_iter().enumerate().map(|(number, call)| async move {
        let lab = Lab::start(quick()).await;
        let code = "UnauthorizedOperation";
        let rule = json!({ "kind": Kind::Error, "calls": call, "code": code, "count": 1 });
        let told = fails(&lab, rule, &lab.options("web"), &format!("06no{number}")).await;
        assert!(told.contains(code), "{call}: {told}");
    });
    futures::stream::iter(runs).buffer_unordered(4).collect::<()>().await;
}

#[tokio::test]
async fn what_never_comes_is_told_and_leaves_nothing() {
    let calls = [
        ("ec2:RunInstances", "waited 20 s for i-"),
        ("ec2:CreateImage", "waited 20 s for ami-"),
        ("ec2:CopyImage", "waited 20 s for ami-"),
    ];
    let runs = calls.into_iter().enumerate().map(|(number, (call, part))| async move {
        let lab = Lab::start(quick()).await;
        let rule = json!({ "kind": Kind::Stuck, "calls": call, "count": 1 });
        let mut options = lab.options("web");
        // Long enough for all that is not stuck on a busy computer.
        options["aws_polling"] = json!({ "delay_seconds": 1, "max_attempts": 20 });
        let told = fails(&lab, rule, &options, &format!("06never{number}")).await;
        assert!(told.contains(part), "{call}: {told}");
    });
    futures::future::join_all(runs).await;
}

/// Ctrl-C while something is waited for that would take long.
#[tokio::test]
async fn waiting_ends_when_it_is_cancelled() {
    let long = 3_600_000;
    let cases = [
        (Durations { pending: long, ..quick() }, " is starting"),
        (Durations { image: long, ..quick() }, " is being made"),
        (Durations { copy: long, ..quick() }, "Copying "),
    ];
    for (number, (durations, sign)) in cases.into_iter().enumerate() {
        let lab = Lab::start(durations).await;
        let build = Build::new(&lab.options("web"), &format!("07long{number}"));
        let cancellation = Cancellation::new();
        let cancel = async {
            let begun = tokio::time::Instant::now();
            let said = || build.recorded.said();
            while !said().iter().any(|line| line.contains(sign)) {
                assert!(begun.elapsed() < LIMIT, "\"{sign}\" is not in {:?}", said());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            cancellation.cancel();
        };
        let (done, ()) = futures::future::join(build.run_until("", &cancellation), cancel).await;
        let failure = done.unwrap_err();
        assert_eq!(failure.ending, Ending::Undone, "{sign}: {}", told(&failure));
        assert_eq!(lab.left(), [] as [&str; 0], "{sign}");
    }
}
