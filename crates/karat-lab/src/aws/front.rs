//! From a request to a service and back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;

use super::agents::Agents;
use super::call::{Call, Caller, Job};
use super::ec2::model::{Instance, InstanceState, Volume, VolumeState};
use super::error::{AwsError, Result};
use super::node::Node;
use super::params::Params;
use super::request::Incoming;
use super::sessions::{Session, Sessions};
use super::signature::Scope;
use super::state::{Answered, Credential, State};
use super::{access, agents, ebs, ec2, iam, kms, quotas, s3, secrets, ssm, sts};
use crate::core::blocks::BlockStore;
use crate::core::catalogue::Entry;
use crate::core::faults::{Faults, Kind};
use crate::core::ids;
use crate::core::phase::{Millis, now};
use crate::core::records::{Database, DatabaseError};
use crate::core::settings::Settings;
use crate::machines::Root;

/// What goes back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Only after so long.
    pub(crate) delay: Duration,
    /// Not at all: the connection ends.
    pub(crate) lost: bool,
}

/// The action is not one of the query protocol's service.
pub(crate) fn unknown_action(action: &str) -> AwsError {
    AwsError::new("InvalidAction", format!("Could not find operation {action}"))
}

/// The operation is not one of the JSON service.
pub(crate) fn unknown_operation(operation: &str) -> AwsError {
    AwsError::new(
        "UnknownOperationException",
        format!("The lab does not know the operation {operation}."),
    )
}

/// How a service is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ec2,
    Query,
    Json,
    Rest,
    S3,
}

fn protocol(service: &str) -> Option<Protocol> {
    match service {
        "ec2" => Some(Protocol::Ec2),
        "iam" | "sts" => Some(Protocol::Query),
        "ec2messages" | "kms" | "secretsmanager" | "servicequotas" | "ssm" => Some(Protocol::Json),
        "ebs" | "ssmmessages" => Some(Protocol::Rest),
        "s3" => Some(Protocol::S3),
        _ => None,
    }
}

/// What is behind the lock.
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) database: Database,
    pub(crate) faults: Faults,
    /// Takes the jobs of instances, where they are machines.
    pub(crate) machines: Option<tokio::sync::mpsc::UnboundedSender<Job>>,
    pub(crate) sessions: Sessions,
    pub(crate) agents: Agents,
    /// Spot instances that are to end, and when.
    pub(crate) interruptions: BTreeMap<String, Millis>,
}

impl Inner {
    /// Hands a job to the machines, where there are some.
    pub(crate) fn send(&self, job: Job) {
        if let Some(machines) = &self.machines {
            // They are gone only when the lab ends.
            let _ = machines.send(job);
        }
    }

    /// Writes what changed, or takes it back.
    pub(crate) fn commit(&mut self) -> std::result::Result<(), DatabaseError> {
        let state = &mut self.state;
        let result = self.database.transaction(|t| state.commit(t));
        match &result {
            Ok(()) => self.state.settle(),
            Err(_) => self.state.rollback(),
        }
        result
    }
}

/// All of AWS.
pub(crate) struct Front {
    pub(crate) settings: Settings,
    pub(crate) images: Vec<Entry>,
    pub(crate) machines: bool,
    pub(crate) blocks: BlockStore,
    /// Makes disks of what is not in blocks, where there are machines.
    pub(crate) disks: OnceLock<Weak<dyn Disks>>,
    /// One disk is made at a time.
    pub(crate) laying: Mutex<()>,
    inner: Mutex<Inner>,
}

/// Makes disks of files.
pub(crate) trait Disks: Send + Sync {
    /// Lays a root out as a disk of so many bytes, and keeps its blocks: their numbers and digests.
    ///
    /// # Errors
    /// Why that cannot be done.
    fn lay_out(
        &self,
        snapshot: &str,
        root: Root,
        bytes: u64,
    ) -> std::result::Result<Vec<(u32, Vec<u8>)>, String>;
}

/// A request of which is known what it asks for.
struct Asked<'a> {
    request: &'a Incoming,
    service: &'a str,
    region: &'a str,
    protocol: Protocol,
    action: String,
    params: Params,
    body: Value,
    caller: Caller,
}

/// What a service said.
enum Said {
    Tree(Node),
    Json(Value),
    Rest(ebs::EbsAnswer),
    /// What it said before, as it was sent.
    Before(String),
}

