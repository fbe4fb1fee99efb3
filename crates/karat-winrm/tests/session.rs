//! A machine that speaks WinRM: logins, commands and files.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use karat_component::{EventKind, Events, ExitStatus, Masker, RemoteFile, Stream};
use karat_testing::winrm::{PASSWORD, USER, Winrm};
use karat_winrm::{WinrmConfig, WinrmError, WinrmSession};
use tokio_util::sync::CancellationToken;

fn config(server: &Winrm, way: &str) -> WinrmConfig {
    WinrmConfig {
        winrm_username: USER.into(),
        winrm_password: PASSWORD.into(),
        winrm_host: "127.0.0.1".into(),
        winrm_no_proxy: true,
        winrm_port: server.port(),
        winrm_timeout: karat_config::Duration(Duration::from_secs(120)),
        winrm_use_ssl: false,
        winrm_insecure: false,
        winrm_use_ntlm: way == "ntlm",
    }
}

/// Events, and the lines of them.
fn events() -> (Events, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let events = Events::new(Masker::new(), move |e| {
        if let EventKind::Message { text, .. } = e.kind {
            sink.lock().unwrap().push(text);
        }
    });
    (events, seen)
}

async fn connected(way: &str) -> (Winrm, WinrmSession) {
    let server = Winrm::start(way).unwrap();
    let cancel = CancellationToken::new();
    let session = WinrmSession::connect(config(&server, way), events().0, &cancel).await.unwrap();
    (server, session)
}

