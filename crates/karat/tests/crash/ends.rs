//! Ends that are no deaths: failures, Ctrl-C, a full disk, a build that was kept, one that lives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::lab::{Lab, alone, is_root, text};

#[test]
fn a_failure_at_each_step_cleans_up_by_itself() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    for node in ["base", "machine", "provision", "capture", "export"] {
        for phase in ["before", "effect"] {
            // From then on the new disk is in its place.
            if (node, phase) == ("export", "effect") {
                break;
            }
            let before = lab.look();
            let faults = format!("fail@{node}:{phase}");
            let output = lab.build(&faults, &faults);
            assert_eq!(output.status.code(), Some(1), "{faults}: {}", text(&output));
            assert!(text(&output).contains("injected failure"), "{faults}: {}", text(&output));
            lab.clean(&before, &faults);
            assert_eq!(lab.recover(), "Nothing to recover.\n", "{faults}");
        }
    }
}

/// Where a build is interrupted: the line after which, how many milliseconds after it, and how many
/// seconds the script waits.
const MOMENTS: [(&str, u64, &str); 6] = [
    ("Uploading", 0, LONG),
    ("Provisioning with shell script", 300, LONG),
    ("the script runs", 200, LONG),
    ("Powering the machine off", 50, SHORT),
    ("Capturing the layer", 0, SHORT),
    ("Writing", 20, SHORT),
];
/// So long that an interrupt which waited for the script would be seen.
const LONG: &str = "300";
/// For what comes after the script.
const SHORT: &str = "1";

#[test]
fn an_interrupted_build_cleans_up_by_itself() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    for (number, (after, pause, wait)) in MOMENTS.into_iter().enumerate() {
        let before = lab.look();
        let mut build = lab.start(&format!("interrupt {number}"), wait);
        build.until(after);
        std::thread::sleep(Duration::from_millis(pause));
        build.signal(Signal::SIGINT);
        let begun = Instant::now();
        let code = build.end();
        let moment = format!("SIGINT {pause} ms after \"{after}\"");
        assert_eq!(code, 1, "{moment}:\n{}", build.seen());
        let seen = build.seen();
        assert!(
            seen.contains("Cleanly cancelled builds after being interrupted."),
            "{moment}:\n{seen}"
        );
        assert!(begun.elapsed() < Duration::from_secs(120), "{moment} took {:?}", begun.elapsed());
        lab.clean(&before, &moment);
        assert_eq!(lab.recover(), "Nothing to recover.\n", "{moment}");
    }
}

#[test]
fn a_second_interrupt_ends_at_once_and_recovery_does_the_rest() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    for (number, (after, pause, wait)) in MOMENTS.into_iter().enumerate().take(4) {
        let before = lab.look();
        let mut build = lab.start(&format!("twice {number}"), wait);
        build.until(after);
        std::thread::sleep(Duration::from_millis(pause));
        build.signal(Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(30));
        build.signal(Signal::SIGINT);
        let begun = Instant::now();
        let code = build.end();
        let moment = format!("two SIGINT {pause} ms after \"{after}\"");
        assert_eq!(code, 1, "{moment}:\n{}", build.seen());
        assert!(begun.elapsed() < Duration::from_secs(120), "{moment} took {:?}", begun.elapsed());
        // Either it was quicker than the second one, or it says how to remove what is left.
        let seen = build.seen();
        assert!(
            seen.contains("karat recover") || seen.contains("Cleanly cancelled"),
            "{moment}:\n{seen}"
        );
        lab.recover();
        lab.clean(&before, &moment);
    }
}

/// A small file system that is full soon; unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn on(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "karat-small"])
            .arg(path)
            .status();
        assert!(mounted.unwrap().success());
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// In the words of the system, or our own.
fn no_space(said: &str) -> bool {
    said.to_lowercase().contains("no space left")
}

#[test]
fn a_full_disk_is_told_by_its_place_and_nothing_is_left() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    // The folder of the output.
    let lab = Lab::with_base();
    let _ = fs::remove_dir_all(lab.path("out"));
    let small = Small::on(&lab.path("out"), "20m");
    let before = lab.look();
    let output = lab.build("full output", "");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(no_space(&said) && said.contains("/out/"), "{said}");
    lab.clean(&before, "a full output folder");
    drop(small);

    // The store of layers, while the base is made.
    let lab = Lab::cold();
    let apt = lab.path("apt");
    fs::rename(lab.state.join("apt"), &apt).unwrap();
    let small = Small::on(&lab.state, "100m");
    let copied = Command::new("cp").arg("-a").arg(&apt).arg(lab.state.join("apt")).status();
    assert!(copied.unwrap().success());
    for name in ["layers", "keys", "blobs", "locks", "artifacts", "tmp", "runs"] {
        fs::create_dir_all(lab.state.join(name)).unwrap();
    }
    let before = lab.look();
    let output = lab.build("full store", "");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let place = lab.state.display().to_string();
    assert!(no_space(&said) && said.contains(&place), "{said}");
    lab.clean(&before, "a full state folder");
    drop(small);
}

const FAILS_ONCE: &str = r#"
source "machine" "small" {
  packages    = ["linux-image-cloud-amd64"]
  disk_format = "none"
}

