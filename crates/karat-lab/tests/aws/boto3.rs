//! AWS's kit for Python, where it is installed: launch, image, copy, share, clean up, with its own
//! waiters and paginators.

use std::io::Write as _;

use crate::cli::bench;

const SCRIPT: &str = r#"
import boto3
from botocore.exceptions import ClientError

ec2 = boto3.client("ec2")
west = boto3.client("ec2", region_name="us-west-2")
images = ec2.describe_images(Owners=["136693071363"])["Images"]
base = max(images, key=lambda i: i["CreationDate"])["ImageId"]
group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{
    "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "127.0.0.1/32"}]}])
made = ec2.run_instances(
    ImageId=base, InstanceType="t3.micro", MinCount=1, MaxCount=1, SecurityGroupIds=[group],
    TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "b"}]}])
instance = made["Instances"][0]["InstanceId"]
ec2.get_waiter("instance_running").wait(InstanceIds=[instance])
ec2.get_waiter("instance_status_ok").wait(InstanceIds=[instance])
ec2.stop_instances(InstanceIds=[instance])
ec2.get_waiter("instance_stopped").wait(InstanceIds=[instance])
image = ec2.create_image(InstanceId=instance, Name="by-boto3")["ImageId"]
ec2.get_waiter("image_available").wait(ImageIds=[image])
copy = west.copy_image(Name="by-boto3", SourceImageId=image, SourceRegion="us-east-1",
                       Encrypted=True)["ImageId"]
west.get_waiter("image_available").wait(ImageIds=[copy])
ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "444455556666"}]})
shared = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
assert shared["LaunchPermissions"] == [{"UserId": "444455556666"}], shared
try:
    ec2.delete_security_group(GroupId=group)
    raise AssertionError("a group that an instance has was deleted")
except ClientError as error:
    assert error.response["Error"]["Code"] == "DependencyViolation", error
ec2.terminate_instances(InstanceIds=[instance])
ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance])
ec2.delete_security_group(GroupId=group)
for client, name in ((ec2, image), (west, copy)):
    client.deregister_image(ImageId=name)
    for page in client.get_paginator("describe_snapshots").paginate(OwnerIds=["self"]):
        for snapshot in page["Snapshots"]:
            client.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
"#;

#[test]
fn a_script_launches_images_copies_shares_and_cleans_up() {
    let Some(lab) = bench() else { return };
    let python = |script: &str| lab.pointed("python3").args(["-c", script]).output();
    if !python("import boto3").is_ok_and(|o| o.status.success()) {
        let note = b"skipped: boto3 is not installed (1.31 or newer)\n";
        let _ = std::io::stderr().write_all(note);
        return;
    }
    let output = python(SCRIPT).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}
