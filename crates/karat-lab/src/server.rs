//! HTTP: in, routed, out; and the lab's own questions below `/_lab/`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use karat_ssm::{Io, Socket};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use crate::aws::audit::{self, Leftover};
use crate::aws::{Front, Incoming};
use crate::control::{self, Running, SECRET_HEADER};
use crate::core::faults::{Rule, Strike};
use crate::core::phase::now;
use crate::core::records::DatabaseError;
use crate::core::settings::{Instances, Settings};
use crate::machines::host::{self, Addresses};
use crate::machines::{Machines, Serve, Severable};

/// Where data channels of sessions are, before the session's id.
const DATA_CHANNEL: &str = "/v1/data-channel/";
/// Where control channels of agents are, before the instance's id.
const CONTROL_CHANNEL: &str = "/v1/control-channel/";
/// A body of more bytes is refused.
const LARGEST: usize = 16 * 1024 * 1024;

/// How a lab is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps what it has, made if missing.
    pub dir: PathBuf,
    /// Where it serves; port 0 is any free one.
    pub listen: SocketAddr,
    /// What stands in its configuration file.
    pub settings: Settings,
}

/// Why a lab does not start.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A folder or an address cannot be used.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The records cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Machines were asked for, and cannot be had.
    #[error("instances cannot be machines here: {0}")]
    NoMachines(String),
    /// The store of machines' disks cannot be used.
    #[error("cannot open the store of disks")]
    Store(#[from] karat_layers::Error),
    /// Another lab has the folder.
    #[error("a lab serves from this folder already, at {0}")]
    Taken(String),
}

/// A lab that serves, as long as this lives.
pub struct Lab {
    running: Running,
    shared: Arc<Shared>,
    /// Held, so that no other lab takes them.
    _addresses: Option<Addresses>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("address", &self.running.address).finish_non_exhaustive()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        // Machines end with the lab, also while somebody still is served.
        drop(self.shared.machines().take());
    }
}

struct Shared {
    front: Arc<Front>,
    machines: Mutex<Option<Machines>>,
    /// Why instances are records, where they are.
    no_machines: Option<String>,
    secret: String,
    /// Somebody asked for the end.
    ended: CancellationToken,
}

