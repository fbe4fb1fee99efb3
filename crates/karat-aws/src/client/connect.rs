//! The clients of one region.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_ec2::config::retry::RetryPartition;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

use super::error::AwsError;
use super::role::{SecondFactor, assumed, provider_config};
use super::trusting::trusting;
use super::watch::Watch;
use super::{Access, Keys};
use crate::ebs::{ImageStates, InstanceStates, SnapshotStates};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one try of a call may take. A refused one is tried again.
const ATTEMPT: Duration = Duration::from_secs(60);

/// The clients of one region, shared by all who reach it in the same way.
#[derive(Debug)]
pub(crate) struct Aws {
    pub(crate) access: Access,
    pub(crate) region: String,
    pub(crate) ec2: aws_sdk_ec2::Client,
    config: SdkConfig,
    caller: OnceCell<Caller>,
    pub(crate) instances: Watch<InstanceStates>,
    pub(crate) images: Watch<ImageStates>,
    pub(crate) snapshots: Watch<SnapshotStates>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) arn: String,
}

/// Connections belong to the runtime that they were made in.
static KNOWN: Mutex<Vec<(Id, Access, Arc<Aws>)>> = Mutex::new(Vec::new());

impl Aws {
    /// The clients of the access's own region.
    ///
    /// # Errors
    /// When no region or no credentials are to be found.
    pub(crate) async fn connect(access: &Access) -> Result<Arc<Self>, AwsError> {
        let runtime = Handle::current().id();
        if let Some(aws) = known(runtime, access) {
            return Ok(aws);
        }
        let (config, region) = load(access).await?;
        let whole = access.in_region(&region);
        if let Some(aws) = known(runtime, &whole) {
            return Ok(keep(runtime, access, aws));
        }
        let (config, account) = primed(access, config).await?;
        let endpoint = access.ec2_endpoint.as_deref().unwrap_or_default();
        let partition = format!("ec2/{endpoint}/{account}/{region}");
        let mut ec2 = aws_sdk_ec2::config::Builder::from(&config)
            .retry_partition(RetryPartition::new(partition));
        if let Some(endpoint) = &access.ec2_endpoint {
            ec2 = ec2.endpoint_url(endpoint);
        }
        let aws = Arc::new(Self {
            access: whole.clone(),
            region,
            ec2: aws_sdk_ec2::Client::from_conf(ec2.build()),
            config,
            caller: OnceCell::new(),
            instances: Watch::default(),
            images: Watch::default(),
            snapshots: Watch::default(),
        });
        let aws = keep(runtime, &whole, aws);
        Ok(keep(runtime, access, aws))
    }

    /// How services are reached.
    pub(crate) fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The metadata service of the machine that this program runs on.
    pub(crate) fn metadata(&self) -> aws_config::imds::Client {
        let provider = provider_config(Some(self.region.clone()), web());
        aws_config::imds::Client::builder().configure(&provider).build()
    }

    /// IAM.
    pub(crate) fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.config)
    }

    /// Blocks of snapshots.
    pub(crate) fn ebs(&self) -> aws_sdk_ebs::Client {
        aws_sdk_ebs::Client::new(&self.config)
    }

    /// Keys for encryption.
    pub(crate) fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.config)
    }

    /// Parameters and sessions.
    pub(crate) fn ssm(&self) -> aws_sdk_ssm::Client {
        aws_sdk_ssm::Client::new(&self.config)
    }

    /// What there may be at most.
    pub(crate) fn quotas(&self) -> aws_sdk_servicequotas::Client {
        aws_sdk_servicequotas::Client::new(&self.config)
    }

    /// Secrets.
    pub(crate) fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// Who calls; asked once.
    ///
    /// # Errors
    /// When the credentials are not known to AWS.
    pub(crate) async fn caller(&self) -> Result<&Caller, AwsError> {
        let ask = || async {
            let sts = aws_sdk_sts::Client::new(&self.config);
            let answer = sts.get_caller_identity().send().await?;
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            Ok(Caller { account: text(answer.account()), arn: text(answer.arn()) })
        };
        self.caller.get_or_try_init(ask).await
    }

    /// The same error, with what an encoded refusal means where that is wanted.
    pub(crate) async fn decoded(&self, error: impl Into<AwsError>) -> AwsError {
        let mut error: AwsError = error.into();
        let marker = "Encoded authorization failure message: ";
        let Some(at) = error.message.find(marker).filter(|_| self.access.decode_refusals) else {
            return error;
        };
        let encoded =
            error.message[at + marker.len()..].split_whitespace().next().unwrap_or_default();
        let sts = aws_sdk_sts::Client::new(&self.config);
        let decoded = sts.decode_authorization_message().encoded_message(encoded).send().await;
        if let Some(text) = decoded.ok().and_then(|d| d.decoded_message().map(str::to_owned)) {
            error.message.truncate(at);
            error.message.push_str(&text);
        }
        error
    }
}

fn known(runtime: Id, access: &Access) -> Option<Arc<Aws>> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known.iter().find(|(id, a, _)| *id == runtime && a == access);
    found.map(|(_, _, aws)| Arc::clone(aws))
}

