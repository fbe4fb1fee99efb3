//! The example of a golden image becomes an image of the lab without an instance: its disk is sent
//! through EBS direct, also by a program that is killed half-way; it is launched and serves its page;
//! and of a changed one only what changed is sent.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::{Cloud, PATIENCE, cloud, text};
use crate::ours::karat;

/// So many blocks have been sent before the program is killed.
const HALF_WAY: usize = 40;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/golden").canonicalize().unwrap()
}

/// Makes a folder's files those of another; what is equal keeps its time.
fn sync(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            sync(&entry.path(), &target);
        } else if std::fs::read(&target).ok() != std::fs::read(entry.path()).ok() {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Builds the image in a folder. The layers are those that the example's own tests make.
fn build(folder: &Path) -> PathBuf {
    let done = Command::new(env!("CARGO_BIN_EXE_karat"))
        .args(["build", "-var", "output_directory=output", "golden"])
        .current_dir(folder)
        .env_remove("KARAT_FAULT")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{said}");
    folder.join("output/golden.raw")
}

fn import(cloud: &Cloud, disk: &Path, more: &[&str]) -> Command {
    let mut command = karat(cloud, &["import", "aws", "-json"], "");
    command.args(more).arg(disk);
    command
}

/// What the program tells of an image that it made.
fn imported(cloud: &Cloud, disk: &Path, more: &[&str]) -> Value {
    let done = import(cloud, disk, more).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let _ = writeln!(std::io::stderr(), "{more:?}: {told}");
    told
}

fn number(told: &Value, what: &str) -> u64 {
    told[what].as_u64().unwrap_or_else(|| panic!("no {what}: {told}"))
}

/// Files of a folder and those below it.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { files(&e.path()) } else { 1 }).sum()
}

/// The page that a machine serves, once it does.
fn page(host: &str) -> String {
    let get = || {
        let mut stream = TcpStream::connect((host, 80))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET / HTTP/1.0\r\nHost: golden\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let begun = Instant::now();
    loop {
        let answer = get();
        if let Ok(answer) = &answer
            && let Some((head, body)) = answer.split_once("\r\n\r\n")
            && head.contains(" 200 ")
        {
            return body.to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "no page: {answer:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn its_disk_becomes_an_image_and_of_a_changed_one_little_is_sent() {
    if Command::new("grub-mkimage").arg("--version").output().is_err() {
        let why = "skipped: grub-mkimage is missing (scripts/install-packages test)";
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    }
    let Some(cloud) = cloud() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("golden-lab");
    sync(&example(), &folder.join("golden"));
    let disk = build(&folder);

    // Killed half-way: each block takes its time, so that there is a way.
    let slow = ["lab", "faults", "add", "-calls", "PutSnapshotBlock", "-delay", "100", "latency"];
    assert!(cloud.karat(&slow).status.success());
    let mut killed = import(&cloud, &disk, &["-name", "golden"]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while files(&cloud.state().join("lab/blocks")) < HALF_WAY {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before it was killed");
        assert!(begun.elapsed() < PATIENCE, "nothing is sent");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().signal(), Some(9));
    assert!(cloud.karat(&["lab", "faults", "clear"]).status.success());
    let first = imported(&cloud, &disk, &["-name", "golden"]);
    let full = number(&first, "blocks") - number(&first, "zero");
    assert!(number(&first, "resumed") > 0, "{first}");
    assert_eq!(number(&first, "resumed") + number(&first, "sent"), full, "{first}");
    let instances = cloud.aws("ec2 describe-instances");
    assert_eq!(instances["Reservations"], Value::Array(Vec::new()));

    let group = cloud.group("web");
    cloud.aws(&format!(
        "ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 80 \
         --cidr 127.0.0.1/32"
    ));
    let launch = |told: &Value| {
        let image = text(&told["images"]["us-east-1"]);
        cloud.launch(&format!("--image-id {image} --security-group-ids {group}"))
    };
    let serves = |id: &str| page(text(&cloud.wait_for(id, "running")["PublicIpAddress"]));
    let one = launch(&first);

    // The page changes: one layer is built, and little of the disk differs.
    let html = folder.join("golden/files/index.html");
    let before = std::fs::read_to_string(&html).unwrap();
    let after = before.replace("It works", "It still works");
    assert_ne!(before, after);
    std::fs::write(&html, &after).unwrap();
    let disk = build(&folder);
    let parent = text(&first["snapshot"]);
    let second = imported(&cloud, &disk, &["-name", "golden-2", "-parent", parent]);
    let sent = number(&second, "sent");
    assert!(sent > 0 && sent * 10 < full, "{sent} of {full}: {second}");
    let two = launch(&second);

    assert_eq!(serves(&one), before);
    assert_eq!(serves(&two), after);
    cloud.aws(&format!("ec2 terminate-instances --instance-ids {one} {two}"));
    cloud.wait_for(&one, "terminated");
    cloud.wait_for(&two, "terminated");
    cloud.aws(&format!("ec2 delete-security-group --group-id {group}"));
    assert_eq!(cloud.left(true), "");
    // The disks are large, and the layers they are made of are kept.
    std::fs::remove_dir_all(folder.join("output")).unwrap();
}
