//! Secrets, the stored record of a run, and what happens at every fault.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use karat_component::{EventKind, Outcome};
use karat_saga::Faults;

use super::bench::Bench;
use super::fake::said;
use super::{note, one};

const SECRET: &str = "correct-horse-battery";

const WITH_SECRET: &str = r#"
    variable "secret" {
      default   = "correct-horse-battery"
      sensitive = true
    }
    source "thing" "a" {
      value    = var.secret
      password = var.secret
      FAIL
    }
    build {
      sources = ["thing.a"]
      provisioner "note" {
        text  = "plain ${var.secret} coded ${base64encode(var.secret)}"
        FAILS
      }
      post-processor "wrap" {
        makes = "wrapped ${var.secret}"
        keep = true
      }
    }
"#;

/// The files below a folder that hold the text.
fn holders(dir: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path, needle));
        } else if fs::read(&path).unwrap().windows(needle.len()).any(|w| w == needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_secret_is_neither_shown_nor_stored() {
    let coded = base64::engine::general_purpose::STANDARD.encode(SECRET);
    let variants = [
        ("", "", Outcome::Finished),
        ("", "fails = 1", Outcome::Errored),
        ("fail = \"finish\"", "", Outcome::Errored),
    ];
    for (fail, fails, expected) in variants {
        let bench = Bench::new();
        let text = WITH_SECRET.replace("FAILS", fails).replace("FAIL", fail);
        let ran = bench.run(&text).await;
        assert_eq!(ran.outcomes(), [expected], "{}", ran.errors());
        let shown = said(&ran.events);
        assert!(shown.contains("plain <sensitive> coded <sensitive>"), "{shown}");
        bench.plan(&text).await;
        for needle in [SECRET, &coded] {
            assert!(!shown.contains(needle), "{shown}");
            let holders = holders(bench.dir.path(), needle.as_bytes());
            assert!(holders.is_empty(), "{needle} with \"{fail}{fails}\" is in {holders:?}");
        }
    }
}

#[tokio::test]
async fn the_stored_events_are_those_that_were_shown() {
    let bench = Bench::new();
    let ran = bench.run(&one("", &(note("1", "") + &note("2", "fails = 1")))).await;
    let stored = bench.stored(&ran.summary.run).await;
    // A duration is stored in milliseconds.
    let text = |events: &[karat_component::Event]| -> Vec<String> {
        let one = |event| serde_json::to_string(event).unwrap();
        events.iter().map(one).collect()
    };
    assert_eq!(text(&stored), text(&ran.events));
    assert!(matches!(stored[0].kind, EventKind::RunStarted { .. }));
    assert!(matches!(stored.last().unwrap().kind, EventKind::RunFinished { exit_code: 1, .. }));
}

#[tokio::test]
async fn a_failure_at_any_point_undoes_everything() {
    for node in ["make", "provision", "finish"] {
        for phase in ["before", "effect", "after"] {
            // After the last step there is nothing left that could fail.
            let expected = match (node, phase) {
                ("finish", "after") => Outcome::Finished,
                _ => Outcome::Errored,
            };
            let mut bench = Bench::new();
            bench.faults = Faults::parse(&format!("fail@{node}:{phase}")).unwrap();
            let ran = bench.run(&one("", &note("n", ""))).await;
            assert_eq!(ran.outcomes(), [expected], "{node}:{phase}");
            assert!(ran.summary.left.is_empty());
            let of = |what: &str| -> Vec<String> {
                let lines = ran.log.iter();
                lines.filter_map(|l| l.strip_prefix(what).map(str::to_owned)).collect()
            };
            for made in ["make thing.a", "provision thing.a", "finish thing.a"] {
                let was = ran.log.iter().any(|l| l == made);
                let undone = of("undo ").iter().any(|l| l == made);
                assert!(!was || undone, "{node}:{phase}: {made} stays: {:?}", ran.log);
            }
            let states = bench.states(&ran.summary.run).await;
            assert_eq!(states.len(), 1);
            let settled = states[0].ends_with("Failed") || states[0].ends_with("Succeeded");
            assert!(settled, "{node}:{phase}: {states:?}");
        }
    }
}
