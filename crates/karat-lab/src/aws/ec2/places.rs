//! Regions, zones, attributes of the account, and what is set for a region.

use super::resource::one;
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::kms;
use crate::aws::node::{Node, tree};
use crate::aws::state::RegionSettings;

pub(super) fn regions(call: &mut Call<'_>) -> Result<Node> {
    let asked = call.params.texts("RegionName");
    if let Some(unknown) = asked.iter().find(|name| !call.settings.regions.contains(name)) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Invalid region provided: {unknown}"),
        ));
    }
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for region in &call.settings.regions {
        let endpoint = format!("ec2.{region}.amazonaws.com");
        let shown = asked.is_empty() || asked.contains(region);
        let passes = filters.pass(&Tags::new(), |name| match name {
            "region-name" => one(region),
            "endpoint" => one(&endpoint),
            "opt-in-status" => one("opt-in-not-required"),
            _ => None,
        })?;
        if shown && passes {
            all.push(tree! {
                "regionName": region,
                "regionEndpoint": endpoint,
                "optInStatus": "opt-in-not-required",
            });
        }
    }
    Ok(tree! { "regionInfo": all })
}

/// The zones of a region.
pub(super) fn zones_of(region: &str) -> [String; 3] {
    ["a", "b", "c"].map(|letter| format!("{region}{letter}"))
}

/// The id of a zone: `use1-az1` for `us-east-1a`.
pub(crate) fn zone_id(zone: &str) -> String {
    let region = &zone[..zone.len().saturating_sub(1)];
    let mut parts = region.split('-');
    let land = parts.next().unwrap_or_default();
    let direction: String = match parts.next().unwrap_or_default() {
        "northeast" => "ne".into(),
        "northwest" => "nw".into(),
        "southeast" => "se".into(),
        "southwest" => "sw".into(),
        other => other.chars().take(1).collect(),
    };
    let number = parts.next().unwrap_or_default();
    let letter = zone.bytes().last().map_or(1, |b| b.saturating_sub(b'a') + 1);
    format!("{land}{direction}{number}-az{letter}")
}

pub(super) fn zones(call: &mut Call<'_>) -> Result<Node> {
    let names = call.params.texts("ZoneName");
    let ids = call.params.texts("ZoneId");
    let zones = zones_of(call.region);
    if let Some(unknown) = names.iter().find(|name| !zones.contains(name)) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!("Invalid availability zone: [{unknown}]"),
        ));
    }
    let filters = Filters::of(call.params)?;
    let mut all = Vec::new();
    for zone in &zones {
        let id = zone_id(zone);
        let shown =
            (names.is_empty() || names.contains(zone)) && (ids.is_empty() || ids.contains(&id));
        let passes = filters.pass(&Tags::new(), |name| match name {
            "zone-name" => one(zone),
            "zone-id" => one(&id),
            "region-name" | "group-name" => one(call.region),
            "state" => one("available"),
            "zone-type" => one("availability-zone"),
            "opt-in-status" => one("opt-in-not-required"),
            _ => None,
        })?;
        if shown && passes {
            all.push(tree! {
                "zoneName": zone,
                "zoneState": "available",
                "regionName": call.region,
                "messageSet": Node::List(vec![]),
                "zoneId": id,
                "groupName": call.region,
                "networkBorderGroup": call.region,
                "zoneType": "availability-zone",
                "optInStatus": "opt-in-not-required",
            });
        }
    }
    Ok(tree! { "availabilityZoneInfo": all })
}

pub(super) fn account_attributes(call: &mut Call<'_>) -> Result<Node> {
    let default = super::network::default_vpc(call).map_or("none".into(), |vpc| vpc.id.clone());
    let all = [
        ("supported-platforms", "VPC".to_owned()),
        ("default-vpc", default),
        ("max-instances", call.settings.quotas.vcpus.to_string()),
        ("vpc-max-security-groups-per-interface", "5".into()),
        ("max-elastic-ips", "5".into()),
        ("vpc-max-elastic-ips", "5".into()),
    ];
    let asked = call.params.texts("AttributeName");
    let shown =
        all.into_iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|a| a == name));
    let set = Node::list(shown.map(|(name, value)| {
        tree! {
            "attributeName": name,
            "attributeValueSet": vec![tree! { "attributeValue": value }],
        }
    }));
    Ok(tree! { "accountAttributeSet": set })
}

/// What is set for the call's region.
pub(crate) fn settings_of(call: &Call<'_>) -> RegionSettings {
    call.state.regions.get(call.region).cloned().unwrap_or_else(|| RegionSettings {
        region: call.region.to_owned(),
        encrypt: false,
        default_key: None,
    })
}

pub(super) fn encryption_by_default(call: &mut Call<'_>) -> Result<Node> {
    let mut settings = settings_of(call);
    match call.action {
        "EnableEbsEncryptionByDefault" => settings.encrypt = true,
        "DisableEbsEncryptionByDefault" => settings.encrypt = false,
        _ => {}
    }
    let encrypt = settings.encrypt;
    call.state.regions.insert(settings);
    Ok(tree! { "ebsEncryptionByDefault": encrypt })
}

pub(super) fn default_key(call: &mut Call<'_>) -> Result<Node> {
    let mut settings = settings_of(call);
    match call.action {
        "ModifyEbsDefaultKmsKeyId" => {
            let asked = call.params.need("KmsKeyId")?.to_owned();
            settings.default_key = Some(kms::usable_key(call, &asked)?);
        }
        "ResetEbsDefaultKmsKeyId" => settings.default_key = None,
        _ => {}
    }
    let key = match &settings.default_key {
        Some(key) => key.clone(),
        None => kms::usable_key(call, kms::EBS_ALIAS)?,
    };
    call.state.regions.insert(settings);
    Ok(tree! { "kmsKeyId": key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_amazons_ids() {
        for (zone, id) in [
            ("us-east-1a", "use1-az1"),
            ("ap-northeast-1c", "apne1-az3"),
            ("eu-central-1b", "euc1-az2"),
            ("ca-central-1a", "cac1-az1"),
        ] {
            assert_eq!(zone_id(zone), id);
        }
    }
}
