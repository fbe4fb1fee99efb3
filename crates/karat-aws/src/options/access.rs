//! How AWS is reached, and as whom.

use std::collections::BTreeMap;

use karat_component::ValidateContext;
use karat_config::Config;

use crate::client::{Access, Code, Keys, Role};

/// Reaches AWS: region, credentials, endpoints, retries.
#[derive(Clone, Debug, Config)]
pub struct AccessConfig {
    /// Id of the access key. Without it the usual chain is asked: the environment, the profile,
    /// a web identity, the container's role, the instance's role.
    #[option(default = "", secret)]
    pub access_key: String,
    /// The secret of the access key.
    #[option(default = "", secret)]
    pub secret_key: String,
    /// The session token of temporary credentials.
    #[option(default = "", secret)]
    pub token: String,
    /// The region to work in. Without it `AWS_REGION`, `AWS_DEFAULT_REGION` and the profile are
    /// asked.
    #[option(default = "")]
    pub region: String,
    /// Name of the profile in AWS's shared configuration; `AWS_PROFILE` without.
    #[option(default = "", volatile)]
    pub profile: String,
    /// A file of AWS's shared configuration or credentials to read instead of `~/.aws/config` and
    /// `~/.aws/credentials`.
    #[option(default = "", volatile)]
    pub shared_credentials_file: String,
    /// The address at which EC2 is reached. `AWS_ENDPOINT_URL` and its kin do the same for every
    /// service.
    #[option(default = "", volatile)]
    pub custom_endpoint_ec2: String,
    /// Whether AWS is asked what an encoded refusal means; needs
    /// `sts:DecodeAuthorizationMessage`.
    #[option(default = false, volatile)]
    pub decode_authorization_messages: bool,
    /// Whether certificates of AWS's servers are taken unchecked.
    #[option(default = false, volatile)]
    pub insecure_skip_tls_verify: bool,
    /// How often a call is tried at most; 0 stands for 10.
    #[option(default = 0, volatile)]
    pub max_retries: u32,
    /// The code of a second factor, for the role of a profile with `mfa_serial`. It is good for one
    /// login, which lasts as long as the profile's `duration_seconds` say.
    #[option(default = "", secret)]
    pub mfa_code: String,
    /// Whether the metadata service is left alone when credentials or a region are looked for.
    #[option(default = false, volatile)]
    pub skip_metadata_api_check: bool,
    /// Whether nobody asks AWS who the credentials belong to before anything is made.
    #[option(default = false, volatile)]
    pub skip_credential_validation: bool,
    /// A role to work as.
    #[option(block)]
    pub assume_role: Option<AssumeRoleConfig>,
    /// Credentials from Vault. Not supported: set `VAULT_ADDR` and read them in the template with
    /// the function `vault`, or use a profile or a role.
    #[option(block)]
    pub vault_aws_engine: Option<VaultConfig>,
    /// How long things are waited for.
    #[option(block)]
    pub aws_polling: Option<PollingConfig>,
}

/// A role to work as.
#[derive(Clone, Debug, Config)]
pub struct AssumeRoleConfig {
    /// The role's ARN.
    #[option(required)]
    pub role_arn: String,
    /// For how long credentials are asked for, in seconds. They are renewed in time.
    pub duration_seconds: Option<u32>,
    /// The id that the role's owner asks for.
    #[option(default = "")]
    pub external_id: String,
    /// A policy that restricts the session further, as JSON.
    #[option(default = "")]
    pub policy: String,
    /// ARNs of policies that restrict the session further.
    pub policy_arns: Vec<String>,
    /// The session's name; made up where empty.
    #[option(default = "", volatile)]
    pub session_name: String,
    /// The session's tags.
    pub tags: BTreeMap<String, String>,
    /// Keys of the tags that are handed on when the session assumes a further role.
    pub transitive_tag_keys: Vec<String>,
}

/// Credentials from Vault. Not supported.
#[derive(Clone, Debug, Config)]
pub struct VaultConfig {
    /// The role in Vault.
    #[option(required)]
    pub name: String,
    /// The ARN of the AWS role, where there are several.
    #[option(default = "")]
    pub role_arn: String,
    /// How long the credentials are good for.
    #[option(default = "")]
    pub ttl: String,
    /// Where the secrets engine is mounted.
    #[option(default = "aws")]
    pub engine_name: String,
}

