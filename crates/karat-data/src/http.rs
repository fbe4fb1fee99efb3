//! Data source `http`: the answer to one HTTP request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use karat_component::{ComponentError, DataSource, ValidateContext};
use karat_config::{Config, Duration};
use karat_saga::Services;
use karat_value::{Type, Value};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, Response, Url};
use tokio_util::sync::CancellationToken;

/// An answer of more bytes is refused: it is for templates, not for downloads.
const LARGEST: usize = 64 * 1024 * 1024;
/// How long a connection may take to be made.
const CONNECT: StdDuration = StdDuration::from_secs(30);
const METHODS: [&str; 7] = ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// Asks a web server, and gives its answer.
///
/// The values are `url`, `body`, the text of the answer, and `request_headers`, which despite its
/// name holds the headers of the answer; of headers that stand several times the values are joined
/// by `, `. Bytes that are no UTF-8 are replaced. An answer whose code is not 2xx is an error. Redirections are followed, up to ten.
/// Proxies are taken from the environment.
#[derive(Clone, Debug, Config)]
pub struct HttpConfig {
    /// What to ask for: an `http` or `https` address.
    #[option(required)]
    url: String,
    /// `HEAD`, `GET`, `POST`, `PUT`, `DELETE`, `OPTIONS` or `PATCH`.
    #[option(default = "GET")]
    method: String,
    /// Headers to be sent.
    request_headers: BTreeMap<String, String>,
    /// What to send in the body.
    #[option(default = "")]
    request_body: String,
    /// How long the whole exchange may take.
    #[option(default = "5m", volatile)]
    timeout: Duration,
}

/// A request that can be sent.
#[derive(Clone, Debug)]
pub struct Request {
    given: String,
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: String,
    timeout: StdDuration,
}

/// Data source `http`.
#[derive(Clone, Copy, Debug)]
pub struct Http;

impl DataSource for Http {
    const TYPE: &'static str = "http";
    type Config = HttpConfig;
    type Validated = Request;

    fn output(&self) -> Type {
        Type::object([
            ("url", Type::String),
            ("body", Type::String),
            ("request_headers", Type::map(Type::String)),
        ])
    }

    fn validate(&self, config: HttpConfig, cx: &mut ValidateContext<'_>) -> Option<Request> {
        let url = url(&config.url, cx);
        let method = method(&config.method, cx);
        let headers = headers(&config.request_headers, cx);
        // While it is only validated, an address may not be known yet: then it is not asked for.
        Some(Request {
            url: url.unwrap_or_else(|| Url::parse("http://localhost").expect("it is an address")),
            given: config.url,
            method: method.unwrap_or_default(),
            headers,
            body: config.request_body,
            timeout: config.timeout.0,
        })
    }

    async fn fetch(
        &self,
        request: &Request,
        _: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        let asked = tokio::time::timeout(request.timeout, ask(request));
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ComponentError::cancelled()),
            answer = asked => answer.unwrap_or_else(|_| {
                let after = request.timeout.as_secs_f64();
                let text = format!("{} did not answer within {after} seconds", place(&request.url));
                Err(ComponentError::new(text).with_hint("\"timeout\" allows more"))
            }),
        }
    }
}

fn url(given: &str, cx: &mut ValidateContext<'_>) -> Option<Url> {
    let reason = match Url::parse(given) {
        Ok(url) if !["http", "https"].contains(&url.scheme()) => {
            format!("\"{}\" is neither http nor https.", url.scheme())
        }
        Ok(url) => return Some(url),
        Err(error) => format!("\"{given}\" is no address: {error}."),
    };
    cx.error("url", "Invalid url").detail(reason).hint("Write it like \"https://example.com/a\".");
    None
}

fn method(given: &str, cx: &mut ValidateContext<'_>) -> Option<Method> {
    let given = if given.is_empty() { "GET" } else { given };
    let method = if METHODS.contains(&given) { given.parse().ok() } else { None };
    if method.is_none() {
        cx.error("method", "Invalid method")
            .detail(format!("\"{given}\" is none of {}.", METHODS.join(", ")));
    }
    method
}

fn headers(given: &BTreeMap<String, String>, cx: &mut ValidateContext<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            (Ok(name), Ok(value)) => {
                headers.insert(name, value);
            }
            (Err(_), _) => {
                cx.error("request_headers", "Invalid header")
                    .detail(format!("\"{name}\" cannot be the name of a header."));
            }
            // The value may be a secret.
            (_, Err(_)) => {
                cx.error("request_headers", "Invalid header").detail(format!(
                    "The value of \"{name}\" has characters that a header cannot have, such as a line end."
                ));
            }
        }
    }
    headers
}

/// Where a request goes, without what an address may hold of secrets.
fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn client() -> Result<Client, ComponentError> {
    client_builder().build().map_err(|e| ComponentError::because("cannot set up a web client", e))
}

