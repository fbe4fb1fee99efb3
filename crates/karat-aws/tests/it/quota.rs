//! The quota of processors, which is looked at before anything is made.

use aws_sdk_ec2::types::InstanceType;
use karat_lab::core::faults::Kind;
use karat_saga::Ending;
use serde_json::{Value as Json, json};

use crate::build::{Build, told};
use crate::lab::{BASE, Lab};

fn large(lab: &Lab, name: &str) -> Json {
    let mut options = lab.options(name);
    options["instance_type"] = json!("t3.xlarge");
    options
}

#[tokio::test]
async fn a_quota_without_room_is_told_at_first() {
    let lab = Lab::of_processors(7).await;
    // Four of them are enough.
    let build = Build::new(&large(&lab, "web-1"), "21room");
    build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    let ec2 = lab.client("us-east-1");
    let launch = ec2.run_instances().image_id(BASE).instance_type(InstanceType::T3Xlarge);
    launch.min_count(1).max_count(1).send().await.unwrap();
    let failure = Build::new(&large(&lab, "web-2"), "21full").run("").await.unwrap_err();
    let reason = told(&failure);
    assert_eq!(failure.node.as_deref(), Some("preflight"), "{reason}");
    let part =
        "t3.xlarge needs 4 vCPUs, and of the 7 that the account may have in us-east-1 4 are in use";
    assert!(reason.contains(part), "{reason}");
    // Who may not look at the quota is told when the machine starts.
    let rule = json!({
        "kind": Kind::Error,
        "calls": "servicequotas:GetServiceQuota",
        "code": "AccessDeniedException",
        "count": 1,
    });
    lab.fault(rule);
    let build = Build::new(&large(&lab, "web-3"), "21blind");
    let failure = build.run("").await.unwrap_err();
    assert!(told(&failure).contains("VcpuLimitExceeded"), "{}", told(&failure));
    assert_eq!(failure.ending, Ending::Undone, "{}", told(&failure));
    let said = build.recorded.said();
    assert!(said.iter().any(|l| l.contains("quota of vCPUs could not be looked at")), "{said:?}");
    assert_eq!(lab.images(), 2, "{:#?}", lab.left());
}
