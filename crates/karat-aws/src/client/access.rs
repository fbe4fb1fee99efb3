//! What is needed to reach AWS.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The variable that says that the environment is that of a lab, which may serve elsewhere when what
/// was stored is used.
pub const REHEARSAL: &str = "KARAT_REHEARSAL";

/// What is needed to reach AWS. Steps store it, so what is secret in it is left out there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Access {
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) config_file: Option<String>,
    pub(crate) ec2_endpoint: Option<String>,
    /// Of all services, where the environment named one.
    pub(crate) endpoint: Option<String>,
    pub(crate) decode_refusals: bool,
    pub(crate) attempts: u32,
    pub(crate) without_metadata: bool,
    /// Whether nobody asks who the credentials belong to.
    pub(crate) trusting: bool,
    pub(crate) role: Option<Role>,
    /// Whether keys were given, which a stored step does not have any more.
    pub(crate) has_keys: bool,
    #[serde(skip)]
    pub(crate) keys: Option<Keys>,
    /// What the device of a second factor showed. Good for one login, so it is not stored.
    #[serde(skip)]
    pub(crate) code: Option<Code>,
    /// Whether certificates are taken unchecked.
    pub(crate) unchecked: bool,
    pub(crate) delay_seconds: Option<u32>,
    pub(crate) max_attempts: Option<u32>,
}

/// A role to work as.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) seconds: Option<u32>,
    pub(crate) external_id: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) policies: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// Keys of tags that a further role gets, too.
    #[serde(default)]
    pub(crate) transitive: Vec<String>,
}

/// The code of a second factor. Never stored, never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Code(pub(crate) String);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(…)")
    }
}

/// An access key. Never stored, never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Access {
    /// The same with what the environment says, `var` being how it is asked: whoever goes on with
    /// this later, to undo it perhaps, is to reach the same place. A lab is found by whoever goes on.
    pub(crate) fn as_here(&self, var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| var(name).filter(|text| !text.is_empty());
        let mut access = self.clone();
        access.region =
            access.region.or_else(|| var("AWS_REGION")).or_else(|| var("AWS_DEFAULT_REGION"));
        access.profile = access.profile.or_else(|| var("AWS_PROFILE"));
        let ignored = var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|t| t == "true");
        // One of a service goes before the one of all.
        let of_services =
            ["EC2", "IAM", "KMS", "SSM", "SECRETS_MANAGER", "SERVICE_QUOTAS", "STS", "EBS", "S3"];
        let of_service = |name: &&str| var(&format!("AWS_ENDPOINT_URL_{name}")).is_some();
        let in_lab = var(REHEARSAL).is_some();
        if !in_lab && !ignored && !of_services.iter().any(of_service) {
            access.endpoint = var("AWS_ENDPOINT_URL");
        }
        access
    }

    /// The same access to another region.
    pub(crate) fn in_region(&self, region: &str) -> Self {
        let mut access = self.clone();
        if access.region.as_deref() != Some(region) {
            access.region = Some(region.to_owned());
        }
        access
    }

    /// How long something is waited for, where nothing is said else; as `aws_polling` says,
    /// where it does.
    pub(crate) fn limit(&self, usual: Duration) -> Duration {
        match (self.max_attempts, self.delay_seconds) {
            (None, _) => usual,
            (Some(attempts), delay) => {
                Duration::from_secs(u64::from(attempts) * u64::from(delay.unwrap_or(15)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_is_kept() {
        let environment = BTreeMap::from([
            ("AWS_REGION", "us-west-2"),
            ("AWS_PROFILE", ""),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
        ]);
        let here = |access: &Access, environment: &BTreeMap<&str, &str>| {
            access.as_here(|name| environment.get(name).map(|text| (*text).to_owned()))
        };
        let access = here(&Access::default(), &environment);
        assert_eq!(access.region.as_deref(), Some("us-west-2"));
        assert_eq!(access.profile, None);
        assert_eq!(access.endpoint.as_deref(), Some("http://127.0.0.1:4566"));
        assert_eq!(here(&access, &BTreeMap::new()).region.as_deref(), Some("us-west-2"));

        let own = Access { region: Some("ap-northeast-1".into()), ..Access::default() };
        assert_eq!(here(&own, &environment).region, own.region);
        let mut rehearsal = environment.clone();
        rehearsal.insert(REHEARSAL, "1");
        assert_eq!(here(&Access::default(), &rehearsal).endpoint, None);
        let mut other = environment.clone();
        other.insert("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1");
        assert_eq!(here(&own, &other).endpoint, None);
        let mut other = environment;
        other.insert("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        assert_eq!(here(&own, &other).endpoint, None);
    }
}
