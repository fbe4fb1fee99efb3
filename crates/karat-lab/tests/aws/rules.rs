//! What holds for every call: signatures, faults, unknown actions, tags.

use karat_lab::core::faults::Rule;
use serde_json::json;

use crate::cli::{Bench, bench, text};
use crate::instances::base;

fn fault(lab: &Bench, rule: serde_json::Value) {
    let rule: Rule = serde_json::from_value(rule).unwrap();
    lab.lab.add_fault(rule).unwrap();
}

#[test]
fn calls_that_are_not_there_say_so() {
    let Some(lab) = bench() else { return };
    assert_eq!(lab.refused("ec2 describe-fleets"), "InvalidAction");
    assert_eq!(lab.refused("iam list-groups"), "InvalidAction");
    assert_eq!(lab.refused("ssm list-documents"), "UnknownOperationException");
}

#[test]
fn another_secret_is_refused() {
    let Some(lab) = bench() else { return };
    let assumed = lab.refused(
        "sts assume-role --role-arn arn:aws:iam::111122223333:role/none --role-session-name session",
    );
    assert_eq!(assumed, "AccessDenied");
    let said = lab
        .command()
        .args(["ec2", "describe-vpcs"])
        .env("AWS_SECRET_ACCESS_KEY", "not the secret")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
}

#[test]
fn faults_hit_the_calls_they_name() {
    let Some(lab) = bench() else { return };
    fault(&lab, json!({ "kind": "throttle", "calls": "DescribeVpcs", "count": 1 }));
    assert_eq!(lab.refused("ec2 describe-vpcs"), "RequestLimitExceeded");
    lab.aws("ec2 describe-vpcs");
    let code = "InsufficientInstanceCapacity";
    fault(&lab, json!({ "kind": "error", "calls": "ec2:Run*", "code": code, "count": 1 }));
    let image = base(&lab);
    let run = format!("ec2 run-instances --image-id {image} --instance-type t3.micro");
    assert_eq!(lab.refused(&run), code);
    assert!(lab.left().is_empty());

    // The effect is there, the answer is not; asked again with the same token, it is.
    fault(&lab, json!({ "kind": "lost-response", "calls": "RunInstances", "count": 1 }));
    let said =
        lab.command().args(run.split(' ')).args(["--client-token", "lost"]).output().unwrap();
    assert!(!said.status.success());
    assert_eq!(lab.left(), ["instance", "volume"]);
    let made = lab.aws(&format!("{run} --client-token lost"));
    let id = text(&made["Instances"][0]["InstanceId"]).to_owned();
    assert_eq!(lab.left(), ["instance", "volume"]);

    fault(
        &lab,
        json!({ "kind": "stale", "calls": "DescribeInstances", "delay_ms": 3_600_000,
                        "count": 1 }),
    );
    let shown = format!("ec2 describe-instances --instance-ids {id}");
    assert_eq!(lab.refused(&shown), "InvalidInstanceID.NotFound");
    lab.aws(&shown);

    fault(&lab, json!({ "kind": "stuck", "calls": "RunInstances", "count": 1 }));
    let made = lab.aws(&run);
    let stuck = text(&made["Instances"][0]["InstanceId"]);
    let state = lab.aws(&format!(
        "ec2 describe-instances --instance-ids {stuck} \
         --query Reservations[0].Instances[0].State.Name"
    ));
    assert_eq!(state, "pending");
}

#[test]
fn tags_are_put_on_and_taken_off() {
    let Some(lab) = bench() else { return };
    let vpc = lab.aws("ec2 describe-vpcs --query Vpcs[0].VpcId");
    let vpc = text(&vpc);
    lab.aws(&format!("ec2 create-tags --resources {vpc} --tags Key=a,Value=1 Key=b,Value=2"));
    let tags = lab.aws(&format!("ec2 describe-tags --filters Name=resource-id,Values={vpc}"));
    assert_eq!(tags["Tags"].as_array().unwrap().len(), 2);
    assert_eq!(tags["Tags"][0]["ResourceType"], "vpc");
    lab.aws(&format!("ec2 delete-tags --resources {vpc} --tags Key=a,Value=other Key=b"));
    let tags = lab.aws(&format!("ec2 describe-vpcs --vpc-ids {vpc} --query Vpcs[0].Tags"));
    assert_eq!(tags, json!([{ "Key": "a", "Value": "1" }]));
    let reserved = format!("ec2 create-tags --resources {vpc} --tags Key=aws:x,Value=1");
    assert_eq!(lab.refused(&reserved), "InvalidParameterValue");
    let unknown = "ec2 create-tags --resources i-00000000000000000 --tags Key=a,Value=1";
    assert_eq!(lab.refused(unknown), "InvalidInstanceID.NotFound");
}