impl Front {
    /// Loads what there is.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub(crate) fn open(
        settings: Settings,
        machines: bool,
    ) -> std::result::Result<Self, DatabaseError> {
        let database = Database::open(&settings.dir.join("lab.db"))?;
        let state = State::load(&database)?;
        let mut inner = Inner {
            state,
            database,
            faults: Faults::default(),
            machines: None,
            sessions: Sessions::default(),
            agents: Agents::default(),
            interruptions: BTreeMap::new(),
        };
        if inner.state.credentials.iter().next().is_none() {
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
            inner.state.credentials.insert(Credential {
                access_key: ids::unique("AKIA")[..20].to_owned(),
                secret: ids::token(alphabet, 40),
                token: None,
                arn: format!("arn:aws:iam::{}:user/{}", settings.account, settings.user),
                id: ids::unique("AIDA"),
                expires: None,
            });
        }
        let old = now() - 24 * 3600 * 1000;
        for key in inner.state.answers.keys_where(|a| a.made < old) {
            inner.state.answers.remove(&key);
        }
        for key in inner.state.credentials.keys_where(|c| c.expires.is_some_and(|e| e < old)) {
            inner.state.credentials.remove(&key);
        }
        let (time, shown) = (now(), settings.durations.terminated_shown);
        let gone = |i: &Instance| {
            i.phase.at(time) == InstanceState::Terminated
                && i.phase.due().is_none_or(|due| due.saturating_add(shown) < time)
        };
        for key in inner.state.instances.keys_where(gone) {
            inner.state.instances.remove(&key);
        }
        let deleted = |v: &Volume| v.phase.at(time) == VolumeState::Deleted;
        for key in inner.state.volumes.keys_where(deleted) {
            inner.state.volumes.remove(&key);
        }
        inner.commit()?;
        let blocks = BlockStore::new(settings.dir.join("blocks"));
        let images = settings.images();
        Ok(Self {
            settings,
            images,
            machines,
            blocks,
            disks: OnceLock::new(),
            laying: Mutex::default(),
            inner: Mutex::new(inner),
        })
    }

    /// A session that was begun and not ended.
    pub(crate) fn session(&self, id: &str) -> Option<Session> {
        self.lock().sessions.get(id).cloned()
    }

    /// Whether a token lets the control channel of an instance's agent in.
    pub(crate) fn is_control_token(&self, instance: &str, token: &str) -> bool {
        let inner = self.lock();
        inner.agents.get(instance).is_some_and(|agent| agent.token.as_deref() == Some(token))
    }

    /// A session has ended by itself.
    pub(crate) fn end_session(&self, id: &str) {
        self.lock().sessions.remove(id);
    }

    /// What a key of KMS has encrypted.
    ///
    /// # Errors
    /// When no key has, or for another context.
    pub(crate) fn decrypt(
        &self,
        region: &str,
        sealed: &[u8],
        context: &BTreeMap<String, String>,
    ) -> std::result::Result<Vec<u8>, String> {
        kms::unlocked(&self.lock().state, region, sealed, context)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that does not expire.
    pub(crate) fn main_credential(&self) -> Option<Credential> {
        let own = format!(":user/{}", self.settings.user);
        let is_own = |c: &&Credential| c.expires.is_none() && c.arn.ends_with(&own);
        self.lock().state.credentials.iter().find(is_own).cloned()
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: &Incoming) -> Answer {
        let id = ids::uuid();
        let scope = match Scope::of(request) {
            Ok(Some(scope)) => scope,
            Ok(None) => {
                let error = AwsError::new(
                    "MissingAuthenticationToken",
                    "Request is missing Authentication Token",
                );
                return refused(guessed(request), &error.status(403), &id);
            }
            Err(error) => return refused(guessed(request), &error, &id),
        };
        let Some(protocol) = protocol(&scope.service) else {
            let error = AwsError::new(
                "UnrecognizedClientException",
                format!("The lab has no service \"{}\".", scope.service),
            );
            return refused(guessed(request), &error, &id);
        };
        let asked = match self.understand(request, &scope, protocol) {
            Ok(asked) => asked,
            Err(error) => return refused(protocol, &error, &id),
        };
        if asked.service == "ebs" {
            for snapshot in ebs::asked_for(request) {
                self.lay_out(&snapshot);
            }
        }
        let mut answer = self.carry_out(&asked, &id);
        if request.method == "HEAD" {
            answer.body.clear();
        }
        answer
    }

    /// Whose the request is and what it asks for.
    fn understand<'a>(
        &self,
        request: &'a Incoming,
        scope: &'a Scope,
        protocol: Protocol,
    ) -> Result<Asked<'a>> {
        let found = self.lock().state.credentials.get(&scope.access_key).cloned();
        let unknown = || match protocol {
            Protocol::Ec2 => AwsError::new(
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
            )
            .status(401),
            Protocol::Query => AwsError::new(
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            )
            .status(403),
            Protocol::S3 => AwsError::new(
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            )
            .status(403),
            _ => AwsError::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
        };
        let credential = found.ok_or_else(unknown)?;
        if request.header("x-amz-security-token") != credential.token {
            return Err(unknown());
        }
        if credential.expires.is_some_and(|at| at < now()) {
            let code = if protocol == Protocol::Ec2 { "RequestExpired" } else { "ExpiredToken" };
            return Err(AwsError::new(
                code,
                "The security token included in the request is expired",
            ));
        }
        scope.check(request, &credential.secret, now())?;
        if !self.settings.regions.contains(&scope.region) {
            return Err(AwsError::new(
                "InvalidParameterValue",
                format!("The lab has no region \"{}\".", scope.region),
            ));
        }
        let mut params = Params::default();
        let mut body = Value::Null;
        let action = match protocol {
            Protocol::Ec2 | Protocol::Query => {
                params = Params::parse(&request.body);
                params.fill(&Params::parse(request.query.as_bytes()));
                params
                    .text("Action")
                    .ok_or_else(|| AwsError::new("MissingAction", "The action is missing."))?
                    .to_owned()
            }
            Protocol::Json => {
                let target = request.header("x-amz-target").unwrap_or_default();
                let text: &[u8] = if request.body.is_empty() { b"{}" } else { &request.body };
                body = serde_json::from_slice(text).map_err(|_| {
                    AwsError::new("SerializationException", "The body is not JSON.")
                })?;
                let name = target.split_once('.').map(|(_, name)| name.to_owned());
                name.ok_or_else(|| unknown_operation(&target))?
            }
            Protocol::Rest => {
                let named = if scope.service == "ebs" { ebs::action } else { agents::action };
                named(&request.method, &request.path)
                    .ok_or_else(|| unknown_operation(&request.path))?
                    .to_owned()
            }
            Protocol::S3 => {
                let unknown = || {
                    AwsError::new("NotImplemented", "The lab does not have this part of S3.")
                        .status(501)
                };
                s3::action(request).ok_or_else(unknown)?.to_owned()
            }
        };
        Ok(Asked {
            request,
            service: &scope.service,
            region: &scope.region,
            protocol,
            action,
            params,
            body,
            caller: Caller {
                account: self.settings.account.clone(),
                arn: credential.arn,
                id: credential.id,
            },
        })
    }

    fn carry_out(&self, asked: &Asked<'_>, id: &str) -> Answer {
        let name = format!("{}:{}", asked.service, asked.action);
        let mut guard = self.lock();
        let inner = &mut *guard;
        let delay = inner.faults.hit(Kind::Latency, &name).iter().map(|r| r.delay_ms).sum();
        let delay = Duration::from_millis(delay);
        if !inner.faults.hit(Kind::Throttle, &name).is_empty() {
            return Answer { delay, ..refused(asked.protocol, &throttled(asked.protocol), id) };
        }
        if let Some(rule) = inner.faults.hit(Kind::Error, &name).first() {
            let error = AwsError::of_fault(rule.code.as_deref().unwrap_or("InternalError"));
            return Answer { delay, ..refused(asked.protocol, &error, id) };
        }
        let mut jobs = Vec::new();
        let result = self.run(inner, asked, &name, &mut jobs);
        let lost = result.is_ok() && !inner.faults.hit(Kind::LostResponse, &name).is_empty();
        let result = result.and_then(|said| {
            inner.commit().map_err(AwsError::internal)?;
            Ok(said)
        });
        if result.is_err() {
            inner.state.rollback();
            jobs.clear();
        }
        if let Err(error) = self.finish(inner, jobs) {
            tracing::warn!(%error, "blocks of a snapshot, or files of an object");
        }
        drop(guard);
        let answer = match result {
            Ok(said) => said_as(asked, said, id),
            Err(error) => refused(asked.protocol, &error, id),
        };
        tracing::debug!(call = name, region = asked.region, status = answer.status);
        Answer { delay, lost, ..answer }
    }

    fn run(
        &self,
        inner: &mut Inner,
        asked: &Asked<'_>,
        name: &str,
        jobs: &mut Vec<Job>,
    ) -> Result<Said> {
        let time = now();
        let stale = inner.faults.hit(Kind::Stale, name).iter().map(|r| r.delay_ms).max();
        let stale = stale.and_then(|ms| Millis::try_from(ms).ok()).unwrap_or(0);
        let stuck = !inner.faults.hit(Kind::Stuck, name).is_empty();
        self.ensure_region(&mut inner.state, asked.region, time);
        let token = self.client_token(asked);
        let question = match asked.protocol {
            Protocol::S3 => String::new(),
            Protocol::Rest => String::from_utf8_lossy(&asked.request.body).into_owned(),
            _ => asked.params.canonical(&["ClientToken", "Version"]),
        };
        if let Some(before) = token.as_ref().and_then(|key| inner.state.answers.get(key)) {
            if before.question != question {
                return Err(AwsError::new(
                    "IdempotentParameterMismatch",
                    "The client token was used with other parameters before.",
                ));
            }
            return Ok(Said::Before(before.answer.clone()));
        }
        let host = asked.request.header("host").unwrap_or_default();
        let mut call = Call {
            state: &mut inner.state,
            database: &inner.database,
            blocks: &self.blocks,
            settings: &self.settings,
            params: &asked.params,
            action: &asked.action,
            region: asked.region,
            caller: &asked.caller,
            now: time,
            machines: self.machines,
            horizon: if stale == 0 { Millis::MAX } else { time - stale },
            stuck,
            host: &host,
            sessions: &mut inner.sessions,
            agents: &mut inner.agents,
            jobs,
        };
        let claims = access::claims::of(&call, asked.service, &asked.body, asked.request);
        access::check(&call, asked.service, claims)?;
        let said = match asked.service {
            "ec2" => Said::Tree(ec2::answer(&mut call)?),
            "iam" => Said::Tree(iam::answer(&mut call)?),
            "sts" => Said::Tree(sts::answer(&mut call)?),
            "kms" => Said::Json(kms::answer(&mut call, &asked.body)?),
            "ssm" => Said::Json(ssm::answer(&mut call, &asked.body)?),
            "servicequotas" => Said::Json(quotas::answer(&mut call, &asked.body)?),
            "secretsmanager" => Said::Json(secrets::answer(&mut call, &asked.body)?),
            "ec2messages" => Said::Json(agents::messages(&call, &asked.body)?),
            "s3" => Said::Rest(s3::answer(&mut call, asked.request)?),
            "ssmmessages" => Said::Rest(agents::channels(&mut call, asked.request)?),
            _ => Said::Rest(ebs::answer(&mut call, asked.request)?),
        };
        if asked.protocol == Protocol::Ec2 && asked.params.on("DryRun")? {
            return Err(AwsError::new(
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.",
            )
            .status(412));
        }
        if let Some(key) = token {
            let answer = match &said {
                Said::Tree(node) => rendered(node, "item"),
                Said::Rest(rest) => String::from_utf8_lossy(&rest.body).into_owned(),
                Said::Json(value) => value.to_string(),
                Said::Before(text) => text.clone(),
            };
            inner.state.answers.insert(Answered { key, question, answer, made: time });
        }
        Ok(said)
    }

    /// Under what the answer to a request with a client token is kept.
    fn client_token(&self, asked: &Asked<'_>) -> Option<String> {
        let token = match asked.protocol {
            Protocol::Ec2 => asked.params.text("ClientToken")?.to_owned(),
            Protocol::Rest if asked.action == "StartSnapshot" => {
                let body: Value = serde_json::from_slice(&asked.request.body).ok()?;
                body["ClientToken"].as_str()?.to_owned()
            }
            _ => return None,
        };
        Some(format!("{}/{}/{token}", asked.region, asked.action))
    }

    /// Makes what a region has from the start.
    pub(crate) fn ensure_region(&self, state: &mut State, region: &str, time: Millis) {
        if state.regions.get(region).is_none() {
            let account = &self.settings.account;
            ec2::make_default_network(state, account, region, time);
            kms::make_managed_keys(state, account, region, time);
        }
        ec2::publish_base_images(state, &self.images, region, time);
    }

    /// Does what a call left to be done, or hands it to the machines. Under the lock, so that
    /// jobs come in the order of their calls.
    fn finish(
        &self,
        inner: &mut Inner,
        jobs: Vec<Job>,
    ) -> std::result::Result<(), Box<dyn std::error::Error>> {
        for job in jobs {
            match job {
                Job::CopyBlocks { from, to } => inner.database.copy_blocks(&from, &to)?,
                Job::DropBlocks { snapshot } => {
                    for digest in inner.database.drop_blocks(&snapshot)? {
                        self.blocks.remove(&digest)?;
                    }
                }
                Job::DropObjects { files } => {
                    for file in files {
                        std::fs::remove_file(self.settings.dir.join("objects").join(file))?;
                    }
                }
                other => inner.send(other),
            }
        }
        Ok(())
    }
}

