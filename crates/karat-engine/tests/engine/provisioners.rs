//! Provisioners: order, who gets them, pauses, timeouts, retries, what happens when they fail.

use std::time::{Duration, Instant};

use karat_component::{OnError, Outcome};

use super::bench::Bench;
use super::{note, one};

const MADE: [&str; 2] = ["make thing.a", "provision thing.a"];

#[tokio::test]
async fn provisioners_run_in_the_order_of_the_text() {
    let bench = Bench::new();
    let ran = bench.run(&one("", &(note("1", "") + &note("2", "") + &note("3", "")))).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished]);
    let expected = [
        "make thing.a",
        "provision thing.a",
        "note 1",
        "note 2",
        "note 3",
        "finish thing.a",
        "undo finish thing.a",
        "undo provision thing.a",
        "undo make thing.a",
    ];
    assert_eq!(ran.log, expected);
}

#[tokio::test]
async fn only_except_and_override_decide_per_source() {
    let text = r#"
        source "thing" "a" { value = "a" }
        source "thing" "b" { value = "b" }
        build {
          sources = ["thing.a", "thing.b"]
          provisioner "note" {
            text = "only a"
            only = ["thing.a"]
          }
          provisioner "note" {
            text   = "not a"
            except = ["thing.a"]
          }
          provisioner "note" {
            text     = "all"
            override = { b = { text = "all but for b" } }
          }
        }
    "#;
    let mut bench = Bench::new();
    bench.options.parallel = 1;
    let ran = bench.run(text).await;
    let mut notes: Vec<&String> = ran.log.iter().filter(|l| l.starts_with("note")).collect();
    notes.sort();
    assert_eq!(notes, ["note all", "note all but for b", "note not a", "note only a"]);

    bench.only = vec!["thing.b".into()];
    let ran = bench.run(text).await;
    assert_eq!(ran.summary.builds, [("thing.b".to_owned(), Outcome::Reused)]);
    bench.options.force = true;
    let ran = bench.run(text).await;
    let notes: Vec<&String> = ran.log.iter().filter(|l| l.starts_with("note")).collect();
    assert_eq!(notes, ["note not a", "note all but for b"]);
}

#[tokio::test]
async fn a_pause_does_not_count_as_time_of_the_provisioner() {
    let bench = Bench::new();
    let more = "pause_before = \"300ms\"\ntimeout = \"200ms\"";
    let begun = Instant::now();
    let ran = bench.run(&one("", &note("quick", more))).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished], "{}", ran.errors());
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let bench = Bench::new();
    let ran = bench.run(&one("", &note("slow", &format!("takes = \"60s\"\n{more}")))).await;
    assert_eq!(ran.outcomes(), [Outcome::Errored]);
    assert!(ran.errors().contains("did not end within its timeout of 200ms"), "{}", ran.errors());
    assert!(ran.log.contains(&"ended early slow".to_owned()), "{:?}", ran.log);
}

#[tokio::test]
async fn retries_end_with_the_first_error() {
    let bench = Bench::new();
    let ran = bench.run(&one("", &note("x", "fails = 9\nmax_retries = 2"))).await;
    assert_eq!(ran.outcomes(), [Outcome::Errored]);
    assert!(ran.errors().contains("error 1 of x"), "{}", ran.errors());
    assert_eq!(ran.log.iter().filter(|l| *l == "note x").count(), 3);

    let bench = Bench::new();
    let ran = bench.run(&one("", &note("x", "fails = 2\nmax_retries = 2"))).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished], "{}", ran.errors());

    // A timeout is retried as well.
    let bench = Bench::new();
    let more = "takes = \"60s\"\ntimeout = \"50ms\"\nmax_retries = 1";
    let ran = bench.run(&one("", &note("x", more))).await;
    assert!(ran.errors().contains("timeout of 50ms"), "{}", ran.errors());
    assert_eq!(ran.log.iter().filter(|l| *l == "note x").count(), 2);
}

#[tokio::test]
async fn the_build_goes_on_after_an_error_when_told_so() {
    let bench = Bench::new();
    let build = note("x", "fails = 1\ncontinue_on_error = true") + &note("y", "");
    let ran = bench.run(&one("", &build)).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished], "{}", ran.errors());
    assert_eq!(ran.log[2..4], ["note x", "note y"]);
}

fn cleanup(text: &str) -> String {
    note(text, "").replace("provisioner", "error-cleanup-provisioner")
}

#[tokio::test]
async fn the_cleanup_provisioner_runs_while_the_machine_stands() {
    let bench = Bench::new();
    let build = note("x", "fails = 1") + &note("never", "") + &cleanup("rescue");
    let ran = bench.run(&one("", &build)).await;
    assert_eq!(ran.outcomes(), [Outcome::Errored]);
    let expected = ["note x", "note rescue", "undo provision thing.a", "undo make thing.a"];
    assert_eq!(ran.log[2..], expected);

    // Also when a step after the provisioners fails; not when none was reached.
    let bench = Bench::new();
    let ran = bench.run(&one("fail = \"finish\"", &(note("x", "") + &cleanup("rescue")))).await;
    assert!(ran.errors().contains("finish thing.a failed"), "{}", ran.errors());
    assert_eq!(ran.log[2..5], ["note x", "finish thing.a", "note rescue"]);
    let bench = Bench::new();
    let ran = bench.run(&one("fail = \"make\"", &(note("x", "") + &cleanup("rescue")))).await;
    assert_eq!(ran.log, ["make thing.a", "undo make thing.a"]);
}

