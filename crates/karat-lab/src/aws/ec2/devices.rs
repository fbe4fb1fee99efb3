//! Block device mappings: what is asked for, what an image has, and what becomes of both.

use super::model::{Ebs, Mapping, Snapshot, SnapshotState};
use super::places::settings_of;
use super::resource::find;
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::kms;
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;

/// What a volume is made from: the parameters of a mapping's `Ebs`, or those of `CreateVolume`.
pub(super) struct Wanted<'a> {
    pub(super) part: &'a Params,
    /// What the image says of the device.
    pub(super) base: Option<&'a Ebs>,
    /// Parameters of a mapping call the size `VolumeSize`, those of a volume `Size`.
    pub(super) size_name: &'static str,
    /// What it is where nobody says.
    pub(super) default_kind: &'static str,
}

/// Puts together what a volume will be, and checks it.
pub(super) fn resolve(call: &Call<'_>, wanted: &Wanted<'_>) -> Result<Ebs> {
    let Wanted { part, base, size_name, default_kind } = wanted;
    let snapshot = part.text("SnapshotId").or(base.and_then(|b| b.snapshot.as_deref()));
    let from = snapshot.map(|id| find::<Snapshot>(call, id)).transpose()?;
    if let Some(from) = from.filter(|s| s.phase.at(call.now) != SnapshotState::Completed) {
        return Err(AwsError::new(
            "IncorrectState",
            format!("Snapshot {} is not in 'completed' state", from.id),
        ));
    }
    let least = from.map_or(1, |s| s.size);
    let asked: Option<u32> = part.number(size_name)?;
    let size = asked.or(base.map(|b| b.size)).or(from.map(|s| s.size)).ok_or_else(|| {
        AwsError::new("MissingParameter", "The request must contain the parameter size/snapshotId")
    })?;
    if size < least {
        return Err(AwsError::new(
            "InvalidBlockDeviceMapping",
            format!(
                "Volume of size {size}GB is smaller than snapshot '{}', expect size >= {least}GB",
                snapshot.unwrap_or_default()
            ),
        ));
    }
    let kind = part.text("VolumeType").or(base.map(|b| b.kind.as_str())).unwrap_or(default_kind);
    let changed = base.is_some_and(|b| b.kind != kind);
    let kept = |value: fn(&Ebs) -> Option<u32>| base.filter(|_| !changed).and_then(value);
    let iops = part.number("Iops")?.or(kept(|b| b.iops));
    let throughput = part.number("Throughput")?.or(kept(|b| b.throughput));
    let (iops, throughput) = check_kind(kind, size, iops, throughput)?;
    let (encrypted, key) = encryption(call, part, *base, from)?;
    Ok(Ebs {
        snapshot: snapshot.map(str::to_owned),
        size,
        kind: kind.to_owned(),
        iops,
        throughput,
        encrypted,
        key,
        delete_on_termination: part
            .flag("DeleteOnTermination")?
            .or(base.map(|b| b.delete_on_termination))
            .unwrap_or(true),
    })
}

fn encryption(
    call: &Call<'_>,
    part: &Params,
    base: Option<&Ebs>,
    from: Option<&Snapshot>,
) -> Result<(bool, Option<String>)> {
    let asked = part.flag("Encrypted")?;
    let key = part.text("KmsKeyId");
    if key.is_some() && asked == Some(false) {
        return Err(AwsError::new(
            "InvalidParameterDependency",
            "The parameter KmsKeyId requires the parameter Encrypted to be set.",
        ));
    }
    let has = from.is_some_and(|s| s.encrypted);
    if has && asked == Some(false) {
        return Err(AwsError::new(
            "InvalidParameterCombination",
            "A volume made from an encrypted snapshot cannot be unencrypted.",
        ));
    }
    let settings = settings_of(call);
    let encrypted = has
        || asked.or(base.map(|b| b.encrypted)).unwrap_or(false)
        || key.is_some()
        || settings.encrypt;
    if !encrypted {
        return Ok((false, None));
    }
    let inherited = base.and_then(|b| b.key.as_deref()).or(from.and_then(|s| s.key.as_deref()));
    let key = key.or(inherited).or(settings.default_key.as_deref()).unwrap_or(kms::EBS_ALIAS);
    Ok((true, Some(kms::usable_key(call, key)?)))
}

