//! Requests over HTTP, and the login.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karat_component::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};

use crate::answer::{self, Received};
use crate::config::WinrmConfig;
use crate::envelope::{Action, PATIENCE, envelope};
use crate::error::WinrmError;
use crate::ntlm;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(15);
/// A login by NTLM belongs to a connection. Where the second half of one went over a new connection,
/// it is begun again, so many times.
const LOGINS: u32 = 4;

/// The WinRM of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    url: String,
    config: WinrmConfig,
    /// Connections at rest. Each request has one of its own, so that a login by NTLM has one.
    resting: Mutex<Vec<reqwest::Client>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The causes of an error of HTTP, without the address, which is told anyway.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

impl Client {
    pub(crate) fn new(config: WinrmConfig) -> Self {
        let url = config.url();
        Self(Arc::new(Inner { url, config, resting: Mutex::default() }))
    }

    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    fn connection(&self) -> Result<reqwest::Client, WinrmError> {
        let resting = self.0.resting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(client) = resting {
            return Ok(client);
        }
        // Whoever was first has set the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(PATIENCE + Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .http1_only();
        if self.0.config.winrm_no_proxy {
            builder = builder.no_proxy();
        }
        if self.0.config.winrm_insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        builder.build().map_err(|e| WinrmError::Client { reason: reason(e) })
    }

    fn connect_error(&self, error: reqwest::Error) -> WinrmError {
        WinrmError::Connect { url: self.0.url.clone(), reason: reason(error) }
    }

    fn answer_error(&self, reason: String) -> WinrmError {
        WinrmError::Answer { url: self.0.url.clone(), reason }
    }

    fn refused(&self, answer: &Response, way: &'static str) -> WinrmError {
        let offers = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let words = offers.filter_map(|v| v.to_str().ok()?.split_whitespace().next());
        let mut words: Vec<&str> = words.collect();
        words.dedup();
        let offers = if words.is_empty() { "nothing".into() } else { words.join(", ") };
        let user = self.0.config.winrm_username.clone();
        WinrmError::Refused { url: self.0.url.clone(), user, way, offers }
    }

    async fn send(&self, client: &reqwest::Client, body: &str) -> Result<Response, WinrmError> {
        let config = &self.0.config;
        let post =
            || client.post(&self.0.url).header(CONTENT_TYPE, "application/soap+xml;charset=UTF-8");
        let fail = |e| self.connect_error(e);
        if !config.winrm_use_ntlm {
            let sent = post().basic_auth(&config.winrm_username, Some(&config.winrm_password));
            let answer = sent.body(body.to_owned()).send().await.map_err(fail)?;
            return match answer.status() {
                StatusCode::UNAUTHORIZED => Err(self.refused(&answer, "Basic")),
                _ => Ok(answer),
            };
        }
        let first = ntlm::first().map_err(|reason| WinrmError::Client { reason })?;
        for left in (0..LOGINS).rev() {
            let answer = post().header(AUTHORIZATION, &first).body("").send();
            let mut answer = answer.await.map_err(fail)?;
            let challenge = answer.headers().get_all(WWW_AUTHENTICATE).iter().find_map(|v| {
                let text = v.to_str().ok()?;
                text.strip_prefix("Negotiate ").or_else(|| text.strip_prefix("NTLM "))
            });
            let Some(challenge) = challenge.map(str::to_owned) else {
                return Err(self.refused(&answer, "NTLM"));
            };
            // The connection can be used again when all of the answer is read, a moment later.
            while answer.chunk().await.map_err(fail)?.is_some() {}
            drop(answer);
            tokio::time::sleep(Duration::from_millis(2)).await;
            let second = ntlm::answer(&challenge, &config.winrm_username, &config.winrm_password)
                .map_err(|e| self.answer_error(e))?;
            let answer = post().header(AUTHORIZATION, second).body(body.to_owned()).send();
            let answer = answer.await.map_err(fail)?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            if left == 0 {
                return Err(self.refused(&answer, "NTLM"));
            }
        }
        unreachable!("the last round returns")
    }

    /// Asks, and gives the answer's text.
    pub(crate) async fn ask(
        &self,
        shell: Option<&str>,
        action: Action<'_>,
    ) -> Result<String, WinrmError> {
        let body = envelope(&self.0.url, shell, action);
        let client = self.connection()?;
        let answer = self.send(&client, &body).await?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| self.connect_error(e))?;
        self.0.resting.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        if let Some(fault) = answer::fault(&text) {
            return Err(WinrmError::Fault {
                what: action.name(),
                reason: fault.reason,
                code: fault.code,
            });
        }
        if !status.is_success() {
            return Err(self.answer_error(format!("status {status}")));
        }
        tracing::trace!(what = action.name(), "asked WinRM");
        Ok(text)
    }

    pub(crate) async fn create(&self) -> Result<String, WinrmError> {
        let text = self.ask(None, Action::Create).await?;
        answer::shell_id(&text).map_err(|e| self.answer_error(e))
    }

    pub(crate) async fn command(
        &self,
        shell: &str,
        action: Action<'_>,
    ) -> Result<String, WinrmError> {
        let text = self.ask(Some(shell), action).await?;
        answer::command_id(&text).map_err(|e| self.answer_error(e))
    }

    /// What the command printed; nothing, where nothing came up in time.
    pub(crate) async fn receive(&self, shell: &str, id: &str) -> Result<Received, WinrmError> {
        match self.ask(Some(shell), Action::Receive { command: id }).await {
            Ok(text) => answer::received(&text).map_err(|e| self.answer_error(e)),
            Err(error) if error.is_nothing_yet() => Ok(Received::default()),
            Err(error) => Err(error),
        }
    }
}

/// Where output goes.
pub(crate) type Sink<'a> = dyn FnMut(Stream, &[u8]) + Send + 'a;
