"""Prints what is left of builds in two regions, one line each; `image` lines only with --images."""

import sys

import boto3

for region in ["us-east-1", "us-west-2"]:
    ec2 = boto3.client("ec2", region_name=region)
    for key in ec2.describe_key_pairs()["KeyPairs"]:
        print(region, "key", key["KeyName"])
    for group in ec2.describe_security_groups()["SecurityGroups"]:
        if group["GroupName"] != "default":
            print(region, "group", group["GroupName"])
    for reservation in ec2.describe_instances()["Reservations"]:
        for machine in reservation["Instances"]:
            if machine["State"]["Name"] != "terminated":
                print(region, "machine", machine["InstanceId"])
    ours = [{"Name": "tag-key", "Values": ["karat:token"]}]
    for volume in ec2.describe_volumes(Filters=ours)["Volumes"]:
        print(region, "volume", volume["VolumeId"])
    if "--images" in sys.argv:
        for image in ec2.describe_images(Owners=["self"])["Images"]:
            print(region, "image", image["Name"])
        for snapshot in ec2.describe_snapshots(Filters=ours)["Snapshots"]:
            print(region, "snapshot", snapshot["SnapshotId"])
iam = boto3.client("iam", region_name="us-east-1")
for role in iam.list_roles()["Roles"]:
    print("role", role["RoleName"])
for profile in iam.list_instance_profiles()["InstanceProfiles"]:
    print("profile", profile["InstanceProfileName"])
