//! Images whose machines start fast.

use karat_saga::Ending;
use serde_json::{Value as Json, json};

use crate::build::{Build, told};
use crate::lab::{Lab, quick};

/// Makes a launch template, and options that name it for one region of two.
async fn options(lab: &Lab, name: &str) -> Json {
    use aws_sdk_ec2::types::RequestLaunchTemplateData;
    let data = RequestLaunchTemplateData::builder().key_name("any").build();
    let west = lab.client("us-west-2");
    let make = west.create_launch_template().launch_template_name("fast");
    // It is there from the second call on.
    let _ = make.launch_template_data(data).send().await;
    let mut options = lab.options(name);
    options["fast_launch"] = json!({
        "enable_fast_launch": true,
        "max_parallel_launches": 7,
        "target_resource_count": 3,
        "region_launch_templates": [{ "region": "us-west-2", "template_name": "fast" }],
    });
    options
}

#[tokio::test]
async fn machines_start_fast_in_all_regions() {
    let lab = Lab::of_windows().await;
    let build = Build::new(&options(&lab, "web-1").await, "19fast");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    let artifact = build.artifact(&done).unwrap();
    for pair in artifact.id.split(',') {
        let (region, id) = pair.split_once(':').unwrap();
        let ask = lab.client(region).describe_fast_launch_images().image_ids(id).send().await;
        let found = ask.unwrap();
        let image = &found.fast_launch_images()[0];
        assert_eq!(image.state().map(|s| s.as_str()), Some("enabled"), "{region}");
        assert_eq!(image.max_parallel_launches(), Some(7), "{region}");
        let ready = image.snapshot_configuration().and_then(|s| s.target_resource_count());
        assert_eq!(ready, Some(3), "{region}");
        let version = image.launch_template().and_then(|t| t.version());
        assert_eq!(version, (region == "us-west-2").then_some("1"), "{region}");
    }
    // After a failure it is switched off, and the images go.
    for (number, faults) in
        ["fail@fast-launch:before", "fail@fast-launch:effect", "fail@publish:effect"]
            .iter()
            .enumerate()
    {
        let options = options(&lab, &format!("web-2{number}")).await;
        let failure = Build::new(&options, &format!("19fault{number}")).run(faults).await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        assert_eq!(lab.images(), 2, "{faults}: {:#?}", lab.left());
        for region in crate::moto::REGIONS {
            let found = lab.client(region).describe_fast_launch_images().send().await.unwrap();
            assert_eq!(found.fast_launch_images().len(), 1, "{faults}: {found:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_start_fast_is_told() {
    let lab = Lab::start(quick()).await;
    let mut given = options(&lab, "web").await;
    let failure = Build::new(&given, "20linux").run("").await.unwrap_err();
    assert!(told(&failure).contains("no image of Windows"), "{}", told(&failure));
    assert_eq!(failure.ending, Ending::Undone, "{}", told(&failure));
    assert_eq!(lab.images(), 0, "{:#?}", lab.left());
    // A launch template that is not there is known before anything is made.
    given["fast_launch"]["region_launch_templates"][0]["template_name"] = json!("other");
    let failure = Build::new(&given, "20none").run("").await.unwrap_err();
    assert_eq!(failure.node.as_deref(), Some("fast-launch-templates"), "{}", told(&failure));
    given["fast_launch"]["region_launch_templates"][0]["template_name"] = json!("fast");
    given["fast_launch"]["region_launch_templates"][0]["template_version"] = json!(2);
    let failure = Build::new(&given, "20version").run("").await.unwrap_err();
    assert!(told(&failure).contains("has no version 2"), "{}", told(&failure));
}
