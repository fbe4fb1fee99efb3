//! Whether the account's quota has room for the machine, before anything is made.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::InstanceType;

use super::scope::filter;
use crate::client::{Aws, AwsError};

/// The longest that is waited for what can be done without.
const LIMIT: Duration = Duration::from_secs(8);

/// The quotas of virtual processors: the families of types, and the quota's code on demand and for
/// spot machines. Families are told apart by the letters before a type's first digit.
const QUOTAS: &[(&[&str], &str, &str)] = &[
    (&["a", "c", "d", "h", "i", "m", "r", "t", "z"], "L-1216C47A", "L-34B43A08"),
    (&["dl"], "L-6E869C2A", "L-85EED4F7"),
    (&["f"], "L-74FC7D96", "L-88CF9481"),
    (&["g", "gr", "vt"], "L-DB2E81BA", "L-3819A6DF"),
    (&["inf"], "L-1945791B", "L-B5D1601B"),
    (&["p"], "L-417A185B", "L-7212CCBC"),
    (&["trn"], "L-2C3B7624", "L-6B0D517C"),
    (&["x"], "L-7295265B", "L-E3A00192"),
];

/// The code of the quota that a type counts to; `None` where it is not known.
fn code(kind: &str, spot: bool) -> Option<&'static str> {
    let letters: &str = kind.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
    // Such as im4gn and is4gen: one family, whatever they have beside.
    let exact = QUOTAS.iter().find(|(families, _, _)| families.contains(&letters));
    let found = exact.or_else(|| {
        let first = letters.get(..1)?;
        let several = ["hpc", "mac", "u"].contains(&letters);
        (!several && ["i", "m"].contains(&first)).then(|| &QUOTAS[0])
    });
    found.map(|(_, on_demand, of_spot)| if spot { *of_spot } else { *on_demand })
}

/// Whether a type is so small that its quota is hardly ever what hinders it: at most two processors,
/// by its name. AWS tells of those when they start, and each build is spared the calls.
pub(crate) fn is_small(kind: &str) -> bool {
    let size = kind.rsplit('.').next().unwrap_or_default();
    let small = ["nano", "micro", "small", "medium", "large"].contains(&size);
    small && code(kind, false) == Some(QUOTAS[0].1)
}

/// How many processors a machine needs, and how many there may be and are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) needed: i64,
    pub(crate) used: i64,
    pub(crate) allowed: i64,
}

impl Room {
    pub(crate) fn is_enough(self) -> bool {
        self.used + self.needed <= self.allowed
    }
}

/// The processors of types.
async fn processors(aws: &Aws, kinds: Vec<String>) -> Result<BTreeMap<String, i64>, AwsError> {
    let mut known = BTreeMap::new();
    for kinds in kinds.chunks(100) {
        let kinds = kinds.iter().map(|k| InstanceType::from(k.as_str())).collect();
        let answer = aws.ec2.describe_instance_types().set_instance_types(Some(kinds)).send();
        for kind in answer.await?.instance_types() {
            let Some(name) = kind.instance_type() else { continue };
            let count = kind.v_cpu_info().and_then(|v| v.default_v_cpus()).unwrap_or_default();
            known.insert(name.as_str().to_owned(), i64::from(count));
        }
    }
    Ok(known)
}