fn throttled(protocol: Protocol) -> AwsError {
    match protocol {
        Protocol::Ec2 => {
            AwsError::new("RequestLimitExceeded", "Request limit exceeded.").status(503)
        }
        Protocol::Query => AwsError::new("Throttling", "Rate exceeded"),
        Protocol::Json => AwsError::new("ThrottlingException", "Rate exceeded"),
        Protocol::Rest => AwsError::new("RequestThrottledException", "Rate exceeded"),
        Protocol::S3 => AwsError::new("SlowDown", "Please reduce your request rate.").status(503),
    }
}

/// The protocol of a request that does not say which service it is for.
fn guessed(request: &Incoming) -> Protocol {
    if request.header("x-amz-target").is_some() {
        Protocol::Json
    } else if request.path != "/" {
        Protocol::Rest
    } else {
        Protocol::Ec2
    }
}

fn plain(status: u16, kind: &str, id: &str, body: Vec<u8>) -> Answer {
    Answer {
        status,
        headers: vec![("content-type", kind.to_owned()), ("x-amzn-requestid", id.to_owned())],
        body,
        delay: Duration::ZERO,
        lost: false,
    }
}

fn rendered(node: &Node, item: &str) -> String {
    let mut out = String::new();
    node.write(item, &mut out);
    out
}

