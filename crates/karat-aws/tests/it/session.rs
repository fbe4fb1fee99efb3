//! A build that logs in through the session manager: the machine is the lab's record, its agent
//! and its ssh server are real.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use karat_saga::Ending;
use karat_ssm::{AgentOptions, AgentSession, Io, Socket, Target, read_opening, refuse};
use karat_testing::sshd::Sshd;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::build::{Build, told};
use crate::lab::{LIMIT, Lab, quick};

const TOKEN: &str = "let me in";

struct Port(u16);

#[async_trait]
impl Target for Port {
    async fn open(&self) -> std::io::Result<Box<dyn Io>> {
        Ok(Box::new(TcpStream::connect(("127.0.0.1", self.0)).await?))
    }
}

/// The service: sessions to one ssh server, whatever the machine is called.
struct Service {
    address: SocketAddr,
    to: u16,
    sessions: Mutex<Vec<(String, Arc<AgentSession>)>>,
    /// What it was asked for.
    asked: Mutex<Vec<Json>>,
    ended: AtomicU32,
    /// How often the agent is not there yet.
    away: AtomicU32,
}

impl Service {
    async fn start(to: u16) -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let service = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            to,
            sessions: Mutex::default(),
            asked: Mutex::default(),
            ended: AtomicU32::new(0),
            away: AtomicU32::new(2),
        });
        let serves = Arc::clone(&service);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = Arc::clone(&serves);
                tokio::spawn(async move {
                    let mut first = [0; 4];
                    while stream.peek(&mut first).await.unwrap_or(4) < 4 {}
                    match &first {
                        b"GET " => service.channel(stream).await,
                        _ => service.answer(stream).await,
                    }
                });
            }
        });
        service
    }

    /// A data channel.
    async fn channel(&self, stream: TcpStream) {
        let stream: Box<dyn Io> = Box::new(stream);
        let mut socket: Socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let Ok(opening) = read_opening(&mut socket).await else { return };
        let found = |id: &str| opening.token == format!("{TOKEN} {id}");
        let session = {
            let sessions = self.sessions.lock().unwrap();
            sessions.iter().find(|(id, _)| found(id)).map(|(_, agent)| Arc::clone(agent))
        };
        match session {
            // A session that is over needs nothing more.
            Some(agent) => drop(agent.attach(socket).await),
            None => refuse(&mut socket, "s-0", "who are you?").await.unwrap(),
        }
    }

    /// One call, and the connection is closed.
    async fn answer(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let (head, body) = loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            read.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |l| l.trim().parse().unwrap());
            if body.len() >= length {
                break (head, body.to_owned());
            }
        };
        let target = head.lines().find_map(|l| l.strip_prefix("x-amz-target: amazonssm."));
        let call = target.unwrap_or_default().trim().to_owned();
        let (status, said) = self.carry_out(&call, &serde_json::from_str(&body).unwrap());
        let said = said.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{said}",
            said.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn carry_out(&self, call: &str, body: &Json) -> (&'static str, Json) {
        match call {
            "startsession" => {
                self.asked.lock().unwrap().push(body.clone());
                let less = |left: u32| left.checked_sub(1);
                if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                    let said = json!({ "__type": "TargetNotConnected", "message": "not yet" });
                    return ("400 Bad Request", said);
                }
                let mut sessions = self.sessions.lock().unwrap();
                let id = format!("s-{}", sessions.len() + 1);
                let options = AgentOptions {
                    session_id: id.clone(),
                    target_id: body["Target"].as_str().unwrap().to_owned(),
                    session_type: "Port".into(),
                    properties: json!({
                        "portNumber": body["Parameters"]["portNumber"][0],
                        "type": "LocalPortForwarding",
                    }),
                    encryption: None,
                };
                let agent = AgentSession::start(options, Arc::new(Port(self.to)));
                sessions.push((id.clone(), Arc::new(agent)));
                ("200 OK", self.opened(&id))
            }
            "resumesession" => ("200 OK", self.opened(body["SessionId"].as_str().unwrap())),
            "terminatesession" => {
                self.ended.fetch_add(1, Ordering::SeqCst);
                ("200 OK", json!({ "SessionId": body["SessionId"] }))
            }
            other => panic!("nobody asks for {other}"),
        }
    }

    fn opened(&self, id: &str) -> Json {
        json!({
            "SessionId": id,
            "StreamUrl": format!("ws://{}/v1/data-channel/{id}?role=publish_subscribe", self.address),
            "TokenValue": format!("{TOKEN} {id}"),
        })
    }
}

fn options(lab: &Lab, service: &Service, server: &Sshd) -> Json {
    lab.serve_ssm(&format!("http://{}", service.address));
    let mut options = lab.options("web-1");
    let more = json!({
        "communicator": "ssh",
        "ssh_username": "root",
        "ssh_private_key_file": server.user_key().unwrap(),
        "ssh_host_key_checking": "off",
        "ssh_interface": "session_manager",
        "ssh_disable_agent_forwarding": true,
        "associate_public_ip_address": false,
        "ami_regions": [],
        // The server runs on this computer.
        "terminate_after": "0s",
    });
    for (name, value) in more.as_object().unwrap() {
        options[name] = value.clone();
    }
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_an_open_port_is_provisioned() {
    if let Some(why) = karat_testing::sshd::missing() {
        crate::note(&why);
        return;
    }
    let server = Sshd::start(&[]).unwrap();
    let (lab, service) = (Lab::start(quick()).await, Service::start(server.port()).await);
    let build = Build::new(&options(&lab, &service, &server), "08session");
    let file = server.path("uploaded");
    build.hook.uploads("through the session", file.to_str().unwrap());
    let done = build.run("").await.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "through the session");
    let generated = build.hook.generated();
    assert!(generated["Host"].as_str().unwrap().starts_with("i-"), "{generated:?}");
    let asked = service.asked.lock().unwrap().clone();
    assert!(asked.len() >= 3, "{asked:?}");
    assert_eq!(asked[0]["DocumentName"], "AWS-StartPortForwardingSession");
    assert_eq!(asked[0]["Parameters"]["portNumber"][0], "22");
    assert_eq!(asked[0]["Target"], generated["Host"].as_str().unwrap());
    // That goes on by itself.
    let begun = tokio::time::Instant::now();
    while service.ended.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < LIMIT, "no session was ended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Nobody may come in.
    let saga = build.prepared.saga(&build.cx).unwrap();
    assert!(saga.nodes().iter().all(|node| node.name != "ingress"));
    assert_eq!(lab.litter(), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_come_is_told() {
    if let Some(why) = karat_testing::sshd::missing() {
        crate::note(&why);
        return;
    }
    let server = Sshd::start(&[]).unwrap();
    let (lab, service) = (Lab::start(quick()).await, Service::start(server.port()).await);
    service.away.store(u32::MAX, Ordering::SeqCst);
    let mut options = options(&lab, &service, &server);
    options["ssh_timeout"] = json!("2s");
    let build = Build::new(&options, "09away");
    let failure = build.run("").await.unwrap_err();
    assert!(told(&failure).contains("could not log in to i-"), "{}", told(&failure));
    assert_eq!(failure.ending, Ending::Undone, "{}", told(&failure));
    assert_eq!(lab.left(), [] as [&str; 0]);
}
