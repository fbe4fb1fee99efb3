//! The metadata server at 169.254.169.254: a seed for cloud-init's NoCloud and the paths of
//! Amazon's instance metadata service, versions 1 and 2, that image building uses.
//!
//! Sources: cloud-init's documentation of NoCloud and Ec2; "Retrieve instance metadata" in
//! Amazon's EC2 user guide.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::spec::MachineSpec;

/// The session token: whoever asks from inside the machine's namespace may have it.
const TOKEN: &str = "a2FyYXQtbWV0YWRhdGE=";

/// A request to the metadata server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRequest {
    /// `GET`, `PUT`, …
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// Headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
}

/// An answer of the metadata server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataAnswer {
    /// The status of HTTP.
    pub status: u16,
    /// Headers, their names in small letters.
    pub headers: Vec<(&'static str, String)>,
    /// What it says.
    pub body: Vec<u8>,
    /// Over how many hops the packets of the answer may go; as many as the system allows without.
    pub hop_limit: Option<u8>,
}

/// Answers in place of the tree that a specification gives.
pub trait MetadataService: Debug + Send + Sync {
    /// Answers a request. Called on a thread that may wait a little.
    fn answer(&self, request: &MetadataRequest) -> MetadataAnswer;
}

/// All answers, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    /// Lays out what a machine is told. `address` is its own.
    pub(super) fn new(spec: &MachineSpec, address: &str) -> Self {
        let mut tree = Self::default();
        let metadata = &spec.metadata;
        let instance =
            if metadata.instance_id.is_empty() { &spec.id } else { &metadata.instance_id };
        // No host name: the machine has it already, and cloud-init would write it into the image.
        let seed = serde_json::json!({
            "instance-id": instance,
            "public-keys": metadata.public_keys,
        });
        // Every JSON document is a YAML document.
        tree.put("nocloud/meta-data", seed.to_string());
        tree.put("nocloud/user-data", metadata.user_data.clone());
        // cloud-init asks ten times for what is not there.
        tree.put("nocloud/network-config", "network:\n  config: disabled\n");
        tree.put("nocloud/vendor-data", metadata.vendor_data.clone());

        let mut put = |path: &str, value: &str| tree.put(&format!("meta-data/{path}"), value);
        put("instance-id", instance);
        put("ami-id", "ami-00000000000000000");
        put("ami-launch-index", "0");
        put("instance-type", "karat.local");
        put("hostname", spec.host());
        put("local-hostname", spec.host());
        put("local-ipv4", address);
        put("reservation-id", "r-00000000000000000");
        put("security-groups", "default");
        put("placement/availability-zone", "local-1a");
        put("placement/region", "local-1");
        for (index, key) in metadata.public_keys.iter().enumerate() {
            put(&format!("public-keys/{index}/openssh-key"), key);
        }
        for (path, value) in &metadata.paths {
            put(path.trim_matches('/'), value);
        }
        if !metadata.user_data.is_empty() {
            tree.put("user-data", metadata.user_data.clone());
        }
        tree
    }

    fn put(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.files.insert(path.to_owned(), content.into());
    }

    /// What a path answers; folders list what is in them, as Amazon's service does.
    fn get(&self, path: &str) -> Option<Vec<u8>> {
        let path = path.trim_start_matches('/');
        if path.is_empty() {
            return Some(b"latest\n2021-03-23".to_vec());
        }
        if let Some(found) = path.strip_prefix("nocloud/") {
            return self.files.get(&format!("nocloud/{found}")).cloned();
        }
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        let known = version == "latest"
            || version == "1.0"
            || version.len() == 10 && version.starts_with("20") && version.is_ascii();
        known.then_some(())?;
        let rest = rest.trim_end_matches('/');
        if let Some(found) = self.files.get(rest)
            && !rest.starts_with("nocloud")
        {
            return Some(found.clone());
        }
        self.list(rest)
    }

    fn list(&self, folder: &str) -> Option<Vec<u8>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut names: Vec<String> = Vec::new();
        for path in self.files.keys().filter_map(|p| p.strip_prefix(&prefix)) {
            let name = match path.split_once('/') {
                // Amazon lists keys as `0=name`.
                Some((index, _)) if folder == "meta-data/public-keys" => format!("{index}=karat"),
                Some(("nocloud", _)) => continue,
                Some((name, _)) => format!("{name}/"),
                None => path.to_owned(),
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.join("\n").into_bytes())
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, Vec<u8>) {
        match (method, path) {
            (&Method::PUT, "/latest/api/token") => (StatusCode::OK, TOKEN.into()),
            (&Method::GET, path) => match self.get(path) {
                Some(content) => (StatusCode::OK, content),
                None => (StatusCode::NOT_FOUND, Vec::new()),
            },
            _ => (StatusCode::METHOD_NOT_ALLOWED, Vec::new()),
        }
    }
}