build {
  sources = ["machine.small"]

  provisioner "shell" {
    inline = ["echo made >>/etc/made"]
  }

  provisioner "shell-local" {
    inline = ["echo tried >>${path.root}/tries", "test -e ${path.root}/flag"]
  }
}
"#;

/// The run that `karat runs` shows last, from what a build said about going on.
fn run_of(said: &str) -> String {
    let line = said
        .lines()
        .find(|line| line.contains("karat resume "))
        .unwrap_or_else(|| panic!("{said}"));
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_build_that_was_kept_goes_on_where_it_stopped() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    lab.template(FAILS_ONCE);
    let before = lab.look();
    let build = ["build", "-force", "-on-error=abort", "t.pkr.hcl"];
    let output = lab.output(&build);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let run = run_of(&said);
    let machines = fs::read_dir(lab.state.join("machines")).unwrap().count();
    assert_eq!(machines, 1, "the machine is kept");
    let listed = text(&lab.output(&["runs"]));
    let line = listed.lines().find(|line| line.starts_with(&run)).unwrap_or_default();
    assert!(line.contains(" kept ") && line.ends_with("recover --aborted)"), "{listed}");
    // What was kept on purpose stays, and is named.
    let shown = lab.recover();
    assert!(shown.contains(&format!("karat recover --aborted {run}")), "{shown}");
    assert_eq!(fs::read_dir(lab.state.join("machines")).unwrap().count(), 1);

    fs::write(lab.path("flag"), "").unwrap();
    let output = lab.output(&["resume", "--json", &run]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let began = |node: &str| {
        said.contains(&format!("\"type\":\"step\",\"node\":\"{node}\",\"state\":\"running\""))
    };
    assert!(began("provision") && began("capture"), "{said}");
    assert!(!began("base") && !began("machine"), "only what is not done runs again: {said}");
    assert_eq!(fs::read_to_string(lab.path("tries")).unwrap(), "tried\ntried\n");
    lab.clean(&before, "a resumed build");
    let logs = text(&lab.output(&["logs", &run]));
    assert!(logs.contains("Provisioning with shell"), "{logs}");

    // What was kept can be removed instead.
    fs::remove_file(lab.path("flag")).unwrap();
    let run = run_of(&text(&lab.output(&build)));
    let output = lab.output(&["recover", "--aborted", &run]);
    assert!(output.status.success(), "{}", text(&output));
    lab.clean(&before, "recover --aborted");
}

#[test]
fn a_killed_build_goes_on_where_it_stopped() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let before = lab.look();
    for faults in ["kill@machine:after", "kill@provision:effect", "kill@capture:before"] {
        lab.build(faults, faults);
        let runs = text(&lab.output(&["runs"]));
        let run = runs
            .split_whitespace()
            .filter(|word| word.parse::<karat_saga::RunId>().is_ok())
            .max()
            .unwrap_or_else(|| panic!("{runs}"));
        let output = lab.output(&["resume", run]);
        assert!(output.status.success(), "{faults}: {}", text(&output));
        let mut then = before.clone();
        let disk = lab.path("out/small.raw");
        then.files.insert(disk.clone(), lab.look().files[&disk].clone());
        lab.clean(&then, &format!("{faults} and resume"));
        assert_eq!(lab.recover(), "Nothing to recover.\n", "{faults}");
    }
}

#[test]
fn a_living_build_is_left_alone() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let mut build = lab.start("alive", "5");
    build.until("the script runs");
    let shown = lab.recover();
    assert!(shown.contains("held by a living process and was left alone"), "{shown}");
    let listed = text(&lab.output(&["recover", "--list"]));
    assert!(listed.contains("held by a living process"), "{listed}");
    assert_eq!(build.end(), 0, "{}", build.seen());
    assert_eq!(lab.recover(), "Nothing to recover.\n");
}

#[test]
fn layers_that_no_build_needs_are_removed_and_others_are_not() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let lab = Lab::with_base();
    let layers = || fs::read_dir(lab.state.join("layers")).unwrap().count();
    for greeting in ["one", "two"] {
        let output = lab.build(greeting, "");
        assert!(output.status.success(), "{}", text(&output));
    }
    let before = layers();
    let mut alive = lab.start("alive", "5");
    alive.until("the script runs");
    let refused = lab.output(&["gc"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("is under way"), "{}", text(&refused));
    assert_eq!(alive.end(), 0, "{}", alive.seen());
    assert_eq!(layers(), before + 1);

    // Those two layers are nobody's any more.
    let removed = lab.output(&["gc"]);
    assert!(text(&removed).starts_with("Removed 2 layers, "), "{}", text(&removed));
    assert_eq!(layers(), before - 1);
    let again = text(&lab.output(&["gc"]));
    assert_eq!(again, "Removed 0 layers, 0 B.\n");
    let arguments = ["build", "-var", "greeting=alive", "-var", "wait=5", "t.pkr.hcl"];
    let unchanged = text(&lab.output(&arguments));
    assert!(unchanged.contains("up to date"), "{unchanged}");

    fs::remove_file(lab.path("t.pkr.hcl")).unwrap();
    let pruned = text(&lab.output(&["gc", "-prune"]));
    assert!(pruned.starts_with("Removed ") && !pruned.starts_with("Removed 0"), "{pruned}");
}
