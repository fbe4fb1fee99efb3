//! Whole builds against moto: all but logging in, which its machines cannot.
//!
//! What moto does otherwise than AWS and matters here: it forgets the tags of copies (the builder
//! adds them), takes no tags of snapshots with an image (the server leaves them out, the builder
//! adds them), and knows no idempotence of calls that make something.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use karat_aws::{AmazonAmi, AmazonEbs, AmazonParameterStore, AmazonSecretsManager};
use karat_component::testing;
use karat_component::{DynBuilder, Events};
use karat_saga::{Ending, Services, StepRegistry};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::build::{Build, options, told};
use crate::moto::{Moto, REGIONS};

/// The source image's id in moto.
async fn source(moto: &Moto) -> String {
    let images =
        moto.ec2(REGIONS[0]).describe_images().owners("099720109477").send().await.unwrap();
    let mut ids: Vec<&str> = images.images().iter().filter_map(|i| i.image_id()).collect();
    ids.sort_unstable();
    ids.first().expect("moto has images of Canonical's").to_string()
}

fn has(tags: &[aws_sdk_ec2::types::Tag], key: &str, value: &str) -> bool {
    tags.iter().any(|t| t.key() == Some(key) && t.value() == Some(value))
}

#[tokio::test]
async fn an_image_is_made_in_two_regions_and_nothing_else_stays() {
    let Some(moto) = Moto::start() else { return };
    let source = source(&moto).await;
    let mut options = options(&moto.profile(), &source, "web-1");
    options["encrypt_boot"] = Json::Null;
    options["ami_users"] = json!(["123456789012"]);
    let build = Build::new(&options, "01whole");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert_eq!(moto.temporary().await, [] as [&str; 0]);
    assert!(!build.state.path().join("aws").join("01whole").exists());

    let artifact = build.artifact(&done).unwrap();
    assert_eq!(artifact.builder_id, "mitchellh.amazonebs");
    let places: Vec<(&str, &str)> =
        artifact.id.split(',').map(|pair| pair.split_once(':').unwrap()).collect();
    let regions: Vec<&str> = places.iter().map(|(region, _)| *region).collect();
    assert_eq!(regions, REGIONS);
    for (region, id) in &places {
        let ec2 = moto.ec2(region);
        let images = ec2.describe_images().image_ids(*id).send().await.unwrap();
        let image = &images.images()[0];
        assert_eq!(image.name(), Some("web-1"), "{region}");
        assert_eq!(image.description(), Some(&*format!("from {source}")), "{region}");
        for (key, value) in [
            ("Team", "images"),
            ("Region", "us-east-1"),
            ("karat:token", "01whole"),
            ("karat:build", "amazon-ebs.web"),
        ] {
            assert!(has(image.tags(), key, value), "{region}: {key} is not in {:?}", image.tags());
        }
        let snapshot = image.block_device_mappings()[0].ebs().unwrap().snapshot_id().unwrap();
        let snapshots = ec2.describe_snapshots().snapshot_ids(snapshot).send().await.unwrap();
        let tags = snapshots.snapshots()[0].tags();
        for (key, value) in [("Team", "images"), ("Kind", "snapshot"), ("karat:token", "01whole")] {
            assert!(has(tags, key, value), "{region}: {key} is not in {tags:?}");
        }
        let shared = ec2
            .describe_image_attribute()
            .image_id(*id)
            .attribute(aws_sdk_ec2::types::ImageAttributeName::LaunchPermission)
            .send()
            .await
            .unwrap();
        let users: Vec<_> =
            shared.launch_permissions().iter().filter_map(|p| p.user_id()).collect();
        assert_eq!(users, ["123456789012"], "{region}");
    }
    let generated = build.hook.generated();
    assert_eq!(generated["SourceAMI"].as_str(), Some(source.as_str()));
    assert_eq!(generated["BuildRegion"].as_str(), Some("us-east-1"));
    assert!(generated["ID"].as_str().unwrap().starts_with("i-"));

    // The name is taken now, which is told before anything is made.
    let again = Build::new(&options, "01again");
    let failure = again.run("").await.unwrap_err();
    assert!(failure.cause_text().contains("is taken"), "{}", told(&failure));
    assert_eq!(failure.node.as_deref(), Some("preflight"));
    assert_eq!(moto.temporary().await, [] as [&str; 0]);

    let builder: Arc<dyn DynBuilder> = Arc::new(AmazonEbs);
    assert!(builder.is_intact(&artifact, &Services::new()).await);
    builder.destroy(&artifact, &Services::new()).await.unwrap();
    assert!(!builder.is_intact(&artifact, &Services::new()).await);
    assert_eq!(moto.images().await, [] as [&str; 0]);
}