const XML: &str = "text/xml;charset=UTF-8";
const JSON: &str = "application/x-amz-json-1.1";

fn said_as(asked: &Asked<'_>, said: Said, id: &str) -> Answer {
    let action = &asked.action;
    let ec2 = |inside: &str| {
        let space = "http://ec2.amazonaws.com/doc/2016-11-15/";
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{space}\">\
             <requestId>{id}</requestId>{inside}</{action}Response>"
        );
        plain(200, XML, id, body.into_bytes())
    };
    match said {
        Said::Tree(node) if asked.protocol == Protocol::Ec2 => ec2(&rendered(&node, "item")),
        Said::Tree(node) => {
            let version = if asked.service == "iam" { "2010-05-08" } else { "2011-06-15" };
            let inside = rendered(&node, "member");
            let body = format!(
                "<{action}Response xmlns=\"https://{}.amazonaws.com/doc/{version}/\">\
                 <{action}Result>{inside}</{action}Result><ResponseMetadata><RequestId>{id}\
                 </RequestId></ResponseMetadata></{action}Response>",
                asked.service
            );
            plain(200, "text/xml", id, body.into_bytes())
        }
        Said::Json(value) => plain(200, JSON, id, value.to_string().into_bytes()),
        Said::Rest(rest) => {
            let mut answer = plain(rest.status, "application/json", id, rest.body);
            for (name, value) in rest.headers {
                answer.headers.retain(|(n, _)| *n != name);
                answer.headers.push((name, value));
            }
            answer
        }
        Said::Before(text) if asked.protocol == Protocol::Ec2 => ec2(&text),
        Said::Before(text) => plain(201, "application/json", id, text.into_bytes()),
    }
}

