//! Logging in, by every method that the options allow.

use std::path::Path;
use std::sync::Arc;

use russh::MethodKind;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use crate::config::Login;
use crate::error::SshError;
use crate::handler::Handler;

/// The keys of a login, read and checked before anything is connected to.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    login: Login,
    key: Option<Arc<PrivateKey>>,
    certificate: Option<Certificate>,
}

/// How a login succeeded.
#[derive(Clone, Debug)]
pub(crate) struct LoggedIn {
    /// In words, for a message.
    pub(crate) method: String,
    /// The key that opened the door, if one did.
    pub(crate) key: Option<PublicKey>,
}

/// A server that keeps asking is answered this often.
const MOST_QUESTIONS: usize = 5;

impl Credentials {
    /// Reads the key files. Blocking, but small.
    pub(crate) fn load(login: Login) -> Result<Self, SshError> {
        let key = match &login.key_file {
            Some(file) => Some(Arc::new(load_key(login.key_option, file)?)),
            None => None,
        };
        let certificate = match &login.certificate_file {
            Some(file) => {
                Some(russh::keys::load_openssh_certificate(file).map_err(|e| SshError::Key {
                    option: login.certificate_option,
                    path: file.clone(),
                    reason: format!("it holds no OpenSSH certificate ({e})"),
                })?)
            }
            None => None,
        };
        if key.is_none() && login.password.is_empty() && !login.agent {
            return Err(SshError::Config {
                option: login.key_option,
                summary: format!(
                    "there is no way to log in on {}: set {}, a password or agent authentication",
                    login.address(),
                    login.key_option
                ),
            });
        }
        Ok(Self { login, key, certificate })
    }

    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// Tries one method after the other.
    pub(crate) async fn authenticate(
        &self,
        handle: &mut Handle<Handler>,
    ) -> Result<LoggedIn, SshError> {
        let mut attempt = Attempt { user: &self.login.username, tried: Vec::new(), left: None };
        if let Some(key) = &self.key {
            let rsa = rsa_hash(handle, key.public_key()).await?;
            if let Some(certificate) = &self.certificate
                && attempt.may(MethodKind::PublicKey)
            {
                let result = handle
                    .authenticate_openssh_cert(attempt.user, Arc::clone(key), certificate.clone())
                    .await?;
                if attempt.note("certificate", result) {
                    return Ok(LoggedIn::by("certificate", Some(key.public_key())));
                }
            }
            if attempt.may(MethodKind::PublicKey) {
                let key_and_hash = PrivateKeyWithHashAlg::new(Arc::clone(key), rsa);
                let result = handle.authenticate_publickey(attempt.user, key_and_hash).await?;
                if attempt.note("key", result) {
                    return Ok(LoggedIn::by("key", Some(key.public_key())));
                }
            }
        }
        if self.login.agent
            && attempt.may(MethodKind::PublicKey)
            && let Some(done) = self.by_agent(handle, &mut attempt).await?
        {
            return Ok(done);
        }
        if !self.login.password.is_empty() {
            if attempt.may(MethodKind::Password) {
                let password = self.login.password.as_str();
                let result = handle.authenticate_password(attempt.user, password).await?;
                if attempt.note("password", result) {
                    return Ok(LoggedIn::by("password", None));
                }
            }
            if self.login.interactive
                && attempt.may(MethodKind::KeyboardInteractive)
                && self.by_questions(handle, &mut attempt).await?
            {
                return Ok(LoggedIn::by("keyboard-interactive", None));
            }
        }
        Err(SshError::Authentication {
            address: self.login.address(),
            user: self.login.username.clone(),
            tried: attempt.tried.join(", "),
            accepted: match attempt.left {
                Some(left) if !left.is_empty() => left.join(", "),
                _ => "nothing more".into(),
            },
        })
    }

