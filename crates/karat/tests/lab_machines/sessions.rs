//! Session manager: the lab's built-in agent, our client and Amazon's own plugin.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_ssm::{Connect, DataKey, Io, Opened, PortSession, Service, SsmError};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_util::sync::CancellationToken;

use crate::cloud::{Cloud, PATIENCE, cloud, cloud_with, text};

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

/// Gives a profile whose instances can announce themselves.
pub(crate) fn profile(cloud: &Cloud) {
    cloud.aws(&format!("iam create-role --role-name agent --assume-role-policy-document {TRUST}"));
    cloud.aws("iam create-instance-profile --instance-profile-name agent");
    cloud.aws("iam add-role-to-instance-profile --instance-profile-name agent --role-name agent");
}

/// AWS's kit for Python makes the calls: its command line wants the plugin for them.
struct Kit {
    target: String,
    document: &'static str,
    port: u16,
    variables: Vec<(String, String)>,
}

impl Kit {
    async fn call(&self, script: &str, arguments: &[&str]) -> Result<Value, SsmError> {
        let refused = |reason: String| SsmError::Service { call: "a call", reason, retry: false };
        let mut command = tokio::process::Command::new("python3");
        command.arg("-c").arg(format!(
            "import base64, boto3, json, sys\nssm = boto3.client('ssm')\nr = {script}\n\
             r.pop('ResponseMetadata', None)\nprint(json.dumps(r))"
        ));
        command.args(arguments).envs(self.variables.iter().cloned()).env("NO_PROXY", "*");
        let output = command.output().await.map_err(|e| refused(e.to_string()))?;
        if !output.status.success() {
            return Err(refused(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| refused(e.to_string()))
    }

    fn opened(answer: &Value) -> Opened {
        Opened {
            session_id: text(&answer["SessionId"]).into(),
            stream_url: text(&answer["StreamUrl"]).into(),
            token: text(&answer["TokenValue"]).into(),
        }
    }
}

#[async_trait]
impl Service for Kit {
    fn target(&self) -> &str {
        &self.target
    }

    async fn start(&self) -> Result<Opened, SsmError> {
        let script = "ssm.start_session(Target=sys.argv[1], \
            DocumentName=sys.argv[3], Parameters={'portNumber': [sys.argv[2]]})";
        let port = self.port.to_string();
        Ok(Self::opened(&self.call(script, &[&self.target, &port, self.document]).await?))
    }

    async fn resume(&self, session_id: &str) -> Result<Opened, SsmError> {
        let script = "ssm.resume_session(SessionId=sys.argv[1])";
        Ok(Self::opened(&self.call(script, &[session_id]).await?))
    }

    async fn terminate(&self, session_id: &str) -> Result<(), SsmError> {
        let script = "ssm.terminate_session(SessionId=sys.argv[1])";
        self.call(script, &[session_id]).await.map(drop)
    }

    async fn data_key(
        &self,
        key_id: &str,
        bytes: usize,
        context: &BTreeMap<String, String>,
    ) -> Result<DataKey, SsmError> {
        let script = "{k: base64.b64encode(v).decode() for k, v in \
            boto3.client('kms').generate_data_key(KeyId=sys.argv[1], \
            NumberOfBytes=int(sys.argv[2]), EncryptionContext=json.loads(sys.argv[3])).items() \
            if isinstance(v, bytes)}";
        let context = serde_json::to_string(context).unwrap();
        let made = self.call(script, &[key_id, &bytes.to_string(), &context]).await?;
        let bytes = |name: &str| STANDARD.decode(text(&made[name])).unwrap();
        Ok(DataKey { plain: bytes("Plaintext"), encrypted: bytes("CiphertextBlob") })
    }
}

/// Connects to the address alone, past proxies. The first connection breaks after so many bytes.
#[derive(Default)]
struct Straight {
    breaks_after: Option<usize>,
    made: AtomicUsize,
}

/// A stream that breaks.
struct Breaking {
    inner: TcpStream,
    left: usize,
}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl Connect for Straight {
    async fn connect(&self, address: &Uri) -> Result<Box<dyn Io>, SsmError> {
        let host = address.authority().map(ToString::to_string).unwrap_or_default();
        match TcpStream::connect(&host).await {
            Ok(inner) => {
                let first = self.made.fetch_add(1, Ordering::SeqCst) == 0;
                match self.breaks_after.filter(|_| first) {
                    Some(left) => Ok(Box::new(Breaking { inner, left })),
                    None => Ok(Box::new(inner)),
                }
            }
            Err(error) => Err(SsmError::Connect { host, reason: error.to_string() }),
        }
    }
}

#[test]
fn a_port_is_reached_without_a_rule_and_without_a_public_address() {
    // The sessions are encrypted, too.
    let Some(cloud) = cloud_with("session_key = \"alias/sessions\"") else { return };
    let key = cloud.aws("kms create-key");
    let key = text(&key["KeyMetadata"]["KeyId"]);
    cloud.aws(&format!("kms create-alias --alias-name alias/sessions --target-key-id {key}"));
    profile(&cloud);
    let bare = cloud.launch(&format!("--image-id {}", cloud.base()));
    let script = "#!/bin/sh\nmkdir /srv/web\n\
        head -c 3000000 /dev/urandom | base64 | head -c 2000000 > /srv/web/file\n\
        sha256sum < /srv/web/file | head -c 64 > /srv/web/sum\n\
        systemd-run --working-directory=/srv/web python3 -m http.server --bind 127.0.0.1 8000\n";
    std::fs::write(cloud.dir.path().join("script"), script).unwrap();
    let id = cloud.launch(&format!(
        "--image-id {} --iam-instance-profile Name=agent --no-associate-public-ip-address \
         --user-data file://{}/script",
        cloud.base(),
        cloud.dir.path().display()
    ));
    assert!(cloud.wait_for(&id, "running")["PublicIpAddress"].is_null());
    cloud.wait_for(&bare, "running");
    let all = cloud.aws("ssm describe-instance-information");
    let shown = all["InstanceInformationList"].as_array().unwrap();
    // One that has no role cannot announce itself.
    assert_eq!(shown.len(), 1, "{all}");
    assert_eq!(shown[0]["InstanceId"], id.as_str());
    let status = cloud.aws(&format!("ssm get-connection-status --target {bare}"));
    assert_eq!(status["Status"], "notconnected");

    let get = |path: &str, breaks_after: Option<usize>, document: &'static str| {
        file_through(&cloud, &id, path, breaks_after, document)
    };
    let (sum, connections) = get("/sum", None, FORWARD);
    // A session that does not forward ends with the machine's connection.
    assert_eq!(get("/sum", None, SSH).0, sum);
    assert_eq!(connections, 1);
    // The web socket is lost in the middle, and another one goes on.
    let (file, connections) = get("/file", Some(300_000), FORWARD);
    assert_eq!((file.len(), connections), (2_000_000, 2));
    assert_eq!(hex_digest(&file).as_bytes(), sum);
}

pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fetches a file from the web server at port 8000 of an instance, through sessions, as soon as it
/// serves; gives it with the number of web sockets that it took.
pub(crate) fn file_through(
    cloud: &Cloud,
    id: &str,
    path: &str,
    breaks_after: Option<usize>,
    document: &'static str,
) -> (Vec<u8>, usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = Instant::now();
    loop {
        let (target, variables) = (id.to_owned(), cloud.variables());
        let kit = Kit { target, document, port: 8000, variables };
        let straight = Arc::new(Straight { breaks_after, ..Straight::default() });
        let found = runtime.block_on(fetch(kit, Arc::clone(&straight) as Arc<_>, path));
        match found {
            Some(body) => return (body, straight.made.load(Ordering::SeqCst)),
            // The machine's web server may not serve yet.
            None => assert!(begun.elapsed() < PATIENCE, "{path} is not served"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub(crate) const FORWARD: &str = "AWS-StartPortForwardingSession";
const SSH: &str = "AWS-StartSSHSession";

/// Asks a web server behind a session for a file; none while it does not serve it.
async fn fetch(kit: Kit, connect: Arc<dyn Connect>, path: &str) -> Option<Vec<u8>> {
    let ends = kit.document == SSH;
    let mut session =
        PortSession::open(Arc::new(kit), connect, &CancellationToken::new()).await.unwrap();
    session.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
    // One that forwards does not tell the end of a connection: the answer says how long it is.
    let mut answer = Vec::new();
    let head = loop {
        if let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") {
            break end + 4;
        }
        if session.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length?.trim().parse().ok()?;
    while answer.len() < head + length {
        if session.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    if ends {
        assert_eq!(session.read_buf(&mut answer).await.unwrap(), 0);
    }
    // Where the machine has ended it, that is told here.
    let _ = session.close().await;
    text.starts_with("http/1.0 200").then(|| answer.split_off(head))
}

/// Ends a process with its group.
struct Group(std::process::Child);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Amazon's own plugin. Runs where the variable `KARAT_TEST_SESSION_MANAGER_PLUGIN` names it.
#[test]
fn amazons_plugin_opens_a_shell_and_a_port() {
    use std::os::unix::process::CommandExt as _;
    let Some(plugin) = std::env::var_os("KARAT_TEST_SESSION_MANAGER_PLUGIN") else { return };
    let Some(cloud) = cloud() else { return };
    profile(&cloud);
    let key = cloud.key("k");
    let id = cloud.launch(&format!(
        "--image-id {} --iam-instance-profile Name=agent --key-name k",
        cloud.base()
    ));
    cloud.wait_for(&id, "running");
    let programs = cloud.dir.path().join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(plugin, programs.join("session-manager-plugin")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());

    // A shell, which wants a terminal on its side too.
    let mut shell = cloud.client("script");
    shell.args([
        "-qfec",
        &format!("stty rows 33 cols 101; aws ssm start-session --target {id}"),
        "/dev/null",
    ]);
    shell.env("PATH", &path).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut shell = Group(shell.spawn().unwrap());
    let mut input = shell.0.stdin.take().unwrap();
    let mut output = shell.0.stdout.take().unwrap();
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut chunk) {
            let _ = tell.send(chunk[..read].to_vec());
        }
    });
    let mut seen = Vec::new();
    let begun = Instant::now();
    let mut asked = false;
    while !String::from_utf8_lossy(&seen).contains("I am ssm-user, before 33 101.") {
        assert!(begun.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&seen));
        if let Ok(chunk) = heard.recv_timeout(Duration::from_millis(500)) {
            seen.extend(chunk);
        }
        if !asked && String::from_utf8_lossy(&seen).contains('$') {
            asked = true;
            // The size comes a moment after the shell.
            let ask = "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.2; done; \
                       echo \"I am $(id -un), before $(stty size).\"\n";
            input.write_all(ask.as_bytes()).unwrap();
        }
    }
    // Its end is the session's.
    input.write_all(b"exit\n").unwrap();
    assert!(shell.0.wait().unwrap().success());
    drop(shell);
    let sessions = cloud.aws("ssm describe-sessions --state Active");
    assert_eq!(sessions["Sessions"], Value::Array(Vec::new()));

    // A port, through which ssh logs in.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut forward = cloud.client("aws");
    forward.args(["ssm", "start-session", "--target", &id]);
    forward.args(["--document-name", "AWS-StartPortForwardingSession", "--parameters"]);
    forward.arg(format!("portNumber=22,localPortNumber={port}"));
    forward.env("PATH", &path).stdout(Stdio::null()).process_group(0);
    let _forward = Group(forward.spawn().unwrap());
    let begun = Instant::now();
    loop {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i"]).arg(&key);
        ssh.args(["-p", &port.to_string(), "admin@127.0.0.1", "echo through"]);
        let output = ssh.stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK").output().unwrap();
        if output.stdout == b"through\n" {
            break;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(begun.elapsed() < PATIENCE, "{said}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
