//! Spot machines: a launch template, and a fleet of one.

use futures::StreamExt as _;
use karat_lab::core::faults::Kind;
use karat_saga::Ending;
use serde_json::{Value as Json, json};

use crate::build::{Build, told};
use crate::lab::{Lab, quick};

fn spot(lab: &Lab, name: &str) -> Json {
    let mut options = lab.options(name);
    options["instance_type"] = Json::Null;
    options["spot_instance_types"] = json!(["t3.nano", "t3.micro"]);
    // What a t3.nano costs in the lab, and more.
    options["spot_price"] = json!("0.05");
    options["spot_allocation_strategy"] = json!("capacity-optimized-prioritized");
    options["spot_tags"] = json!({ "Request": "{{ .SourceAMIName }}" });
    options["fleet_tags"] = json!({ "Fleet": "{{ .BuildRegion }}" });
    options["associate_public_ip_address"] = json!(true);
    options["launch_block_device_mappings"] =
        json!([{ "device_name": "/dev/sdb", "volume_size": 3, "volume_type": "gp3" }]);
    options
}

#[tokio::test]
async fn an_image_is_made_of_a_spot_machine() {
    let lab = Lab::start(quick()).await;
    for call in ["ec2:CreateLaunchTemplate", "ec2:CreateFleet", "ec2:DeleteLaunchTemplate"] {
        lab.fault(json!({ "kind": Kind::LostResponse, "calls": call, "count": 1 }));
    }
    let build = Build::new(&spot(&lab, "web-1"), "15spot");
    let saga = build.prepared.saga(&build.cx).unwrap();
    let nodes: Vec<&str> = saga.nodes().iter().map(|n| n.name.as_str()).collect();
    assert!(nodes.contains(&"template") && !nodes.contains(&"stop"), "{nodes:?}");
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert_eq!(lab.litter(), [] as [&str; 0]);
    // Two disks each.
    assert_eq!((lab.images(), lab.left().len()), (2, 6), "{:#?}", lab.left());
    let ec2 = lab.client("us-east-1");
    let machines = ec2.describe_instances().send().await.unwrap();
    let machines: Vec<_> = machines.reservations().iter().flat_map(|r| r.instances()).collect();
    assert_eq!(machines.len(), 1, "{machines:?}");
    let machine = machines[0];
    assert_eq!(machine.instance_lifecycle().map(|l| l.as_str()), Some("spot"));
    assert!(machine.spot_instance_request_id().is_some_and(|id| id.starts_with("sir-")));
    let tags = machine.tags();
    assert!(tags.iter().any(|t| t.key() == Some("Team")), "{tags:?}");
    assert!(tags.iter().any(|t| t.value() == Some("15spot")), "{tags:?}");
}

#[tokio::test]
async fn a_price_that_is_too_low_is_told() {
    let lab = Lab::start(quick()).await;
    let mut options = spot(&lab, "web");
    options["spot_price"] = json!("0.0001");
    let failure = Build::new(&options, "16cheap").run("").await.unwrap_err();
    let told = told(&failure);
    assert!(told.contains("SpotMaxPriceTooLow") && told.contains("no spot machine"), "{told}");
    assert_eq!(failure.ending, Ending::Undone, "{told}");
    assert_eq!(lab.left(), [] as [&str; 0]);
}

#[tokio::test]
async fn what_a_spot_machine_needs_goes_after_a_failure() {
    let lab = Lab::start(quick()).await;
    lab.fault(json!({ "kind": Kind::Stale, "delay_ms": 500 }));
    lab.settle().await;
    let points = [
        "fail@template:before",
        "fail@template:effect",
        "cancel@template:effect",
        "fail@instance:before",
        "fail@instance:started",
        "cancel@instance:started",
        "fail@provision:effect",
        "fail@image:made",
    ];
    let runs = points.iter().enumerate().map(|(number, faults)| {
        let options = spot(&lab, &format!("web-{number}"));
        async move {
            let failure = match Build::new(&options, &format!("17fault{number}")).run(faults).await
            {
                Ok(_) => panic!("{faults}: it succeeded"),
                Err(failure) => failure,
            };
            assert_eq!(failure.ending, Ending::Undone, "{faults}: {}", told(&failure));
        }
    });
    futures::stream::iter(runs).buffer_unordered(4).collect::<()>().await;
    assert_eq!(lab.left(), [] as [&str; 0]);
}