fn refused(protocol: Protocol, error: &AwsError, id: &str) -> Answer {
    let mut message = String::new();
    super::node::escape(&error.message, &mut message);
    let code = &error.code;
    match protocol {
        Protocol::Ec2 => {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}\
                 </Code><Message>{message}</Message></Error></Errors><RequestID>{id}</RequestID>\
                 </Response>"
            );
            plain(error.status, XML, id, body.into_bytes())
        }
        Protocol::Query => {
            let blame = if error.status < 500 { "Sender" } else { "Receiver" };
            let body = format!(
                "<ErrorResponse><Error><Type>{blame}</Type><Code>{code}</Code><Message>{message}\
                 </Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            );
            plain(error.status, "text/xml", id, body.into_bytes())
        }
        Protocol::S3 => {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>\
                 {message}</Message><RequestId>{id}</RequestId></Error>"
            );
            plain(error.status, "application/xml", id, body.into_bytes())
        }
        Protocol::Json => {
            let body = serde_json::json!({ "__type": code, "message": error.message });
            plain(error.status, JSON, id, body.to_string().into_bytes())
        }
        Protocol::Rest => {
            // The reason stands before the message.
            let (reason, text) = match error.message.split_once(": ") {
                Some((reason, text))
                    if reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') =>
                {
                    (Some(reason), text)
                }
                _ => (None, error.message.as_str()),
            };
            let body = serde_json::json!({ "Message": text, "Reason": reason });
            let mut answer =
                plain(error.status, "application/json", id, body.to_string().into_bytes());
            answer.headers.push(("x-amzn-errortype", code.clone()));
            answer
        }
    }
}