/// A web client to be set up, with the cryptography that the program has anyway.
pub fn client_builder() -> ClientBuilder {
    let provider = rustls::crypto::ring::default_provider();
    // One that is set already will do as well.
    let _ = provider.install_default();
    Client::builder()
        .user_agent(concat!("karat/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
}

async fn ask(request: &Request) -> Result<Value, ComponentError> {
    let fail = |error: reqwest::Error| {
        let text = format!("cannot fetch {}", place(&request.url));
        ComponentError::because(text, Arc::new(error.without_url()))
    };
    let mut sent = client()?
        .request(request.method.clone(), request.url.clone())
        .headers(request.headers.clone());
    if !request.body.is_empty() {
        sent = sent.body(request.body.clone());
    }
    let mut answer = sent.send().await.map_err(fail)?;
    if !answer.status().is_success() {
        let text = format!("{} answered with code {}", place(&request.url), answer.status());
        return Err(ComponentError::new(text));
    }
    let headers = answer_headers(&answer);
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(fail)? {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST {
            let text = format!("{} answered with more than 64 MiB", place(&request.url));
            return Err(ComponentError::new(text));
        }
    }
    // As in Packer, what is no UTF-8 is replaced: the answer may be wanted for its headers alone.
    let body = String::from_utf8_lossy(&body);
    let headers = headers.into_iter().map(|(name, value)| (name.into(), Value::string(value)));
    Ok(Value::object_of([
        ("url", Value::string(request.given.as_str())),
        ("body", Value::string(body.as_ref())),
        ("request_headers", Value::map(Type::String, headers.collect())),
    ]))
}

fn answer_headers(answer: &Response) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in answer.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(canonical(name.as_str()))
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    // How the answer was sent is not what it says.
    headers.remove("Transfer-Encoding");
    headers
}

/// The name as templates know it: `Content-Type`.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let mut chars = part.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use karat_component::testing::{self, Component, body, data_source};
    use serde_json::{Value as Json, json};

    use super::*;

    /// Answers one request, and gives what was asked.
    fn server(answer: &'static [u8]) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                let n = stream.read(&mut buffer).unwrap();
                asked.extend_from_slice(&buffer[..n]);
                let text = String::from_utf8_lossy(&asked);
                let head = text.split_once("\r\n\r\n");
                let length = text.to_lowercase();
                let length = length
                    .split_once("content-length: ")
                    .and_then(|(_, rest)| rest.lines().next()?.parse().ok())
                    .unwrap_or(0usize);
                if n == 0 || head.is_some_and(|(_, body)| body.len() >= length) {
                    break;
                }
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, thread)
    }

    async fn fetch(options: &Json) -> Result<Value, ComponentError> {
        let source = data_source(Http, options);
        source.fetch(&Services::new(), &CancellationToken::new()).await
    }

    #[test]
    fn complies() {
        let component = Component::DataSource(Arc::new(Http));
        testing::options(&component, &body(&json!({ "url": "http://localhost/" })));
        for wrong in [
            json!({}),
            json!({ "url": "" }),
            json!({ "url": "ftp://example.com/" }),
            json!({ "url": "http://example.com/", "method": "get" }),
            json!({ "url": "http://example.com/", "request_headers": { "a b": "c" } }),
            json!({ "url": "http://example.com/", "request_headers": { "a": "b\nc" } }),
        ] {
            assert!(!component.errors(&body(&wrong)).is_empty(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn gives_body_and_headers() {
        let (url, asked) = server(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-a: 1\r\nX-A: 2\r\ncontent-length: 5\r\n\r\nhello",
        );
        let options = json!({
            "url": url, "method": "POST", "request_body": "ping",
            "request_headers": { "X-Token": "t" },
        });
        let value = fetch(&options).await.unwrap();
        let asked = asked.join().unwrap().to_lowercase();
        assert!(asked.starts_with("post / http/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-token: t\r\n") && asked.ends_with("\r\n\r\nping"), "{asked}");
        assert_eq!(value.ty(), &DataSource::output(&Http));
        let all = value.as_map().unwrap();
        assert_eq!(all["body"].as_str(), Some("hello"));
        assert_eq!(all["url"].as_str(), Some(url.as_str()));
        let headers = all["request_headers"].as_map().unwrap();
        assert_eq!(headers["X-A"].as_str(), Some("1, 2"));
        assert_eq!(headers["Content-Type"].as_str(), Some("text/plain"));
    }

    #[tokio::test]
    async fn says_what_went_wrong() {
        let (url, _) = server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        let error = fetch(&json!({ "url": format!("{url}/a?token=x") })).await.unwrap_err();
        assert_eq!(error.chain(), format!("{url}/a answered with code 404 Not Found"));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&json!({ "url": format!("http://{closed}/?password=x") })).await;
        let text = error.unwrap_err().chain();
        assert!(text.contains(&closed.to_string()) && !text.contains("password"), "{text}");
    }

    #[tokio::test]
    async fn replaces_what_is_no_text() {
        let (url, _) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ncaf\xe9");
        let value = fetch(&json!({ "url": url, "method": "" })).await.unwrap();
        assert_eq!(value.as_map().unwrap()["body"].as_str(), Some("caf\u{fffd}"));
    }

    #[tokio::test]
    async fn gives_up_in_time_and_when_told_to() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let error = fetch(&json!({ "url": url, "timeout": "50ms" })).await.unwrap_err();
        assert!(error.chain().ends_with("did not answer within 0.05 seconds"));
        let cancel = CancellationToken::new();
        cancel.cancel();
        let source = data_source(Http, &json!({ "url": url }));
        let error = source.fetch(&Services::new(), &cancel).await.unwrap_err();
        assert!(error.is_cancelled());
    }
}