/// Serves until the listener fails or the task is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    tree: Tree,
    service: Option<Arc<dyn MetadataService>>,
) {
    let tree = Arc::new(tree);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (tree, answers) = (Arc::clone(&tree), service.clone());
        // For the hop limit of single answers.
        let socket = stream.as_fd().try_clone_to_owned().ok().map(Arc::new);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (tree, answers, socket) = (Arc::clone(&tree), answers.clone(), socket.clone());
                async move {
                    let response = match answers {
                        Some(answers) => ask(answers, socket, &request).await,
                        None => respond(&tree, &request),
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            // A connection that breaks off is the machine's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// What packets start with where nothing else is said.
const HOPS: u8 = 64;

async fn ask(
    service: Arc<dyn MetadataService>,
    socket: Option<Arc<OwnedFd>>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let value = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = request.headers().iter();
    let asked = MetadataRequest {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        headers: headers.map(|(name, v)| (name.as_str().to_owned(), value(v))).collect(),
    };
    let answer = tokio::task::spawn_blocking(move || service.answer(&asked)).await;
    let Ok(answer) = answer else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    if let Some(socket) = socket {
        let hops = u32::from(answer.hop_limit.unwrap_or(HOPS));
        let _ = rustix::net::sockopt::set_ip_ttl(&socket, hops);
    }
    tracing::debug!(
        method = %request.method(), path = request.uri().path(), status = answer.status, "metadata"
    );
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn respond(tree: &Tree, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, content) = tree.answer(request.method(), request.uri().path());
    tracing::debug!(method = %request.method(), path = request.uri().path(), %status, "metadata");
    let mut response = Response::new(Full::new(Bytes::from(content)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if request.method() == Method::PUT {
        let seconds = request.headers().get("x-aws-ec2-metadata-token-ttl-seconds");
        let seconds = seconds.cloned().unwrap_or_else(|| HeaderValue::from_static("21600"));
        headers.insert("x-aws-ec2-metadata-token-ttl-seconds", seconds);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut spec = MachineSpec::new("i-1", vec!["/l".into()], "/w");
        spec.metadata.public_keys = vec!["ssh-ed25519 AAAA a".into()];
        spec.metadata.paths.insert("tags/instance/Name".into(), "web".into());
        Tree::new(&spec, "10.0.2.100")
    }

    fn text(path: &str) -> Option<String> {
        tree().get(path).map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn amazons_paths_answer_and_list() {
        assert_eq!(text("/latest/meta-data/instance-id").unwrap(), "i-1");
        assert_eq!(text("/2021-03-23/meta-data/local-ipv4").unwrap(), "10.0.2.100");
        assert_eq!(text("/latest/meta-data/public-keys/").unwrap(), "0=karat");
        let key = text("/latest/meta-data/public-keys/0/openssh-key").unwrap();
        assert_eq!(key, "ssh-ed25519 AAAA a");
        assert_eq!(text("/latest/meta-data/tags/instance/Name").unwrap(), "web");
        assert_eq!(text("/latest/").unwrap(), "meta-data/\nuser-data");
        let listed = text("/latest/meta-data").unwrap();
        assert!(listed.lines().any(|l| l == "placement/"), "{listed}");
        assert!(text("/latest/meta-data/nothing").is_none());
        assert!(text("/latest/nocloud/meta-data").is_none());
    }

    #[test]
    fn the_seed_is_yaml_that_cloud_init_reads() {
        let seed: serde_json::Value =
            serde_json::from_str(&text("/nocloud/meta-data").unwrap()).unwrap();
        assert_eq!(seed["instance-id"], "i-1");
        assert_eq!(seed["public-keys"][0], "ssh-ed25519 AAAA a");
        assert!(text("/nocloud/user-data").unwrap().starts_with("#cloud-config"));
    }

    #[test]
    fn the_token_is_put_and_nothing_else() {
        assert_eq!(tree().answer(&Method::PUT, "/latest/api/token").0, StatusCode::OK);
        let refused = tree().answer(&Method::DELETE, "/latest/meta-data/");
        assert_eq!(refused.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}
