//! The machine through the session manager: no port is open, no public address is needed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::primitives::Blob;
use karat_ssh::{Carrier, Way};
use karat_ssm::{DataKey, Direct, Opened, PortSession, Service, SsmError};
use tokio_util::sync::CancellationToken;

use crate::client::{Aws, AwsError};

/// The document by which the agent connects to a port of its machine.
const DOCUMENT: &str = "AWS-StartPortForwardingSession";
/// What the service says that comes right by itself: the agent registers some time after the
/// machine has started.
const LATER: &[&str] =
    &["TargetNotConnected", "ThrottlingException", "InternalServerError", "TooManyUpdates"];

/// The service, for one port of one machine.
struct Manager {
    aws: Arc<Aws>,
    machine: String,
    port: u16,
}

fn refused(call: &'static str, error: AwsError) -> SsmError {
    let retry = LATER.contains(&error.code.as_str()) || error.code.is_empty();
    SsmError::Service { call, reason: error.to_string(), retry }
}

fn opened(id: Option<&str>, url: Option<&str>, token: Option<&str>) -> Result<Opened, SsmError> {
    match (id, url, token) {
        (Some(id), Some(url), Some(token)) => Ok(Opened {
            session_id: id.to_owned(),
            stream_url: url.to_owned(),
            token: token.to_owned(),
        }),
        _ => Err(SsmError::Protocol("the service began a session without saying where".into())),
    }
}

#[async_trait]
impl Service for Manager {
    fn target(&self) -> &str {
        &self.machine
    }

    async fn start(&self) -> Result<Opened, SsmError> {
        let ask = self
            .aws
            .ssm()
            .start_session()
            .target(&self.machine)
            .document_name(DOCUMENT)
            .reason("karat")
            .parameters("portNumber", vec![self.port.to_string()])
            .send();
        let answer = ask.await.map_err(|e| refused("StartSession", e.into()))?;
        opened(answer.session_id(), answer.stream_url(), answer.token_value())
    }

    async fn resume(&self, session_id: &str) -> Result<Opened, SsmError> {
        let ask = self.aws.ssm().resume_session().session_id(session_id).send();
        let answer = ask.await.map_err(|e| refused("ResumeSession", e.into()))?;
        opened(answer.session_id(), answer.stream_url(), answer.token_value())
    }

    async fn terminate(&self, session_id: &str) -> Result<(), SsmError> {
        let ask = self.aws.ssm().terminate_session().session_id(session_id).send();
        ask.await.map(|_| ()).map_err(|e| refused("TerminateSession", e.into()))
    }

    async fn data_key(
        &self,
        key_id: &str,
        bytes: usize,
        context: &BTreeMap<String, String>,
    ) -> Result<DataKey, SsmError> {
        let number = i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut ask = self.aws.kms().generate_data_key().key_id(key_id).number_of_bytes(number);
        for (name, value) in context {
            ask = ask.encryption_context(name, value);
        }
        let answer = ask.send().await.map_err(|e| refused("GenerateDataKey", e.into()))?;
        let bytes = |blob: Option<&Blob>| blob.map(|b| b.as_ref().to_vec()).unwrap_or_default();
        Ok(DataKey { plain: bytes(answer.plaintext()), encrypted: bytes(answer.ciphertext_blob()) })
    }
}

/// Ssh connections over sessions of the session manager, each over one of its own.
pub(crate) struct Through {
    aws: Arc<Aws>,
    connect: Arc<Direct>,
    cancel: CancellationToken,
}

impl fmt::Debug for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Through").finish_non_exhaustive()
    }
}

impl Through {
    /// Begins sessions in the region of `aws`, until `cancel`.
    ///
    /// # Errors
    /// When nobody is known whose certificates could be trusted.
    pub(crate) fn new(aws: Arc<Aws>, cancel: &CancellationToken) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let found = rustls_native_certs::load_native_certs();
        let mut trusted = rustls::RootCertStore::empty();
        trusted.add_parsable_certificates(found.certs);
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let connect = Arc::new(Direct::new(Arc::new(tls)));
        Ok(Self { aws, connect, cancel: cancel.clone() })
    }
}

#[async_trait]
impl Way for Through {
    /// The host is the machine's id.
    async fn open(&self, host: &str, port: u16) -> Result<Box<dyn Carrier>, String> {
        let manager = Manager { aws: Arc::clone(&self.aws), machine: host.to_owned(), port };
        let (service, connect) = (Arc::new(manager), Arc::clone(&self.connect));
        let session = PortSession::open(service, connect, &self.cancel).await;
        session.map(|session| Box::new(session) as _).map_err(|e| e.to_string())
    }
}