#[tokio::test]
async fn what_needs_a_machine_is_refused_where_there_is_none() {
    let bench = Bench::new();
    let ran = bench.run(&one("", "provisioner \"remote\" {}")).await;
    assert!(ran.errors().contains("needs a machine that can be reached"), "{}", ran.errors());
    assert!(!ran.log.contains(&"remote".to_owned()));
}

#[tokio::test]
async fn abort_keeps_everything_and_resume_runs_what_is_not_done() {
    let mut bench = Bench::new();
    bench.options.on_error = OnError::Abort;
    let text = one("fail = \"finish\"\ntimes = 1", &note("x", ""));
    let ran = bench.run(&text).await;
    assert_eq!(ran.outcomes(), [Outcome::Errored]);
    assert!(ran.summary.aborted);
    assert_eq!(ran.log, ["make thing.a", "provision thing.a", "note x", "finish thing.a"]);

    let again = bench.resume(&text, &ran.summary.run).await;
    assert_eq!(again.outcomes(), [Outcome::Finished], "{}", again.errors());
    assert_eq!(again.log[0], "finish thing.a", "only what was not done runs again");
    assert_eq!(again.log[1..].len(), 3, "and then the temporary is undone: {:?}", again.log);
    // The events are numbered on.
    let stored = bench.stored(&ran.summary.run).await;
    let numbers: Vec<u64> = stored.iter().map(|e| e.seq).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(numbers, sorted);
    assert_eq!(stored.len(), ran.events.len() + again.events.len());
}

#[tokio::test]
async fn a_resumed_step_has_what_is_not_stored() {
    let mut bench = Bench::new();
    bench.options.on_error = OnError::Abort;
    let text = one("fail = \"finish\"\ntimes = 2", "");
    let ran = bench.run(&text).await;
    let again = bench.resume(&text, &ran.summary.run).await;
    // The value of the source is in memory only.
    assert!(again.errors().contains("finish thing.a failed with v"), "{}", again.errors());
}

#[tokio::test]
async fn run_cleanup_provisioner_keeps_everything_after_it() {
    let mut bench = Bench::new();
    bench.options.on_error = OnError::RunCleanupProvisioner;
    let ran = bench.run(&one("", &(note("x", "fails = 1") + &cleanup("rescue")))).await;
    assert!(ran.summary.aborted);
    assert_eq!(ran.log[2..], ["note x", "note rescue"]);
}

#[tokio::test]
async fn the_person_is_asked_what_to_do() {
    let question = "ask [c] Clean up and exit, [a] abort without cleanup, or [r] retry step \
                    (build may fail even if retry succeeds)?";
    let text = one("", &note("x", "fails = 1"));
    let mut bench = Bench::new();
    bench.options.on_error = OnError::Ask;
    bench.answers = vec!["what?", "r"];
    let ran = bench.run(&text).await;
    assert_eq!(ran.outcomes(), [Outcome::Finished], "{}", ran.errors());
    let expected = ["note x", question, question, "provision thing.a", "note x", "finish thing.a"];
    assert_eq!(ran.log[2..8], expected);

    for (answer, undone) in [("c", true), ("a", false)] {
        let mut bench = Bench::new();
        bench.options.on_error = OnError::Ask;
        bench.answers = vec![answer];
        let ran = bench.run(&text).await;
        assert_eq!(ran.outcomes(), [Outcome::Errored]);
        assert_eq!(ran.summary.aborted, !undone);
        assert_eq!(ran.log.iter().any(|l| l.starts_with("undo")), undone, "{:?}", ran.log);
    }
    // Nobody is there: everything is undone.
    let mut bench = Bench::new();
    bench.options.on_error = OnError::Ask;
    let ran = bench.run(&text).await;
    assert!(!ran.summary.aborted && ran.log.iter().any(|l| l.starts_with("undo make")));
}

#[tokio::test]
async fn debug_waits_before_each_step() {
    let mut bench = Bench::new();
    bench.options.debug = true;
    bench.answers = vec!["", "", ""];
    let ran = bench.run(&one("", "")).await;
    let expected = [
        "ask Pausing before step 'make'. Press enter to continue.",
        MADE[0],
        "ask Pausing before step 'provision'. Press enter to continue.",
        MADE[1],
        "ask Pausing before step 'finish'. Press enter to continue.",
        "finish thing.a",
    ];
    assert_eq!(ran.log[..6], expected);
    // Nobody is there, so nobody is waited for.
    let mut bench = Bench::new();
    bench.options.debug = true;
    assert_eq!(bench.run(&one("", "")).await.outcomes(), [Outcome::Finished]);
}
