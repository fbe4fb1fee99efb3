//! Images that take the name of another.

use std::sync::Arc;

use karat_aws::AmazonEbsSurrogate;
use karat_component::DynBuilder;
use karat_lab::core::faults::Kind;
use karat_saga::Ending;
use serde_json::{Value as Json, json};

use crate::build::{Build, told};
use crate::kin::surrogate;
use crate::lab::{Lab, quick};
use crate::moto::REGIONS;

fn replacing(lab: &Lab, more: &Json) -> Json {
    let mut options = lab.options("web");
    options["encrypt_boot"] = Json::Null;
    options["force_deregister"] = json!(true);
    for (option, value) in more.as_object().unwrap() {
        options[option] = value.clone();
    }
    options
}

/// The images that have the name: their regions and ids.
async fn images(lab: &Lab) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for region in REGIONS {
        let ask = lab.client(region).describe_images().owners("self").send().await.unwrap();
        for image in ask.images() {
            assert_eq!(image.name(), Some("web"), "{region}");
            all.push((region.to_owned(), image.image_id().unwrap().to_owned()));
        }
    }
    all
}

async fn build(options: &Json, token: &str) {
    let done = Build::new(options, token).run("").await;
    let done = done.unwrap_or_else(|e| panic!("{token}: {}", told(&e)));
    assert!(done.left.is_empty(), "{token}: {:?}", done.left);
}

#[tokio::test]
async fn an_image_takes_the_name_of_another() {
    let lab = Lab::start(quick()).await;
    build(&replacing(&lab, &json!({})), "10first").await;
    let first = images(&lab).await;
    assert_eq!(first.len(), 2, "{first:?}");
    // Snapshots of the old ones stay where nothing else is said.
    build(&replacing(&lab, &json!({})), "10second").await;
    let second = images(&lab).await;
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(second.iter().all(|image| !first.contains(image)), "{first:?} {second:?}");
    let litter = lab.litter();
    assert_eq!(litter.len(), 2, "{litter:?}");
    assert!(litter.iter().all(|line| line.contains(": snapshot ")), "{litter:?}");
    build(&replacing(&lab, &json!({ "force_delete_snapshot": true })), "10third").await;
    assert_eq!(images(&lab).await.len(), 2);
    assert_eq!(lab.litter(), litter);

    // So it is with an image of another disk.
    let mut options = surrogate(&lab, "web");
    options["force_deregister"] = json!(true);
    options["force_delete_snapshot"] = json!(true);
    let kin: Arc<dyn DynBuilder> = Arc::new(AmazonEbsSurrogate);
    let done = Build::of(kin, &options, "10kin").run("").await;
    done.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(images(&lab).await.len(), 2);
    assert_eq!(lab.litter(), litter);
}

/// Who fails after the old image gave up its name gives it back.
#[tokio::test]
async fn after_a_failure_the_old_image_is_there() {
    let lab = Lab::start(quick()).await;
    let options =
        replacing(&lab, &json!({ "force_delete_snapshot": true, "ami_users": ["123456789012"] }));
    build(&options, "11first").await;
    let first = images(&lab).await;
    let left = lab.left().len();
    for (number, faults) in ["fail@provision:effect", "fail@stop:effect"].iter().enumerate() {
        let failure = Build::new(&options, &format!("11early{number}")).run(faults).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        assert_eq!(images(&lab).await, first, "{faults}");
    }
    let points = [
        "fail@retire:before",
        "fail@retire:effect",
        "fail@image:before",
        "cancel@image:made",
        "fail@retire-us-west-2:effect",
        "fail@copy-us-west-2:effect",
        "fail@publish:effect",
        "fail@old-snapshots:effect",
    ];
    for (number, faults) in points.iter().enumerate() {
        let failure = match Build::new(&options, &format!("11late{number}")).run(faults).await {
            Ok(_) => panic!("{faults}: it succeeded"),
            Err(failure) => failure,
        };
        assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        assert_eq!(images(&lab).await.len(), 2, "{faults}");
        assert_eq!((lab.left().len(), lab.litter().len()), (left, 0), "{faults}");
    }
    for (region, id) in images(&lab).await {
        let ec2 = lab.client(&region);
        let found = ec2.describe_images().image_ids(&id).send().await.unwrap();
        let tags = found.images()[0].tags();
        assert!(tags.iter().any(|t| t.key() == Some("Base")), "{region}: {tags:?}");
        let shared = ec2
            .describe_image_attribute()
            .image_id(&id)
            .attribute(aws_sdk_ec2::types::ImageAttributeName::LaunchPermission)
            .send()
            .await
            .unwrap();
        assert_eq!(shared.launch_permissions()[0].user_id(), Some("123456789012"), "{region}");
    }
}

#[tokio::test]
async fn what_is_protected_is_not_replaced_and_a_lost_answer_does_no_harm() {
    let lab = Lab::start(quick()).await;
    for call in ["ec2:DeregisterImage", "ec2:RegisterImage"] {
        lab.fault(json!({ "kind": Kind::LostResponse, "calls": call, "count": 1 }));
    }
    let options = replacing(&lab, &json!({}));
    build(&options, "12first").await;
    build(&options, "12second").await;
    let failure = Build::new(&options, "12third").run("fail@copies:effect").await.unwrap_err();
    assert_eq!(failure.ending, Ending::Undone, "{}", told(&failure));
    let all = images(&lab).await;
    assert_eq!(all.len(), 2, "{all:?}");
    let (region, id) = &all[1];
    let protect = lab.client(region).enable_image_deregistration_protection().image_id(id);
    protect.send().await.unwrap();
    let failure = Build::new(&options, "12fourth").run("").await.unwrap_err();
    assert!(failure.cause_text().contains("is protected"), "{}", told(&failure));
    assert_eq!(failure.node.as_deref(), Some("preflight"));
    assert_eq!(images(&lab).await, all);
}