#[tokio::test]
async fn only_copies_stay_where_that_is_wanted() {
    let Some(moto) = Moto::start() else { return };
    let mut options = options(&moto.profile(), &source(&moto).await, "web-1");
    options["skip_save_build_region"] = json!(true);
    let build = Build::new(&options, "01copies");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    let artifact = build.artifact(&done).unwrap();
    assert!(
        artifact.id.starts_with("us-west-2:ami-") && !artifact.id.contains(','),
        "{}",
        artifact.id
    );
    assert_eq!(moto.temporary().await, [] as [&str; 0]);
    let images = moto.images().await;
    assert_eq!(images[0], "us-west-2: image Some(\"web-1\")", "{images:?}");
    assert!(images.iter().all(|line| line.starts_with("us-west-2")), "{images:?}");
}

#[tokio::test]
async fn without_an_image_nothing_stays() {
    let Some(moto) = Moto::start() else { return };
    let mut options = options(&moto.profile(), &source(&moto).await, "web-1");
    options["skip_create_ami"] = json!(true);
    let build = Build::new(&options, "01none");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(build.artifact(&done), None);
    assert_eq!(moto.temporary().await, [] as [&str; 0]);
    assert_eq!(moto.images().await, [] as [&str; 0]);
    let said = build.recorded.said();
    assert!(said.iter().any(|line| line.starts_with("Terminating i-")), "{said:?}");
}

#[tokio::test]
async fn a_failure_at_each_step_leaves_nothing() {
    let Some(moto) = Moto::start() else { return };
    let mut options = options(&moto.profile(), &source(&moto).await, "web-1");
    options["communicator"] = json!("ssh");
    options["ssh_username"] = json!("ubuntu");
    options["temporary_security_group_source_cidrs"] = json!(["192.0.2.0/24"]);
    let nodes: Vec<String> = {
        let build = Build::new(&options, "01names");
        let saga = build.prepared.saga(&build.cx).unwrap();
        saga.nodes().iter().map(|n| n.name.clone()).collect()
    };
    for node in [
        "preflight",
        "source",
        "network",
        "key",
        "group",
        "profile",
        "instance",
        "ingress",
        "provision",
        "stop",
        "image",
        "release",
        "copy-us-east-1",
        "copy-us-west-2",
        "copies",
        "publish",
    ] {
        assert!(nodes.iter().any(|n| n == node), "{node} is not in {nodes:?}");
    }
    // Logging in is not what moto's machines can.
    options["communicator"] = json!("none");
    options["ssh_username"] = Json::Null;
    let mut points: Vec<String> = nodes
        .iter()
        .filter(|n| !["key", "ingress"].contains(&n.as_str()))
        .flat_map(|node| [format!("{node}:before"), format!("{node}:effect")])
        .collect();
    points.extend(["instance:started".to_owned(), "image:made".to_owned()]);
    let fails = points.iter().map(|point| format!("fail@{point}"));
    // After the last step nothing looks any more whether it is cancelled.
    let late = |point: &&String| !point.ends_with(":before") && !point.starts_with("publish");
    let cancels = points.iter().filter(late).map(|point| format!("cancel@{point}"));
    let runs = fails.chain(cancels).enumerate().map(|(number, faults)| {
        let mut options = options.clone();
        options["ami_name"] = json!(format!("web-{number}"));
        async move {
            let build = Build::new(&options, &format!("02fault{number}"));
            let failure = match build.run(&faults).await {
                Ok(_) => panic!("{faults}: it succeeded"),
                Err(failure) => failure,
            };
            assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        }
    });
    futures::stream::iter(runs).buffer_unordered(4).collect::<()>().await;
    // Names tell which of them left something.
    assert_eq!(moto.temporary().await, [] as [&str; 0]);
    assert_eq!(moto.images().await, [] as [&str; 0]);
}