    async fn by_questions(
        &self,
        handle: &mut Handle<Handler>,
        attempt: &mut Attempt<'_>,
    ) -> Result<bool, SshError> {
        let mut answer = handle.authenticate_keyboard_interactive_start(attempt.user, None).await?;
        for _ in 0..MOST_QUESTIONS {
            match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                    let failed = AuthResult::Failure { remaining_methods, partial_success };
                    return Ok(attempt.note("keyboard-interactive", failed));
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| self.login.password.clone()).collect();
                    answer = handle.authenticate_keyboard_interactive_respond(answers).await?;
                }
            }
        }
        attempt.tried.push("keyboard-interactive".into());
        Ok(false)
    }

    async fn by_agent(
        &self,
        handle: &mut Handle<Handler>,
        attempt: &mut Attempt<'_>,
    ) -> Result<Option<LoggedIn>, SshError> {
        let unusable = |reason: String| SshError::Agent { reason };
        let Some(socket) = &self.login.agent_socket else {
            return Err(unusable("neither ssh_agent_socket nor SSH_AUTH_SOCK is set".into()));
        };
        let mut agent = AgentClient::connect_uds(socket)
            .await
            .map_err(|e| unusable(format!("{}: {e}", socket.display())))?;
        let identities = agent.request_identities().await.map_err(|e| unusable(e.to_string()))?;
        if identities.is_empty() {
            return Err(unusable("it holds no key".into()));
        }
        for identity in identities {
            if !attempt.may(MethodKind::PublicKey) {
                break;
            }
            let key = identity.public_key().into_owned();
            let hash = rsa_hash(handle, &key).await?;
            let result = match &identity {
                AgentIdentity::PublicKey { .. } => {
                    handle
                        .authenticate_publickey_with(attempt.user, key.clone(), hash, &mut agent)
                        .await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    handle
                        .authenticate_certificate_with(
                            attempt.user,
                            certificate.clone(),
                            hash,
                            &mut agent,
                        )
                        .await
                }
            };
            let result = result.map_err(|e| unusable(e.to_string()))?;
            if attempt.note(&format!("agent key {}", crate::host_key::fingerprint(&key)), result) {
                return Ok(Some(LoggedIn::by("agent", Some(&key))));
            }
        }
        Ok(None)
    }
}

impl LoggedIn {
    fn by(method: &str, key: Option<&PublicKey>) -> Self {
        Self { method: method.into(), key: key.cloned() }
    }
}

struct Attempt<'a> {
    user: &'a str,
    tried: Vec<String>,
    left: Option<Vec<String>>,
}

impl Attempt<'_> {
    /// Whether the server may accept this method, as far as it has said.
    fn may(&self, method: MethodKind) -> bool {
        let name: &str = (&method).into();
        self.left.as_ref().is_none_or(|left| left.iter().any(|l| l == name))
    }

    fn note(&mut self, method: &str, result: AuthResult) -> bool {
        match result {
            AuthResult::Success => true,
            AuthResult::Failure { remaining_methods, .. } => {
                self.tried.push(method.to_owned());
                let left = remaining_methods.iter().map(|m| {
                    let name: &str = m.into();
                    name.to_owned()
                });
                self.left = Some(left.collect());
                false
            }
        }
    }
}

/// The hash to sign with where the key is an RSA one. SHA-1 only where the server knows no other.
async fn rsa_hash(handle: &Handle<Handler>, key: &PublicKey) -> Result<Option<HashAlg>, SshError> {
    if !key.algorithm().is_rsa() {
        return Ok(None);
    }
    Ok(handle.best_supported_rsa_hash().await?.unwrap_or(Some(HashAlg::Sha256)))
}

fn load_key(option: &'static str, file: &Path) -> Result<PrivateKey, SshError> {
    let unusable = |reason: String| SshError::Key { option, path: file.to_owned(), reason };
    russh::keys::load_secret_key(file, None).map_err(|e| match e {
        russh::keys::Error::KeyIsEncrypted => unusable(
            "it is protected by a passphrase. Add it to an ssh agent and set \
             ssh_agent_auth = true, or use a key without one"
                .into(),
        ),
        russh::keys::Error::IO(e) => unusable(e.to_string()),
        other => unusable(format!("it holds no private key that can be read ({other})")),
    })
}
