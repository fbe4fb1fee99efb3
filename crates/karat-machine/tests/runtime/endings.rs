//! Nothing is left, however it ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use karat_machine::runtime::{Machine, MachineRecord, MachineSpec, RuntimeError, recover};
use tokio_util::sync::CancellationToken;

use super::common::{Host, SUITES, alone, debian, folder, is_root, spec};

/// Waits until the host looks as before, or says what differs.
fn same_again(before: &Host, mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = Host::look(mark);
        if now == *before {
            return;
        }
        assert!(Instant::now() < deadline, "before: {before:#?}\nnow: {now:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killed_at_any_moment_nothing_is_left() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let dir = folder();
    for suite in SUITES {
        let layer = debian(suite);
        // From before the first process to well after the boot, in steps that grow.
        let mut delays = vec![0, 2, 4, 6, 8, 10, 15, 20, 30, 50, 80, 120, 200];
        delays.extend([300, 500, 800, 1200, 2000, 3000, 5000, 8000]);
        for (n, delay) in delays.into_iter().enumerate() {
            let id = format!("kt-kill-{suite}-{n}");
            let before = Host::look("kt-kill");
            let work = dir.path().join(&id);
            let mut child = Command::new(env!("CARGO_BIN_EXE_karat-machine-probe"))
                .args(["hold", &id])
                .args([&layer, &work])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            child.kill().unwrap();
            child.wait().unwrap();
            let record = MachineRecord { id, work_dir: work.clone(), keeper: None };
            recover(&record).unwrap();
            same_again(&before, "kt-kill");
            assert!(!work.exists());
        }
    }
}

#[test]
fn the_keeper_killed_as_well_only_a_cgroup_is_left_for_recover() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let dir = folder();
    let before = Host::look("kt-both");
    let work = dir.path().join("kt-both");
    let mut child = Command::new(env!("CARGO_BIN_EXE_karat-machine-probe"))
        .args(["hold", "kt-both"])
        .args([&debian("bookworm"), &work])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    while line != "running\n" {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    let keepers = Command::new("pgrep").args(["-f", "__machine kt-both"]).output().unwrap();
    for pid in String::from_utf8_lossy(&keepers.stdout).lines() {
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let record = MachineRecord { id: "kt-both".into(), work_dir: work.clone(), keeper: None };
    recover(&record).unwrap();
    recover(&record).unwrap();
    same_again(&before, "kt-both");
    assert!(!work.exists());
}

#[test]
fn cancelled_in_each_phase_nothing_is_left() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = folder();
    for (n, delay) in [0, 5, 20, 50, 100, 300, 1000, 2000].into_iter().enumerate() {
        let before = Host::look("kt-stop");
        let spec = spec(&format!("kt-stop-{n}"), "bookworm", dir.path());
        let cancel = CancellationToken::new();
        let begun = Instant::now();
        let result = runtime.block_on(async {
            let later = cancel.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                later.cancel();
            });
            Machine::start(spec, &cancel).await
        });
        match result {
            Err(RuntimeError::Cancelled) => {}
            // A quick host may have booted it by then.
            Ok((machine, _)) if delay >= 1000 => runtime.block_on(machine.kill()).unwrap(),
            other => panic!("{delay}: {other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_millis(delay) + Duration::from_secs(30));
        same_again(&before, "kt-stop");
    }
}

#[test]
fn dropped_it_ends_and_errors_leave_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = folder();
    let before = Host::look("kt-drop");
    let cancel = CancellationToken::new();
    let start = |spec: MachineSpec| runtime.block_on(Machine::start(spec, &cancel));
    let (machine, _) = start(spec("kt-drop", "trixie", dir.path())).unwrap();
    assert_ne!(Host::look("kt-drop"), before);
    drop(machine);
    same_again(&before, "kt-drop");

    let mut missing = spec("kt-drop-missing", "trixie", dir.path());
    missing.lower.push("/no/such/layer".into());
    let error = start(missing).unwrap_err().to_string();
    assert!(error.contains("cannot open \"/no/such/layer\""), "{error}");

    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut bare = spec("kt-drop-bare", "trixie", dir.path());
    bare.lower = vec![empty];
    let error = start(bare).unwrap_err().to_string();
    assert!(error.contains("the machine ended while it started"), "{error}");

    let mut slow = spec("kt-drop-slow", "bookworm", dir.path());
    slow.boot_deadline = Duration::from_millis(700);
    let error = start(slow).unwrap_err().to_string();
    assert!(error.contains("did not finish starting"), "{error}");
    same_again(&before, "kt-drop");
}
