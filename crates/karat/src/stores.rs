//! Consul and Vault, for the functions `consul_key` and `vault`. Each question is asked once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use karat_functions::World;
use reqwest::{StatusCode, Url};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer of more bytes is refused.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What was asked and answered.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    answers: Mutex<BTreeMap<String, Result<Answer, String>>>,
}

#[derive(Clone, Debug)]
struct Answer {
    code: StatusCode,
    text: String,
}

/// One request.
struct Request {
    url: Url,
    headers: Vec<(&'static str, String)>,
    /// User and password.
    login: Option<(String, String)>,
    /// Whether the server's certificate is looked at.
    verify: bool,
    /// PEM of a certificate authority of one's own.
    authority: Option<Vec<u8>>,
}

impl Stores {
    /// The value of a key in Consul. The server and the token are those of the environment:
    /// `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_TOKEN` and so on.
    pub(crate) fn consul_key(&self, key: &str, world: &dyn World) -> Result<String, String> {
        let env = |name: &str| world.env_var(name).filter(|value| !value.is_empty());
        let given = env("CONSUL_HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:8500".into());
        let secure = env("CONSUL_HTTP_SSL").is_some_and(|flag| is_true(&flag));
        let address = match given.split_once("://") {
            Some(_) => given.clone(),
            None if secure => format!("https://{given}"),
            None => format!("http://{given}"),
        };
        let mut url = address_of(&address, &["v1", "kv"], key)
            .ok_or_else(|| format!("CONSUL_HTTP_ADDR is \"{given}\", which is no web address"))?;
        url.set_query(Some("raw"));
        if let Some(namespace) = env("CONSUL_NAMESPACE") {
            url.query_pairs_mut().append_pair("ns", &namespace);
        }
        let token = match (env("CONSUL_HTTP_TOKEN"), env("CONSUL_HTTP_TOKEN_FILE")) {
            (None, Some(file)) => Some(read_text(&file, world)?),
            (token, _) => token,
        };
        let request = Request {
            url,
            headers: token.map(|token| ("X-Consul-Token", token)).into_iter().collect(),
            login: env("CONSUL_HTTP_AUTH").map(|auth| match auth.split_once(':') {
                Some((user, password)) => (user.to_owned(), password.to_owned()),
                None => (auth.clone(), String::new()),
            }),
            verify: env("CONSUL_HTTP_SSL_VERIFY").is_none_or(|flag| is_true(&flag)),
            authority: authority(env("CONSUL_CACERT"), world)?,
        };
        let answer = self.ask(request)?;
        match answer.code {
            StatusCode::NOT_FOUND => Err(format!("key does not exist at the given path: {key}")),
            code if !code.is_success() => {
                Err(format!("the Consul server at {given} answered with code {code} for \"{key}\""))
            }
            _ if answer.text.is_empty() => Err(format!("value is empty at path {key}")),
            _ => Ok(answer.text),
        }
    }

    /// A field of a secret in Vault, of either version of its key-value store. The server and the
    /// token are those of the environment: `VAULT_ADDR`, `VAULT_TOKEN` and so on.
    pub(crate) fn vault(&self, path: &str, key: &str, world: &dyn World) -> Result<String, String> {
        let env = |name: &str| world.env_var(name).filter(|value| !value.is_empty());
        let Some(token) = env("VAULT_TOKEN") else {
            return Err("the environment variable VAULT_TOKEN is not set".into());
        };
        let given = env("VAULT_ADDR").unwrap_or_else(|| "https://127.0.0.1:8200".into());
        let url = address_of(&given, &["v1"], path)
            .ok_or_else(|| format!("VAULT_ADDR is \"{given}\", which is no web address"))?;
        let namespace = env("VAULT_NAMESPACE").map(|n| ("X-Vault-Namespace", n));
        let own = [("X-Vault-Token", token), ("X-Vault-Request", "true".to_owned())];
        let request = Request {
            url,
            headers: own.into_iter().chain(namespace).collect(),
            login: None,
            verify: !env("VAULT_SKIP_VERIFY").is_some_and(|flag| is_true(&flag)),
            authority: authority(env("VAULT_CACERT"), world)?,
        };
        let answer = self.ask(request)?;
        if answer.code == StatusCode::NOT_FOUND {
            return Err(format!("Vault Secret does not exist at the given path: {path}"));
        }
        let body: serde_json::Value = serde_json::from_str(&answer.text).unwrap_or_default();
        if !answer.code.is_success() {
            let told = body["errors"].as_array().into_iter().flatten();
            let told: Vec<&str> = told.filter_map(serde_json::Value::as_str).collect();
            let told = told.join("; ");
            return Err(format!(
                "the Vault server at {given} answered with code {} for \"{path}\": {told}",
                answer.code
            ));
        }
        field(&body["data"], path, key)
    }

    fn ask(&self, request: Request) -> Result<Answer, String> {
        // The address with all that decides the answer.
        let question = format!("{} {:?} {:?}", request.url, request.headers, request.login);
        let lock = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&question) {
            return known.clone();
        }
        // The language is evaluated within and without a runtime, so this has one of its own.
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| e.to_string())?;
            runtime.block_on(send(request))
        });
        let answer = asked.join().unwrap_or_else(|_| Err("the request ended by a bug".into()));
        lock().insert(question, answer.clone());
        answer
    }
}

