//! Instances from launch to end.

use serde_json::Value;

use crate::cli::{Bench, bench, bench_with, text};

/// The newest base image of Debian's.
pub(crate) fn base(lab: &Bench) -> String {
    let query = "sort_by(Images,&CreationDate)[-1].ImageId";
    let line = "ec2 describe-images --owners 136693071363 --filters \
                Name=name,Values=debian-13-* Name=state,Values=available --query";
    text(&lab.ok(line, &[query])).to_owned()
}

/// Launches an instance and waits until it runs.
pub(crate) fn launched(lab: &Bench, more: &str) -> String {
    let image = base(lab);
    let made = lab.aws(&format!(
        "ec2 run-instances --image-id {image} --instance-type t3.micro --count 1 {more}"
    ));
    let id = text(&made["Instances"][0]["InstanceId"]).to_owned();
    wait(lab, &id, "running");
    id
}

/// Waits for a state, and gives the instance.
pub(crate) fn wait(lab: &Bench, id: &str, state: &str) -> Value {
    let line =
        format!("ec2 describe-instances --instance-ids {id} --query Reservations[0].Instances[0]");
    lab.until(&line, |i| i["State"]["Name"] == state)
}

#[test]
fn an_instance_runs_stops_starts_and_ends() {
    let Some(lab) = bench_with(|s| {
        s.durations.pending = 50;
        s.durations.stopping = 50;
    }) else {
        return;
    };
    lab.aws("ec2 create-key-pair --key-name k --key-type ed25519");
    let id = launched(
        &lab,
        "--key-name k --user-data hello --metadata-options HttpTokens=required \
         --tag-specifications ResourceType=instance,Tags=[{Key=Name,Value=web}] \
         ResourceType=volume,Tags=[{Key=run,Value=7}]",
    );
    let shown = wait(&lab, &id, "running");
    assert_eq!(shown["Tags"][0]["Value"], "web");
    assert_eq!(shown["KeyName"], "k");
    assert_eq!(shown["MetadataOptions"]["HttpTokens"], "required");
    assert_eq!(shown["SecurityGroups"][0]["GroupName"], "default");
    assert!(text(&shown["PrivateIpAddress"]).starts_with("172.31."));
    assert!(text(&shown["PublicIpAddress"]).starts_with("127.100."));
    let volume = text(&shown["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]).to_owned();
    let volumes = lab.aws("ec2 describe-volumes --filters Name=tag:run,Values=7");
    assert_eq!(volumes["Volumes"][0]["VolumeId"], volume.as_str());
    assert_eq!(volumes["Volumes"][0]["State"], "in-use");
    let data = lab
        .aws(&format!("ec2 describe-instance-attribute --instance-id {id} --attribute userData"));
    assert_eq!(data["UserData"]["Value"], "aGVsbG8=");
    let status = lab.aws("ec2 describe-instance-status");
    assert_eq!(status["InstanceStatuses"][0]["InstanceStatus"]["Status"], "ok");
    let found = lab.aws("ec2 describe-instances --filters Name=tag:Name,Values=w*");
    assert_eq!(found["Reservations"][0]["Instances"][0]["InstanceId"], id.as_str());

    let ena = format!("ec2 modify-instance-attribute --instance-id {id} --ena-support");
    assert_eq!(lab.refused(&ena), "IncorrectInstanceState");
    let stopping = lab.aws(&format!("ec2 stop-instances --instance-ids {id}"));
    assert_eq!(stopping["StoppingInstances"][0]["PreviousState"]["Name"], "running");
    assert_eq!(stopping["StoppingInstances"][0]["CurrentState"]["Name"], "stopping");
    let stopped = wait(&lab, &id, "stopped");
    assert_eq!(stopped["StateReason"]["Code"], "Client.UserInitiatedShutdown");
    assert_eq!(stopped["PublicIpAddress"], Value::Null);
    lab.aws(&ena);
    lab.aws(&format!("ec2 start-instances --instance-ids {id}"));
    wait(&lab, &id, "running");
    let protect = format!("ec2 modify-instance-attribute --instance-id {id}");
    lab.aws(&format!("{protect} --disable-api-termination"));
    let end = format!("ec2 terminate-instances --instance-ids {id}");
    assert_eq!(lab.refused(&end), "OperationNotPermitted");
    lab.aws(&format!("{protect} --no-disable-api-termination"));
    lab.aws(&end);
    let ended = wait(&lab, &id, "terminated");
    assert_eq!(ended["BlockDeviceMappings"].as_array().map(Vec::len), Some(0));
    let gone = format!("ec2 describe-volumes --volume-ids {volume}");
    assert_eq!(lab.refused(&gone), "InvalidVolume.NotFound");
    assert_eq!(lab.left(), ["key-pair"]);
}

#[test]
fn a_launch_is_checked_like_amazons() {
    let Some(lab) = bench_with(|s| s.quotas.vcpus = 4) else { return };
    let image = base(&lab);
    let run = |rest: &str| format!("ec2 run-instances --instance-type t3.micro {rest}");
    let good = run(&format!("--image-id {image}"));
    assert_eq!(lab.refused(&format!("{good} --dry-run")), "DryRunOperation");
    assert!(lab.left().is_empty(), "a dry run makes nothing");
    let cases = [
        ("--image-id ami-00000000000000000".to_owned(), "InvalidAMIID.NotFound"),
        ("--image-id ami-x".to_owned(), "InvalidAMIID.Malformed"),
        (format!("--image-id {image} --key-name none"), "InvalidKeyPair.NotFound"),
        (format!("--image-id {image} --security-group-ids sg-00000000"), "InvalidGroup.NotFound"),
        (format!("--image-id {image} --subnet-id subnet-00000000"), "InvalidSubnetID.NotFound"),
        (format!("--image-id {image} --iam-instance-profile Name=none"), "InvalidParameterValue"),
        (format!("--image-id {image} --instance-type x9.huge"), "InvalidParameterValue"),
        (format!("--image-id {image} --count 3"), "VcpuLimitExceeded"),
    ];
    for (rest, code) in cases {
        assert_eq!(lab.refused(&run(&rest)), code, "{rest}");
    }
    let other = if cfg!(target_arch = "aarch64") { "t3.micro" } else { "t4g.micro" };
    let line = format!("ec2 run-instances --image-id {image} --instance-type {other}");
    assert_eq!(lab.refused(&line), "InvalidParameterValue");
    // As many as there is room for, if fewer are enough.
    let made = lab.aws(&run(&format!("--image-id {image} --count 1:3")));
    assert_eq!(made["Instances"].as_array().unwrap().len(), 2);
}

#[test]
fn the_same_client_token_launches_once() {
    let Some(lab) = bench() else { return };
    let image = base(&lab);
    let line = format!(
        "ec2 run-instances --image-id {image} --instance-type t3.micro --client-token once"
    );
    let one = lab.aws(&line);
    let two = lab.aws(&line);
    assert_eq!(one["Instances"][0]["InstanceId"], two["Instances"][0]["InstanceId"]);
    let other = line.replace("t3.micro", "t3.small");
    assert_eq!(lab.refused(&other), "IdempotentParameterMismatch");
    assert_eq!(lab.left(), ["instance", "volume"]);
}

#[test]
fn spot_instances_come_by_a_fleet_and_cannot_be_stopped() {
    let Some(lab) = bench() else { return };
    let image = base(&lab);
    let data = format!("{{\"ImageId\":\"{image}\",\"InstanceType\":\"t3.micro\"}}");
    let template = lab.ok(
        "ec2 create-launch-template --launch-template-name fleet --launch-template-data",
        &[&data],
    );
    let id = text(&template["LaunchTemplate"]["LaunchTemplateId"]).to_owned();
    let configs = format!(
        "[{{\"LaunchTemplateSpecification\":{{\"LaunchTemplateId\":\"{id}\",\"Version\":\"1\"}},\
         \"Overrides\":[{{\"InstanceType\":\"t3.large\",\"MaxPrice\":\"0.001\"}},\
         {{\"InstanceType\":\"t3.small\"}}]}}]"
    );
    let fleet = lab.ok(
        "ec2 create-fleet --type instant --target-capacity-specification \
         TotalTargetCapacity=1,DefaultTargetCapacityType=spot --launch-template-configs",
        &[&configs],
    );
    assert_eq!(fleet["Errors"][0]["ErrorCode"], "SpotMaxPriceTooLow");
    assert_eq!(fleet["Instances"][0]["InstanceType"], "t3.small");
    let instance = text(&fleet["Instances"][0]["InstanceIds"][0]).to_owned();
    let shown = wait(&lab, &instance, "running");
    assert_eq!(shown["InstanceLifecycle"], "spot");
    let stop = format!("ec2 stop-instances --instance-ids {instance}");
    assert_eq!(lab.refused(&stop), "UnsupportedOperation");
    lab.aws(&format!("ec2 terminate-instances --instance-ids {instance}"));
    lab.aws(&format!("ec2 delete-launch-template --launch-template-id {id}"));
    lab.until(
        "ec2 describe-instances --filters Name=instance-state-name,Values=shutting-down",
        |v| v["Reservations"].as_array().unwrap().is_empty(),
    );
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[test]
fn what_is_in_the_lab_survives_its_restart() {
    let Some(lab) = bench() else { return };
    let id = launched(&lab, "");
    let address = lab.lab.running().clone();
    let lab = lab.restart();
    assert_eq!(lab.lab.running().secret_key, address.secret_key);
    wait(&lab, &id, "running");
}

#[test]
fn types_and_where_they_are_offered() {
    let Some(lab) = bench() else { return };
    let offered = lab.aws(
        "ec2 describe-instance-type-offerings --location-type availability-zone \
         --filters Name=instance-type,Values=t3.micro",
    );
    assert_eq!(offered["InstanceTypeOfferings"].as_array().unwrap().len(), 3);
    let types = lab.aws("ec2 describe-instance-types --instance-types t4g.micro");
    let shown = &types["InstanceTypes"][0];
    assert_eq!(shown["ProcessorInfo"]["SupportedArchitectures"][0], "arm64");
    assert_eq!(shown["VCpuInfo"]["DefaultVCpus"], 2);
    assert_eq!(shown["MemoryInfo"]["SizeInMiB"], 1024);
    let unknown = lab.refused("ec2 describe-instance-types --instance-types x9.huge");
    assert_eq!(unknown, "InvalidInstanceType");
}