/// The rules of volume types: sizes in GiB, operations and MiB per second.
fn check_kind(
    kind: &str,
    size: u32,
    iops: Option<u32>,
    throughput: Option<u32>,
) -> Result<(Option<u32>, Option<u32>)> {
    let (least, most) = match kind {
        "gp2" => (1, 16_384),
        "gp3" => (1, 65_536),
        "io1" => (4, 16_384),
        "io2" => (4, 65_536),
        "st1" | "sc1" => (125, 16_384),
        "standard" => (1, 1_024),
        other => {
            return Err(AwsError::new(
                "InvalidParameterValue",
                format!(
                    "Value ({other}) for parameter volumeType is invalid. Unknown volume type."
                ),
            ));
        }
    };
    if !(least..=most).contains(&size) {
        return Err(AwsError::new(
            "InvalidParameterValue",
            format!(
                "Volume of {size}GiB is out of range for {kind}; it can have {least} to {most}."
            ),
        ));
    }
    if throughput.is_some() && kind != "gp3" {
        return Err(AwsError::combination(format!(
            "The parameter Throughput is not supported for {kind} volumes."
        )));
    }
    match (kind, iops) {
        ("gp3", iops) => {
            let (iops, throughput) = (iops.unwrap_or(3000), throughput.unwrap_or(125));
            let ratio = iops > 3000 && u64::from(iops) > u64::from(size) * 500;
            if !(3000..=80_000).contains(&iops) || ratio {
                return Err(AwsError::value(&iops.to_string(), "iops", "gp3 takes 3000 to 80000."));
            }
            if !(125..=2000).contains(&throughput) || f64::from(throughput) > f64::from(iops) / 4.0
            {
                return Err(AwsError::value(
                    &throughput.to_string(),
                    "throughput",
                    "gp3 takes 125 to 2000 MiB/s, and a quarter of its IOPS at most.",
                ));
            }
            Ok((Some(iops), Some(throughput)))
        }
        ("io1" | "io2", None) => Err(AwsError::new(
            "MissingParameter",
            format!("The request must contain the parameter iops for {kind} volumes"),
        )),
        ("io1" | "io2", Some(iops)) => {
            let ratio = if kind == "io1" { 50 } else { 1000 };
            let top = if kind == "io1" { 64_000 } else { 256_000 };
            if !(100..=top).contains(&iops) || u64::from(iops) > u64::from(size) * ratio {
                return Err(AwsError::value(&iops.to_string(), "iops", "It is out of range."));
            }
            Ok((Some(iops), None))
        }
        (_, Some(_)) => Err(AwsError::combination(format!(
            "The parameter iops is not supported for {kind} volumes."
        ))),
        ("gp2", None) => Ok((Some((size * 3).clamp(100, 16_000)), None)),
        (_, None) => Ok((None, None)),
    }
}

/// Mappings of an image or an instance with those of a request over them.
pub(super) fn merge(
    call: &Call<'_>,
    params: &Params,
    base: &[Mapping],
    default_kind: &'static str,
) -> Result<Vec<Mapping>> {
    let mut merged: Vec<Mapping> = base.to_vec();
    let mut named: Vec<&str> = Vec::new();
    for part in params.members("BlockDeviceMapping") {
        let device = part.text("DeviceName").ok_or_else(|| {
            AwsError::new("MissingParameter", "The request must contain the parameter deviceName")
        })?;
        if named.contains(&device) {
            return Err(AwsError::new(
                "InvalidBlockDeviceMapping",
                format!("The device '{device}' is used in more than one block-device mapping"),
            ));
        }
        named.push(device);
        let at = merged.iter().position(|m| m.device == device);
        if part.has("NoDevice") {
            if let Some(at) = at {
                merged.remove(at);
            }
            continue;
        }
        let mapping = match part.text("VirtualName") {
            Some(name) => Mapping {
                device: device.to_owned(),
                virtual_name: Some(name.to_owned()),
                ebs: None,
            },
            None => {
                let none = Params::default();
                let wanted = Wanted {
                    part: part.part("Ebs").unwrap_or(&none),
                    base: at.and_then(|at| merged[at].ebs.as_ref()),
                    size_name: "VolumeSize",
                    default_kind,
                };
                let ebs = Some(resolve(call, &wanted)?);
                Mapping { device: device.to_owned(), virtual_name: None, ebs }
            }
        };
        match at {
            Some(at) => merged[at] = mapping,
            None => merged.push(mapping),
        }
    }
    Ok(merged)
}

/// Mappings as an image shows them.
pub(super) fn node(mappings: &[Mapping]) -> Node {
    Node::list(mappings.iter().map(|m| {
        tree! {
            "deviceName": &m.device,
            "virtualName": m.virtual_name.as_deref(),
            "ebs": m.ebs.as_ref().map(|ebs| tree! {
                "snapshotId": ebs.snapshot.as_deref(),
                "volumeSize": ebs.size,
                "deleteOnTermination": ebs.delete_on_termination,
                "volumeType": &ebs.kind,
                "iops": ebs.iops.filter(|_| ebs.kind != "gp2"),
                "throughput": ebs.throughput,
                "encrypted": ebs.encrypted,
            }),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_rules() {
        let code = |kind, size, iops, throughput| {
            check_kind(kind, size, iops, throughput).map_err(|e| e.code)
        };
        assert_eq!(code("gp3", 8, None, None), Ok((Some(3000), Some(125))));
        assert_eq!(code("gp3", 8, Some(5000), None), Err("InvalidParameterValue".into()));
        assert_eq!(code("gp3", 100, Some(5000), Some(1000)), Ok((Some(5000), Some(1000))));
        assert_eq!(code("gp2", 8, None, None), Ok((Some(100), None)));
        assert_eq!(code("gp2", 8, Some(100), None), Err("InvalidParameterCombination".into()));
        assert_eq!(code("io1", 8, None, None), Err("MissingParameter".into()));
        assert_eq!(code("io1", 8, Some(400), None), Ok((Some(400), None)));
        assert_eq!(code("io1", 8, Some(401), None), Err("InvalidParameterValue".into()));
        assert_eq!(code("st1", 8, None, None), Err("InvalidParameterValue".into()));
        assert_eq!(code("gp9", 8, None, None), Err("InvalidParameterValue".into()));
    }
}