impl Lab {
    /// Starts to serve.
    ///
    /// # Errors
    /// When the folder, the records or the address cannot be used, or another lab has the folder.
    pub async fn start(options: Options) -> Result<Self, LabError> {
        let Options { dir, listen, mut settings } = options;
        let failed = |what: String| move |source| LabError::Io { what, source };
        std::fs::create_dir_all(&dir).map_err(failed(format!("make {}", dir.display())))?;
        if let Some(other) = control::find(&dir) {
            return Err(LabError::Taken(other.url()));
        }
        // The secrets of the account lie here.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&dir, private)
            .map_err(failed(format!("close {} to others", dir.display())))?;
        settings.dir = dir.clone();
        let no_machines = no_machines(&settings);
        if let (Instances::Machines, Some(why)) = (settings.instances, &no_machines) {
            return Err(LabError::NoMachines(why.clone()));
        }
        let addresses = no_machines.is_none().then(|| host::take_addresses(settings.addresses));
        if let Some(taken) = &addresses {
            settings.addresses = taken.network;
        }
        let region = settings.region.clone();
        let supervisor = settings.supervisor.clone();
        let front = Arc::new(Front::open(settings, no_machines.is_none())?);
        let credential = front.main_credential();
        let (access_key, secret_key) =
            credential.map(|c| (c.access_key, c.secret)).unwrap_or_default();
        let listener =
            TcpListener::bind(listen).await.map_err(failed(format!("serve at {listen}")))?;
        let address = listener.local_addr().map_err(failed("serve".into()))?;
        let pid = std::process::id();
        let running = Running {
            pid,
            started: control::start_time(pid).unwrap_or(0),
            address,
            access_key,
            secret_key: secret_key.clone(),
            region,
        };
        let shared = Arc::new(Shared {
            front: Arc::clone(&front),
            machines: Mutex::default(),
            no_machines: no_machines.clone(),
            secret: secret_key,
            ended: CancellationToken::new(),
        });
        match supervisor.filter(|_| no_machines.is_none()) {
            Some(supervisor) => {
                // Not for ever: what they serve would keep them.
                let serving = Arc::downgrade(&shared);
                let serve: Serve = Arc::new(move |listener| {
                    let serving = serving.upgrade();
                    tokio::spawn(async move {
                        if let Some(shared) = serving {
                            serve(listener, shared).await;
                        }
                    })
                });
                let machines = Machines::start(front, supervisor, serve)?;
                *shared.machines() = Some(machines);
            }
            None => front.give_up_machines(),
        }
        let interrupting = Arc::clone(&shared);
        let watch = tokio::spawn(async move {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                interrupting.front.end_interrupted();
                let front = Arc::clone(&interrupting.front);
                // A disk is unpacked: not for a thread that others wait for.
                let _ = tokio::task::spawn_blocking(move || front.go_on_with_imports()).await;
            }
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        running.write(&dir).map_err(failed(format!("write in {}", dir.display())))?;
        Ok(Self { running, shared, _addresses: addresses, tasks: [task, watch] })
    }

    /// How clients find it.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// What is left over in the account.
    #[must_use]
    pub fn audit(&self) -> Vec<Leftover> {
        self.shared.audit()
    }

    /// Adds a fault; gives its id.
    ///
    /// # Errors
    /// When the rule says what cannot be.
    pub fn add_fault(&self, rule: Rule) -> Result<String, String> {
        self.shared.front.lock().faults.add(rule)
    }

    /// Has something befall instances; gives their ids.
    ///
    /// # Errors
    /// When it cannot befall the one that is named.
    pub fn strike(&self, strike: &Strike) -> Result<Vec<String>, String> {
        self.shared.front.strike(strike)
    }

    /// The faults that were asked for, with the calls that they have hit.
    #[must_use]
    pub fn faults(&self) -> Vec<Rule> {
        self.shared.front.lock().faults.rules().cloned().collect()
    }

    /// Removes the fault of an id, or all; gives how many.
    pub fn clear_faults(&self, id: Option<&str>) -> usize {
        self.shared.front.lock().faults.clear(id)
    }

    /// Waits until somebody asks the lab to end.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Powers all machines off and ends it. What it knows stays in its folder, and machines that
    /// ran boot again when it is started again.
    ///
    /// # Errors
    /// When the file by which it is found cannot be removed.
    pub async fn leave(self) -> io::Result<()> {
        let machines = self.shared.machines().take();
        if let Some(machines) = machines {
            machines.stop().await;
        }
        self.stop()
    }

    /// Ends it at once, machines as if their power was cut. What it knows stays in its folder.
    ///
    /// # Errors
    /// When the file by which it is found cannot be removed.
    pub fn stop(self) -> io::Result<()> {
        control::forget(&self.shared.front.settings.dir)
    }
}

impl Shared {
    fn machines(&self) -> std::sync::MutexGuard<'_, Option<Machines>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn audit(&self) -> Vec<Leftover> {
        let inner = self.front.lock();
        audit::leftovers(&inner.state, &self.front.settings.account, now())
    }

    fn status(&self, address: Option<&str>) -> Value {
        let inner = self.front.lock();
        let state = &inner.state;
        let settings = &self.front.settings;
        let base: Vec<Value> = self
            .front
            .images
            .iter()
            .map(|e| {
                json!({
                    "name": e.name, "owner": e.owner, "id": e.id, "user": e.user,
                    "remark": e.remark,
                })
            })
            .collect();
        json!({
            "address": address,
            "account": settings.account,
            "region": settings.region,
            "instances_are": if self.no_machines.is_none() { "machines" } else { "records" },
            "no_machines": self.no_machines,
            "instances": state.instances.iter().filter(|i| !i.phase.at(now()).is_ending()).count(),
            "images": state.images.iter().filter(|i| i.owner == settings.account).count(),
            "snapshots": state.snapshots.iter().filter(|s| s.owner == settings.account).count(),
            "faults": inner.faults.rules().count(),
            "base_images": base,
        })
    }