/// Runs a line; gives how it ended and what it printed on both.
async fn run(session: &WinrmSession, line: &str) -> (ExitStatus, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut sink = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => out.extend_from_slice(bytes),
        Stream::Stderr => err.extend_from_slice(bytes),
    };
    let cancel = CancellationToken::new();
    let ended = session.exec(line, None, &cancel, &mut sink).await.unwrap();
    (ended, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// How many requests of a kind there were.
async fn count(server: &Winrm, kind: &str) -> u64 {
    let url = format!("http://127.0.0.1:{}/counts", server.port());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    let (_, rest) = text.split_once(&format!("\"{kind}\": ")).unwrap_or(("", "0"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[tokio::test]
async fn commands_run_by_both_logins() {
    for way in ["basic", "ntlm"] {
        let (server, session) = connected(way).await;
        let (ended, out, err) =
            run(&session, "echo \"<über> & more\"; echo oops >&2; exit 3").await;
        assert_eq!(ended, ExitStatus::Code(3), "{way}");
        assert_eq!((out.as_str(), err.as_str()), ("<über> & more\n", "oops\n"), "{way}");
        // One that is silent for longer than the server waits, and one that prints much.
        let (ended, out, _) = run(&session, "sleep 2; seq 100000").await;
        assert_eq!(ended, ExitStatus::Code(0), "{way}");
        assert_eq!(out.lines().last(), Some("100000"), "{way}");
        // A shell is opened for a command, and closed after it.
        assert_eq!(count(&server, "Create").await, 3);
        assert_eq!(count(&server, "Delete").await, 3);
    }
}

#[tokio::test]
async fn commands_read_what_they_are_given() {
    let (_server, session) = connected("basic").await;
    let input: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
    let mut out = Vec::new();
    let mut sink = |_, bytes: &[u8]| out.extend_from_slice(bytes);
    let cancel = CancellationToken::new();
    let mut from = &input[..];
    let ended = session.exec("cat", Some(&mut from), &cancel, &mut sink).await.unwrap();
    assert_eq!(ended, ExitStatus::Code(0));
    assert!(out == input, "{} of {}", out.len(), input.len());
    // One that does not want it all.
    let mut from = &input[..];
    let ended = session.exec("head -c 3", Some(&mut from), &cancel, &mut |_, _| {}).await.unwrap();
    assert_eq!(ended, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_wrong_password_is_waited_for_and_told() {
    for way in ["basic", "ntlm"] {
        let server = Winrm::start(way).unwrap();
        let mut config = config(&server, way);
        config.winrm_password = "wrong".into();
        config.winrm_timeout = karat_config::Duration(Duration::from_secs(1));
        let cancel = CancellationToken::new();
        let error = WinrmSession::connect(config, events().0, &cancel).await.unwrap_err();
        let WinrmError::Timeout { last, .. } = &error else { panic!("{error}") };
        let offers = if way == "ntlm" { "Negotiate" } else { "Basic" };
        assert!(
            last.contains("did not let user \"Administrator\" in")
                && last.ends_with(&format!("(it offers {offers})")),
            "{last}"
        );
    }
}

#[tokio::test]
async fn a_login_of_the_other_kind_is_told() {
    let server = Winrm::start("ntlm").unwrap();
    let mut config = config(&server, "basic");
    config.winrm_timeout = karat_config::Duration(Duration::from_secs(1));
    let cancel = CancellationToken::new();
    let (events, seen) = events();
    let error = WinrmSession::connect(config, events, &cancel).await.unwrap_err().to_string();
    assert!(error.contains("in by Basic (it offers Negotiate)"), "{error}");
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|line| line.contains("set winrm_use_ssl")), "{seen:?}");
}

#[tokio::test]
async fn files_go_there_and_back() {
    for way in ["basic", "ntlm"] {
        let (server, session) = connected(way).await;
        let cancel = CancellationToken::new();
        let content: Vec<u8> =
            (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        session.upload(&mut &content[..], "$env:TEMP\\a b\\ü.bin", &cancel).await.unwrap();
        let there = server.place("Windows/Temp/a b/ü.bin");
        assert!(std::fs::read(&there).unwrap() == content);
        assert!(!there.with_extension("bin.part").exists());
        // Not a command for every few kilobytes.
        let sent = count(&server, "Send").await;
        assert!(sent <= 45, "{sent} requests for 3 MB");
        let folder = tempfile::tempdir().unwrap();
        let back = folder.path().join("back");
        session.download("%TEMP%/a b/ü.bin", &back, &cancel).await.unwrap();
        assert!(std::fs::read(&back).unwrap() == content);

        // An empty one, and one in the place of another.
        for text in ["", "second"] {
            session.upload(&mut text.as_bytes(), "C:/x/empty", &cancel).await.unwrap();
            assert_eq!(std::fs::read_to_string(server.place("x/empty")).unwrap(), text);
        }
    }
}

fn tree(folder: &Path) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
            if entry.path().is_dir() {
                found.push((name, None));
                left.push(entry.path());
            } else {
                found.push((name, Some(std::fs::read_to_string(entry.path()).unwrap())));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn folders_go_there_and_back_in_one_command() {
    let (server, session) = connected("basic").await;
    let cancel = CancellationToken::new();
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    std::fs::create_dir_all(site.join("deep/empty")).unwrap();
    std::fs::create_dir_all(site.join("deep/ünder")).unwrap();
    for number in 0..50 {
        std::fs::write(site.join(format!("deep/ünder/{number}.txt")), format!("{number}\n"))
            .unwrap();
    }
    std::fs::write(site.join("index.html"), "").unwrap();
    let before = count(&server, "Command").await;
    session.upload_dir(&site, "C:/inetpub", &cancel).await.unwrap();
    assert_eq!(tree(&server.place("inetpub/site")), tree(&site));
    let contents = site.join("");
    session.upload_dir(&contents, "C:/other", &cancel).await.unwrap();
    assert_eq!(tree(&server.place("other")), tree(&site));
    assert_eq!(count(&server, "Command").await - before, 2);

    let back = folder.path().join("back");
    session.download_dir("C:\\inetpub\\site", &back, &cancel).await.unwrap();
    assert_eq!(tree(&back.join("site")), tree(&site));
    session.download_dir("C:/other/", &back.join("flat"), &cancel).await.unwrap();
    assert_eq!(tree(&back.join("flat")), tree(&site));
}

#[tokio::test]
async fn what_cannot_be_moved_is_told_and_leaves_nothing() {
    let (server, session) = connected("basic").await;
    let cancel = CancellationToken::new();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("x");
    let error = session.download("C:/nowhere", &to, &cancel).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot download \"C:/nowhere\": ") && error.ends_with("does not exist"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::create_dir_all(server.place("is/folder")).unwrap();
    let error = session.upload(&mut &b"x"[..], "C:/is/folder", &cancel).await.unwrap_err();
    assert!(error.to_string().ends_with("is a folder"), "{error}");
    let error = session.download("C:/is", &to, &cancel).await.unwrap_err().to_string();
    assert!(error.ends_with("is a folder"), "{error}");
    // What breaks off is not taken for a whole.
    let broken = tokio::io::AsyncReadExt::chain(&b"half"[..], Breaking);
    tokio::pin!(broken);
    let error = session.upload(&mut broken, "C:/half", &cancel).await.unwrap_err().to_string();
    assert!(error.contains("cannot read what is to be sent: it broke"), "{error}");
    assert!(!server.place("half").exists());
}

/// Fails when it is read.
struct Breaking;

impl tokio::io::AsyncRead for Breaking {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("it broke")))
    }
}

#[tokio::test]
async fn a_script_is_sent_run_and_removed() {
    let (server, session) = connected("ntlm").await;
    let file = RemoteFile {
        path: "C:/Windows/Temp/script.sh".into(),
        mode: 0o755,
        content: b"echo from a script\nexit 7\n".as_slice().into(),
    };
    let line = format!("sh {}", server.place("Windows/Temp/script.sh").display());
    let cancel = CancellationToken::new();
    for clean in [false, true] {
        let mut out = Vec::new();
        let mut sink = |_, bytes: &[u8]| out.extend_from_slice(bytes);
        let files = std::slice::from_ref(&file);
        let ended = session.run_script(files, &line, clean, &cancel, &mut sink).await.unwrap();
        assert_eq!((ended, out.as_slice()), (ExitStatus::Code(7), &b"from a script\n"[..]));
        assert_eq!(server.place("Windows/Temp/script.sh").exists(), !clean);
    }
}

#[tokio::test]
async fn a_machine_that_restarts_is_reached_again() {
    let (_server, session) = connected("basic").await;
    let cancel = CancellationToken::new();
    let (ended, ..) = run(&session, "shutdown /r /t 0").await;
    assert_eq!(ended, ExitStatus::Disconnected);
    session.reconnect(&cancel).await.unwrap();
    assert_eq!(run(&session, "echo again").await.1, "again\n");
}

#[tokio::test]
async fn a_cancelled_command_ends_there_as_well() {
    let (server, session) = connected("basic").await;
    let cancel = CancellationToken::new();
    let mark = server.place("never");
    let line = format!("echo begun; sleep 600; touch {}", mark.display());
    let mut sink = |_, _: &[u8]| cancel.cancel();
    let ended = session.exec(&line, None, &cancel, &mut sink).await;
    assert!(matches!(ended, Err(WinrmError::Cancelled)), "{ended:?}");
    assert_eq!(count(&server, "Signal").await, 1);
    assert_eq!(count(&server, "Create").await, count(&server, "Delete").await);
}

/// The machine of these tests, asked by a client that is not ours.
const PYWINRM: &str = r"
import sys, winrm
url, user, password, way = sys.argv[1:]
protocol = winrm.Protocol(endpoint=url, transport='ntlm' if way == 'ntlm' else 'basic',
    username=user, password=password, message_encryption='never')
shell = protocol.open_shell(codepage=65001)
command = protocol.run_command(shell, 'echo', ['out;', 'echo', 'err', '>&2;', 'exit', '4'])
out, err, code = protocol.get_command_output(shell, command)
protocol.cleanup_command(shell, command)
command = protocol.run_command(shell, 'cat', console_mode_stdin=False)
protocol.send_command_input(shell, command, b'given', end=True)
echo, _, _ = protocol.get_command_output(shell, command)
protocol.close_shell(shell)
print(out, err, code, echo)
";

#[test]
fn another_client_finds_the_same() {
    let there = Command::new("python3").args(["-c", "import winrm"]).output().unwrap();
    if !there.status.success() {
        eprintln!("skipped: pywinrm is not installed (scripts/test installs it)");
        return;
    }
    for way in ["basic", "ntlm"] {
        let server = Winrm::start(way).unwrap();
        let url = format!("http://127.0.0.1:{}/wsman", server.port());
        let done = Command::new("python3")
            .args(["-c", PYWINRM, &url, USER, PASSWORD, way])
            .env("NO_PROXY", "*")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{way}: {said}");
        let told = String::from_utf8(done.stdout).unwrap();
        assert_eq!(told.trim(), r"b'out\n' b'err\n' 4 b'given'", "{way}");
    }
}
