//! Regions, networks, security groups, key pairs.

use serde_json::json;

use crate::cli::{bench, text};

#[test]
fn the_account_has_regions_with_a_network_from_the_start() {
    let Some(lab) = bench() else { return };
    let identity = lab.aws("sts get-caller-identity");
    assert_eq!(identity["Account"], "111122223333");
    assert_eq!(identity["Arn"], "arn:aws:iam::111122223333:user/lab");

    let regions = lab.aws("ec2 describe-regions --query Regions[].RegionName");
    assert!(regions.as_array().unwrap().contains(&json!("ap-northeast-1")), "{regions}");
    assert_eq!(lab.refused("ec2 describe-regions --region-names mars-1"), "InvalidParameterValue");
    let zones = lab.aws("ec2 describe-availability-zones --region ap-northeast-1");
    assert_eq!(zones["AvailabilityZones"][0]["ZoneName"], "ap-northeast-1a");
    assert_eq!(zones["AvailabilityZones"][0]["ZoneId"], "apne1-az1");

    let vpcs = lab.aws("ec2 describe-vpcs --filters Name=is-default,Values=true");
    let vpc = text(&vpcs["Vpcs"][0]["VpcId"]);
    let subnets = lab.aws(&format!("ec2 describe-subnets --filters Name=vpc-id,Values={vpc}"));
    assert_eq!(subnets["Subnets"].as_array().unwrap().len(), 3);
    assert_eq!(subnets["Subnets"][0]["AvailableIpAddressCount"], 4091);
    let some =
        lab.aws("ec2 describe-instance-types --page-size 5 --max-items 7 --query InstanceTypes");
    assert_eq!(some.as_array().unwrap().len(), 7);
    let all = lab.aws("ec2 describe-instance-types --query length(InstanceTypes)");
    let paged =
        lab.aws("ec2 describe-instance-types --page-size 5 --query length(InstanceTypes[])");
    assert_eq!(all, paged);
    // Each region has its own.
    let other = lab.aws("ec2 describe-vpcs --region us-west-2");
    assert_ne!(other["Vpcs"][0]["VpcId"], vpc);
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[test]
fn a_network_of_ones_own_is_made_and_taken_down_in_order() {
    let Some(lab) = bench() else { return };
    let vpc = lab.aws("ec2 create-vpc --cidr-block 10.1.0.0/16");
    let vpc = text(&vpc["Vpc"]["VpcId"]).to_owned();
    let subnet = lab.aws(&format!("ec2 create-subnet --vpc-id {vpc} --cidr-block 10.1.2.0/24"));
    let subnet = text(&subnet["Subnet"]["SubnetId"]).to_owned();
    let outside = format!("ec2 create-subnet --vpc-id {vpc} --cidr-block 10.2.0.0/24");
    assert_eq!(lab.refused(&outside), "InvalidSubnet.Range");
    let overlap = format!("ec2 create-subnet --vpc-id {vpc} --cidr-block 10.1.2.128/25");
    assert_eq!(lab.refused(&overlap), "InvalidSubnet.Conflict");
    let gateway = lab.aws("ec2 create-internet-gateway");
    let gateway = text(&gateway["InternetGateway"]["InternetGatewayId"]).to_owned();
    let both = format!("--internet-gateway-id {gateway} --vpc-id {vpc}");
    lab.aws(&format!("ec2 attach-internet-gateway {both}"));
    let table = lab.aws(&format!("ec2 create-route-table --vpc-id {vpc}"));
    let table = text(&table["RouteTable"]["RouteTableId"]).to_owned();
    let route = format!("--route-table-id {table} --destination-cidr-block 0.0.0.0/0");
    lab.aws(&format!("ec2 create-route {route} --gateway-id {gateway}"));
    let joined = lab
        .aws(&format!("ec2 associate-route-table --route-table-id {table} --subnet-id {subnet}"));
    assert_eq!(lab.left(), ["vpc", "subnet", "internet-gateway", "route-table"]);

    let delete_vpc = format!("ec2 delete-vpc --vpc-id {vpc}");
    assert_eq!(lab.refused(&delete_vpc), "DependencyViolation");
    let delete_table = format!("ec2 delete-route-table --route-table-id {table}");
    assert_eq!(lab.refused(&delete_table), "DependencyViolation");
    let association = text(&joined["AssociationId"]);
    lab.aws(&format!("ec2 disassociate-route-table --association-id {association}"));
    lab.aws(&delete_table);
    lab.aws(&format!("ec2 delete-subnet --subnet-id {subnet}"));
    lab.aws(&format!("ec2 detach-internet-gateway {both}"));
    lab.aws(&format!("ec2 delete-internet-gateway --internet-gateway-id {gateway}"));
    lab.aws(&delete_vpc);
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[test]
fn security_groups_keep_their_rules() {
    let Some(lab) = bench() else { return };
    let make = "ec2 create-security-group --group-name build --description d \
                --tag-specifications ResourceType=security-group,Tags=[{Key=run,Value=7}]";
    let group = lab.aws(make);
    let id = text(&group["GroupId"]).to_owned();
    assert_eq!(lab.refused(make), "InvalidGroup.Duplicate");
    let rule = format!("--group-id {id} --protocol tcp --port 22 --cidr 10.1.2.3/8");
    let made = lab.aws(&format!("ec2 authorize-security-group-ingress {rule}"));
    assert_eq!(made["SecurityGroupRules"][0]["CidrIpv4"], "10.0.0.0/8");
    let again = lab.refused(&format!("ec2 authorize-security-group-ingress {rule}"));
    assert_eq!(again, "InvalidPermission.Duplicate");
    let shown = lab.aws("ec2 describe-security-groups --filters Name=tag:run,Values=7");
    let group = &shown["SecurityGroups"][0];
    assert_eq!(group["IpPermissions"][0]["IpRanges"][0]["CidrIp"], "10.0.0.0/8");
    assert_eq!(group["IpPermissions"][0]["FromPort"], 22);
    assert_eq!(group["IpPermissionsEgress"][0]["IpProtocol"], "-1");
    let wrong = format!(
        "ec2 authorize-security-group-ingress --group-id {id} --protocol tcp \
                         --port 22 --cidr 1.2.3.4"
    );
    assert_eq!(lab.refused(&wrong), "InvalidParameterValue");
    lab.aws(&format!("ec2 revoke-security-group-ingress {rule}"));
    let gone = lab.refused(&format!("ec2 revoke-security-group-ingress {rule}"));
    assert_eq!(gone, "InvalidPermission.NotFound");
    lab.aws(&format!("ec2 delete-security-group --group-id {id}"));
    let missing = lab.refused(&format!("ec2 describe-security-groups --group-ids {id}"));
    assert_eq!(missing, "InvalidGroup.NotFound");
    assert_eq!(
        lab.refused("ec2 describe-security-groups --group-ids sg-1"),
        "InvalidGroupId.Malformed"
    );
    let default = lab.aws("ec2 describe-security-groups --group-names default");
    let default = text(&default["SecurityGroups"][0]["GroupId"]);
    let delete = format!("ec2 delete-security-group --group-id {default}");
    assert_eq!(lab.refused(&delete), "CannotDelete");
}

#[test]
fn key_pairs_are_made_and_imported() {
    let Some(lab) = bench() else { return };
    let made = lab.aws("ec2 create-key-pair --key-name one --key-type ed25519");
    assert!(text(&made["KeyMaterial"]).starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    let made = lab.aws("ec2 create-key-pair --key-name two");
    assert!(text(&made["KeyMaterial"]).starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    assert_eq!(lab.refused("ec2 create-key-pair --key-name two"), "InvalidKeyPair.Duplicate");
    let public = lab.aws("ec2 describe-key-pairs --key-names one --include-public-key");
    let public = text(&public["KeyPairs"][0]["PublicKey"]).to_owned();
    let file = lab.dir().join("key.pub");
    std::fs::write(&file, public).unwrap();
    let import = |file: &std::path::Path| {
        format!(
            "ec2 import-key-pair --key-name three --public-key-material fileb://{}",
            file.display()
        )
    };
    let imported = lab.aws(&import(&file));
    let one = lab.aws("ec2 describe-key-pairs --key-names one");
    assert_eq!(imported["KeyFingerprint"], one["KeyPairs"][0]["KeyFingerprint"]);
    std::fs::write(&file, "no key").unwrap();
    lab.aws("ec2 delete-key-pair --key-name three");
    assert_eq!(lab.refused(&import(&file)), "InvalidKey.Format");
    // One that is not there is deleted already.
    lab.aws("ec2 delete-key-pair --key-name three");
    let missing = lab.refused("ec2 describe-key-pairs --key-names three");
    assert_eq!(missing, "InvalidKeyPair.NotFound");
    assert_eq!(lab.left(), ["key-pair", "key-pair"]);
}
