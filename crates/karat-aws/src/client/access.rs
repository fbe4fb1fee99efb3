//! What is needed to reach AWS.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is needed to reach AWS. Steps store it, so what is secret in it is left out there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Access {
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) config_file: Option<String>,
    pub(crate) ec2_endpoint: Option<String>,
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