fn keep(runtime: Id, access: &Access, aws: Arc<Aws>) -> Arc<Aws> {
    if let Some(first) = known(runtime, access) {
        return first;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.push((runtime, access.clone(), Arc::clone(&aws)));
    aws
}

/// One client for the web, with the cryptography that the program has anyway. Proxies are those of
/// the environment.
fn web() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        let ring = tls::rustls_provider::CryptoMode::Ring;
        connector.tls_provider(tls::Provider::Rustls(ring)).build()
    })
}

async fn load(access: &Access) -> Result<(SdkConfig, String), AwsError> {
    let web = if access.unchecked { trusting()? } else { web() };
    let files = access.config_file.as_ref().map(|file| {
        EnvConfigFiles::builder()
            .with_file(EnvConfigFileKind::Config, file)
            .with_file(EnvConfigFileKind::Credentials, file)
            .build()
    });
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(web.clone())
        .retry_config(RetryConfig::adaptive().with_max_attempts(access.attempts.max(1)))
        .timeout_config(timeouts.build());
    if let Ok(name) = AppName::new(concat!("karat-", env!("CARGO_PKG_VERSION"))) {
        loader = loader.app_name(name);
    }
    if let Some(files) = &files {
        loader = loader.profile_files(files.clone());
    }
    if let Some(profile) = &access.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    } else if access.without_metadata {
        loader = loader.region(near_region(access, files.clone()));
    }
    if let Some(Keys { id, secret, token }) = &access.keys {
        let keys = Credentials::new(id, secret, token.clone(), None, "template");
        loader = loader.credentials_provider(keys);
    }
    let given = access.keys.is_some() || std::env::var_os("AWS_ACCESS_KEY_ID").is_some();
    let mut second = None;
    if let Some(code) = access.code.as_ref().filter(|_| !given)
        && let Some(factor) = SecondFactor::of(access, files.as_ref()).await?
    {
        let provider = provider_config(access.region.clone(), web.clone());
        loader = loader.credentials_provider(factor.source(files.clone(), &provider));
        second = Some((factor, code));
    } else if access.without_metadata && access.keys.is_none() {
        loader = loader.credentials_provider(near_credentials(access, files, web));
    }
    let mut config = loader.load().await;
    if let Some((factor, code)) = second {
        config = factor.login(access, code, config).await?;
    }
    let region = config.region().map(|r| r.as_ref().to_owned()).ok_or_else(|| AwsError {
        hint: Some(
            "set \"region\" in the template, AWS_REGION, or a region in the profile".to_owned(),
        ),
        ..AwsError::new("no region is given")
    })?;
    match &access.role {
        Some(role) => Ok((assumed(role, config), region)),
        None => Ok((config, region)),
    }
}

/// The usual chain of credentials without the metadata service.
fn near_credentials(
    access: &Access,
    files: Option<EnvConfigFiles>,
    web: SharedHttpClient,
) -> CredentialsProviderChain {
    let provider = provider_config(access.region.clone(), web);
    let mut profile = ProfileFileCredentialsProvider::builder().configure(&provider);
    if let Some(name) = &access.profile {
        profile = profile.profile_name(name);
    }
    if let Some(files) = files {
        profile = profile.profile_files(files);
    }
    let identity = WebIdentityTokenCredentialsProvider::builder().configure(&provider).build();
    let container = EcsCredentialsProvider::builder().configure(&provider).build();
    CredentialsProviderChain::first_try(
        "environment",
        EnvironmentVariableCredentialsProvider::new(),
    )
    .or_else("profile", profile.build())
    .or_else("web identity", identity)
    .or_else("container", container)
}

/// The region of the environment or of the profile.
fn near_region(access: &Access, files: Option<EnvConfigFiles>) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &access.profile {
        profile = profile.profile_name(name);
    }
    if let Some(files) = files {
        profile = profile.profile_files(files);
    }
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
}

/// Credentials that were asked for once already, so that they are not asked for again at the first
/// call.
#[derive(Debug)]
struct Primed {
    first: Mutex<Option<Credentials>>,
    then: SharedCredentialsProvider,
}

impl ProvideCredentials for Primed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(credentials) => future::ProvideCredentials::ready(Ok(credentials)),
            None => self.then.provide_credentials(),
        }
    }
}

/// Asks for credentials, and gives what shares a rate limit: the account; the access key where the
/// credentials do not tell the account.
async fn primed(access: &Access, config: SdkConfig) -> Result<(SdkConfig, String), AwsError> {
    let Some(provider) = config.credentials_provider() else {
        return Err(AwsError::new("there is no way to find credentials"));
    };
    let credentials = provider.provide_credentials().await.map_err(|e| {
        let mut cause: &(dyn std::error::Error + 'static) = &e;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let hint = match access.has_keys && access.keys.is_none() {
            true => {
                "the keys stand in the template and are not stored: set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY to the same ones"
            }
            false => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \"profile\" in \
                 the template"
            }
        };
        AwsError { hint: Some(hint.to_owned()), ..AwsError::new(format!("no credentials: {cause}")) }
    })?;
    let account = credentials.account_id().map(|a| a.as_str().to_owned());
    let account = account.unwrap_or_else(|| credentials.access_key_id().to_owned());
    let first = Mutex::new(Some(credentials));
    let provider = SharedCredentialsProvider::new(Primed { first, then: provider });
    Ok((config.into_builder().credentials_provider(provider).build(), account))
}
