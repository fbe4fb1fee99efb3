//! A build of Windows: the password that the lab gives it, and its WinRM.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use karat_saga::Ending;
use karat_testing::winrm::{USER, Winrm};
use karat_value::Value;
use serde_json::{Value as Json, json};

use crate::build::{Build, told};
use crate::lab::{LIMIT, Lab};

fn options(lab: &Lab, server: &Winrm) -> Json {
    let mut options = lab.options("windows-1");
    for (name, value) in [
        ("communicator", json!("winrm")),
        ("winrm_username", json!(USER)),
        ("winrm_host", json!("127.0.0.1")),
        ("winrm_port", json!(server.port())),
        ("winrm_use_ntlm", json!(true)),
        ("winrm_no_proxy", json!(true)),
    ] {
        options[name] = value;
    }
    options
}

/// The private key that the build keeps, once it does.
fn key(folder: &Path) -> Option<PathBuf> {
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).ok()?.flatten() {
            match entry.file_name().to_str() {
                Some("key.pem") => return Some(entry.path()),
                _ if entry.path().is_dir() => left.push(entry.path()),
                _ => {}
            }
        }
    }
    None
}

/// The password of the build's machine, decrypted by a program that is not ours.
async fn password(lab: &Lab, folder: &Path) -> String {
    let ec2 = lab.client("us-east-1");
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < LIMIT, "there is no password");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Some(key) = key(folder) else { continue };
        let found = ec2.describe_instances().send().await.unwrap();
        let all = found.reservations().iter().flat_map(|r| r.instances());
        let Some(id) = all.filter_map(|i| i.instance_id()).next() else { continue };
        let answer = ec2.get_password_data().instance_id(id).send().await.unwrap();
        let sealed = STANDARD.decode(answer.password_data().unwrap_or_default()).unwrap();
        if sealed.is_empty() {
            continue;
        }
        let file = folder.join("sealed");
        std::fs::write(&file, sealed).unwrap();
        let opened = Command::new("openssl")
            .args(["pkeyutl", "-decrypt", "-pkeyopt", "rsa_padding_mode:pkcs1", "-inkey"])
            .arg(key)
            .arg("-in")
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
        return String::from_utf8(opened.stdout).unwrap();
    }
}

#[tokio::test]
async fn the_password_of_windows_is_asked_for_and_kept_secret() {
    let lab = Lab::of_windows().await;
    let server = Winrm::start("ntlm").unwrap();
    let build = Build::new(&options(&lab, &server), "31windows");
    build.hook.uploads("brought by WinRM", "C:/karat/told.txt");
    let learns = async {
        let password = password(&lab, build.state.path()).await;
        server.set_password(&password).unwrap();
        password
    };
    let (done, password) = tokio::join!(build.run(""), learns);
    let done = done.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(build.artifact(&done).is_some());
    let text = std::fs::read_to_string(server.place("karat/told.txt")).unwrap();
    assert_eq!(text, "brought by WinRM");
    let generated = build.hook.generated();
    let value = |name: &str| generated.get(name).cloned();
    assert_eq!(value("ConnType"), Some(Value::string("winrm")));
    assert_eq!(value("WinRMPassword"), Some(Value::string(&*password)));
    assert_eq!(value("User"), Some(Value::string(USER)));
    // Neither what was said nor what was written down holds it.
    let said = build.recorded.said();
    assert!(!said.iter().any(|line| line.contains(&password)), "{said:?}");
    for entry in std::fs::read_dir(build.state.path()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let holds = bytes.windows(password.len()).any(|w| w == password.as_bytes());
        assert!(!holds, "{}", entry.path().display());
    }
    assert_eq!(lab.litter(), Vec::<String>::new());
}

#[tokio::test]
async fn a_password_that_never_comes_is_told_and_leaves_nothing() {
    // The lab's usual machines are not of Windows.
    let lab = Lab::start(crate::lab::quick()).await;
    let server = Winrm::start("basic").unwrap();
    let mut options = options(&lab, &server);
    options["windows_password_timeout"] = json!("1s");
    let failure = Build::new(&options, "32windows").run("").await.unwrap_err();
    let reason = told(&failure);
    assert!(reason.contains("gave no password within 1 s"), "{reason}");
    assert_eq!(failure.ending, Ending::Undone, "{reason}");
    assert_eq!(lab.left(), Vec::<String>::new());
}