/// With a key pair and a security group; moto's machines do not answer, so connecting fails.
#[tokio::test]
async fn a_machine_that_cannot_be_reached_leaves_nothing() {
    let Some(moto) = Moto::start() else { return };
    let mut options = options(&moto.profile(), &source(&moto).await, "web-1");
    options["communicator"] = json!("ssh");
    options["ssh_username"] = json!("ubuntu");
    options["ssh_timeout"] = json!("1s");
    options["ssh_interface"] = json!("private_ip");
    options["temporary_security_group_source_cidrs"] = json!(["192.0.2.0/24"]);
    for (number, (faults, part)) in [
        ("", "could not log in"),
        ("fail@key:effect", "injected"),
        ("fail@ingress:effect", "injected"),
        ("fail@instance:started", "injected"),
    ]
    .into_iter()
    .enumerate()
    {
        let build = Build::new(&options, &format!("03{number}"));
        let failure = build.run(faults).await.unwrap_err();
        assert!(failure.cause_text().contains(part), "{faults}: {}", told(&failure));
        assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        assert_eq!(moto.temporary().await, [] as [&str; 0], "{faults}");
        assert_eq!(moto.images().await, [] as [&str; 0], "{faults}");
        let folder: &Path = build.state.path();
        assert!(
            !folder.join("aws").join(format!("03{number}")).exists(),
            "{faults}: the key stays"
        );
    }
}

/// Steps that are read back from the journal undo what the first process made.
#[tokio::test]
async fn stored_steps_undo_what_was_made() {
    let Some(moto) = Moto::start() else { return };
    let options = options(&moto.profile(), &source(&moto).await, "web-1");
    let build = Build::new(&options, "04stored");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(!moto.images().await.is_empty());
    let mut registry = StepRegistry::new();
    DynBuilder::register_steps(&AmazonEbs, &mut registry);
    let saga = build.prepared.saga(&build.cx).unwrap();
    let services = Services::new().with(Arc::new(Events::discard()));
    for node in saga.nodes().iter().rev() {
        let params = node.step.stored_params().unwrap();
        let text = params.to_string();
        assert!(!text.contains("#!/bin/sh"), "user data is stored: {text}");
        let step = registry.read(node.step.kind(), params).unwrap();
        let mut cx = karat_saga::StepContext::detached(&node.name, services.clone());
        for (name, output) in done.outputs.iter() {
            cx = cx.with_output(name, output).unwrap();
        }
        for output in [done.outputs.raw(&node.name).cloned(), None] {
            step.undo_erased(&cx, output)
                .await
                .unwrap_or_else(|e| panic!("{}: {}", node.name, e.chain()));
        }
    }
    assert_eq!(moto.temporary().await, [] as [&str; 0]);
    assert_eq!(moto.images().await, [] as [&str; 0]);
}

#[tokio::test]
async fn data_sources_read() {
    let Some(moto) = Moto::start() else { return };
    let fetch = |source: Box<dyn karat_component::PreparedDataSource>| async move {
        source.fetch(&Services::new(), &CancellationToken::new()).await
    };
    let ami = json!({
        "shared_credentials_file": moto.profile(),
        "owners": ["099720109477"],
        "filters": { "name": "ubuntu/images/*", "root-device-type": "ebs" },
        "most_recent": true,
    });
    let value = fetch(testing::data_source(AmazonAmi, &ami)).await.unwrap();
    let all = value.as_map().unwrap();
    assert!(all["id"].as_str().unwrap().starts_with("ami-"));
    assert!(all["name"].as_str().unwrap().starts_with("ubuntu/images/"));
    assert_eq!(all["owner"].as_str(), Some("099720109477"));
    let mut none = ami.clone();
    none["filters"]["name"] = json!("no-such-image");
    let error = fetch(testing::data_source(AmazonAmi, &none)).await.unwrap_err();
    assert!(error.chain().contains("no image in us-east-1 matches"), "{}", error.chain());
    let mut many = ami.clone();
    many["most_recent"] = json!(false);
    let error = fetch(testing::data_source(AmazonAmi, &many)).await.unwrap_err();
    assert!(error.chain().contains("match the filter"), "{}", error.chain());

    let parameter = json!({
        "shared_credentials_file": moto.profile(),
        "name": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    });
    let value = fetch(testing::data_source(AmazonParameterStore, &parameter)).await.unwrap();
    assert!(value.as_map().unwrap()["value"].as_str().unwrap().starts_with("ami-"));
    let secret = json!({ "shared_credentials_file": moto.profile(), "name": "no-such-secret" });
    let error = fetch(testing::data_source(AmazonSecretsManager, &secret)).await.unwrap_err();
    assert!(error.chain().contains("no-such-secret"), "{}", error.chain());
}
