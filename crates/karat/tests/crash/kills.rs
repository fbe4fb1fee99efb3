//! `kill -9` at every step, and from outside at any moment.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::lab::{Lab, Running, alone, is_root, text};

const NODES: [&str; 5] = ["base", "machine", "provision", "capture", "export"];
const SIGKILL: i32 = 9;

/// Kills at one point, and checks that everything is as before.
fn dies(lab: &Lab, number: usize, faults: &str) {
    let before = lab.look();
    let output = lab.build(&format!("kill {number}"), faults);
    let said = text(&output);
    assert_eq!(output.status.signal(), Some(SIGKILL), "{faults}: it was to die, but:\n{said}");
    lab.recovered(&before, faults);
}

fn digest(lab: &Lab) -> String {
    let output = Command::new("sha256sum").arg(lab.path("out/small.raw")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output).split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_kill_at_each_step_leaves_nothing_and_the_old_disk_stands() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let old = digest(&lab);
    let mut number = 0;
    for node in NODES {
        for phase in ["before", "effect", "after"] {
            // From then on the new disk is in its place.
            if (node, phase) == ("export", "effect") {
                break;
            }
            number += 1;
            dies(&lab, number, &format!("kill@{node}:{phase}"));
        }
    }
    assert_eq!(digest(&lab), old, "the old disk was touched");
}

#[test]
fn a_kill_while_a_failed_build_is_undone_leaves_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let old = digest(&lab);
    for (number, node) in NODES.into_iter().enumerate() {
        for (place, phase) in ["undo-before", "undo-effect", "undo-after"].into_iter().enumerate() {
            let faults = format!("fail@export:before,kill@{node}:{phase}");
            dies(&lab, 100 + number * 3 + place, &faults);
        }
    }
    assert_eq!(digest(&lab), old, "the old disk was touched");
}

#[test]
fn a_kill_after_the_disk_is_in_its_place_leaves_a_whole_new_disk() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    assert!(lab.build("new", "").status.success());
    let whole = digest(&lab);
    let points = [
        "kill@export:effect",
        "kill@export:after",
        "kill@machine:undo-before",
        "kill@machine:undo-effect",
        "kill@base:undo-after",
    ];
    for faults in points {
        assert!(lab.build("old", "").status.success());
        let mut before = lab.look();
        let output = lab.build("new", faults);
        assert_eq!(output.status.signal(), Some(SIGKILL), "{faults}: {}", text(&output));
        // The same inputs give the same bytes, so there is one right digest.
        assert_eq!(digest(&lab), whole, "{faults}: the new disk is not whole");
        let disk = lab.path("out/small.raw");
        let new = lab.look().files[&disk].clone();
        before.files.insert(disk, new);
        lab.recovered(&before, faults);
        assert_eq!(digest(&lab), whole, "{faults}: recovery touched the new disk");
    }
}

#[test]
fn a_recovery_that_is_killed_is_finished_by_the_next() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    for phase in ["undo-before", "undo-effect", "undo-after"] {
        let before = lab.look();
        let killed = lab.build(phase, "kill@provision:effect");
        assert_eq!(killed.status.signal(), Some(SIGKILL), "{}", text(&killed));
        let faults = format!("kill@machine:{phase}");
        let output = lab.karat(&["recover"]).env("KARAT_FAULT", &faults).output().unwrap();
        assert_eq!(output.status.signal(), Some(SIGKILL), "{faults}: {}", text(&output));
        lab.recovered(&before, &format!("a recovery with {faults}"));
    }
}

/// A time below `limit`, another one each time the tests run.
fn random(limit: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8);
    Duration::from_millis(chance % u64::try_from(limit.as_millis()).unwrap_or(1))
}

/// Kills the process from outside, some time after it said something.
fn killed_from_outside(lab: &Lab, number: usize, after: &str, within: Duration) {
    let before = lab.look();
    let mut build = lab.start(&format!("outside {number}"), "2");
    build.until(after);
    let pause = random(within);
    std::thread::sleep(pause);
    build.signal(Signal::SIGKILL);
    let code = build.end();
    let moment = format!("kill -9 {pause:?} after \"{after}\"");
    assert_eq!(code, -SIGKILL, "{moment}: it was over:\n{}", build.seen());
    lab.recovered(&before, &moment);
}

#[test]
fn a_kill_from_outside_at_any_moment_of_a_build_leaves_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let moments = [
        ("Uploading", 100),
        ("Provisioning with shell script", 300),
        ("Provisioning with shell script", 1000),
        ("the script runs", 100),
        ("the script runs", 1500),
        ("Powering the machine off", 100),
        ("Powering the machine off", 400),
        ("Writing", 50),
        ("Writing", 200),
    ];
    for (number, (after, within)) in moments.into_iter().enumerate() {
        killed_from_outside(&lab, number, after, Duration::from_millis(within));
    }
}

#[test]
fn a_kill_while_the_base_is_made_leaves_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::cold();
    let moments = [
        ("Unpacking", 2000),
        ("Installing 5", 1500),
        ("Configuring", 3000),
        ("Making the initramfs", 1500),
    ];
    for (number, (after, within)) in moments.into_iter().enumerate() {
        // The folders of the store appear with the first build.
        if number == 0 {
            let mut build = lab.start("folders", "0");
            build.until("Unpacking");
            build.signal(Signal::SIGKILL);
            build.end();
            lab.recover();
        }
        killed_from_outside(&lab, number, after, Duration::from_millis(within));
    }
}

#[test]
fn a_kill_beside_a_local_script_leaves_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::empty();
    let template = |last: &str| {
        format!(
            "source \"null\" \"n\" {{\n  communicator = \"none\"\n}}\nbuild {{\n  sources = \
             [\"null.n\"]\n  provisioner \"shell-local\" {{\n    inline = [\"echo here at $0 \
             $$\", \"{last}\"]\n  }}\n}}\n"
        )
    };
    // The journal and its folders appear with the first run.
    lab.template(&template("true"));
    let first = lab.output(&["build", "t.pkr.hcl"]);
    assert!(first.status.success(), "{}", text(&first));
    lab.template(&template("sleep 600"));
    let before = lab.look();
    let mut build = Running::start(lab.karat(&["build", "t.pkr.hcl"]));
    build.until("null.n: here at ");
    build.signal(Signal::SIGKILL);
    build.end();
    let script = build.seen().lines().find_map(|l| Some(l.split_once("here at ")?.1.to_owned()));
    let script = script.expect("the script tells its own path");
    let (script, pid) = script.split_once(' ').expect("and its process");
    let process = format!("/proc/{pid}/cmdline");
    let runs = || std::fs::read(&process).is_ok_and(|line| !line.is_empty());
    assert!(std::path::Path::new(script).exists(), "{script} was gone before the recovery");
    assert!(runs(), "{pid} ended by itself");
    lab.recovered(&before, "kill -9 while a local script ran");
    assert!(!std::path::Path::new(script).exists(), "{script} is left");
    assert!(!runs(), "{pid} still runs");
}

#[test]
fn a_kill_of_a_comparison_of_two_builds_leaves_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let before = lab.look();
    let arguments = ["verify-build", "-var", "greeting=twice", "-var", "wait=0", "t.pkr.hcl"];
    let mut run = Running::start(lab.karat(&arguments));
    run.until("Unpacking");
    run.signal(Signal::SIGKILL);
    assert_eq!(run.end(), -SIGKILL, "{}", run.seen());
    lab.recovered(&before, "kill -9 of a comparison");
}