    /// Answers one of the lab's own questions.
    fn own(&self, request: &Incoming) -> (u16, Value) {
        if request.header(SECRET_HEADER).as_deref() != Some(&self.secret) {
            return (403, json!({ "error": "the secret is missing or wrong" }));
        }
        let path = request.path.trim_start_matches("/_lab/");
        match (request.method.as_str(), path) {
            ("GET", "status") => (200, self.status(request.header("host").as_deref())),
            ("GET", "audit") => (200, json!(self.audit())),
            ("GET", "faults") => {
                let inner = self.front.lock();
                (200, json!(inner.faults.rules().collect::<Vec<_>>()))
            }
            ("POST", "faults") => match serde_json::from_slice::<Rule>(&request.body) {
                Err(e) => (400, json!({ "error": e.to_string() })),
                Ok(rule) => match self.front.lock().faults.add(rule) {
                    Ok(id) => (200, json!({ "id": id })),
                    Err(text) => (400, json!({ "error": text })),
                },
            },
            ("POST", "strikes") => match serde_json::from_slice::<Strike>(&request.body) {
                Err(e) => (400, json!({ "error": e.to_string() })),
                Ok(strike) => match self.front.strike(&strike) {
                    Ok(instances) => (200, json!({ "instances": instances })),
                    Err(text) => (400, json!({ "error": text })),
                },
            },
            ("DELETE", "faults") => {
                let id = request.query_value("id");
                let cleared = self.front.lock().faults.clear(id.as_deref());
                (200, json!({ "cleared": cleared }))
            }
            ("POST", "down") => {
                self.ended.cancel();
                (200, json!({}))
            }
            _ => (404, json!({ "error": "there is no such question" })),
        }
    }
}

/// Why instances are not machines; `None` where they are.
fn no_machines(settings: &Settings) -> Option<String> {
    match (&settings.supervisor, settings.instances) {
        (_, Instances::Records) => Some("the settings say so".into()),
        (None, _) => Some("this program does not run machines".into()),
        (Some(_), _) => host::lacks(&settings.dir),
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, say: others may close some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| respond(Arc::clone(&shared), request));
            // A connection that breaks off is the client's business.
            let http = http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

/// That there will be no answer: the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost, as asked for")]
struct Lost;

impl From<Infallible> for Lost {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn respond(
    shared: Arc<Shared>,
    mut request: Request<Body>,
) -> Result<Response<Full<Bytes>>, Lost> {
    if request.headers().contains_key(SEC_WEBSOCKET_KEY) {
        return Ok(channel(&shared, &mut request));
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return Ok(response(413, Vec::new(), b"the body is too large or broke off".to_vec()));
    };
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let request = Incoming {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(header).collect(),
        body: body.to_bytes().to_vec(),
    };
    if request.path.starts_with("/_lab/") {
        let (status, body) = shared.own(&request);
        let kind = vec![("content-type", "application/json".to_owned())];
        return Ok(response(status, kind, body.to_string().into_bytes()));
    }
    let answering = Arc::clone(&shared);
    // Records are written to a file, keys are made: not for a thread that others wait for.
    let answer = tokio::task::spawn_blocking(move || answering.front.answer(&request)).await;
    let Ok(answer) = answer else {
        return Ok(response(500, Vec::new(), b"the lab failed".to_vec()));
    };
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    if answer.lost {
        return Err(Lost);
    }
    Ok(response(answer.status, answer.headers, answer.body))
}

/// Turns a request into the web socket of a session, or of an agent.
fn channel(shared: &Arc<Shared>, request: &mut Request<Body>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let of = |kind: &str| path.strip_prefix(kind).map(str::to_owned);
    let (session, instance) = (of(DATA_CHANNEL), of(CONTROL_CHANNEL));
    let refused = |status: u16, text: &str| response(status, Vec::new(), text.into());
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return refused(400, "a channel is a web socket");
    };
    if session.is_none() && instance.is_none() {
        return refused(404, "there is no such channel");
    }
    let accept = derive_accept_key(key.as_bytes());
    if shared.machines().is_none() {
        return refused(404, "instances are records");
    }
    let upgrade = hyper::upgrade::on(request);
    let serving = Arc::clone(shared);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let (stream, cut) = Severable::new(TokioIo::new(stream));
        let stream: Box<dyn Io> = Box::new(stream);
        let socket = Socket::from_raw_socket(stream, Role::Server, None).await;
        if let Some(machines) = &*serving.machines() {
            if let Some(session) = session {
                machines.serve_session(session, socket, cut);
            } else if let Some(instance) = instance {
                machines.serve_agent(instance, socket);
            }
        }
    });
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

fn response(
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
