//! The login to a Windows machine: the password that it made when it first started.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_component::Events;
use karat_saga::{StepContext, StepError};
use karat_winrm::{WinrmConfig, WinrmSession};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};

use super::key::KeyPair;
use super::node;
use super::scope::{pause, say};
use super::states::Machine;
use crate::client::{Aws, Explain};
use crate::options::Windows;

/// Between two questions for the password.
const PAUSE: Duration = Duration::from_secs(5);

impl Windows {
    /// Where the private key lies that the password is encrypted for.
    fn key_file(&self, cx: &StepContext) -> Result<PathBuf, StepError> {
        if cx.outputs().raw(node::KEY).is_some() {
            let key: KeyPair = cx.output(node::KEY)?;
            return Ok(key.file);
        }
        Ok(PathBuf::from(&self.key_file))
    }

    /// Waits for the password, and decrypts it.
    async fn password(
        &self,
        aws: &Aws,
        machine: &Machine,
        cx: &StepContext,
    ) -> Result<String, StepError> {
        say(cx, "Waiting for the password that Windows makes");
        let start = tokio::time::Instant::now();
        let sealed = loop {
            let ask = aws.ec2.get_password_data().instance_id(&machine.id).send();
            let answer = cx.unless_cancelled(ask).await?;
            let answer =
                answer.or_fail(format!("could not ask for the password of {}", machine.id))?;
            let data = answer.password_data().unwrap_or_default().trim().to_owned();
            if !data.is_empty() {
                break data;
            }
            if start.elapsed() + PAUSE > self.patience {
                return Err(StepError::new(format!(
                    "{} gave no password within {} s",
                    machine.id,
                    self.patience.as_secs()
                ))
                .with_hint("the source image has to be of Windows, made ready by EC2Launch for its next start; or set winrm_password"));
            }
            pause(cx, PAUSE).await?;
        };
        let file = self.key_file(cx)?;
        let pem = std::fs::read_to_string(&file).map_err(|e| {
            StepError::because(format!("could not read the private key {}", file.display()), e)
        })?;
        opened(&sealed, &pem).map_err(|why| {
            StepError::new(format!("could not decrypt the password of {}: {why}", machine.id))
                .with_hint("it is encrypted for the RSA key pair of the launch")
        })
    }

    /// Logs in. Gives also how, with what is known of the machine by now.
    pub(crate) async fn connect(
        &self,
        aws: &Aws,
        machine: &Machine,
        address: &str,
        cx: &StepContext,
    ) -> Result<(WinrmSession, WinrmConfig), StepError> {
        let mut config = self.config.clone();
        let events = cx.service::<Events>()?.as_ref().clone();
        if self.asks() {
            config.winrm_password = self.password(aws, machine, cx).await?;
            events.masker().add(&config.winrm_password);
        }
        if config.winrm_host.is_empty() {
            config.winrm_host = address.to_owned();
        }
        if config.winrm_host.is_empty() {
            return Err(StepError::new(format!(
                "{} has no address of the kind that ssh_interface asks for",
                machine.id
            ))
            .with_hint("set associate_public_ip_address = true, or another ssh_interface"));
        }
        say(cx, format!("Connecting to {} by WinRM", config.winrm_host));
        let session = WinrmSession::connect(config.clone(), events, cx.token()).await;
        let session = session.map_err(|e| {
            if cx.is_cancelled() {
                return StepError::cancelled();
            }
            StepError::because(format!("could not log in to {}", machine.id), e).with_hint(
                "the image's user data has to open WinRM; the subnet needs a way here, and winrm_timeout may be too short",
            )
        })?;
        Ok((session, config))
    }
}

/// The password in what EC2 hands over.
fn opened(sealed: &str, pem: &str) -> Result<String, String> {
    let key = RsaPrivateKey::from_pkcs1_pem(pem)
        .or_else(|_| RsaPrivateKey::from_pkcs8_pem(pem))
        .map_err(|_| "the key is no RSA private key in a PEM format".to_owned())?;
    let sealed: String = sealed.split_whitespace().collect();
    let sealed = STANDARD.decode(sealed).map_err(|e| format!("it is no base64: {e}"))?;
    let plain = key
        .decrypt(Pkcs1v15Encrypt, &sealed)
        .map_err(|_| "it was not encrypted for this key".to_owned())?;
    String::from_utf8(plain).map_err(|_| "it is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_told() {
        assert_eq!(
            opened("aGk=", "no key").unwrap_err(),
            "the key is no RSA private key in a PEM format"
        );
    }
}
