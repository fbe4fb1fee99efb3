//! Booting, running commands, copying files.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use karat_component::{ExitStatus, Output, Stream};
use karat_machine::runtime::{Exec, LazyMachine, Machine, RuntimeError};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::common::{SUITES, folder, is_root, spec};

const PATIENCE: Duration = Duration::from_secs(30);

fn checksum(path: &Path) -> Vec<u8> {
    Sha256::digest(fs::read(path).unwrap()).to_vec()
}

async fn shell(machine: &Machine, line: &str) -> (ExitStatus, String) {
    let (status, text) = machine.output_of(Exec::shell(line)).await.unwrap();
    (status, text.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn boots_and_runs_commands() {
    if !is_root() {
        return;
    }
    for suite in SUITES {
        let dir = folder();
        let cancel = CancellationToken::new();
        let name = format!("kt-basic-{suite}");
        let mut spec = spec(&name, suite, dir.path());
        spec.hostname = "first.example".into();
        spec.env.insert("FROM_SPEC".into(), "a b".into());
        let (machine, report) = Machine::start(spec, &cancel).await.unwrap();
        assert_eq!(report.state, "running", "{suite}: {:?}", report.failed_units);
        assert_eq!(report.failed_units, [""; 0]);
        assert!(machine.is_running());

        assert_eq!(shell(&machine, "exit 7").await.0, ExitStatus::Code(7));
        assert_eq!(shell(&machine, "kill -SEGV $$").await.0, ExitStatus::Signal("SEGV".into()));
        let (_, name) = shell(&machine, "uname -n; cat /etc/hostname; id -u; pwd").await;
        assert_eq!(name, "first.example\nfirst.example\n0\n/root");
        let (_, first) = shell(&machine, "cat /proc/1/comm").await;
        assert_eq!(first, "systemd");
        // The command is where the machine's own processes are.
        let (_, out) = shell(&machine, "cat /proc/self/cgroup; ls /proc/1/task; readlink /proc/self/ns/pid /proc/1/ns/pid | uniq | wc -l").await;
        assert!(out.contains("/karat-command-"), "{out}");
        assert!(out.ends_with('1'), "{out}");
        let (status, _) = shell(&machine, "systemd-run --quiet --wait /bin/true").await;
        assert_eq!(status, ExitStatus::Code(0));

        let mut exec = Exec::new(["sh", "-c", "echo $VALUE; id -un; pwd; echo err >&2"]);
        exec.env.insert("VALUE".into(), "x'y\"z".into());
        exec.user = Some("nobody".into());
        exec.cwd = Some("/var".into());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        exec.output = Output::new(move |stream, bytes| {
            sink.lock().unwrap().push((stream, String::from_utf8_lossy(bytes).into_owned()));
        });
        assert!(machine.exec(exec).await.unwrap().success());
        let seen = seen.lock().unwrap().clone();
        let text = |wanted| -> String {
            seen.iter().filter(|(s, _)| *s == wanted).map(|(_, t)| t.as_str()).collect()
        };
        assert_eq!(text(Stream::Stdout), "x'y\"z\nnobody\n/var\n");
        assert_eq!(text(Stream::Stderr), "err\n");

        for (exec, expected) in [
            (Exec::new(["/no/such"]), "cannot run \"/no/such\""),
            (Exec { user: Some("ghost".into()), ..Exec::shell("true") }, "no user \"ghost\""),
            (Exec { cwd: Some("/none".into()), ..Exec::shell("true") }, "folder \"/none\""),
        ] {
            let error = machine.exec(exec).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let stopped = machine.stop(PATIENCE).await.unwrap();
        assert!(stopped.orderly, "{suite}");
        // Nothing of this start is in the layer.
        let upper = machine.spec().upper();
        for path in ["etc/resolv.conf", "etc/hostname", "etc/machine-id"] {
            assert!(!upper.join(path).exists(), "{suite}: {path} is in the writable layer");
        }
        assert!(matches!(machine.exec(Exec::shell("true")).await.unwrap_err(), RuntimeError::Gone));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_of_any_size_and_do_not_block() {
    if !is_root() {
        return;
    }
    let dir = folder();
    let cancel = CancellationToken::new();
    let mut spec = spec("kt-streams", "bookworm", dir.path());
    spec.boot = false;
    let (machine, report) = Machine::start(spec, &cancel).await.unwrap();
    assert_eq!(report.state, "offline");
    assert!(report.took < Duration::from_secs(2), "{report:?}");

    let count = Arc::new(AtomicU64::new(0));
    let sink = Arc::clone(&count);
    let mut exec =
        Exec::shell("head -c 104857600 /dev/zero & head -c 104857600 /dev/zero >&2; wait");
    exec.output = Output::new(move |_, bytes| {
        sink.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    assert!(machine.exec(exec).await.unwrap().success());
    assert_eq!(count.load(Ordering::Relaxed), 2 * 104_857_600);

    let input = vec![b'x'; 20_000_000];
    let mut exec = Exec::new(["sha256sum"]);
    exec.stdin = Some(Box::new(std::io::Cursor::new(input.clone())));
    let (_, text) = machine.output_of(exec).await.unwrap();
    let expected: String = Sha256::digest(&input).iter().map(|b| format!("{b:02x}")).collect();
    assert!(text.starts_with(&expected), "{text}");
    // A command that does not read its input.
    let mut exec = Exec::new(["true"]);
    exec.stdin = Some(Box::new(std::io::Cursor::new(input)));
    assert!(machine.exec(exec).await.unwrap().success());
    // What a command leaves behind keeps its output open and must not hold us.
    let begun = Instant::now();
    let (status, text) = shell(&machine, "echo started; sleep 600 &").await;
    assert!(status.success() && text == "started" && begun.elapsed() < Duration::from_secs(120));
    // An environment that does not fit into one packet.
    let mut exec = Exec::shell("printf %s \"$BIG\" | wc -c");
    exec.env.insert("BIG".into(), "b".repeat(120_000));
    assert_eq!(machine.output_of(exec).await.unwrap().1.trim(), "120000");
    // Many at once.
    let all: Vec<_> = (0..40)
        .map(|n| {
            let machine = machine.clone();
            tokio::spawn(async move { shell(&machine, &format!("exit {n}")).await.0 })
        })
        .collect();
    for (n, task) in all.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), ExitStatus::Code(i32::try_from(n).unwrap()));
    }
    machine.stop(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_command_ends_with_all_it_started() {
    if !is_root() {
        return;
    }
    let dir = folder();
    let mut spec = spec("kt-cancel-exec", "bookworm", dir.path());
    spec.boot = false;
    let (machine, _) = Machine::start(spec, &CancellationToken::new()).await.unwrap();
    let mut exec = Exec::shell("trap '' TERM; setsid sleep 4711 & sleep 4711");
    exec.cancel = CancellationToken::new();
    let cancel = exec.cancel.clone();
    let other = machine.clone();
    let task = tokio::spawn(async move { other.exec(exec).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    cancel.cancel();
    assert!(matches!(task.await.unwrap(), Err(RuntimeError::Cancelled)));
    let line = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 471[1]'";
    assert_eq!(shell(&machine, line).await.1, "0");
    // So does one whose future is dropped.
    let dropped = machine.exec(Exec::shell("setsid sleep 4711"));
    assert!(tokio::time::timeout(Duration::from_millis(300), dropped).await.is_err());
    let deadline = Instant::now() + Duration::from_secs(60);
    while shell(&machine, line).await.1 != "0" {
        assert!(Instant::now() < deadline, "what was dropped still runs");
    }
    machine.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways() {
    if !is_root() {
        return;
    }
    let dir = folder();
    let cancel = CancellationToken::new();
    let (machine, _) =
        Machine::start(spec("kt-files", "trixie", dir.path()), &cancel).await.unwrap();
    let big = dir.path().join("big");
    let mut file = fs::File::create(&big).unwrap();
    for n in 0..3000u32 {
        file.write_all(&n.to_le_bytes().repeat(10_000)).unwrap();
    }
    for to in ["/opt/big", "/tmp/big", "/run/big", "relative"] {
        machine.put_file(&big, to, Some(0o750), &cancel).await.unwrap();
        let place = if to == "relative" { "/root/relative" } else { to };
        let (_, mode) = shell(&machine, &format!("stat -c %a:%U:%s {place}")).await;
        assert_eq!(mode, "750:root:120000000", "{to}");
        let back = dir.path().join("back");
        machine.get_file(to, &back, &cancel).await.unwrap();
        assert_eq!(checksum(&big), checksum(&back), "{to}");
    }
    // The folder of the host's layer has no trace of what went to memory.
    assert!(!machine.spec().upper().join("tmp/big").exists());
    let mut content: &[u8] = b"text";
    machine.put(&mut content, "/etc/app.conf", None, &cancel).await.unwrap();
    assert_eq!(shell(&machine, "cat /etc/app.conf; stat -c %a /etc/app.conf").await.1, "text644");
    assert_eq!(machine.read("/etc/app.conf").await.unwrap(), b"text");
    assert_eq!(machine.is_dir("/etc").await, Some(true));
    assert_eq!(machine.is_dir("/none").await, None);

    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/c"), "c").unwrap();
    machine.put_dir(&tree, "/srv/tree", &cancel).await.unwrap();
    machine.get_dir("/srv/tree", &dir.path().join("tree2"), &cancel).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("tree2/a/b/c")).unwrap(), "c");

    let error = machine.put_file(&big, "/none/x", None, &cancel).await.unwrap_err();
    assert!(error.to_string().contains("cannot write \"/none/x\""), "{error}");
    assert!(machine.get_file("/etc", &dir.path().join("x"), &cancel).await.is_err());
    machine.stop(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_machine_boots_when_it_must() {
    if !is_root() {
        return;
    }
    let dir = folder();
    let cancel = CancellationToken::new();
    let machine =
        LazyMachine::prepare(spec("kt-lazy", "bookworm", dir.path()), &cancel).await.unwrap();
    let mut content: &[u8] = b"page";
    machine.put(&mut content, "/var/www/../index", Some(0o640), &cancel).await.unwrap_err();
    machine.put(&mut content, "/var/lib/index", Some(0o640), &cancel).await.unwrap();
    assert!(machine.report().is_none());
    let mut content: &[u8] = b"memory";
    machine.put(&mut content, "/var/../tmp/x", None, &cancel).await.unwrap();
    assert_eq!(machine.report().unwrap().state, "running");
    let line = "cat /var/lib/index /tmp/x; stat -c %a /var/lib/index";
    let (_, text) = machine.machine().output_of(Exec::shell(line)).await.unwrap();
    assert_eq!(text, "pagememory640\n");
    machine.machine().stop(PATIENCE).await.unwrap();
    assert_eq!(fs::read(dir.path().join("kt-lazy/upper/var/lib/index")).unwrap(), b"page");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_kernel_can_be_set_without_touching_the_hosts() {
    if !is_root() {
        return;
    }
    let files = ["vm/swappiness", "kernel/dmesg_restrict", "fs/protected_fifos"];
    let ours = || files.map(|file| fs::read_to_string(format!("/proc/sys/{file}")).unwrap());
    let before = ours();
    for boot in [true, false] {
        let dir = folder();
        let mut spec = spec(&format!("kt-sysctl-{boot}"), SUITES[1], dir.path());
        spec.boot = boot;
        let (machine, _) = Machine::start(spec, &CancellationToken::new()).await.unwrap();
        let (_, seen) = shell(&machine, "cd /proc/sys && cat vm/swappiness").await;
        assert_eq!(seen, before[0].trim());
        let (status, seen) = shell(
            &machine,
            "cd /proc/sys && echo 37 >vm/swappiness && echo 0 >kernel/dmesg_restrict && \
             echo 2 >fs/protected_fifos && cat vm/swappiness kernel/dmesg_restrict \
             fs/protected_fifos && echo 1 >net/ipv4/conf/all/log_martians && \
             cat net/ipv4/conf/all/log_martians",
        )
        .await;
        assert!(status.success(), "{status:?} {seen}");
        assert_eq!(seen, "37\n0\n2\n1");
        // What is new at each look is no copy.
        let (_, random) = shell(&machine, "cd /proc/sys/kernel/random && cat uuid uuid").await;
        let uuids: Vec<&str> = random.lines().collect();
        assert!(uuids.len() == 2 && uuids[0] != uuids[1], "{random}");
        let (_, names) = shell(&machine, "cat /proc/sys/kernel/hostname; uname -n").await;
        assert!(names.lines().collect::<std::collections::BTreeSet<_>>().len() == 1, "{names}");
        assert_eq!(ours(), before);
        machine.stop(PATIENCE).await.unwrap();
    }
    assert_eq!(ours(), before);
}