/// The processors of machines that count to a quota, and those that do not tell, by their types.
async fn running(
    aws: &Aws,
    quota: &str,
    spot: bool,
) -> Result<(i64, BTreeMap<String, i64>), AwsError> {
    let states = ["pending", "running"].map(str::to_owned);
    let mut pages = aws
        .ec2
        .describe_instances()
        .filters(filter("instance-state-name", states))
        .max_results(1000)
        .into_paginator()
        .send();
    let (mut used, mut silent) = (0, BTreeMap::new());
    while let Some(page) = pages.next().await {
        for machine in page?.reservations().iter().flat_map(|r| r.instances()) {
            let is_spot = machine.instance_lifecycle().is_some_and(|l| l.as_str() == "spot");
            let on_host = machine
                .placement()
                .and_then(|p| p.tenancy())
                .is_some_and(|tenancy| tenancy.as_str() == "host");
            let kind = machine.instance_type().map(|k| k.as_str()).unwrap_or_default();
            if is_spot != spot || on_host || code(kind, spot) != Some(quota) {
                continue;
            }
            let told = machine.cpu_options();
            match told.and_then(|cpu| Some((cpu.core_count()?, cpu.threads_per_core()?))) {
                Some((cores, threads)) => used += i64::from(cores) * i64::from(threads),
                None => *silent.entry(kind.to_owned()).or_default() += 1,
            }
        }
    }
    Ok((used, silent))
}

/// What room there is for a machine of one of the types; `None` where their quota is not known.
pub(crate) async fn room(
    aws: &Aws,
    kinds: &[String],
    spot: bool,
) -> Result<Option<Room>, AwsError> {
    // Of several types any will do, and whichever AWS chooses counts to its own quota.
    let Some(quota) = kinds.first().and_then(|kind| code(kind, spot)) else { return Ok(None) };
    if kinds.iter().any(|kind| code(kind, spot) != Some(quota)) {
        return Ok(None);
    }
    let ask = async {
        let quotas = aws.quotas();
        let allowed = quotas.get_service_quota().service_code("ec2").quota_code(quota).send();
        let allowed = async { allowed.await.map_err(AwsError::from) };
        let (allowed, (used, silent), mut known) = futures::future::try_join3(
            allowed,
            running(aws, quota, spot),
            processors(aws, kinds.to_vec()),
        )
        .await?;
        let unknown: Vec<String> =
            silent.keys().filter(|kind| !known.contains_key(*kind)).cloned().collect();
        if !unknown.is_empty() {
            known.extend(processors(aws, unknown).await?);
        }
        let of = |kind: &String| known.get(kind).copied();
        let Some(needed) = kinds.iter().filter_map(of).min() else { return Ok(None) };
        let silent = silent.iter().map(|(kind, count)| of(kind).unwrap_or_default() * count);
        let used = used + silent.sum::<i64>();
        let value = allowed.quota().and_then(|q| q.value());
        #[expect(clippy::cast_possible_truncation, reason = "a quota is a whole number")]
        let allowed = value.map(|value| value.round() as i64);
        Ok(allowed.map(|allowed| Room { needed, used, allowed }))
    };
    match tokio::time::timeout(LIMIT, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(AwsError::new(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_count_to_their_quota() {
        for (kind, quota) in [
            ("t3.micro", Some("L-1216C47A")),
            ("im4gn.large", Some("L-1216C47A")),
            ("is4gen.medium", Some("L-1216C47A")),
            ("m7i-flex.large", Some("L-1216C47A")),
            ("inf2.xlarge", Some("L-1945791B")),
            ("g5.xlarge", Some("L-DB2E81BA")),
            ("trn1.2xlarge", Some("L-2C3B7624")),
            ("u-6tb1.metal", None),
            ("mac2.metal", None),
            ("hpc6a.48xlarge", None),
            ("", None),
        ] {
            assert_eq!(code(kind, false), quota, "{kind}");
        }
        assert_eq!(code("x2idn.16xlarge", true), Some("L-E3A00192"));
    }

    #[test]
    fn small_types_are_known_by_their_names() {
        assert!(is_small("t3.medium") && is_small("m7i-flex.large"));
        assert!(!is_small("t3.xlarge") && !is_small("m5.metal") && !is_small("inf2.large"));
    }

    #[test]
    fn room_is_what_is_left() {
        let room = Room { needed: 2, used: 30, allowed: 32 };
        assert!(room.is_enough() && !Room { needed: 4, ..room }.is_enough());
    }
}
