//! A server, a session on it, and what the session says.

use std::path::Path;
use std::sync::{Arc, Mutex};

use karat_component::{EventKind, Events, ExitStatus, Masker, Stream};
use karat_ssh::{SeenHostKeys, Session, SshConfig, SshError};
use karat_testing::sshd::Sshd;
use tokio_util::sync::CancellationToken;

/// A server, or `None` with a word on why there is none.
pub(crate) fn server(lines: &[&str]) -> Option<Sshd> {
    if let Some(why) = karat_testing::sshd::missing() {
        eprintln!("skipped: {why}");
        return None;
    }
    Some(Sshd::start(lines).expect("the server starts"))
}

/// Options to log in as root with the server's key.
pub(crate) fn config(server: &Sshd) -> SshConfig {
    SshConfig {
        ssh_host: "127.0.0.1".into(),
        ssh_port: server.port(),
        ssh_username: "root".into(),
        ssh_private_key_file: text(&key(server)),
        ssh_timeout: "30s".parse().unwrap(),
        ssh_disable_agent_forwarding: true,
        ..SshConfig::default()
    }
}

pub(crate) fn key(server: &Sshd) -> std::path::PathBuf {
    let path = server.path("user_key");
    if path.exists() { path } else { server.user_key().unwrap() }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// What was said, line by line.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    pub(crate) fn events(&self) -> Events {
        let said = Arc::clone(&self.0);
        Events::new(Masker::new(), move |e| {
            if let EventKind::Message { text } | EventKind::Say { text } = e.kind {
                said.lock().unwrap().push(text);
            }
        })
    }

    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

pub(crate) async fn connect(config: SshConfig) -> Result<Session, SshError> {
    let cancel = CancellationToken::new();
    Session::connect(config, SeenHostKeys::default(), Events::discard(), &cancel).await
}

pub(crate) async fn session(server: &Sshd) -> Session {
    connect(config(server)).await.expect("it connects")
}

/// Runs a command and gives how it ended, with what it printed.
pub(crate) async fn sh(session: &Session, line: &str) -> (ExitStatus, String, String) {
    let cancel = CancellationToken::new();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = session
        .exec(line, None, &cancel, |stream, bytes| match stream {
            Stream::Stdout => out.extend_from_slice(bytes),
            Stream::Stderr => err.extend_from_slice(bytes),
        })
        .await
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status, text(out), text(err))
}

/// Bytes that do not compress, the same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
