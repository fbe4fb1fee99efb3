//! Roles: credentials that STS hands out, and renews.

use std::borrow::Cow;
use std::error::Error as _;
use std::time::{Duration, SystemTime};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use aws_types::os_shim_internal::{Env, Fs};
use tokio::sync::Mutex;

use super::error::AwsError;
use super::{Access, Code, Role};

/// Credentials of a role.
#[derive(Debug)]
struct Assume {
    sts: aws_sdk_sts::Client,
    role: Role,
    /// The device of a second factor, and what it showed.
    second: Option<(String, String)>,
}

impl Assume {
    async fn ask(&self) -> Provided {
        let role = &self.role;
        let session = role.session.clone().unwrap_or_else(|| "karat".to_owned());
        let policies = role.policies.iter().map(|a| PolicyDescriptorType::builder().arn(a).build());
        let tags: Result<Vec<Tag>, _> =
            role.tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect();
        let tags = tags.map_err(CredentialsError::invalid_configuration)?;
        let some = |all: Vec<String>| (!all.is_empty()).then_some(all);
        let answer = self
            .sts
            .assume_role()
            .role_arn(&role.arn)
            .role_session_name(session)
            .set_duration_seconds(role.seconds.and_then(|s| s.try_into().ok()))
            .set_external_id(role.external_id.clone())
            .set_policy(role.policy.clone())
            .set_policy_arns((!role.policies.is_empty()).then(|| policies.collect()))
            .set_tags((!tags.is_empty()).then_some(tags))
            .set_transitive_tag_keys(some(role.transitive.clone()))
            .set_serial_number(self.second.as_ref().map(|(device, _)| device.clone()))
            .set_token_code(self.second.as_ref().map(|(_, code)| code.clone()))
            .send()
            .await;
        let answer = answer.map_err(|e| CredentialsError::provider_error(AwsError::from(e)))?;
        let Some(given) = answer.credentials() else {
            return Err(CredentialsError::unhandled(AwsError::new("STS gave no credentials")));
        };
        let until = given.expiration();
        let since = u64::try_from(until.secs()).unwrap_or_default();
        let arn = answer.assumed_role_user().map(|user| user.arn()).unwrap_or_default();
        let mut credentials = Credentials::builder()
            .access_key_id(given.access_key_id())
            .secret_access_key(given.secret_access_key())
            .session_token(given.session_token())
            .expiry(SystemTime::UNIX_EPOCH + Duration::from_secs(since))
            .provider_name("role");
        if let Some(account) = arn.split(':').nth(4).filter(|text| !text.is_empty()) {
            credentials = credentials.account_id(account);
        }
        Ok(credentials.build())
    }
}

impl ProvideCredentials for Assume {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

/// The same with the credentials of a role.
pub(super) fn assumed(role: &Role, config: SdkConfig) -> SdkConfig {
    let sts = aws_sdk_sts::Client::new(&config);
    let role = role.clone();
    let provider = SharedCredentialsProvider::new(Assume { sts, role, second: None });
    config.into_builder().credentials_provider(provider).build()
}

/// The role of a profile that asks for a second factor.
#[derive(Debug)]
pub(super) struct SecondFactor {
    role: Role,
    device: String,
    /// The profile whose credentials go before.
    source: String,
}

impl SecondFactor {
    /// What the profile says, if it asks for one.
    pub(super) async fn of(
        access: &Access,
        files: Option<&EnvConfigFiles>,
    ) -> Result<Option<Self>, AwsError> {
        let usual = EnvConfigFiles::default();
        let name = access.profile.clone().map(Cow::Owned);
        let files = files.unwrap_or(&usual);
        let all = aws_config::profile::load(&Fs::real(), &Env::real(), files, name).await;
        let all = all.map_err(|e| AwsError::new(format!("could not read the profile: {e}")))?;
        let text = |key: &str| all.get(key).map(str::to_owned);
        let (Some(arn), Some(device)) = (text("role_arn"), text("mfa_serial")) else {
            return Ok(None);
        };
        let Some(source) = text("source_profile") else {
            let profile = all.selected_profile();
            return Err(AwsError::new(format!(
                "the profile \"{profile}\" asks for a second factor and has no source_profile"
            )));
        };
        let role = Role {
            arn,
            seconds: text("duration_seconds").and_then(|s| s.parse().ok()),
            external_id: text("external_id"),
            session: text("role_session_name"),
            ..Role::default()
        };
        Ok(Some(Self { role, device, source }))
    }

    /// The credentials that go before.
    pub(super) fn source(
        &self,
        files: Option<EnvConfigFiles>,
        provider: &ProviderConfig,
    ) -> ProfileFileCredentialsProvider {
        let source = ProfileFileCredentialsProvider::builder().configure(provider);
        let source = source.profile_name(&self.source);
        match files {
            Some(files) => source.profile_files(files).build(),
            None => source.build(),
        }
    }