/// How long things are waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Config)]
pub struct PollingConfig {
    /// Seconds between two questions; by default a few, whatever is waited for.
    #[option(volatile)]
    pub delay_seconds: Option<u32>,
    /// How often is asked before waiting is given up; with it the longest wait is this times
    /// `delay_seconds`, or times 15 s without that.
    #[option(volatile)]
    pub max_attempts: Option<u32>,
}

impl AccessConfig {
    /// Checks the options against each other.
    pub(crate) fn validate(&self, cx: &mut ValidateContext<'_>) -> Access {
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            let (given, missing) = match self.secret_key.is_empty() {
                true => ("access_key", "secret_key"),
                false => ("secret_key", "access_key"),
            };
            if cx.is_known(missing) {
                cx.error(given, "access_key and secret_key go together")
                    .detail(format!("\"{given}\" is given, and \"{missing}\" is not."))
                    .hint("set both, or neither to use the environment or a profile");
            }
        }
        if !self.token.is_empty() && self.access_key.is_empty() && cx.is_known("access_key") {
            cx.error("token", "a session token belongs to an access key")
                .hint("set access_key and secret_key too");
        }
        if !self.custom_endpoint_ec2.is_empty() && !is_address(&self.custom_endpoint_ec2) {
            cx.error("custom_endpoint_ec2", "custom_endpoint_ec2 is no address")
                .detail(format!(
                    "\"{}\" has to begin with http:// or https://.",
                    self.custom_endpoint_ec2
                ))
                .hint("write it like \"http://localhost:4566\"");
        }
        if self.vault_aws_engine.is_some() {
            cx.error("vault_aws_engine", "\"vault_aws_engine\" is not supported").hint(
                "use a profile, a role, or the function vault() for access_key and secret_key",
            );
        }
        if let Some(role) = &self.assume_role {
            role.validate(cx);
        }
        if let Some(polling) = &self.aws_polling
            && (polling.delay_seconds == Some(0) || polling.max_attempts == Some(0))
        {
            cx.error("aws_polling", "aws_polling needs numbers from 1 on")
                .hint("leave an option out to have its default");
        }
        self.access()
    }

    fn access(&self) -> Access {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let keys = (!self.access_key.is_empty()).then(|| Keys {
            id: self.access_key.clone(),
            secret: self.secret_key.clone(),
            token: text(&self.token),
        });
        let polling = self.aws_polling.clone().unwrap_or_default();
        Access {
            region: text(&self.region),
            profile: text(&self.profile),
            config_file: text(&self.shared_credentials_file),
            ec2_endpoint: text(&self.custom_endpoint_ec2),
            endpoint: None,
            decode_refusals: self.decode_authorization_messages,
            attempts: if self.max_retries == 0 { 10 } else { self.max_retries },
            without_metadata: self.skip_metadata_api_check,
            trusting: self.skip_credential_validation,
            role: self.assume_role.as_ref().map(AssumeRoleConfig::role),
            has_keys: keys.is_some(),
            keys,
            code: text(&self.mfa_code).map(Code),
            unchecked: self.insecure_skip_tls_verify,
            delay_seconds: polling.delay_seconds,
            max_attempts: polling.max_attempts,
        }
    }
}

impl AssumeRoleConfig {
    fn validate(&self, cx: &mut ValidateContext<'_>) {
        if !self.role_arn.starts_with("arn:") {
            cx.error("assume_role", "role_arn is no ARN")
                .detail(format!("\"{}\" does not begin with \"arn:\".", self.role_arn))
                .hint("write it like \"arn:aws:iam::123456789012:role/build\"");
        }
        for key in self.transitive_tag_keys.iter().filter(|key| !self.tags.contains_key(*key)) {
            cx.error(
                "assume_role",
                format!("\"{key}\" of transitive_tag_keys is not among the tags"),
            )
            .hint("transitive_tag_keys names keys of tags that the session has");
        }
        if self.duration_seconds.is_some_and(|s| !(900..=43_200).contains(&s)) {
            cx.error("assume_role", "duration_seconds is out of bounds")
                .detail("A session lasts from 900 to 43200 seconds.");
        }
    }

    fn role(&self) -> Role {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        Role {
            arn: self.role_arn.clone(),
            seconds: self.duration_seconds,
            external_id: text(&self.external_id),
            session: text(&self.session_name),
            policy: text(&self.policy),
            policies: self.policy_arns.clone(),
            tags: self.tags.clone(),
            transitive: self.transitive_tag_keys.clone(),
        }
    }
}

/// Whether a text is the address of a web service.
pub(crate) fn is_address(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.strip_prefix(scheme).is_some_and(|r| !r.is_empty()))
}