/// The field of a secret: in version 2 of the store the fields are one level deeper.
fn field(data: &serde_json::Value, path: &str, key: &str) -> Result<String, String> {
    let fields = if data["data"].is_object() { &data["data"] } else { data };
    match &fields[key] {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Null => {
            Err(format!("Vault path does not contain the requested key: {path} has no \"{key}\""))
        }
        _ => Err(format!("\"{key}\" of {path} is no text")),
    }
}

async fn send(request: Request) -> Result<Answer, String> {
    let host = request.url.host_str().unwrap_or_default().to_owned();
    let fail = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
        format!("cannot ask {host}: {error}{cause}")
    };
    let mut builder = karat_data::client_builder().timeout(PATIENCE);
    if !request.verify {
        builder = builder.danger_accept_invalid_certs(true);
    }
    if let Some(pem) = &request.authority {
        let certificate = reqwest::Certificate::from_pem(pem).map_err(fail)?;
        builder = builder.add_root_certificate(certificate);
    }
    let mut sent = builder.build().map_err(fail)?.get(request.url);
    for (name, value) in request.headers {
        sent = sent.header(name, value);
    }
    if let Some((user, password)) = request.login {
        sent = sent.basic_auth(user, Some(password));
    }
    let answer = sent.send().await.map_err(fail)?;
    if answer.content_length().is_some_and(|length| length > LARGEST) {
        return Err(format!("{host} answered with more than 16 MiB"));
    }
    let code = answer.status();
    let text = answer.text().await.map_err(fail)?;
    Ok(Answer { code, text })
}

/// `path` below an address.
fn address_of(address: &str, prefix: &[&str], path: &str) -> Option<Url> {
    let mut url = Url::parse(address).ok()?;
    if !["http", "https"].contains(&url.scheme()) {
        return None;
    }
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend(prefix)
        .extend(path.trim_start_matches('/').split('/'));
    Some(url)
}

fn authority(file: Option<String>, world: &dyn World) -> Result<Option<Vec<u8>>, String> {
    file.map(|file| world.read_file(file.as_ref()).map_err(|e| format!("cannot read {file}: {e}")))
        .transpose()
}

fn read_text(file: &str, world: &dyn World) -> Result<String, String> {
    let bytes = world.read_file(file.as_ref()).map_err(|e| format!("cannot read {file}: {e}"))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn is_true(flag: &str) -> bool {
    ["1", "t", "T", "TRUE", "true", "True"].contains(&flag)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use karat_functions::MemoryWorld;

    use super::*;

    /// Answers one request, and gives what was asked.
    fn server(code: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut asked, mut buffer) = (String::new(), [0; 4096]);
            while !asked.contains("\r\n\r\n") {
                let n = stream.read(&mut buffer).unwrap();
                asked.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            let length = body.len();
            write!(stream, "HTTP/1.1 {code}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
            asked.to_lowercase()
        });
        (address, asked)
    }

    fn world(env: &[(&str, &str)]) -> MemoryWorld {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        MemoryWorld { env, ..MemoryWorld::default() }
    }

    #[test]
    fn consul_is_asked_once() {
        let (address, asked) = server("200 OK", "value");
        let world = world(&[("CONSUL_HTTP_ADDR", &address), ("CONSUL_HTTP_TOKEN", "secret")]);
        let stores = Stores::default();
        for _ in 0..2 {
            assert_eq!(stores.consul_key("a/b c", &world).unwrap(), "value");
        }
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("get /v1/kv/a/b%20c?raw "), "{asked}");
        assert!(asked.contains("x-consul-token: secret"), "{asked}");
    }

    #[test]
    fn vault_has_two_versions() {
        for (body, version) in [
            (r#"{"data": {"password": "p"}}"#, "one"),
            (r#"{"data": {"data": {"password": "p"}, "metadata": {}}}"#, "two"),
        ] {
            let (address, asked) = server("200 OK", body);
            let world = world(&[("VAULT_ADDR", &address), ("VAULT_TOKEN", "root")]);
            let stores = Stores::default();
            assert_eq!(
                stores.vault("secret/data/a", "password", &world).unwrap(),
                "p",
                "{version}"
            );
            let error = stores.vault("secret/data/a", "user", &world).unwrap_err();
            assert!(error.contains("no \"user\""), "{error}");
            let asked = asked.join().unwrap();
            assert!(asked.starts_with("get /v1/secret/data/a "), "{asked}");
            assert!(asked.contains("x-vault-token: root"), "{asked}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let stores = Stores::default();
        let (address, _) = server("404 Not Found", "");
        let error = stores.consul_key("a", &world(&[("CONSUL_HTTP_ADDR", &address)])).unwrap_err();
        assert_eq!(error, "key does not exist at the given path: a");
        let (address, _) = server("403 Forbidden", r#"{"errors": ["permission denied"]}"#);
        let env = [("VAULT_ADDR", address.as_str()), ("VAULT_TOKEN", "x")];
        let error = stores.vault("a", "b", &world(&env)).unwrap_err();
        assert!(error.contains("permission denied") && error.contains("403"), "{error}");
        assert!(stores.vault("a", "b", &world(&[])).unwrap_err().contains("VAULT_TOKEN"));
        let env = world(&[("CONSUL_HTTP_ADDR", "unix:///run/consul")]);
        assert!(stores.consul_key("a", &env).unwrap_err().contains("no web address"));
    }
}