    /// The same with the credentials of the role. The code is good for one login, whose credentials
    /// serve all regions.
    pub(super) async fn login(
        &self,
        access: &Access,
        code: &Code,
        config: SdkConfig,
    ) -> Result<SdkConfig, AwsError> {
        let mut logins = LOGINS.lock().await;
        let same = |login: &&Login| login.0 == access.profile && login.1 == *code;
        if let Some((_, _, credentials)) = logins.iter().find(same) {
            let provider = SharedCredentialsProvider::new(credentials.clone());
            return Ok(config.into_builder().credentials_provider(provider).build());
        }
        let sts = aws_sdk_sts::Client::new(&config);
        let second = Some((self.device.clone(), code.0.clone()));
        let answer = Assume { sts, role: self.role.clone(), second }.ask().await;
        let credentials = answer.map_err(|e| {
            let cause = e.source().map_or_else(|| e.to_string(), ToString::to_string);
            AwsError {
                hint: Some("a code is good for one login and half a minute".to_owned()),
                ..AwsError::new(format!("could not log in with the second factor: {cause}"))
            }
        })?;
        logins.push((access.profile.clone(), code.clone(), credentials.clone()));
        let provider = SharedCredentialsProvider::new(credentials);
        Ok(config.into_builder().credentials_provider(provider).build())
    }
}

/// A profile, a code, and what they gave.
type Login = (Option<String>, Code, Credentials);

static LOGINS: Mutex<Vec<Login>> = Mutex::const_new(Vec::new());

/// What providers work with.
pub(super) fn provider_config(
    region: Option<String>,
    web: aws_smithy_runtime_api::client::http::SharedHttpClient,
) -> ProviderConfig {
    ProviderConfig::without_region().with_region(region.map(Region::new)).with_http_client(web)
}

#[cfg(test)]
mod tests {
    use aws_config::BehaviorVersion;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ANSWER: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
        <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
        <SessionToken>t</SessionToken><Expiration>2040-01-01T00:00:00Z</Expiration></Credentials>\
        <AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId>\
        <Arn>arn:aws:sts::123456789012:assumed-role/build/karat</Arn></AssumedRoleUser>\
        </AssumeRoleResult></AssumeRoleResponse>";

    /// A server that hands out credentials; its address, and what it was asked.
    async fn sts() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, questions) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                let mut part = vec![0; 8192];
                // The body has no line end and comes last; its length stands in the head.
                loop {
                    let length = stream.read(&mut part).await.unwrap();
                    text.push_str(&String::from_utf8_lossy(&part[..length]));
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let wanted = head.lines().find_map(|line| {
                        let (name, value) = line.split_once(':')?;
                        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse())
                    });
                    if length == 0 || body.len() >= wanted.unwrap_or(Ok(0)).unwrap() {
                        break;
                    }
                }
                let _ = asked.send(text);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{ANSWER}",
                    ANSWER.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (address, questions)
    }

    #[tokio::test]
    async fn tags_are_handed_on() {
        let (address, mut questions) = sts().await;
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(address)
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "AKIA", "s", None, None, "test",
            )))
            .build();
        let role = Role {
            arn: "arn:aws:iam::123456789012:role/build".into(),
            tags: [("team".to_owned(), "images".to_owned())].into(),
            transitive: vec!["team".into()],
            ..Role::default()
        };
        let provider = assumed(&role, config).credentials_provider().unwrap();
        let credentials = provider.provide_credentials().await.unwrap();
        assert_eq!(credentials.access_key_id(), "ASIA1");
        assert_eq!(credentials.account_id().map(|a| a.as_str()), Some("123456789012"));
        let question = questions.recv().await.unwrap();
        for part in ["Tags.member.1.Key=team", "TransitiveTagKeys.member.1=team"] {
            assert!(question.contains(part), "{part} is not in {question}");
        }
    }

    #[tokio::test]
    async fn a_code_is_used_once_for_all_regions() {
        let (address, mut questions) = sts().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let text = format!(
            "[profile build]\nregion = us-east-1\nendpoint_url = {address}\nsource_profile = own\n\
             role_arn = arn:aws:iam::123456789012:role/build\n\
             mfa_serial = arn:aws:iam::123456789012:mfa/me\n\
             [profile own]\naws_access_key_id = AKIA\naws_secret_access_key = s\n"
        );
        std::fs::write(&file, text).unwrap();
        let access = Access {
            profile: Some("build".into()),
            config_file: Some(file.to_string_lossy().into_owned()),
            code: Some(Code("123456".into())),
            attempts: 1,
            ..Access::default()
        };
        for region in ["us-east-1", "us-west-2"] {
            crate::client::Aws::connect(&access.in_region(region)).await.unwrap();
        }
        let question = questions.recv().await.unwrap();
        for part in
            ["SerialNumber=arn%3Aaws%3Aiam%3A%3A123456789012%3Amfa%2Fme", "TokenCode=123456"]
        {
            assert!(question.contains(part), "{part} is not in {question}");
        }
        assert!(questions.try_recv().is_err(), "it was asked twice");
        assert!(!format!("{access:?}").contains("123456\""), "{access:?}");
    }
}
