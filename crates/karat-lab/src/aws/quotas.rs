//! Service Quotas: how many virtual processors may run.

use serde_json::{Value, json};

use super::call::Call;
use super::error::{AwsError, Result};

/// The quotas of processors of instances: on demand, and spot.
const PROCESSORS: [(&str, &str); 2] = [
    ("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    ("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
];

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>, body: &Value) -> Result<Value> {
    match call.action {
        "GetServiceQuota" => get(call, body),
        other => Err(super::front::unknown_action(other)),
    }
}

fn get(call: &Call<'_>, body: &Value) -> Result<Value> {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let (service, code) = (text("ServiceCode"), text("QuotaCode"));
    let known = PROCESSORS.iter().find(|(known, _)| service == "ec2" && *known == code);
    let (_, name) = known.ok_or_else(|| {
        AwsError::new("NoSuchResourceException", format!("There is no quota {code} of {service}."))
    })?;
    Ok(json!({ "Quota": {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": call.arn("servicequotas", &format!("ec2/{code}")),
        "QuotaCode": code,
        "QuotaName": name,
        "Value": f64::from(call.settings.quotas.vcpus),
        "Unit": "None",
        "Adjustable": true,
        "GlobalQuota": false,
    }}))
}
